//! Produce v3-13: exactly one v2 batch per partition, appended as it is.
//! A transactional batch needs its partition in its producer's open transaction, as brokers since 3.6 verify it; from v12 on it
//! puts it there (KIP-890).
//! Left out: waiting for a held high watermark with `acks=-1`.

use anyhow::{Result, bail};
use bytes::Bytes;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::batch::Header;
use super::faults::Produced;
use super::log::Appended;
use super::state::State;
use super::{Call, transactions};
use crate::wire::produce::ProduceRequest;

const ZSTD: i16 = 4;

/// `None`: `acks=0`. `Err`: `acks=0` and something went wrong, so the connection ends.
pub fn produce(call: &Call, request: ProduceRequest, refuse: Option<i16>) -> Result<Option<ProduceResponse>> {
    let acks = request.acks;
    let mut response = ProduceResponse::default();
    let mut failed = None;
    let id = request.transactional_id.as_deref().map(str::to_owned);
    for topic in request.topics {
        let name = call.shared.lock().name_of(&topic.name, topic.id);
        // A copy: who holds no other slice of the frame may change its records in place.
        let shown = TopicName(StrBytes::from_string(topic.name.to_string()));
        drop(topic.name);
        let mut answer = TopicProduceResponse::default().with_name(shown).with_topic_id(topic.id);
        for partition in topic.partitions {
            let records = partition.records.into_bytes();
            note(call, name.as_deref(), partition.index, &records);
            let done = match (refuse.and_then(E::try_from_code), &name) {
                (Some(code), _) => Err(code),
                (None, None) => Err(E::UnknownTopicId),
                (None, Some(name)) => append(call, id.as_deref(), (name, partition.index), records, acks),
            };
            let mut part = PartitionProduceResponse::default().with_index(partition.index);
            match done {
                Ok((appended, log_start)) => {
                    part.base_offset = appended.base_offset;
                    part.log_append_time_ms = appended.log_append_time;
                    part.log_start_offset = log_start;
                }
                Err(error) => {
                    part.error_code = error.code();
                    part.base_offset = -1;
                    failed = Some(error);
                    if error == E::NotLeaderOrFollower && call.version >= 10 {
                        point_at_leader(call, name.as_deref(), &mut part, &mut response.node_endpoints);
                    }
                }
            }
            answer.partition_responses.push(part);
        }
        response.responses.push(answer);
    }
    match failed {
        Some(error) if acks == 0 => bail!("acks=0 and {error}"),
        _ if acks == 0 => Ok(None),
        _ => Ok(Some(response)),
    }
}

fn append(
    call: &Call,
    id: Option<&str>,
    (topic, partition): (&str, i32),
    records: Bytes,
    acks: i16,
) -> Result<(Appended, i64), E> {
    if !(-1..=1).contains(&acks) {
        return Err(E::InvalidRequiredAcks);
    }
    let mut state = call.shared.lock();
    let rules = state.topics.get(topic).ok_or(E::UnknownTopicOrPartition)?;
    let min_in_sync = usize::try_from(rules.number("min.insync.replicas")).unwrap_or(1);
    let begins = id.filter(|_| call.version >= 12);
    let rules = rules.rules(call.shared.spec.strict_first_sequence || begins.is_some());
    if call.version < 7 && Header::read(&records).is_some_and(|h| h.compression() == ZSTD) {
        return Err(E::UnsupportedCompressionType);
    }
    if let Some(head) = Header::read(&records).filter(Header::is_transactional)
        && !state.transactional_ids.values().any(|t| t.has(&head, topic, partition))
    {
        let Some(id) = begins else { return Err(E::InvalidTxnState) };
        state.led(call.node, topic, partition, -1)?;
        transactions::add_partition(&mut state, id, &head, (topic, partition), call.now_ms)?;
    }
    let led = state.led(call.node, topic, partition, -1)?;
    if acks == -1 && led.in_sync.len() < min_in_sync {
        return Err(E::NotEnoughReplicas);
    }
    let appended = led.log.append(records, led.epoch, &rules, call.now_ms)?;
    Ok((appended, led.log.start))
}

fn note(call: &Call, topic: Option<&str>, partition: i32, records: &[u8]) {
    let (Some(topic), Some(h)) = (topic, Header::read(records)) else { return };
    call.shared.faults.saw_batch(Produced {
        topic: topic.to_owned(),
        partition,
        producer_id: h.producer_id,
        producer_epoch: h.producer_epoch,
        base_sequence: h.base_sequence,
    });
}

/// KIP-951: who leads instead.
fn point_at_leader(
    call: &Call,
    topic: Option<&str>,
    part: &mut PartitionProduceResponse,
    endpoints: &mut Vec<NodeEndpoint>,
) {
    let state = call.shared.lock();
    let Some((leader, epoch)) = topic.and_then(|t| leader_of(&state, t, part.index)) else { return };
    let node = &state.nodes[leader];
    part.current_leader = LeaderIdAndEpoch::default().with_leader_id(node.id.into()).with_leader_epoch(epoch);
    if endpoints.iter().all(|e| e.node_id != node.id) {
        endpoints.push(
            NodeEndpoint::default()
                .with_node_id(node.id.into())
                .with_host(StrBytes::from_string(node.host.clone()))
                .with_port(i32::from(node.port)),
        );
    }
}

pub fn leader_of(state: &State, topic: &str, partition: i32) -> Option<(usize, i32)> {
    let found = state.partition(topic, partition)?;
    Some((found.leader?, found.epoch))
}
