//! KIP-848 groups: heartbeats as they are, in their order; groups described by their coordinators.

use std::time::Duration;

use kafka_cutover::api::{Input, Step, To, Unanswered};
use kafka_cutover::error::code;
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
