//! What transactional producers ask: at their id's coordinator, with native producer ids, once.

use kafka_cutover::api::{Input, Step, To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::groups::shadow::Told;
use kafka_cutover::ids::{Side, VirtualPid};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, GroupId, InitProducerIdRequest, InitProducerIdResponse, ProducerId, RequestKind,
    ResponseKind, TransactionalId, TxnOffsetCommitRequest,
};

use super::world::{EPOCHS, Running, SEAM, SOURCE, World, lost, not_sent, text, topic};

const PID: ProducerId = ProducerId(7);

fn id() -> TransactionalId {
    TransactionalId(text("tx"))
}

fn add(topics: &[&str]) -> AddPartitionsToTxnRequest {
    let one = |name: &&str| AddPartitionsToTxnTopic::default().with_name(topic(name)).with_partitions(vec![0, 1]);
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id())
        .with_v3_and_below_producer_id(PID)
        .with_v3_and_below_producer_epoch(2)
        .with_v3_and_below_topics(topics.iter().map(one).collect())
}

fn added(topics: &[(&str, i16)]) -> AddPartitionsToTxnResponse {
    let one = |(name, error): &(&str, i16)| {
        let result = |index: i32| {
            AddPartitionsToTxnPartitionResult::default().with_partition_index(index).with_partition_error_code(*error)
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic(name))
            .with_results_by_partition(vec![result(0), result(1)])
    };
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.iter().map(one).collect())
}

fn end(commit: bool) -> EndTxnRequest {
    EndTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(PID)
        .with_producer_epoch(2)
        .with_committed(commit)
}

fn ended(error: i16) -> EndTxnResponse {
    EndTxnResponse::default().with_error_code(error)
}

fn add_offsets() -> AddOffsetsToTxnRequest {
    AddOffsetsToTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(PID)
        .with_producer_epoch(2)
        .with_group_id(GroupId(text("g")))
}

fn commit(offset: i64) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(EPOCHS[1])
        .with_committed_metadata(Some(text("mine")));
    let topic = TxnOffsetCommitRequestTopic::default().with_name(topic("orders")).with_partitions(vec![partition]);
    TxnOffsetCommitRequest::default()
        .with_transactional_id(id())
        .with_group_id(GroupId(text("g")))
        .with_producer_id(PID)
        .with_producer_epoch(2)
        .with_topics(vec![topic])
}

fn initialise(pid: i64) -> InitProducerIdRequest {
    InitProducerIdRequest::default().with_transactional_id(Some(id())).with_producer_id(ProducerId(pid))
}

/// The one request, at the coordinator of the id.
fn asked(machine: &mut Running<'_>) -> RequestKind {
    let mut asks = machine.asks();
    assert_eq!(
        (asks.len(), asks[0].side, &asks[0].to),
        (1, Side::Source, &To::TransactionCoordinator("tx".to_owned()))
    );
    asks.remove(0).request
}

fn error_of(answer: &ResponseKind) -> i16 {
    match answer {
        ResponseKind::InitProducerId(a) => a.error_code,
        ResponseKind::AddPartitionsToTxn(a) => {
            a.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        }
        ResponseKind::AddOffsetsToTxn(a) => a.error_code,
        ResponseKind::EndTxn(a) => a.error_code,
        ResponseKind::TxnOffsetCommit(a) => a.topics[0].partitions[0].error_code,
        other => panic!("another API: {other:?}"),
    }
}

/// Each with its lowest and highest version.
fn all() -> Vec<(RequestKind, [i16; 2])> {
    vec![
        (initialise(-1).into(), [0, 5]),
        (add(&["plain"]).into(), [0, 3]),
        (add_offsets().into(), [0, 4]),
        (commit(SEAM).into(), [0, 4]),
        (end(true).into(), [0, 4]),
    ]
}

#[test]
fn a_lost_answer_sends_the_client_to_look_again() {
    let cases = [
        (lost(), code::NOT_COORDINATOR),
        (not_sent(), code::NOT_COORDINATOR),
        (Err(Unanswered::NoCoordinator(15)), code::NOT_COORDINATOR),
        (Err(Unanswered::NoCoordinator(53)), code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ];
    for (request, versions) in all() {
        for version in versions {
            for (answer, error) in cases.clone() {
                let world = World::sealed();
                world.shared.transaction_coordinators.set(Side::Source, "tx", SOURCE + 1);
                world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
                let mut machine = world.machine(version, request.clone());
                assert_eq!(machine.asks().len(), 1);
                assert_eq!(error_of(&machine.answer(vec![answer])), error, "{request:?}");
                let of_group = matches!(request, RequestKind::TxnOffsetCommit(_));
                let known = match of_group {
                    true => world.shared.coordinators.get(Side::Source, "g"),
                    false => world.shared.transaction_coordinators.get(Side::Source, "tx"),
                };
                assert_eq!(known.is_none(), error == code::NOT_COORDINATOR, "{request:?}");
            }
        }
    }
}

#[test]
fn another_sides_producer_id_is_not_one_of_this_coordinator() {
    let foreign = ProducerId(VirtualPid::issued(Side::Target, 7).0);
    let world = World::new();
    let requests: [RequestKind; 5] = [
        initialise(foreign.0).into(),
        add(&["plain"]).with_v3_and_below_producer_id(foreign).into(),
        add_offsets().with_producer_id(foreign).into(),
        commit(1).with_producer_id(foreign).into(),
        end(true).with_producer_id(foreign).into(),
    ];
    for request in requests {
        let answer = world.machine(3, request).ends(Input::Start);
        assert_eq!(error_of(&answer), code::INVALID_PRODUCER_ID_MAPPING);
    }
}

#[test]
fn what_the_coordinator_says_is_the_producers_to_hear() {
    let world = World::new();
    let mut machine = world.machine(5, initialise(7).with_producer_epoch(2));
    assert_eq!(asked(&mut machine), initialise(7).with_producer_epoch(2).into());
    let given = InitProducerIdResponse::default().with_producer_id(PID).with_producer_epoch(3);
    assert_eq!(machine.answer(vec![Ok(given.clone().into())]), given.into());

    let mut machine = world.machine(3, add(&["plain", "orders"]));
    assert_eq!(asked(&mut machine), add(&["plain", "orders"]).into());
    let answer = added(&[("plain", 0), ("orders", 0)]);
    assert_eq!(machine.answer(vec![Ok(answer.clone().into())]), answer.into());
    let writers = world.shared.transactions.writers(|_| true, world.cx(3).now_ms);
    assert_eq!(format!("{writers:?}"), r#"{"tx": {"orders"}}"#, "what no migration has does not count");

    let mut machine = world.machine(4, add_offsets());
    assert_eq!(asked(&mut machine), add_offsets().into());
    let fenced = AddOffsetsToTxnResponse::default().with_error_code(90);
    assert_eq!(machine.answer(vec![Ok(fenced.clone().into())]), fenced.into());
}

#[test]
fn a_partition_in_a_hold_is_waited_for() {
    let world = World::new();
    world.hold(true);
    let mut machine = world.machine(3, add(&["plain", "orders"]));
    let version = world.cx(3).partitions.version;
    let Step::AwaitRoutes { newer_than, deadline } = machine.step(Input::Start) else { panic!("it waits") };
    assert_eq!((newer_than, deadline), (version, world.now + world.shared.config.seal.hold_budget));
    assert!(world.shared.transactions.writers(|_| true, world.cx(3).now_ms).is_empty(), "not yet");
    world.hold(false);
    assert_eq!(machine.asks_after(Input::Woken).len(), 1);
    // Sealed in the meantime.
    let mut machine = world.machine(3, add(&["plain", "orders"]));
    world.hold(true);
    machine.step(Input::Start);
    world.seal();
    world.hold(false);
    let told = added(&[("plain", code::OPERATION_NOT_ATTEMPTED), ("orders", code::TRANSACTION_ABORTABLE)]);
    assert_eq!(machine.ends(Input::Woken), told.into());
    assert!(world.shared.transactions.has_none("tx"));
}

#[test]
fn nothing_to_abort_is_aborted_where_everything_was_refused() {
    let world = World::sealed();
    let asks = |commit, error| {
        let mut machine = world.machine(4, end(commit));
        assert_eq!(asked(&mut machine), end(commit).into());
        error_of(&machine.answer(vec![Ok(ended(error).into())]))
    };
    assert_eq!(asks(false, code::INVALID_TXN_STATE), code::INVALID_TXN_STATE);
    world.machine(3, add(&["plain", "orders"])).ends(Input::Start);
    assert_eq!(asks(true, code::INVALID_TXN_STATE), code::INVALID_TXN_STATE);
    assert_eq!(asks(false, 90), 90);
    assert_eq!(asks(false, code::INVALID_TXN_STATE), code::NONE);
    assert_eq!(asks(false, code::INVALID_TXN_STATE), code::INVALID_TXN_STATE, "once");
}

#[test]
fn positions_go_to_the_home_as_a_commit_has_them_and_their_shadows_are_read_anew() {
    let world = World::sealed();
    for version in [0, 2, 3, 4] {
        let mut machine = world.machine(version, commit(SEAM + 3));
        let asks = machine.asks();
        assert_eq!((asks[0].side, &asks[0].to), (Side::Source, &To::Coordinator("g".to_owned())));
        let RequestKind::TxnOffsetCommit(sent) = &asks[0].request else { panic!("another API") };
        let part = &sent.topics[0].partitions[0];
        let metadata = part.committed_metadata.as_ref().unwrap();
        assert_eq!((part.committed_offset, part.committed_leader_epoch), (SEAM, -1));
        assert!(metadata.starts_with("mine") && metadata.len() > 4, "with a trailer: {metadata:?}");
    }
    assert_eq!(world.told_shadows(), []);
    let mut machine = world.machine(4, end(true));
    machine.asks();
    machine.answer(vec![lost()]);
    assert_eq!(world.told_shadows(), [], "perhaps it is open still");
    let mut machine = world.machine(4, end(true));
    machine.asks();
    machine.answer(vec![Ok(ended(0).into())]);
    assert_eq!(world.told_shadows(), [Told::Changed("g".to_owned())]);
}
