//! DeleteRecords: each side up to its own place, in the order that loses nothing, and one log in the answer.

use std::time::Duration;

use kafka_cutover::api::{Ask, Input, Step, To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::ids::{Native, Side};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, RequestKind, ResponseKind};

use super::world::{SEAM, SOURCE, TARGET, TARGET_START, World, lost, name, shows_nobody, topic};

const TO_THE_END: i64 = -1;

fn delete(topics: &[(&str, &[(i32, i64)])]) -> DeleteRecordsRequest {
    let partition =
        |(i, offset): &(i32, i64)| DeleteRecordsPartition::default().with_partition_index(*i).with_offset(*offset);
    let topics = topics.iter().map(|(name, partitions)| {
        DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(partitions.iter().map(partition).collect())
    });
    DeleteRecordsRequest::default().with_timeout_ms(900).with_topics(topics.collect())
}

/// Side, whom, and (partition, offset) of `orders`.
fn asked(ask: &Ask) -> (Side, To, Vec<(i32, i64)>) {
    let RequestKind::DeleteRecords(request) = &ask.request else { panic!("another API") };
    assert_eq!(request.timeout_ms, 900);
    let partitions = request.topics.iter().flat_map(|t| &t.partitions);
    (ask.side, ask.to.clone(), partitions.map(|p| (p.partition_index, p.offset)).collect())
}

/// A broker's answer to all that it was asked: (error, low watermark).
fn said(ask: &Ask, error: i16, low: i64) -> Result<ResponseKind, Unanswered> {
    let RequestKind::DeleteRecords(request) = &ask.request else { panic!("another API") };
    let topics = request.topics.iter().map(|t| {
        let result = |p: &DeleteRecordsPartition| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(p.partition_index)
                .with_error_code(error)
                .with_low_watermark(low)
        };
        DeleteRecordsTopicResult::default()
            .with_name(t.name.clone())
            .with_partitions(t.partitions.iter().map(result).collect())
    });
    Ok(DeleteRecordsResponse::default().with_throttle_time_ms(3).with_topics(topics.collect()).into())
}

/// (partition, error, low watermark).
fn told(answer: ResponseKind) -> Vec<(i32, i16, i64)> {
    let ResponseKind::DeleteRecords(answer) = answer else { panic!("another API") };
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| (p.partition_index, p.error_code, p.low_watermark)).collect()
}

#[test]
fn untouched_partitions_are_the_sources_own_in_every_version() {
    let world = World::sealed();
    for version in 0..=2 {
        for offset in [55, TO_THE_END] {
            let mut machine = world.machine(version, delete(&[("plain", &[(1, offset)])]));
            let asks = machine.asks();
            assert_eq!(
                asks.iter().map(asked).collect::<Vec<_>>(),
                [(Side::Source, To::Node(SOURCE + 2), vec![(1, offset)])]
            );
            assert_eq!(told(machine.answer(vec![said(&asks[0], 0, 55)])), [(1, 0, 55)]);
        }
    }
}

#[test]
fn below_the_seam_the_source_alone_is_asked() {
    let world = World::sealed();
    for offset in [40, SEAM] {
        let mut machine = world.machine(2, delete(&[("orders", &[(0, offset)])]));
        let asks = machine.asks();
        assert_eq!(
            asks.iter().map(asked).collect::<Vec<_>>(),
            [(Side::Source, To::Node(SOURCE + 1), vec![(0, offset)])]
        );
        assert_eq!(told(machine.answer(vec![said(&asks[0], 0, offset)])), [(0, 0, offset)]);
    }
}

#[test]
fn beyond_the_seam_the_target_is_asked_before_the_source_loses_its_part() {
    let world = World::sealed();
    let mut machine = world.machine(2, delete(&[("orders", &[(1, SEAM + 5)])]));
    let asks = machine.asks();
    assert_eq!(
        asks.iter().map(asked).collect::<Vec<_>>(),
        [(Side::Target, To::Node(TARGET + 2), vec![(1, TARGET_START + 5)])]
    );
    let asks = machine.asks_after(Input::Answers(vec![said(&asks[0], 0, TARGET_START + 5)]));
    assert_eq!(asks.iter().map(asked).collect::<Vec<_>>(), [(Side::Source, To::Node(SOURCE + 2), vec![(1, SEAM)])]);
    assert_eq!(told(machine.answer(vec![said(&asks[0], 0, SEAM)])), [(1, 0, SEAM + 5)]);

    // What was heard is remembered: the source has nothing left to delete.
    let mut machine = world.machine(2, delete(&[("orders", &[(1, SEAM + 9)])]));
    let asks = machine.asks();
    assert_eq!(asked(&asks[0]).2, [(1, TARGET_START + 9)]);
    assert_eq!(told(machine.answer(vec![said(&asks[0], 0, TARGET_START + 9)])), [(1, 0, SEAM + 9)]);
    // Nor has anybody.
    let done = told(world.machine(2, delete(&[("orders", &[(1, SEAM + 2)])])).ends(Input::Start));
    assert_eq!(done, [(1, 0, SEAM + 9)]);
}

#[test]
fn an_offset_beyond_the_end_deletes_nothing_anywhere() {
    let world = World::sealed();
    let mut machine = world.machine(2, delete(&[("orders", &[(0, SEAM + 500)])]));
    let asks = machine.asks();
    let out_of_range = said(&asks[0], code::OFFSET_OUT_OF_RANGE, -1);
    assert_eq!(told(machine.answer(vec![out_of_range])), [(0, code::OFFSET_OUT_OF_RANGE, -1)]);
    let nonsense = told(world.machine(2, delete(&[("orders", &[(0, -2)])])).ends(Input::Start));
    assert_eq!(nonsense, [(0, code::OFFSET_OUT_OF_RANGE, -1)]);
}

#[test]
fn to_the_end_is_to_each_sides_end() {
    let world = World::sealed();
    let mut machine = world.machine(2, delete(&[("orders", &[(0, TO_THE_END)])]));
    let asks = machine.asks();
    assert_eq!(asked(&asks[0]), (Side::Source, To::Node(SOURCE + 1), vec![(0, SEAM)]), "not what came after the seal");
    let asks = machine.asks_after(Input::Answers(vec![said(&asks[0], 0, SEAM)]));
    assert_eq!(asked(&asks[0]), (Side::Target, To::Node(TARGET + 1), vec![(0, TO_THE_END)]));
    assert_eq!(told(machine.answer(vec![said(&asks[0], 0, TARGET_START + 30)])), [(0, 0, SEAM + 30)]);
}

#[test]
fn a_closed_side_that_fails_costs_the_open_one_no_record() {
    let world = World::sealed();
    // A client told to come back would otherwise delete, with each try, what was acknowledged since the one before.
    let mut machine = world.machine(2, delete(&[("orders", &[(0, TO_THE_END)])]));
    let asks = machine.asks();
    assert_eq!(asks.iter().map(|a| a.side).collect::<Vec<_>>(), [Side::Source]);
    assert_eq!(told(machine.answer(vec![lost()])), [(0, code::NOT_LEADER_OR_FOLLOWER, -1)]);
    world.lose(Side::Source);
    let none = told(world.machine(2, delete(&[("orders", &[(0, TO_THE_END)])])).ends(Input::Start));
    assert_eq!(none, [(0, code::LEADER_NOT_AVAILABLE, -1)]);
}

#[test]
fn a_rolled_back_log_is_deleted_on_the_side_where_its_records_lie() {
    let world = World::sealed();
    world.alter(|s| s.map = s.map.sealed(Native(TARGET_START + 20), 0, (Side::Source, Native(SEAM))).unwrap());
    // In the target's part: the source up to where its own goes on, and no further.
    let mut machine = world.machine(2, delete(&[("orders", &[(0, SEAM + 4)])]));
    let asks = machine.asks();
    assert_eq!(asked(&asks[0]), (Side::Source, To::Node(SOURCE + 1), vec![(0, SEAM)]));
    let asks = machine.asks_after(Input::Answers(vec![said(&asks[0], 0, SEAM)]));
    assert_eq!(asked(&asks[0]), (Side::Target, To::Node(TARGET + 1), vec![(0, TARGET_START + 4)]));
    assert_eq!(told(machine.answer(vec![said(&asks[0], 0, TARGET_START + 4)])), [(0, 0, SEAM + 4)]);
}

#[test]
fn an_error_is_its_partitions_alone() {
    let world = World::sealed();
    let wanted: &[(i32, i64)] = &[(0, 10), (1, 10), (2, SEAM + 1)];
    let mut machine = world.machine(2, delete(&[("orders", wanted), ("plain", &[(9, 1)]), ("nobody", &[(0, 1)])]));
    let asks = machine.asks();
    let to: Vec<_> = asks.iter().map(|a| (a.side, a.to.clone())).collect();
    assert_eq!(
        to,
        [
            (Side::Source, To::Node(SOURCE + 1)),
            (Side::Source, To::Node(SOURCE + 2)),
            (Side::Target, To::Node(TARGET + 3))
        ]
    );
    let answers = vec![said(&asks[0], 0, 10), said(&asks[1], code::FENCED_LEADER_EPOCH, -1), said(&asks[2], 0, 8)];
    let asks = machine.asks_after(Input::Answers(answers));
    assert!(world.was_refreshed(Side::Source), "our view was old");
    assert_eq!(asked(&asks[0]), (Side::Source, To::Node(SOURCE + 3), vec![(2, SEAM)]));
    let told = told(machine.answer(vec![lost()]));
    let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
    let again = code::NOT_LEADER_OR_FOLLOWER;
    assert_eq!(told, [(0, 0, 10), (1, again, -1), (2, again, -1), (9, unknown, -1), (0, unknown, -1)]);
}

#[test]
fn a_dead_side_takes_nothing_with_it() {
    let world = World::sealed();
    world.lose(Side::Source);
    let mut machine = world.machine(2, delete(&[("orders", &[(0, SEAM + 1)])]));
    let asks = machine.asks();
    assert_eq!(asks[0].side, Side::Target);
    let told = told(machine.answer(vec![said(&asks[0], 0, TARGET_START + 1)]));
    assert_eq!(told, [(0, code::LEADER_NOT_AVAILABLE, -1)], "the source's part is still there");
}

#[test]
fn a_held_partition_waits_for_its_release() {
    let mut world = World::new();
    world.hold(true);
    let mut machine = world.machine(2, delete(&[("orders", &[(0, TO_THE_END)]), ("plain", &[(0, 7)])]));
    // What is not held goes on.
    let asks = machine.asks();
    assert_eq!(asks.len(), 1);
    let version = world.shared.partitions.load().version;
    match machine.step(Input::Answers(vec![said(&asks[0], 0, 7)])) {
        Step::AwaitRoutes { newer_than, deadline } => {
            assert_eq!((newer_than, deadline), (version, world.now + Duration::from_secs(10)));
        }
        other => panic!("{}", name(&other)),
    }
    let mut machine = machine.detached();
    world.hold(false);
    world.seal();
    let Step::Ask(asks) = machine.step(&world.cx(2), Input::Woken) else { panic!("it is released") };
    assert_eq!(asked(&asks[0]), (Side::Source, To::Node(SOURCE + 1), vec![(0, SEAM)]), "by the map of now");

    world.hold(true);
    let mut machine = world.machine(2, delete(&[("orders", &[(0, 5)])])).detached();
    let Step::AwaitRoutes { deadline, .. } = machine.step(&world.cx(2), Input::Start) else { panic!("it waits") };
    world.now = deadline;
    let Step::Answer(answer) = machine.step(&world.cx(2), Input::Woken) else { panic!("no longer") };
    shows_nobody(&answer, 2);
    assert_eq!(told(answer), [(0, code::REQUEST_TIMED_OUT, -1)]);
}

#[test]
fn our_own_topics_are_nobodys() {
    let world = World::new();
    let told = told(world.machine(2, delete(&[("__kafka_cutover.default", &[(0, 1)])])).ends(Input::Start));
    assert_eq!(told, [(0, code::UNKNOWN_TOPIC_OR_PARTITION, -1)]);
}
