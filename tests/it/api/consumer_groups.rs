//! KIP-848 groups: heartbeats as they are, in their order; groups described by their coordinators.

use std::time::Duration;

use kafka_cutover::api::{Input, Step, To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::groups::moves::Protocol;
use kafka_cutover::ids::Side;
use kafka_cutover::upstream::Lane;
use kafka_protocol::messages::consumer_group_describe_response as described;
use kafka_protocol::messages::consumer_group_heartbeat_request as asked;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, GroupId, RequestKind, ResponseKind,
};
use uuid::Uuid;

use super::world::{SOURCE, World, lost, name, not_sent, text, topic};

const FENCED_MEMBER_EPOCH: i16 = 110;
/// Of a topic of our own.
const HIDDEN: u128 = 99;

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn heartbeat() -> ConsumerGroupHeartbeatRequest {
    let owned = asked::TopicPartitions::default().with_topic_id(Uuid::from_u128(11)).with_partitions(vec![0, 2]);
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text("me"))
        .with_member_epoch(7)
        .with_rebalance_timeout_ms(60_000)
        .with_topic_partitions(Some(vec![owned]))
}

fn assigned(ids: &[u128]) -> ConsumerGroupHeartbeatResponse {
    let one = |id: &u128| TopicPartitions::default().with_topic_id(Uuid::from_u128(*id)).with_partitions(vec![0, 1]);
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text("me")))
        .with_member_epoch(8)
        .with_heartbeat_interval_ms(5_000)
        .with_assignment(Some(Assignment::default().with_topic_partitions(ids.iter().map(one).collect())))
}

#[test]
fn heartbeats_go_to_the_coordinator_with_the_commits() {
    for world in [World::new(), World::sealed()] {
        for version in 0..=1 {
            let request = match version {
                0 => heartbeat(),
                _ => heartbeat().with_subscribed_topic_regex(Some(text("ord.*"))),
            };
            let mut machine = world.machine(version, request.clone());
            let asks = machine.asks();
            assert_eq!((asks.len(), asks[0].side, asks[0].lane), (1, Side::Source, Lane::Ordinary));
            assert_eq!((&asks[0].to, &asks[0].request), (&To::Coordinator("g".to_owned()), &request.into()));
            assert_eq!(machine.answer(vec![Ok(assigned(&[11, 12]).into())]), assigned(&[11, 12]).into());
        }
    }
}

#[test]
fn no_member_gets_a_topic_of_ours() {
    let world = World::new();
    let mut machine = world.machine(1, heartbeat().with_subscribed_topic_regex(Some(text(".*"))));
    machine.asks();
    assert_eq!(machine.answer(vec![Ok(assigned(&[11, HIDDEN, 12]).into())]), assigned(&[11, 12]).into());
}

#[test]
fn a_topic_that_is_newer_than_our_snapshot_is_looked_up_before_a_member_gets_it() {
    let world = World::new();
    let newer = 98;
    let mut machine = world.machine(1, heartbeat());
    machine.asks();
    let generation = world.shared.topology.load().generation(Side::Source);
    match machine.step(Input::Answers(vec![Ok(assigned(&[11, newer]).into())])) {
        Step::AwaitTopology { side, newer_than, deadline } => {
            let expected = (Side::Source, generation, world.now + Duration::from_secs(2));
            assert_eq!((side, newer_than, deadline), expected);
        }
        other => panic!("{}", name(&other)),
    }
    assert!(world.was_refreshed(Side::Source));
    // It is ours, or it is not, or nobody knows: then the client finds out.
    let mut machine = machine.detached();
    let Step::Answer(answer) = machine.step(&world.cx(1), Input::Woken) else { panic!("it is answered") };
    assert_eq!(answer, assigned(&[11, newer]).into());

    let mut machine = world.machine(1, heartbeat());
    machine.asks();
    let Step::AwaitTopology { .. } = machine.step(Input::Answers(vec![Ok(assigned(&[11, newer]).into())])) else {
        panic!("it waits")
    };
    let mut machine = machine.detached();
    world.hide(newer);
    let Step::Answer(answer) = machine.step(&world.cx(1), Input::Woken) else { panic!("it is answered") };
    assert_eq!(answer, assigned(&[11]).into());
}

#[test]
fn a_member_keeps_its_epoch_when_its_coordinator_is_lost() {
    let world = World::new();
    let cases = [
        (lost(), code::NOT_COORDINATOR),
        (not_sent(), code::NOT_COORDINATOR),
        (Err(Unanswered::NoCoordinator(14)), code::NOT_COORDINATOR),
        (Err(Unanswered::NoCoordinator(30)), 30),
    ];
    for (answer, error) in cases {
        world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
        let mut machine = world.machine(1, heartbeat());
        machine.asks();
        let ResponseKind::ConsumerGroupHeartbeat(told) = machine.answer(vec![answer]) else { panic!("another API") };
        assert_eq!((told.error_code, told.assignment), (error, None));
        assert_eq!(world.shared.coordinators.get(Side::Source, "g").is_none(), error == code::NOT_COORDINATOR);
    }
    // What the coordinator itself says is the member's to hear.
    let fenced = ConsumerGroupHeartbeatResponse::default().with_error_code(FENCED_MEMBER_EPOCH);
    let mut machine = world.machine(1, heartbeat());
    machine.asks();
    assert_eq!(machine.answer(vec![Ok(fenced.clone().into())]), fenced.into());
}

#[test]
fn groups_are_described_one_by_one_without_topics_of_ours() {
    let world = World::new();
    let names = ["a", "b", "c"];
    let request = ConsumerGroupDescribeRequest::default()
        .with_group_ids(names.map(group).to_vec())
        .with_include_authorized_operations(true);
    let mut machine = world.machine(1, request);
    for (ask, name) in machine.asks().iter().zip(names) {
        assert_eq!((ask.side, &ask.to), (Side::Source, &To::Coordinator(name.to_owned())));
        let RequestKind::ConsumerGroupDescribe(part) = &ask.request else { panic!("{ask:?}") };
        assert_eq!((part.group_ids.as_slice(), part.include_authorized_operations), (&[group(name)][..], true));
    }
    let has = |topics: &[&str]| {
        let one = |name: &&str| described::TopicPartitions::default().with_topic_name(topic(name));
        described::Assignment::default().with_topic_partitions(topics.iter().map(one).collect())
    };
    let own = "__kafka_cutover.default";
    let of = |name: &str, topics: &[&str]| {
        let member = described::Member::default()
            .with_assignment(has(topics))
            .with_target_assignment(has(topics))
            .with_member_type(1);
        described::DescribedGroup::default().with_group_id(group(name)).with_members(vec![member])
    };
    let answer = |group, throttle| {
        let answer = ConsumerGroupDescribeResponse::default().with_groups(vec![group]);
        Ok(answer.with_throttle_time_ms(throttle).into())
    };
    let answers = vec![answer(of("a", &["orders", own]), 3), lost(), answer(of("c", &["plain"]), 8)];
    let nobody = described::DescribedGroup::default().with_group_id(group("b")).with_error_code(code::NOT_COORDINATOR);
    let expected = ConsumerGroupDescribeResponse::default().with_throttle_time_ms(8).with_groups(vec![
        of("a", &["orders"]),
        nobody,
        of("c", &["plain"]),
    ]);
    assert_eq!(machine.answer(answers), expected.into());

    let none = world.machine(0, ConsumerGroupDescribeRequest::default()).ends(Input::Start);
    assert_eq!(none, ConsumerGroupDescribeResponse::default().into());
}

// --- on the way to another home ---

fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

fn good(epoch: i32) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_member_epoch(epoch).with_heartbeat_interval_ms(5_000)
}

fn error(code: i16) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code)
}

/// What the home is asked, and what the member is told.
fn exchange(
    world: &World,
    request: ConsumerGroupHeartbeatRequest,
    answer: ConsumerGroupHeartbeatResponse,
) -> (Side, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse) {
    let mut machine = world.machine(1, request);
    let asks = machine.asks();
    let (side, RequestKind::ConsumerGroupHeartbeat(asked)) = (asks[0].side, asks[0].request.clone()) else {
        panic!("another API")
    };
    let ResponseKind::ConsumerGroupHeartbeat(told) = machine.answer(vec![Ok(answer.into())]) else {
        panic!("another API")
    };
    (side, asked, told)
}

fn begin(world: &World) {
    let members = ["me", "other"].map(|id| (id.to_owned(), None));
    assert!(world.shared.moves.begin("g", Protocol::Consumer, members.into()));
    world.shared.moves.has_nothing("g", "other");
}

fn missing(world: &World) -> Vec<String> {
    world.shared.moves.progress("g").expect("it is on its way").missing
}

#[test]
fn members_of_a_group_on_its_way_give_up_what_they_have() {
    let world = World::sealed();
    begin(&world);
    let nothing = Some(Assignment::default());
    // The home hears that the member is there, and no more.
    let full = heartbeat().with_subscribed_topic_names(Some(vec![topic("orders")]));
    let (side, asked, told) = exchange(&world, full.clone(), good(7));
    assert_eq!((side, asked), (Side::Source, beat("me", 7)));
    assert_eq!((told.error_code, told.member_epoch, &told.assignment), (0, 7, &nothing));
    assert!(told.heartbeat_interval_ms < 5_000, "it is to come again soon");
    // It gives up its partitions: until it says so it is told again, and made once to say what it has.
    let (_, _, told) = exchange(&world, full.clone(), good(7));
    assert_eq!((told.error_code, told.assignment), (code::NOT_COORDINATOR, None));
    let (_, _, told) = exchange(&world, full, good(7));
    assert_eq!(told.assignment, nothing);
    assert_eq!(missing(&world), ["me", "other"]);
    let (_, asked, told) = exchange(&world, beat("me", 7).with_topic_partitions(Some(vec![])), good(7));
    assert_eq!((asked, told.assignment), (beat("me", 7), None));
    assert_eq!(missing(&world), ["other"]);
    // Who had none never says anything of it.
    let (_, _, told) = exchange(&world, beat("other", 7), good(7));
    assert_eq!((told.assignment, missing(&world)), (None, vec![]));
    // Who joins now waits, but not for long.
    let mut machine = world.machine(1, beat("new", 0));
    let Step::AwaitMoveEnd { deadline, .. } = machine.step(Input::Start) else { panic!("it waits") };
    assert!(deadline <= world.now + Duration::from_secs(1));

    // It has moved: they join again at the new home, with their ids.
    world.shared.homes.set(
        "g",
        Side::Target,
        Protocol::Consumer,
        ["me".to_owned(), "other".to_owned()],
        world.cx(1).now_ms,
    );
    world.shared.moves.end("g", true);
    let mut cx = world.cx(1);
    cx.now = deadline;
    let mut machine = machine.detached();
    let Step::Ask(asks) = machine.step(&cx, Input::Woken) else { panic!("it joins") };
    assert_eq!(asks[0].side, Side::Target);
    for unknown in [code::UNKNOWN_MEMBER_ID, code::GROUP_ID_NOT_FOUND] {
        let (side, _, told) = exchange(&world, beat("me", 7), error(unknown));
        assert_eq!((side, told.error_code), (Side::Target, code::FENCED_MEMBER_EPOCH));
        let (_, _, told) = exchange(&world, beat("me", -1), error(unknown));
        assert_eq!((told.error_code, told.member_epoch), (0, -1), "it has left already");
        let (_, _, told) = exchange(&world, beat("me", 0), error(unknown));
        assert_eq!(told.error_code, unknown, "who joins has no past");
    }
    let (_, _, told) = exchange(&world, beat("me", 1), good(1));
    assert_eq!(told, good(1));
}

#[test]
fn a_home_that_goes_on_by_itself_ends_the_move() {
    for answer in [good(8), assigned(&[11]).with_member_epoch(7), error(code::UNKNOWN_MEMBER_ID), error(110)] {
        let world = World::sealed();
        begin(&world);
        let (_, _, told) = exchange(&world, beat("me", 7), answer.clone());
        assert_eq!(told, answer, "what it says is the member's to hear");
        assert!(world.shared.moves.progress("g").expect("it is on its way").disturbed.is_some());
    }
    // What passes does not.
    let world = World::sealed();
    begin(&world);
    let (_, _, told) = exchange(&world, beat("me", 7), error(code::NOT_COORDINATOR));
    assert_eq!(told.error_code, code::NOT_COORDINATOR);
    assert_eq!(world.shared.moves.progress("g").expect("it is on its way").disturbed, None);
}

#[test]
fn after_a_move_that_was_not_members_are_given_back_what_they_had() {
    let world = World::sealed();
    world.shared.called.add("g");
    // An error makes a client tell all of its state, and the coordinator all that it has for it.
    let mut machine = world.machine(1, beat("me", 7));
    let Step::Answer(ResponseKind::ConsumerGroupHeartbeat(told)) = machine.step(Input::Start) else {
        panic!("nobody is asked")
    };
    assert_eq!(told.error_code, code::NOT_COORDINATOR);
    let full = heartbeat().with_subscribed_topic_names(Some(vec![topic("orders")]));
    let full = full.with_topic_partitions(Some(vec![]));
    let (_, asked, told) = exchange(&world, full.clone(), assigned(&[11, 12]));
    assert_eq!((asked, told), (full, assigned(&[11, 12])));
    // Once.
    let (_, asked, _) = exchange(&world, beat("me", 7), good(7));
    assert_eq!(asked, beat("me", 7));
    // A heartbeat that was on its way when the move ended was not heard with all that it said.
    begin(&world);
    let mut machine = world.machine(1, heartbeat());
    machine.asks();
    world.shared.moves.end("g", false);
    let ResponseKind::ConsumerGroupHeartbeat(told) = machine.answer(vec![Ok(good(7).into())]) else {
        panic!("another API")
    };
    assert_eq!(told.error_code, code::NOT_COORDINATOR);
}
