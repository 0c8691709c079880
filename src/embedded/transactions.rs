//! Transactional ids and their transactions: AddPartitionsToTxn v0-3, AddOffsetsToTxn v0-4, EndTxn and TxnOffsetCommit v0-5,
//! DescribeTransactions v0, ListTransactions v0. Markers are written at once, before EndTxn is answered. The second protocol
//! (KIP-890), by the version of a request: Produce and TxnOffsetCommit add to a transaction, EndTxn ends an epoch with it.
//! Left out: transactions that end by time.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, ListTransactionsRequest,
    ListTransactionsResponse, TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
    describe_transactions_response as described, list_transactions_response as listed,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::batch::Header;
use super::group::Committed;
use super::membership::coordinated;
use super::offsets::{MAX_METADATA, Member, may_commit};
use super::state::State;

/// Kafka's `TransactionState`.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Empty,
    Ongoing,
    Ended { commit: bool },
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Empty => "Empty",
            Stage::Ongoing => "Ongoing",
            Stage::Ended { commit: true } => "CompleteCommit",
            Stage::Ended { commit: false } => "CompleteAbort",
        }
    }
}

pub struct TransactionalId {
    pid: i64,
    epoch: i16,
    timeout_ms: i32,
    stage: Stage,
    started_ms: i64,
    partitions: BTreeSet<(String, i32)>,
    groups: BTreeSet<String>,
    /// Who ended its last transaction with the second protocol: a retry names that one.
    ended_by: Option<(i64, i16)>,
}

impl TransactionalId {
    /// Whether a batch may go to this partition in the transaction that is open.
    pub fn has(&self, batch: &Header, topic: &str, partition: i32) -> bool {
        let open = self.stage == Stage::Ongoing && (self.pid, self.epoch) == (batch.producer_id, batch.producer_epoch);
        open && self.partitions.contains(&(topic.to_owned(), partition))
    }
}

/// Every initialisation aborts what is open and bumps the epoch; a producer that names its id and epoch must name the current
/// ones (KIP-360).
pub fn initialise(
    state: &mut State,
    id: &str,
    named: (i64, i16),
    timeout_ms: i32,
    now_ms: i64,
) -> Result<(i64, i16), E> {
    let known = state.transactional_ids.get(id).map(|t| (t.pid, t.epoch));
    if known.is_some_and(|known| named.0 >= 0 && known != named) {
        return Err(E::ProducerFenced);
    }
    end(state, id, false, now_ms);
    let (pid, epoch) = next(state, known);
    let (partitions, groups) = (BTreeSet::new(), BTreeSet::new());
    let (stage, started_ms) = (Stage::Empty, -1);
    let new = TransactionalId { pid, epoch, timeout_ms, stage, started_ms, partitions, groups, ended_by: None };
    state.transactional_ids.insert(id.to_owned(), new);
    Ok((pid, epoch))
}

/// The epoch after this one; a new producer when they have come to their end.
fn next(state: &mut State, known: Option<(i64, i16)>) -> (i64, i16) {
    match known {
        Some((pid, epoch)) if epoch < i16::MAX - 1 => (pid, epoch + 1),
        _ => (state.allocate_producer_id(), 0),
    }
}

/// A partition of a transaction that begins of itself: what its leader asks the coordinator for.
pub fn add_partition(
    state: &mut State,
    id: &str,
    batch: &Header,
    partition: (&str, i32),
    now_ms: i64,
) -> Result<(), E> {
    let found = state.transactional_ids.get_mut(id).filter(|t| t.pid == batch.producer_id);
    let found = found.ok_or(E::InvalidProducerIdMapping)?;
    if found.epoch != batch.producer_epoch {
        return Err(E::ProducerFenced);
    }
    begin(found, now_ms);
    found.partitions.insert((partition.0.to_owned(), partition.1));
    Ok(())
}

/// The id of a producer that is the current one of it.
fn current<'s>(
    call: &Call,
    state: &'s mut State,
    id: &str,
    (pid, epoch): (i64, i16),
    fenced: E,
) -> Result<&'s mut TransactionalId, E> {
    if id.is_empty() {
        return Err(E::InvalidRequest);
    }
    if state.coordinator(id) != Some(call.node) {
        return Err(E::NotCoordinator);
    }
    let known = state.transactional_ids.get_mut(id).filter(|t| t.pid == pid).ok_or(E::InvalidProducerIdMapping)?;
    if known.epoch == epoch { Ok(known) } else { Err(fenced) }
}

/// Clients know the code from `since` on.
fn fenced(call: &Call, since: i16) -> E {
    if call.version >= since { E::ProducerFenced } else { E::InvalidProducerEpoch }
}

fn begin(id: &mut TransactionalId, now_ms: i64) {
    if id.stage != Stage::Ongoing {
        (id.stage, id.started_ms) = (Stage::Ongoing, now_ms);
    }
}

/// Writes the markers; nothing if no transaction is open.
fn end(state: &mut State, id: &str, commit: bool, now_ms: i64) {
    let Some(found) = state.transactional_ids.get_mut(id).filter(|t| t.stage == Stage::Ongoing) else { return };
    found.stage = Stage::Ended { commit };
    found.ended_by = None;
    let producer = (found.pid, found.epoch);
    let (partitions, groups) = (std::mem::take(&mut found.partitions), std::mem::take(&mut found.groups));
    for (topic, partition) in partitions {
        if let Some(found) = state.partition_mut(&topic, partition) {
            let epoch = found.epoch;
            found.log.mark(producer, commit, epoch, now_ms);
        }
    }
    for group in groups {
        let Some(group) = state.groups.get_mut(&group) else { continue };
        let positions = group.in_transactions.remove(&producer.0).unwrap_or_default();
        if commit {
            group.offsets.extend(positions);
        }
    }
}

pub fn add_partitions_to_txn(call: &Call, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let mut state = call.shared.lock();
    let topics = &request.v3_and_below_topics;
    let known = |name: &TopicName, index: i32| state.partition(name, index).is_some();
    let all_known = topics.iter().all(|t| t.partitions.iter().all(|p| known(&t.name, *p)));
    let unknown = |name: &TopicName, index: i32| match known(name, index) {
        true => E::OperationNotAttempted,
        false => E::UnknownTopicOrPartition,
    };
    let mut errors: Vec<Vec<i16>> =
        topics.iter().map(|t| t.partitions.iter().map(|p| unknown(&t.name, *p).code()).collect()).collect();
    if all_known {
        let producer = (request.v3_and_below_producer_id.0, request.v3_and_below_producer_epoch);
        let id = current(call, &mut state, &request.v3_and_below_transactional_id, producer, fenced(call, 2));
        let error = id.map(|id| {
            begin(id, call.now_ms);
            id.partitions.extend(topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.to_string(), *p))));
        });
        let error = error.err().map_or(0, |e| e.code());
        errors.iter_mut().flatten().for_each(|e| *e = error);
    }
    let results = topics.iter().zip(errors).map(|(topic, errors)| {
        let result = |(index, error): (&i32, i16)| {
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(error)
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().zip(errors).map(result).collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

pub fn add_offsets_to_txn(call: &Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let mut state = call.shared.lock();
    let producer = (request.producer_id.0, request.producer_epoch);
    let done = current(call, &mut state, &request.transactional_id, producer, fenced(call, 2)).map(|id| {
        begin(id, call.now_ms);
        id.groups.insert(request.group_id.to_string());
    });
    AddOffsetsToTxnResponse::default().with_error_code(done.err().map_or(0, |e| e.code()))
}

/// With the second protocol, whose markers carry the epoch that the answer gives: also of a transaction that never began, if
/// it is aborted.
fn end_with_epoch(call: &Call, state: &mut State, request: &EndTxnRequest) -> Result<(i64, i16), E> {
    let (id, commit) = (&request.transactional_id, request.committed);
    let named = (request.producer_id.0, request.producer_epoch);
    if let Some(known) = state.transactional_ids.get(id.as_str())
        && known.ended_by == Some(named)
        && known.stage == (Stage::Ended { commit })
    {
        return Ok((known.pid, known.epoch));
    }
    let stage = current(call, state, id, named, E::ProducerFenced)?.stage;
    if stage != Stage::Ongoing && commit {
        return Err(E::InvalidTxnState);
    }
    let (pid, epoch) = next(state, Some(named));
    if pid == named.0
        && let Some(found) = state.transactional_ids.get_mut(id.as_str())
    {
        found.epoch = epoch;
    }
    end(state, id, commit, call.now_ms);
    if let Some(found) = state.transactional_ids.get_mut(id.as_str()) {
        (found.pid, found.epoch, found.stage, found.ended_by) = (pid, epoch, Stage::Ended { commit }, Some(named));
    }
    Ok((pid, epoch))
}

pub fn end_txn(call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let mut state = call.shared.lock();
    if call.version >= 5 {
        let answer = EndTxnResponse::default();
        return match end_with_epoch(call, &mut state, &request) {
            Ok((pid, epoch)) => answer.with_producer_id(pid.into()).with_producer_epoch(epoch),
            Err(error) => answer.with_error_code(error.code()),
        };
    }
    let (id, commit) = (&request.transactional_id, request.committed);
    let producer = (request.producer_id.0, request.producer_epoch);
    let stage = current(call, &mut state, id, producer, fenced(call, 2)).map(|id| id.stage);
    let done = match stage {
        Ok(Stage::Ongoing) => {
            end(&mut state, id, commit, call.now_ms);
            Ok(())
        }
        Ok(Stage::Ended { commit: before }) if before == commit => Ok(()),
        Ok(_) => Err(E::InvalidTxnState),
        Err(error) => Err(error),
    };
    EndTxnResponse::default().with_error_code(done.err().map_or(0, |e| e.code()))
}

pub fn txn_offset_commit(call: &Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut state = call.shared.lock();
    let member = Member {
        group: &request.group_id,
        generation: if call.version >= 3 { request.generation_id } else { -1 },
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        unknown: E::IllegalGeneration,
    };
    // Before v3 a producer says of no member that it is one: brokers take its word.
    let is_member = call.version >= 3 && member.generation >= 0;
    let mut allowed = coordinated(call, &state, &request.group_id);
    if is_member {
        allowed = allowed.and_then(|()| may_commit(call, &mut state, &member));
    }
    if call.version >= 5 {
        allowed = allowed.and_then(|()| add_group(call, &mut state, &request));
    }
    let mut response = TxnOffsetCommitResponse::default();
    for topic in request.topics {
        let known = state.topics.contains_key(topic.name.as_str());
        let mut answer = TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
            let error = match allowed {
                Err(error) => error.code(),
                Ok(()) if !known => E::UnknownTopicOrPartition.code(),
                Ok(()) if metadata.len() > MAX_METADATA => E::OffsetMetadataTooLarge.code(),
                Ok(()) => {
                    let (offset, leader_epoch) = (wanted.committed_offset, wanted.committed_leader_epoch);
                    let committed = Committed { offset, leader_epoch, metadata: metadata.to_owned() };
                    let group = state.groups.entry(request.group_id.to_string()).or_default();
                    let waiting = group.in_transactions.entry(request.producer_id.0).or_default();
                    waiting.push(((topic.name.to_string(), wanted.partition_index), committed));
                    0
                }
            };
            answer.partitions.push(
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(wanted.partition_index)
                    .with_error_code(error),
            );
        }
        response.topics.push(answer);
    }
    response
}

/// What the group's coordinator asks that of the id for.
fn add_group(call: &Call, state: &mut State, request: &TxnOffsetCommitRequest) -> Result<(), E> {
    let id = state.transactional_ids.get_mut(request.transactional_id.as_str());
    let id = id.filter(|t| t.pid == request.producer_id.0).ok_or(E::InvalidProducerIdMapping)?;
    if id.epoch != request.producer_epoch {
        return Err(E::ProducerFenced);
    }
    begin(id, call.now_ms);
    id.groups.insert(request.group_id.to_string());
    Ok(())
}

pub fn describe_transactions(call: &Call, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let state = call.shared.lock();
    let states = request.transactional_ids.into_iter().map(|id| {
        let found = found(call, &state, &id);
        let answer = described::TransactionState::default().with_transactional_id(id);
        match found {
            Ok(found) => {
                let mut topics: Vec<described::TopicData> = vec![];
                for (name, partition) in &found.partitions {
                    match topics.last_mut().filter(|t| t.topic.as_str() == name) {
                        Some(topic) => topic.partitions.push(*partition),
                        None => topics.push(
                            described::TopicData::default()
                                .with_topic(TopicName(StrBytes::from_string(name.clone())))
                                .with_partitions(vec![*partition]),
                        ),
                    }
                }
                answer
                    .with_transaction_state(found.stage.name().into())
                    .with_transaction_timeout_ms(found.timeout_ms)
                    .with_transaction_start_time_ms(found.started_ms)
                    .with_producer_id(found.pid.into())
                    .with_producer_epoch(found.epoch)
                    .with_topics(topics)
            }
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn found<'s>(call: &Call, state: &'s State, id: &str) -> Result<&'s TransactionalId, E> {
    if id.is_empty() {
        return Err(E::InvalidRequest);
    }
    if state.coordinator(id) != Some(call.node) {
        return Err(E::NotCoordinator);
    }
    state.transactional_ids.get(id).ok_or(E::TransactionalIdNotFound)
}

pub fn list_transactions(call: &Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let state = call.shared.lock();
    let known = |s: &&StrBytes| STATES.contains(&s.as_str());
    let unknown = request.state_filters.iter().filter(|s| !known(s)).cloned().collect();
    let (stages, pids) = (&request.state_filters, &request.producer_id_filters);
    let shown = state.transactional_ids.iter().filter(|(id, t)| {
        let in_state = stages.is_empty() || stages.iter().any(|s| s.as_str() == t.stage.name());
        let asked = pids.is_empty() || pids.iter().any(|p| p.0 == t.pid);
        in_state && asked && state.coordinator(id) == Some(call.node)
    });
    let states = shown.map(|(id, t)| {
        listed::TransactionState::default()
            .with_transactional_id(StrBytes::from_string(id.clone()).into())
            .with_producer_id(t.pid.into())
            .with_transaction_state(t.stage.name().into())
    });
    ListTransactionsResponse::default().with_unknown_state_filters(unknown).with_transaction_states(states.collect())
}
