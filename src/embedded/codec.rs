//! Bytes to messages and back. The only place where this cluster decodes a request.

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::ClusterSpec;

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
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
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
    /// `None`: ApiVersions of a version that is not spoken, to be answered with error 35 (KIP-511).
    pub body: Option<RequestKind>,
}

pub fn request(spec: &ClusterSpec, mut frame: Bytes) -> Result<Incoming> {
    let mut head = frame.get(..8).context("a frame of fewer than 8 bytes")?;
    let (key, version, correlation_id) = (head.get_i16(), head.get_i16(), head.get_i32());
    let api = ApiKey::try_from(key).ok().with_context(|| format!("unknown API key {key}"))?;
    let Some((low, high)) = versions(spec, key) else { bail!("API {api:?} is not spoken here") };
    if !(low..=high).contains(&version) {
        if api == ApiKey::ApiVersions {
            return Ok(Incoming { api, version, correlation_id, client_id: String::new(), body: None });
        }
        bail!("{api:?} v{version} is not spoken here");
    }
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version))?;
    let body = RequestKind::decode(api, &mut frame, version)?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Incoming { api, version, correlation_id, client_id, body: Some(body) })
}

/// A whole frame, its length in front.
pub fn response(correlation_id: i32, version: i16, body: &ResponseKind) -> Result<BytesMut> {
    let mut out = BytesMut::with_capacity(1024);
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut out, body.header_version(version))?;
    body.encode(&mut out, version)?;
    let length = i32::try_from(out.len() - 4)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}
