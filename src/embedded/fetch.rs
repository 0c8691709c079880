//! Fetch v4-18: whole batches, long polls, byte budgets as `ReplicaManager` spends them. No sessions: `session_id` is 0 always,
//! and the answer has every partition that was asked for, in that order.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::codec::Answer;
use super::faults::Fetched;
use super::produce::leader_of;
use super::state::State;
use crate::ids::NO_EPOCH;
use crate::wire::fetch::{self as wire, FetchPartition, FetchRequest, PartitionFetched, TopicFetched};

/// `fetch.max.bytes`
const BROKER_MAX_BYTES: usize = 55 * 1024 * 1024;

/// What a partition gives, and what only a leader that has moved, or a reader that was misled, is told besides.
struct Read {
    part: PartitionFetched,
    diverging: Option<(i32, i64)>,
}

/// One reading of all the partitions, in the order of the request.
struct Reading {
    parts: Vec<Read>,
    bytes: usize,
    /// An error or a diverging epoch: answered at once.
    urgent: bool,
}

pub async fn fetch(call: &Call<'_>, request: FetchRequest) -> Answer {
    if request.session_id != 0 && request.session_epoch > 0 {
        let unknown = E::FetchSessionIdNotFound.code();
        return Answer::Fetch(wire::FetchResponse { error_code: unknown, ..Default::default() });
    }
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(BROKER_MAX_BYTES);
    let deadline = call.now + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let patient = request.max_wait_ms > 0 && request.topics.iter().any(|t| !t.partitions.is_empty());
    let mut expired = !patient;
    loop {
        let reading = read(call, &request, !expired);
        if expired || reading.urgent || reading.bytes >= min_bytes {
            let (partitions, max_bytes, bytes) = (reading.parts.len(), request.max_bytes, reading.bytes);
            call.shared.faults.saw_fetch(Fetched { partitions, max_bytes, bytes });
            return answer(call, request, reading);
        }
        expired = tokio::time::timeout_at(deadline, call.bell.notified()).await.is_err();
    }
}

fn read(call: &Call, request: &FetchRequest, will_wait: bool) -> Reading {
    let mut state = call.shared.lock();
    let mut budget = usize::try_from(request.max_bytes).unwrap_or(0).min(BROKER_MAX_BYTES);
    let committed = request.isolation_level == 1;
    let mut reading = Reading { parts: Vec::new(), bytes: 0, urgent: false };
    for topic in &request.topics {
        let name = state.name_of(&topic.name, topic.id);
        for wanted in &topic.partitions {
            let read = match &name {
                Some(name) => read_one(call, &mut state, name, wanted, budget, (committed, reading.bytes == 0)),
                None => Err(E::UnknownTopicId),
            };
            let read = read.unwrap_or_else(|error| Read {
                part: PartitionFetched::empty(wanted.index, error.code()),
                diverging: None,
            });
            let size = read.part.records.len();
            budget = budget.saturating_sub(size);
            reading.bytes += size;
            reading.urgent |= read.part.error_code != 0 || read.diverging.is_some();
            reading.parts.push(read);
            if will_wait && let Some(found) = name.as_ref().and_then(|n| state.partition_mut(n, wanted.index)) {
                found.log.wait(call.bell);
            }
        }
    }
    reading
}

fn read_one(
    call: &Call,
    state: &mut State,
    topic: &str,
    wanted: &FetchPartition,
    budget: usize,
    (committed, at_least_one): (bool, bool),
) -> Result<Read, E> {
    let log = &state.led(call.node, topic, wanted.index, wanted.current_leader_epoch)?.log;
    let mut read = Read { part: PartitionFetched::empty(wanted.index, 0), diverging: None };
    if wanted.last_fetched_epoch != NO_EPOCH {
        let (epoch, end_offset) = log.end_of_epoch(wanted.last_fetched_epoch);
        if end_offset < 0 {
            return Err(E::OffsetOutOfRange);
        }
        if epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset {
            read.diverging = Some((epoch, end_offset));
        }
    }
    if wanted.fetch_offset < log.start || wanted.fetch_offset > log.end {
        return Err(E::OffsetOutOfRange);
    }
    let high_watermark = log.high_watermark();
    read.part.high_watermark = high_watermark;
    read.part.last_stable_offset = log.last_stable();
    let upper = if committed { log.last_stable() } else { high_watermark };
    read.part.aborted = committed.then(|| log.aborted(wanted.fetch_offset, upper));
    read.part.log_start_offset = log.start;
    if read.diverging.is_none() && !call.shared.faults.is_denied(topic, wanted.index) {
        let max = usize::try_from(wanted.max_bytes).unwrap_or(0).min(budget);
        let batches: Vec<Bytes> = log.read(wanted.fetch_offset, upper, max, at_least_one);
        read.part.records = batches.into();
    }
    Ok(read)
}

fn answer(call: &Call, request: FetchRequest, reading: Reading) -> Answer {
    let moved = |r: &Read| [E::NotLeaderOrFollower.code(), E::FencedLeaderEpoch.code()].contains(&r.part.error_code);
    let special = |r: &Read| r.diverging.is_some() || (call.version >= 16 && moved(r));
    if reading.parts.iter().any(special) {
        return special_answer(call, request, reading, moved).into();
    }
    let mut parts = reading.parts.into_iter().map(|r| r.part);
    let topic = |t: wire::FetchTopic| {
        let partitions = parts.by_ref().take(t.partitions.len()).collect();
        TopicFetched { name: t.name, id: t.id, partitions }
    };
    let topics = request.topics.into_iter().map(topic).collect();
    Answer::Fetch(wire::FetchResponse { topics, ..Default::default() })
}

/// With the fields that our own codec does not have: diverging epochs, and where the leader is (KIP-951).
fn special_answer(
    call: &Call,
    request: FetchRequest,
    reading: Reading,
    moved: impl Fn(&Read) -> bool,
) -> FetchResponse {
    let state = call.shared.lock();
    let mut response = FetchResponse::default();
    let mut reads = reading.parts.into_iter();
    for topic in request.topics {
        let name = state.name_of(&topic.name, topic.id);
        let mut answer = FetchableTopicResponse::default().with_topic_id(topic.id).with_topic(TopicName(topic.name));
        for read in reads.by_ref().take(topic.partitions.len()) {
            let leader = name.as_ref().and_then(|n| leader_of(&state, n, read.part.index));
            let leader = leader.filter(|_| call.version >= 16 && moved(&read));
            let Read { part, diverging } = read;
            let mut data = PartitionData::default()
                .with_partition_index(part.index)
                .with_error_code(part.error_code)
                .with_high_watermark(part.high_watermark)
                .with_last_stable_offset(part.last_stable_offset)
                .with_log_start_offset(part.log_start_offset)
                .with_aborted_transactions(part.aborted.map(|_| Vec::new()))
                .with_records(Some(part.records.into_bytes()));
            if let Some((epoch, end)) = diverging {
                data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
            }
            if let Some((leader, epoch)) = leader {
                let node = &state.nodes[leader];
                data.current_leader =
                    LeaderIdAndEpoch::default().with_leader_id(node.id.into()).with_leader_epoch(epoch);
                if response.node_endpoints.iter().all(|e| e.node_id != node.id) {
                    response.node_endpoints.push(
                        NodeEndpoint::default()
                            .with_node_id(node.id.into())
                            .with_host(StrBytes::from_string(node.host.clone()))
                            .with_port(i32::from(node.port)),
                    );
                }
            }
            answer.partitions.push(data);
        }
        response.responses.push(answer);
    }
    response
}
