//! One batch in, one read out: Produce and Fetch of the control plane, with the codecs of the data path.

use bytes::Bytes;
use uuid::Uuid;

use super::{leader, spoken};
use crate::ids::{NO_EPOCH, TopicPartition};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;
use crate::virtual_cluster::versions::Range;
use crate::wire::chain::ChainWriter;
use crate::wire::fetch::{self, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionFetched};
use crate::wire::produce::{self, PartitionProduced, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use crate::wire::{StrBytes, WireError};

/// The broker's own wait for the followers.
const PRODUCE_TIMEOUT_MS: i32 = 5_000;
/// Up to here topics go by name: a topic made anew cannot be mistaken, since nothing is asked twice with an old id.
const PRODUCE_BY_NAME: i16 = 11;
const FETCH_BY_NAME: i16 = 12;
const BY_ID: i16 = 13;

/// One batch to the partition's leader, asked once. `acks` is -1 or 1: the answer is waited for. `Err`: no answer; the batch may
/// have been appended. A refusal is in the answer's `error_code`.
pub async fn produce_raw(
    admin: &Admin,
    view: &ClusterView,
    tp: &TopicPartition,
    acks: i16,
    records: Bytes,
) -> Result<PartitionProduced, AdminError> {
    let (_, address) = match leader(view, tp) {
        Ok(found) => found,
        Err(code) => return Ok(PartitionProduced::refused(tp.partition, code)),
    };
    let ours = Range { min: produce::MIN_VERSION, max: produce::MAX_VERSION };
    let version = version(admin, &address, produce::API_KEY, "Produce", ours, PRODUCE_BY_NAME).await?;
    let (name, id) = named(view, tp, version);
    let partitions = vec![ProducePartition { index: tp.partition, records: records.into() }];
    let request = ProduceRequest {
        transactional_id: None,
        acks: if acks == 0 { 1 } else { acks },
        timeout_ms: PRODUCE_TIMEOUT_MS,
        topics: vec![ProduceTopic { name, id, partitions }],
    };
    let mut body = ChainWriter::new();
    request.encode(version, &mut body);
    let body = body.finish().map_err(|e| garbled(admin, e))?;
    let answer = admin.exchange(&address, produce::API_KEY, version, body).await?;
    let answer = ProduceResponse::decode(answer, version).map_err(|e| garbled(admin, e))?;
    let mut parts = answer.topics.into_iter().flat_map(|t| t.partitions);
    parts.find(|p| p.index == tp.partition).ok_or_else(|| no_answer(admin, tp))
}

/// One read from the partition's leader, which waits for nothing. `Err`: no answer; a refusal is in the answer's `error_code`.
pub async fn fetch_raw(
    admin: &Admin,
    view: &ClusterView,
    tp: &TopicPartition,
    offset: i64,
    max_bytes: i32,
    read_uncommitted: bool,
) -> Result<PartitionFetched, AdminError> {
    let (at, address) = match leader(view, tp) {
        Ok(found) => found,
        Err(code) => return Ok(PartitionFetched::empty(tp.partition, code)),
    };
    let ours = Range { min: fetch::MIN_VERSION, max: fetch::MAX_VERSION };
    let version = version(admin, &address, fetch::API_KEY, "Fetch", ours, FETCH_BY_NAME).await?;
    let (name, id) = named(view, tp, version);
    let partition = FetchPartition {
        index: tp.partition,
        current_leader_epoch: at.epoch,
        fetch_offset: offset,
        last_fetched_epoch: NO_EPOCH,
        max_bytes,
        ..FetchPartition::default()
    };
    let request = FetchRequest {
        max_bytes,
        isolation_level: i8::from(!read_uncommitted),
        topics: vec![FetchTopic { name, id, partitions: vec![partition] }],
        ..FetchRequest::default()
    };
    let mut body = ChainWriter::new();
    request.encode(version, &mut body);
    let body = body.finish().map_err(|e| garbled(admin, e))?;
    let answer = admin.exchange(&address, fetch::API_KEY, version, body).await?;
    let answer = FetchResponse::decode(answer, version).map_err(|e| garbled(admin, e))?;
    if answer.error_code != 0 {
        return Ok(PartitionFetched::empty(tp.partition, answer.error_code));
    }
    let mut parts = answer.topics.into_iter().flat_map(|t| t.partitions);
    parts.find(|p| p.index == tp.partition).ok_or_else(|| no_answer(admin, tp))
}

/// The highest version by topic name, else the lowest that there is.
async fn version(
    admin: &Admin,
    address: &str,
    key: i16,
    name: &'static str,
    ours: Range,
    by_name: i16,
) -> Result<i16, AdminError> {
    let both = spoken(admin, address, key, name, ours).await?;
    Ok(both.max.min(by_name).max(both.min))
}

fn named(view: &ClusterView, tp: &TopicPartition, version: i16) -> (StrBytes, Uuid) {
    if version < BY_ID {
        return (StrBytes::from_string(tp.topic.to_string()), Uuid::nil());
    }
    (StrBytes::new(), view.topics.get(&tp.topic).map_or(Uuid::nil(), |t| t.id))
}

fn garbled(admin: &Admin, e: WireError) -> AdminError {
    AdminError::Garbled(e, admin.side)
}

fn no_answer(admin: &Admin, tp: &TopicPartition) -> AdminError {
    let what = format!("a question about {tp} with nothing about it");
    AdminError::Refused { side: admin.side, what, code: crate::error::code::UNKNOWN_SERVER_ERROR }
}
