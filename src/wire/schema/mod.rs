//! Which bytes a message is made of: the APIs that go through `kafka-protocol`, request and answer, all versions that its
//! codec has. One table per group of APIs; the field names and versions are those of Kafka's message definitions.
//!
//! [`check`](Message::check) is the counting pass: `kafka-protocol` allocates whatever a count on the wire asks for, so no
//! byte reaches its decoders before this pass has held every count, length and tag against the bytes that are there.

mod check;
mod cluster;
mod field;
mod groups;
mod placement;
mod positions;
mod security;
mod session;
mod topics;

use std::ops::RangeInclusive;

pub use field::{Api, Field, Kind, Message, Primitive};

use super::error::WireError;
use super::{fetch, produce};

/// Every API of the schema, by key.
pub const APIS: &[&Api] = &[
    &positions::LIST_OFFSETS,
    &topics::METADATA,
    &positions::OFFSET_COMMIT,
    &positions::OFFSET_FETCH,
    &groups::FIND_COORDINATOR,
    &groups::JOIN_GROUP,
    &groups::HEARTBEAT,
    &groups::LEAVE_GROUP,
    &groups::SYNC_GROUP,
    &groups::DESCRIBE_GROUPS,
    &groups::LIST_GROUPS,
    &session::SASL_HANDSHAKE,
    &session::API_VERSIONS,
    &topics::CREATE_TOPICS,
    &topics::DELETE_TOPICS,
    &topics::DELETE_RECORDS,
    &cluster::INIT_PRODUCER_ID,
    &positions::OFFSET_FOR_LEADER_EPOCH,
    &cluster::ADD_PARTITIONS_TO_TXN,
    &cluster::ADD_OFFSETS_TO_TXN,
    &cluster::END_TXN,
    &positions::TXN_OFFSET_COMMIT,
    &security::DESCRIBE_ACLS,
    &security::CREATE_ACLS,
    &security::DELETE_ACLS,
    &topics::DESCRIBE_CONFIGS,
    &topics::ALTER_CONFIGS,
    &placement::ALTER_REPLICA_LOG_DIRS,
    &placement::DESCRIBE_LOG_DIRS,
    &session::SASL_AUTHENTICATE,
    &topics::CREATE_PARTITIONS,
    &groups::DELETE_GROUPS,
    &placement::ELECT_LEADERS,
    &topics::INCREMENTAL_ALTER_CONFIGS,
    &placement::ALTER_PARTITION_REASSIGNMENTS,
    &placement::LIST_PARTITION_REASSIGNMENTS,
    &positions::OFFSET_DELETE,
    &security::DESCRIBE_CLIENT_QUOTAS,
    &security::ALTER_CLIENT_QUOTAS,
    &security::DESCRIBE_USER_SCRAM_CREDENTIALS,
    &security::ALTER_USER_SCRAM_CREDENTIALS,
    &cluster::DESCRIBE_CLUSTER,
    &cluster::DESCRIBE_PRODUCERS,
    &cluster::DESCRIBE_TRANSACTIONS,
    &cluster::LIST_TRANSACTIONS,
    &groups::CONSUMER_GROUP_HEARTBEAT,
    &groups::CONSUMER_GROUP_DESCRIBE,
    &cluster::LIST_CONFIG_RESOURCES,
    &topics::DESCRIBE_TOPIC_PARTITIONS,
];

pub fn api(api_key: i16) -> Option<&'static Api> {
    APIS.iter().copied().find(|api| api.key == api_key)
}

/// The versions of which we can read and write both request and answer; Produce and Fetch included.
pub fn versions(api_key: i16) -> Option<RangeInclusive<i16>> {
    match api_key {
        produce::API_KEY => Some(produce::MIN_VERSION..=produce::MAX_VERSION),
        fetch::API_KEY => Some(fetch::MIN_VERSION..=fetch::MAX_VERSION),
        _ => api(api_key).map(Api::versions),
    }
}

pub(super) fn spoken(api_key: i16, version: i16) -> Result<&'static Api, WireError> {
    api(api_key).ok_or(WireError::Unsupported { api_key, version })
}
