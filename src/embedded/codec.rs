//! Bytes to messages and back. The only place where this cluster decodes a request.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};

use super::ClusterSpec;
use crate::wire::{self, Chain, ChainWriter, fetch, produce};

/// `socket.request.max.bytes`
pub const MAX_FRAME: usize = 100 * 1024 * 1024;

/// What this cluster speaks, as a 4.x broker does: `(key, lowest, highest)`.
pub const SPOKEN: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 18),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    // Those of clients.
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::EndTxn, 0, 5),
    (ApiKey::TxnOffsetCommit, 0, 5),
    (ApiKey::DescribeAcls, 1, 3),
    (ApiKey::CreateAcls, 1, 3),
    (ApiKey::DeleteAcls, 1, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 0),
];

/// The versions of `key` on this cluster; `None` if it does not speak it.
pub fn versions(spec: &ClusterSpec, key: i16) -> Option<(i16, i16)> {
    let &(_, low, high) = SPOKEN.iter().find(|(k, ..)| *k as i16 == key)?;
    let (low, high) = match spec.api_limits.get(&key) {
        Some(&(l, h)) => (low.max(l), high.min(h)),
        None => (low, high),
    };
    (low <= high).then_some((low, high))
}

pub struct Incoming {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: String,
    pub body: Body,
}

pub enum Body {
    Produce(produce::ProduceRequest),
    Fetch(fetch::FetchRequest),
    Other(RequestKind),
    /// ApiVersions of a version that is not spoken, to be answered with error 35 (KIP-511).
    UnknownApiVersions,
}

pub enum Answer {
    /// Record bytes travel as they are stored.
    Fetch(fetch::FetchResponse),
    Other(Box<ResponseKind>),
}

/// For every answer that the cluster gives but Fetch. (A blanket `From<T: Into<ResponseKind>>` is refused by coherence.)
macro_rules! answers {
    ($($response:ident),* $(,)?) => {$(
        impl From<kafka_protocol::messages::$response> for Answer {
            fn from(response: kafka_protocol::messages::$response) -> Self {
                Answer::Other(Box::new(response.into()))
            }
        }
    )*};
}

answers!(
    AddOffsetsToTxnResponse,
    AddPartitionsToTxnResponse,
    AlterConfigsResponse,
    ApiVersionsResponse,
    CreatePartitionsResponse,
    CreateTopicsResponse,
    DeleteGroupsResponse,
    DeleteRecordsResponse,
    DeleteTopicsResponse,
    DescribeClusterResponse,
    DescribeConfigsResponse,
    DescribeGroupsResponse,
    DescribeLogDirsResponse,
    DescribeProducersResponse,
    DescribeTransactionsResponse,
    EndTxnResponse,
    FetchResponse,
    FindCoordinatorResponse,
    HeartbeatResponse,
    IncrementalAlterConfigsResponse,
    InitProducerIdResponse,
    JoinGroupResponse,
    LeaveGroupResponse,
    ListGroupsResponse,
    ListOffsetsResponse,
    ListTransactionsResponse,
    MetadataResponse,
    OffsetCommitResponse,
    OffsetDeleteResponse,
    OffsetFetchResponse,
    OffsetForLeaderEpochResponse,
    ProduceResponse,
    SyncGroupResponse,
    TxnOffsetCommitResponse,
);

pub fn request(spec: &ClusterSpec, mut frame: Bytes) -> Result<Incoming> {
    let (key, version, correlation_id) = wire::peek(&frame).context("a frame of fewer than 8 bytes")?;
    let api = ApiKey::try_from(key).ok().with_context(|| format!("unknown API key {key}"))?;
    let Some((low, high)) = versions(spec, key) else { bail!("API {api:?} is not spoken here") };
    let incoming = |client_id, body| Incoming { api, version, correlation_id, client_id, body };
    if !(low..=high).contains(&version) {
        if api == ApiKey::ApiVersions {
            return Ok(incoming(String::new(), Body::UnknownApiVersions));
        }
        bail!("{api:?} v{version} is not spoken here");
    }
    let head = wire::request_head(&mut frame)?;
    let client_id = head.client_id.map(|id| id.to_string()).unwrap_or_default();
    let body = match api {
        ApiKey::Produce => Body::Produce(produce::ProduceRequest::decode(frame, version)?),
        ApiKey::Fetch => Body::Fetch(fetch::FetchRequest::decode(frame, version)?),
        _ => Body::Other(wire::decode::request(key, version, frame)?),
    };
    Ok(incoming(client_id, body))
}

/// A whole frame, its length in front.
pub fn response(api: ApiKey, correlation_id: i32, version: i16, body: &Answer) -> Result<Chain> {
    let mut out = ChainWriter::frame();
    wire::put_response_head(&mut out, api as i16, version, correlation_id);
    match body {
        Answer::Fetch(response) => response.encode(version, &mut out),
        Answer::Other(response) => wire::encode::response(response, version, &mut out),
    }
    Ok(out.finish()?)
}
