//! Producers described: those of the open side, in virtual numbers.

use kafka_cutover::api::{Ask, Input, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::{Side, VirtualPid};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId, RequestKind, ResponseKind,
};

use super::world::{SEAM, SOURCE, TARGET, TARGET_START, World, lost, topic};

fn request(topics: &[(&str, &[i32])]) -> DescribeProducersRequest {
    let one = |(name, partitions): &(&str, &[i32])| {
        TopicRequest::default().with_name(topic(name)).with_partition_indexes(partitions.to_vec())
    };
    DescribeProducersRequest::default().with_topics(topics.iter().map(one).collect())
}

fn producer(pid: i64, transaction: i64) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(pid))
        .with_producer_epoch(4)
        .with_last_sequence(17)
        .with_last_timestamp(1_000)
        .with_coordinator_epoch(2)
        .with_current_txn_start_offset(transaction)
}

fn partition(index: i32, error: i16, producers: Vec<ProducerState>) -> PartitionResponse {
    PartitionResponse::default().with_partition_index(index).with_error_code(error).with_active_producers(producers)
}

fn answer(name: &str, partitions: Vec<PartitionResponse>) -> DescribeProducersResponse {
    let topic = TopicResponse::default().with_name(topic(name)).with_partitions(partitions);
    DescribeProducersResponse::default().with_topics(vec![topic])
}

fn asked(asks: &[Ask]) -> Vec<(Side, To, RequestKind)> {
    asks.iter().map(|a| (a.side, a.to.clone(), a.request.clone())).collect()
}

/// (partition, error, producers) of the first topic.
fn told(answer: &ResponseKind) -> Vec<(i32, i16, Vec<ProducerState>)> {
    let ResponseKind::DescribeProducers(answer) = answer else { panic!("another API") };
    let one = |p: &PartitionResponse| (p.partition_index, p.error_code, p.active_producers.clone());
    answer.topics[0].partitions.iter().map(one).collect()
}

#[test]
fn a_partition_that_was_never_sealed_is_the_sources() {
    let world = World::new();
    let mut machine = world.machine(0, request(&[("orders", &[1]), ("plain", &[0, 1]), ("nobody", &[0])]));
    let expected = [
        (Side::Source, To::Node(SOURCE + 1), request(&[("plain", &[0])]).into()),
        (Side::Source, To::Node(SOURCE + 2), request(&[("orders", &[1]), ("plain", &[1])]).into()),
    ];
    assert_eq!(asked(&machine.asks()), expected);
    let issued_by_target = VirtualPid::issued(Side::Target, 9).0;
    let producers = || vec![producer(9, 55), producer(issued_by_target, -1)];
    let mut second = answer("orders", vec![partition(1, 0, producers())]);
    second.topics.extend(answer("plain", vec![partition(1, 0, vec![])]).topics);
    let first = answer("plain", vec![partition(0, 0, producers())]).with_throttle_time_ms(6);
    let told = machine.answer(vec![Ok(first.into()), Ok(second.into())]);
    let mut expected = answer("orders", vec![partition(1, 0, producers())]).with_throttle_time_ms(6);
    expected.topics.extend(answer("plain", vec![partition(0, 0, producers()), partition(1, 0, vec![])]).topics);
    expected.topics.extend(
        answer("nobody", vec![partition(0, code::UNKNOWN_TOPIC_OR_PARTITION, vec![]).with_error_message(None)]).topics,
    );
    assert_eq!(told, expected.into());
}

#[test]
fn after_the_seal_it_is_the_targets_in_virtual_numbers() {
    let world = World::sealed();
    let mut machine = world.machine(0, request(&[("orders", &[2])]));
    assert_eq!(asked(&machine.asks()), [(Side::Target, To::Node(TARGET + 3), request(&[("orders", &[2])]).into())]);
    let (ours, theirs) = (VirtualPid::issued(Side::Source, 9), VirtualPid::issued(Side::Target, 9));
    let producers = vec![
        producer(ours.upstream(1), -1),
        // Past the proxy: whose number that is on the source nobody knows.
        producer(9, -1),
        producer(theirs.upstream(1), TARGET_START + 5),
        // Begun before the seam.
        producer(ours.upstream(1) + 1, TARGET_START - 1),
    ];
    let told = told(&machine.answer(vec![Ok(answer("orders", vec![partition(2, 0, producers)]).into())]));
    let expected = vec![producer(ours.0, -1), producer(theirs.0, SEAM + 5), producer(ours.0 + 1, SEAM)];
    assert_eq!(told, [(2, 0, expected)]);
}

#[test]
fn a_partition_that_is_sealed_meanwhile_is_asked_for_again() {
    let world = World::new();
    let mut machine = world.machine(0, request(&[("orders", &[0])]));
    machine.asks();
    world.seal();
    let told = told(&machine.answer(vec![Ok(answer("orders", vec![partition(0, 0, vec![producer(9, 5)])]).into())]));
    assert_eq!(told, [(0, code::NOT_LEADER_OR_FOLLOWER, vec![])]);
}

#[test]
fn errors_stay_with_their_partitions() {
    let world = World::new();
    let mut machine = world.machine(0, request(&[("orders", &[0, 1, 7])]));
    assert_eq!(machine.asks().len(), 2);
    let refused = answer("orders", vec![partition(0, code::TOPIC_AUTHORIZATION_FAILED, vec![])]);
    let answer = machine.answer(vec![Ok(refused.into()), lost()]);
    let told = told(&answer);
    let errors: Vec<_> = told.iter().map(|(index, error, _)| (*index, *error)).collect();
    let expected = [(0, code::TOPIC_AUTHORIZATION_FAILED), (1, code::NOT_LEADER_OR_FOLLOWER)];
    assert_eq!(errors[..2], expected);
    assert!(world.was_refreshed(Side::Source));

    world.lose(Side::Source);
    let answer = world.machine(0, request(&[("orders", &[0])])).ends(Input::Start);
    let ResponseKind::DescribeProducers(answer) = answer else { panic!("another API") };
    assert_eq!(
        answer.topics[0].partitions[0].error_code,
        code::NOT_LEADER_OR_FOLLOWER,
        "the only one at which Java asks again"
    );

    let world = World::new();
    let mut machine = world.machine(0, request(&[("orders", &[0])]));
    machine.asks();
    let stale = super::describe_producers::answer("orders", vec![partition(0, code::FENCED_LEADER_EPOCH, vec![])]);
    let ResponseKind::DescribeProducers(answer) = machine.answer(vec![Ok(stale.into())]) else { panic!("another API") };
    assert_eq!(answer.topics[0].partitions[0].error_code, code::NOT_LEADER_OR_FOLLOWER);
}
