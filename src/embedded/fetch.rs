//! Fetch v4-18: whole batches, long polls, byte budgets as `ReplicaManager` spends them. No sessions: `session_id` is 0 always,
//! and the answer has every partition that was asked for, in that order.

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use std::time::Duration;

use super::Call;
use super::produce::leader_of;
use super::state::State;

/// `fetch.max.bytes`
const BROKER_MAX_BYTES: usize = 55 * 1024 * 1024;

pub fn name_of(state: &State, topic: &FetchTopic) -> Option<String> {
    if topic.topic_id.is_nil() {
        Some(topic.topic.to_string())
    } else {
        state.topic_names.get(&topic.topic_id).cloned()
    }
}

/// One reading of all the partitions.
struct Reading {
    topics: Vec<FetchableTopicResponse>,
    records: Vec<Vec<Bytes>>,
    bytes: usize,
    /// An error or a diverging epoch: answered at once.
    urgent: bool,
}

pub async fn fetch(call: &Call<'_>, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 && request.session_epoch > 0 {
        return FetchResponse::default().with_error_code(E::FetchSessionIdNotFound.code());
    }
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(BROKER_MAX_BYTES);
    let deadline = call.now + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let patient = request.max_wait_ms > 0 && request.topics.iter().any(|t| !t.partitions.is_empty());
    let mut expired = !patient;
    loop {
        let reading = read(call, &request, !expired);
        if expired || reading.urgent || reading.bytes >= min_bytes {
            return answer(call, reading);
        }
        expired = tokio::time::timeout_at(deadline, call.bell.notified()).await.is_err();
    }
}

fn read(call: &Call, request: &FetchRequest, will_wait: bool) -> Reading {
    let mut state = call.shared.lock();
    let mut budget = usize::try_from(request.max_bytes).unwrap_or(0).min(BROKER_MAX_BYTES);
    let mut reading = Reading { topics: Vec::new(), records: Vec::new(), bytes: 0, urgent: false };
    for topic in &request.topics {
        let mut answer =
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id);
        let name = name_of(&state, topic);
        for wanted in &topic.partitions {
            let mut part = PartitionData::default()
                .with_partition_index(wanted.partition)
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1);
            let read = match &name {
                Some(name) => {
                    let at_least_one = reading.bytes == 0;
                    read_one(call, &mut state, name, wanted, budget, at_least_one, &mut part)
                }
                None => Err(E::UnknownTopicId),
            };
            let records = read.unwrap_or_else(|error| {
                part.error_code = error.code();
                Vec::new()
            });
            let size: usize = records.iter().map(Bytes::len).sum();
            budget = budget.saturating_sub(size);
            reading.bytes += size;
            reading.urgent |= part.error_code != 0 || part.diverging_epoch.end_offset >= 0;
            part.aborted_transactions = (request.isolation_level == 1 && part.error_code == 0).then(Vec::new);
            answer.partitions.push(part);
            reading.records.push(records);
            if will_wait && let Some(found) = name.as_ref().and_then(|n| state.partition_mut(n, wanted.partition)) {
                found.log.wait(call.bell);
            }
        }
        reading.topics.push(answer);
    }
    reading
}

fn read_one(
    call: &Call,
    state: &mut State,
    topic: &str,
    wanted: &FetchPartition,
    budget: usize,
    at_least_one: bool,
    part: &mut PartitionData,
) -> Result<Vec<Bytes>, E> {
    let log = &state.led(call.node, topic, wanted.partition, wanted.current_leader_epoch)?.log;
    let high_watermark = log.high_watermark();
    if wanted.last_fetched_epoch >= 0 {
        let (epoch, end_offset) = log.end_of_epoch(wanted.last_fetched_epoch);
        if end_offset < 0 {
            return Err(E::OffsetOutOfRange);
        }
        if epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset {
            part.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
        }
    }
    if wanted.fetch_offset < log.start || wanted.fetch_offset > log.end {
        return Err(E::OffsetOutOfRange);
    }
    part.high_watermark = high_watermark;
    part.last_stable_offset = high_watermark;
    part.log_start_offset = log.start;
    if part.diverging_epoch.end_offset >= 0 || call.shared.faults.is_denied(topic, wanted.partition) {
        return Ok(Vec::new());
    }
    let max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(budget);
    Ok(log.read(wanted.fetch_offset, high_watermark, max, at_least_one))
}

fn answer(call: &Call, reading: Reading) -> FetchResponse {
    let Reading { mut topics, records, .. } = reading;
    let mut endpoints: Vec<NodeEndpoint> = Vec::new();
    for (part, batches) in topics.iter_mut().flat_map(|t| &mut t.partitions).zip(records) {
        part.records = Some(joined(batches));
    }
    if call.version >= 16 {
        let state = call.shared.lock();
        for topic in &mut topics {
            let Some(name) = state.topic_names.get(&topic.topic_id) else { continue };
            for part in &mut topic.partitions {
                let moved = [E::NotLeaderOrFollower.code(), E::FencedLeaderEpoch.code()].contains(&part.error_code);
                let Some((leader, epoch)) = leader_of(&state, name, part.partition_index).filter(|_| moved) else {
                    continue;
                };
                let node = &state.nodes[leader];
                part.current_leader =
                    LeaderIdAndEpoch::default().with_leader_id(node.id.into()).with_leader_epoch(epoch);
                if endpoints.iter().all(|e| e.node_id != node.id) {
                    endpoints.push(
                        NodeEndpoint::default()
                            .with_node_id(node.id.into())
                            .with_host(StrBytes::from_string(node.host.clone()))
                            .with_port(i32::from(node.port)),
                    );
                }
            }
        }
    }
    FetchResponse::default().with_responses(topics).with_node_endpoints(endpoints)
}

fn joined(mut batches: Vec<Bytes>) -> Bytes {
    if batches.len() <= 1 {
        return batches.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for batch in batches {
        all.extend_from_slice(&batch);
    }
    all.freeze()
}
