//! ListOffsets: who is asked, what the answers mean, and that an answer is one by the map that holds when it is given.

use std::time::Duration;

use kafka_cutover::api::Unanswered;
use kafka_cutover::api::{Ask, Input, Step, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::{EARLIEST, LATEST, MAX_TIMESTAMP, Side, Virtual};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse, RequestKind, ResponseKind};

use super::world::{EPOCHS, Running, SEAM, SOURCE, TARGET, TARGET_START, World, lost, name, topic};

type Answer = Result<ResponseKind, Unanswered>;

fn about(topics: &[(&str, &[i32])], timestamp: i64) -> ListOffsetsRequest {
    let partition = |i: &i32| ListOffsetsPartition::default().with_partition_index(*i).with_timestamp(timestamp);
    let topics = topics.iter().map(|(name, partitions)| {
        ListOffsetsTopic::default().with_name(topic(name)).with_partitions(partitions.iter().map(partition).collect())
    });
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect())
}

fn sent(ask: &Ask) -> &ListOffsetsRequest {
    let RequestKind::ListOffsets(request) = &ask.request else { panic!("another API") };
    request
}

/// A broker's answer to all that it was asked: (error, timestamp, offset) for each.
fn said(ask: &Ask, what: impl Fn(&str, i32) -> (i16, i64, i64)) -> Answer {
    let topics = sent(ask).topics.iter().map(|t| {
        let partitions = t.partitions.iter().map(|p| {
            let (error, timestamp, offset) = what(&t.name, p.partition_index);
            ListOffsetsPartitionResponse::default()
                .with_partition_index(p.partition_index)
                .with_error_code(error)
                .with_timestamp(timestamp)
                .with_offset(offset)
                .with_leader_epoch(EPOCHS[ask.side.index()])
        });
        ListOffsetsTopicResponse::default().with_name(t.name.clone()).with_partitions(partitions.collect())
    });
    Ok(ListOffsetsResponse::default().with_topics(topics.collect()).into())
}

fn offset(offset: i64) -> impl Fn(&str, i32) -> (i16, i64, i64) {
    move |_, _| (0, -1, offset)
}

/// (error, timestamp, offset) of every partition.
fn told(answer: ResponseKind) -> Vec<(i16, i64, i64)> {
    let ResponseKind::ListOffsets(answer) = answer else { panic!("another API") };
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    partitions
        .map(|p| {
            assert_eq!(p.leader_epoch, -1);
            (p.error_code, p.timestamp, p.offset)
        })
        .collect()
}

fn one(machine: &mut Running<'_>, answers: Vec<Answer>) -> (i16, i64, i64) {
    told(machine.answer(answers))[0]
}

fn whom(asks: &[Ask]) -> Vec<(Side, To)> {
    asks.iter().map(|a| (a.side, a.to.clone())).collect()
}

#[test]
fn untouched_partitions_are_the_sources_own_in_every_version() {
    let world = World::sealed();
    for version in 1..=9 {
        let mut machine = world.machine(version, about(&[("plain", &[1])], 1234));
        let asks = machine.asks();
        assert_eq!(whom(&asks), [(Side::Source, To::Node(SOURCE + 2))]);
        let partition = &sent(&asks[0]).topics[0].partitions[0];
        assert_eq!((partition.timestamp, partition.current_leader_epoch), (1234, EPOCHS[0]), "our own epoch");
        assert_eq!(one(&mut machine, vec![said(&asks[0], |_, _| (0, 1300, 55))]), (0, 1300, 55));
    }
}

#[test]
fn partitions_are_grouped_by_leader_and_answered_in_the_clients_order() {
    let world = World::new();
    let mut machine =
        world.machine(5, about(&[("plain", &[1, 0]), ("orders", &[0, 2])], LATEST).with_isolation_level(1));
    let asks = machine.asks();
    assert_eq!(whom(&asks), [1, 2, 3].map(|n| (Side::Source, To::Node(SOURCE + n))));
    assert!(asks.iter().all(|a| sent(a).isolation_level == 1 && sent(a).replica_id.0 == -1));
    let topics: Vec<&str> = sent(&asks[0]).topics.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(topics, ["plain", "orders"], "both that the first broker leads");
    let offset = |topic: &str, i: i32| (0, -1, i64::from(i) + if topic == "plain" { 10 } else { 20 });
    let answers = asks.iter().map(|a| said(a, offset)).collect();
    let offsets: Vec<i64> = told(machine.answer(answers)).iter().map(|t| t.2).collect();
    assert_eq!(offsets, [11, 10, 20, 22]);
}

#[test]
fn the_end_is_the_open_sides_and_is_remembered_as_shown() {
    let world = World::new();
    let mut machine = world.machine(5, about(&[("orders", &[0])], LATEST));
    let asks = machine.asks();
    assert_eq!(whom(&asks), [(Side::Source, To::Node(SOURCE + 1))]);
    assert_eq!(one(&mut machine, vec![said(&asks[0], offset(42))]), (0, -1, 42));
    let live = |w: &World| w.shared.partitions.load().get("orders", 0).unwrap().live.clone();
    assert_eq!(live(&world).visible(), Virtual(42));

    world.seal();
    for (native, shown) in [(TARGET_START, SEAM), (TARGET_START + 9, SEAM + 9)] {
        let mut machine = world.machine(5, about(&[("orders", &[0])], LATEST));
        let asks = machine.asks();
        assert_eq!(whom(&asks), [(Side::Target, To::Node(TARGET + 1))]);
        assert_eq!(sent(&asks[0]).topics[0].partitions[0].current_leader_epoch, EPOCHS[1]);
        assert_eq!(one(&mut machine, vec![said(&asks[0], offset(native))]), (0, -1, shown));
        assert_eq!(live(&world).visible(), Virtual(shown));
    }
}

#[test]
fn positions_by_time_are_the_first_of_both_sides() {
    let world = World::sealed();
    let ask_both = |source: (i16, i64, i64), target: (i16, i64, i64), timestamp: i64| {
        let mut machine = world.machine(7, about(&[("orders", &[0])], timestamp));
        let asks = machine.asks();
        assert_eq!(whom(&asks), [(Side::Source, To::Node(SOURCE + 1)), (Side::Target, To::Node(TARGET + 1))]);
        one(&mut machine, vec![said(&asks[0], |_, _| source), said(&asks[1], |_, _| target)])
    };
    let none = (0, -1, -1);
    assert_eq!(ask_both((0, 1000, 99), (0, 1000, TARGET_START), 1000), (0, 1000, 99), "before the seam");
    assert_eq!(ask_both(none, (0, 1001, TARGET_START), 1000), (0, 1001, SEAM), "at it");
    assert_eq!(ask_both(none, (0, 1001, TARGET_START + 3), 1000), (0, 1001, SEAM + 3), "behind it");
    assert_eq!(ask_both(none, none, 1000), none, "nowhere");
    assert_eq!(ask_both((0, 5, SEAM + 2), none, 1), none, "a straggler, and nothing behind it");
    assert_eq!(ask_both((0, 9, 3), (0, 8, 50), MAX_TIMESTAMP), (0, 9, 3));
    assert_eq!(ask_both((0, -1, 12), (0, -1, TARGET_START), EARLIEST), (0, -1, 12));
    assert_eq!(
        ask_both((0, -1, SEAM), (0, -1, TARGET_START + 1), EARLIEST),
        (0, -1, SEAM + 1),
        "nothing left on the source"
    );
    assert_eq!(ask_both((29, -1, -1), (0, 1001, TARGET_START), 1000), (29, -1, -1), "half an answer is none");
}

#[test]
fn a_dead_side_takes_the_earliest_away_from_nobody() {
    let world = World::sealed();
    world.lose(Side::Source);
    let earliest = |world: &World| {
        let mut machine = world.machine(5, about(&[("orders", &[0])], EARLIEST));
        let asks = machine.asks();
        assert_eq!(whom(&asks), [(Side::Target, To::Node(TARGET + 1))]);
        one(&mut machine, vec![said(&asks[0], offset(TARGET_START))])
    };
    assert_eq!(earliest(&world), (0, -1, 0));
    world.alter(|state| state.live.heard(Side::Source, 100, 100, 30));
    assert_eq!(earliest(&world), (0, -1, 30));
    let mut by_time = world.machine(5, about(&[("orders", &[0])], 1000));
    let asks = by_time.asks();
    assert_eq!(one(&mut by_time, vec![said(&asks[0], offset(9))]), (code::LEADER_NOT_AVAILABLE, -1, -1));
}

#[test]
fn a_connection_that_was_lost_takes_only_what_was_seen_for_the_earliest() {
    let world = World::sealed();
    let earliest = |world: &World| {
        let mut machine = world.machine(5, about(&[("orders", &[0])], EARLIEST));
        let asks = machine.asks();
        one(&mut machine, vec![lost(), said(&asks[1], offset(TARGET_START))])
    };
    assert_eq!(earliest(&world), (code::NOT_LEADER_OR_FOLLOWER, -1, -1), "the source is there: it is asked again");
    world.alter(|state| state.live.heard(Side::Source, 100, 100, 30));
    assert_eq!(earliest(&world), (0, -1, 30));
}

#[test]
fn the_end_of_a_held_partition_waits_for_the_release() {
    let world = World::new();
    world.hold(true);
    let mut machine = world.machine(5, about(&[("orders", &[0]), ("plain", &[0])], LATEST));
    let asks = machine.asks();
    let topics: Vec<&str> = sent(&asks[0]).topics.iter().map(|t| t.name.as_str()).collect();
    assert_eq!((asks.len(), topics), (1, vec!["plain"]), "what is not held is asked at once");
    let held = world.shared.partitions.load().version;
    let Step::AwaitRoutes { newer_than, deadline } = machine.step(Input::Answers(vec![said(&asks[0], offset(3))]))
    else {
        panic!("it does not wait")
    };
    assert_eq!((newer_than, deadline), (held, world.now + Duration::from_secs(10)));
    // Another snapshot, still held.
    world.hold(true);
    assert!(matches!(machine.step(Input::Woken), Step::AwaitRoutes { newer_than, .. } if newer_than == held + 1));
    world.alter(|state| {
        state.map = super::world::sealed();
        state.held = false;
    });
    let asks = machine.asks_after(Input::Woken);
    assert_eq!(whom(&asks), [(Side::Target, To::Node(TARGET + 1))]);
    let answer = machine.answer(vec![said(&asks[0], offset(TARGET_START + 1))]);
    assert_eq!(told(answer), [(0, -1, SEAM + 1), (0, -1, 3)]);
}

#[test]
fn while_consumers_are_held_the_log_ends_at_the_seam() {
    let world = World::sealed();
    world.alter(|state| state.consumers_held = true);
    let mut machine = world.machine(7, about(&[("orders", &[0])], LATEST));
    assert_eq!(told(machine.ends(Input::Start)), [(0, -1, SEAM)], "nobody is asked");
    for timestamp in [MAX_TIMESTAMP, 1000] {
        let mut machine = world.machine(7, about(&[("orders", &[0])], timestamp));
        let asks = machine.asks();
        assert_eq!(whom(&asks), [(Side::Source, To::Node(SOURCE + 1))]);
        assert_eq!(one(&mut machine, vec![said(&asks[0], |_, _| (0, 1000, 4))]), (0, 1000, 4));
    }
    // Retention is past the seam on both sides.
    let mut machine = world.machine(7, about(&[("orders", &[0])], EARLIEST));
    let asks = machine.asks();
    let answers = vec![said(&asks[0], offset(SEAM)), said(&asks[1], offset(TARGET_START + 9))];
    assert_eq!(one(&mut machine, answers), (0, -1, SEAM));
    // One that was asked before they go on is an answer of then.
    let mut machine = world.machine(7, about(&[("orders", &[0])], 1000));
    let asks = machine.asks();
    world.alter(|state| state.consumers_held = false);
    assert_eq!(one(&mut machine, vec![said(&asks[0], |_, _| (0, -1, -1))]), (0, -1, -1));
    // Only where the log goes on on the target.
    let world = World::new();
    world.alter(|state| state.consumers_held = true);
    let mut machine = world.machine(7, about(&[("orders", &[0])], LATEST));
    let asks = machine.asks();
    assert_eq!(one(&mut machine, vec![said(&asks[0], offset(42))]), (0, -1, 42));
}

#[test]
fn an_end_that_is_held_too_long_is_not_available() {
    let mut world = World::new();
    world.hold(true);
    let mut machine = world.machine(5, about(&[("orders", &[0])], LATEST));
    assert!(matches!(machine.step(Input::Start), Step::AwaitRoutes { .. }));
    let late = world.now + Duration::from_secs(10);
    let mut machine = machine.detached();
    world.now = late;
    let Step::Answer(answer) = machine.step(&world.cx(5), Input::Woken) else { panic!("it waits on") };
    assert_eq!(told(answer), [(code::OFFSET_NOT_AVAILABLE, -1, -1)]);
    assert_eq!(world.shared.partitions.load().get("orders", 0).unwrap().live.visible(), Virtual(0));
}

#[test]
fn other_positions_are_told_during_a_hold() {
    let world = World::new();
    world.hold(true);
    let mut machine = world.machine(5, about(&[("orders", &[0])], EARLIEST));
    let asks = machine.asks();
    assert_eq!(one(&mut machine, vec![said(&asks[0], offset(3))]), (0, -1, 3));
}

#[test]
fn an_end_that_was_asked_before_a_hold_is_asked_again_after_it() {
    let world = World::new();
    let mut machine = world.machine(5, about(&[("orders", &[0])], LATEST));
    let asks = machine.asks();
    world.hold(true);
    let step = machine.step(Input::Answers(vec![said(&asks[0], offset(42))]));
    assert!(matches!(step, Step::AwaitRoutes { .. }), "{}", name(&step));
    assert_eq!(world.shared.partitions.load().get("orders", 0).unwrap().live.visible(), Virtual(0));
    world.hold(false);
    let asks = machine.asks_after(Input::Woken);
    assert_eq!(one(&mut machine, vec![said(&asks[0], offset(43))]), (0, -1, 43));
}

#[test]
fn an_answer_is_judged_by_the_map_that_holds_when_it_is_given() {
    for timestamp in [LATEST, EARLIEST, MAX_TIMESTAMP, 1000] {
        let world = World::new();
        let mut machine = world.machine(7, about(&[("orders", &[0])], timestamp));
        let asks = machine.asks();
        world.seal();
        // A record behind the seam: by the old map it would be virtual 150.
        let again = machine.asks_after(Input::Answers(vec![said(&asks[0], |_, _| (0, 2000, 150))]));
        let whole: Vec<Side> = again.iter().map(|a| a.side).collect();
        assert!(whole.contains(&Side::Target), "{timestamp}");
        let native = |a: &Ask| if a.side == Side::Source { (0, -1, -1) } else { (0, 2000, TARGET_START + 1) };
        let answers = again.iter().map(|a| said(a, |_, _| native(a))).collect();
        let (error, _, offset) = told(machine.answer(answers))[0];
        assert_eq!(error, 0);
        assert!(timestamp == EARLIEST || offset == SEAM + 1, "{timestamp}: {offset}");
    }
}

#[test]
fn stale_views_are_refreshed_and_asked_for_again_by_the_client() {
    let world = World::sealed();
    for error in [code::FENCED_LEADER_EPOCH, code::UNKNOWN_LEADER_EPOCH, code::NOT_LEADER_OR_FOLLOWER] {
        for name in ["orders", "plain"] {
            let mut machine = world.machine(5, about(&[(name, &[0])], LATEST));
            let asks = machine.asks();
            let answer = one(&mut machine, vec![said(&asks[0], |_, _| (error, -1, -1))]);
            assert_eq!(answer, (code::NOT_LEADER_OR_FOLLOWER, -1, -1));
            let sides = Side::BOTH.map(|side| world.was_refreshed(side));
            assert_eq!(sides, [name == "plain", name == "orders"]);
        }
    }
    let mut machine = world.machine(5, about(&[("orders", &[0]), ("plain", &[0])], LATEST));
    machine.asks();
    let lost = told(machine.answer(vec![lost(), lost()]));
    assert_eq!(lost, [(code::NOT_LEADER_OR_FOLLOWER, -1, -1); 2]);
    assert_eq!(Side::BOTH.map(|side| world.was_refreshed(side)), [true, true]);
}

#[test]
fn errors_that_are_no_bodys_fault_pass() {
    let world = World::new();
    for error in [code::OFFSET_NOT_AVAILABLE, code::TOPIC_AUTHORIZATION_FAILED] {
        let mut machine = world.machine(5, about(&[("orders", &[0])], LATEST));
        let asks = machine.asks();
        assert_eq!(one(&mut machine, vec![said(&asks[0], |_, _| (error, -1, -1))]), (error, -1, -1));
        assert!(!world.was_refreshed(Side::Source));
    }
}

#[test]
fn what_is_not_there_is_said_without_asking() {
    let world = World::new();
    let start = |request| told(world.machine(5, request).ends(Input::Start));
    let unknown = (code::UNKNOWN_TOPIC_OR_PARTITION, -1, -1);
    assert_eq!(start(about(&[("nobody-knows", &[0]), ("plain", &[9, -1])], LATEST)), [unknown; 3]);
    world.lose(Side::Source);
    let start = |request| told(world.machine(5, request).ends(Input::Start));
    assert_eq!(start(about(&[("plain", &[0])], LATEST)), [(code::LEADER_NOT_AVAILABLE, -1, -1)]);
    assert_eq!(start(about(&[("orders", &[0])], LATEST)), [(code::LEADER_NOT_AVAILABLE, -1, -1)]);
}

#[test]
fn only_consumers_ask_here() {
    let world = World::new();
    for replica in [-2, 0, 7] {
        let request = about(&[("orders", &[0]), ("plain", &[0])], LATEST).with_replica_id(BrokerId(replica));
        let answer = told(world.machine(5, request).ends(Input::Start));
        assert_eq!(answer, [(code::INVALID_REQUEST, -1, -1); 2]);
    }
}

#[test]
fn a_spliced_log_has_no_tiers() {
    let world = World::sealed();
    let mut machine = world.machine(9, about(&[("orders", &[0])], -4));
    let asks = machine.asks();
    assert!(asks.iter().all(|a| sent(a).topics[0].partitions[0].timestamp == EARLIEST));
    let answers = vec![said(&asks[0], offset(12)), said(&asks[1], offset(TARGET_START))];
    assert_eq!(one(&mut machine, answers), (0, -1, 12));
    let start = |timestamp| told(world.machine(9, about(&[("orders", &[0])], timestamp)).ends(Input::Start));
    assert_eq!(start(-5), [(0, -1, -1)]);
    assert_eq!(start(-6), [(code::UNSUPPORTED_VERSION, -1, -1)]);
    let asks = world.machine(9, about(&[("plain", &[0])], -4)).asks();
    assert_eq!(sent(&asks[0]).topics[0].partitions[0].timestamp, -4, "an untouched topic may have them");
}
