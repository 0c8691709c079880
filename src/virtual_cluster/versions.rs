//! ApiVersions: the constant intersection of source, target and what we implement (PROTOCOL.md section 7, rule 4).

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestKind};
use serde::{Deserialize, Serialize};

use crate::api;

/// Versions of one API, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Range {
    pub min: i16,
    pub max: i16,
}

impl Range {
    pub fn intersect(self, other: Range) -> Option<Range> {
        let both = Range { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// What the virtual cluster speaks, by API key. Journalled at first start; never changes by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Versions {
    pub ranges: BTreeMap<i16, Range>,
}

impl Versions {
    /// The intersection over both clusters and our own table.
    pub fn intersection(source: &HashMap<i16, Range>, target: &HashMap<i16, Range>) -> Self {
        let shared = |entry: &api::Entry| {
            let key = entry.key as i16;
            let ours = entry.versions;
            if entry.local {
                return Some((key, ours));
            }
            let both = source.get(&key)?.intersect(*target.get(&key)?)?;
            Some((key, both.intersect(ours)?))
        };
        Self { ranges: api::TABLE.iter().filter_map(shared).collect() }
    }

    pub fn speaks(&self, key: i16, version: i16) -> bool {
        self.ranges.get(&key).is_some_and(|r| r.contains(version))
    }

    /// Whether clients are offered the second protocol of transactions (KIP-890).
    pub fn second_protocol(&self) -> bool {
        self.speaks(ApiKey::EndTxn as i16, SECOND_PROTOCOL)
    }

    /// The newest version of an API, for requests of our own making.
    pub fn max(&self, key: ApiKey) -> i16 {
        self.ranges.get(&(key as i16)).map_or(0, |r| r.max)
    }
}

/// APIs that brokers list whether or not the feature behind them is on: from which version on they are behind it, and the level
/// from which on they are served. 3.9 lists the heartbeat of KIP-848 and then answers UNSUPPORTED_VERSION, which is fatal to a
/// client (PROTOCOL.md rule 32); and a client that may speak the second protocol of transactions (KIP-890) speaks nothing else.
const BEHIND_A_FEATURE: [(ApiKey, i16, &str, i16); 4] = [
    (ApiKey::ConsumerGroupHeartbeat, 0, "group.version", 1),
    (ApiKey::ConsumerGroupDescribe, 0, "group.version", 1),
    (ApiKey::EndTxn, SECOND_PROTOCOL, TRANSACTION_VERSION, SECOND_LEVEL),
    (ApiKey::TxnOffsetCommit, SECOND_PROTOCOL, TRANSACTION_VERSION, SECOND_LEVEL),
];

/// The feature by which clients know which protocol transactions have.
pub const TRANSACTION_VERSION: &str = "transaction.version";
/// Its level of the second protocol (KIP-890), and the first version of EndTxn and TxnOffsetCommit that is of it.
pub const SECOND_LEVEL: i16 = 2;
pub const SECOND_PROTOCOL: i16 = 5;

/// What a broker serves, by its own answer in v3 or newer.
pub fn served(answer: &ApiVersionsResponse) -> HashMap<i16, Range> {
    let listed = answer.api_keys.iter().map(|k| (k.api_key, Range { min: k.min_version, max: k.max_version }));
    // What is finalized is not set back while a cluster lives, but by hand: what is journalled of it stays true.
    let level = |name: &str| answer.finalized_features.iter().find(|f| f.name.as_str() == name);
    with_features(listed.collect(), |feature, least| level(feature).is_some_and(|f| f.max_version_level >= least))
}

/// The same of a broker that has told no more than its ranges (v0).
pub fn served_at_least(listed: HashMap<i16, Range>) -> HashMap<i16, Range> {
    with_features(listed, |_, _| false)
}

fn with_features(mut served: HashMap<i16, Range>, is_on: impl Fn(&str, i16) -> bool) -> HashMap<i16, Range> {
    for (key, since, feature, least) in BEHIND_A_FEATURE {
        if is_on(feature, least) {
            continue;
        }
        if let Some(range) = served.get_mut(&(key as i16)) {
            range.max = range.max.min(since - 1);
            if range.max < range.min {
                served.remove(&(key as i16));
            }
        }
    }
    served
}

/// What `kafka-protocol` really encodes and decodes, request and answer, where `ApiKey::valid_versions` overstates it
/// (LIBRARIES.md trap 2). Produce and Fetch are our own.
pub fn codec(key: i16) -> Option<Range> {
    let api = ApiKey::try_from(key).ok()?;
    let said = api.valid_versions();
    let max = match api {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        ApiKey::InitProducerId => 5,
        ApiKey::Produce => 13,
        ApiKey::Fetch => 18,
        _ => said.max,
    };
    Some(Range { min: said.min, max })
}

/// The API key of a request of ours, and its name.
pub fn key_of(request: &RequestKind) -> (i16, &'static str) {
    let key = match request {
        RequestKind::ApiVersions(_) => ApiKey::ApiVersions,
        RequestKind::Metadata(_) => ApiKey::Metadata,
        RequestKind::ListOffsets(_) => ApiKey::ListOffsets,
        RequestKind::DescribeProducers(_) => ApiKey::DescribeProducers,
        RequestKind::OffsetForLeaderEpoch(_) => ApiKey::OffsetForLeaderEpoch,
        RequestKind::CreateTopics(_) => ApiKey::CreateTopics,
        RequestKind::DeleteTopics(_) => ApiKey::DeleteTopics,
        RequestKind::CreatePartitions(_) => ApiKey::CreatePartitions,
        RequestKind::DeleteRecords(_) => ApiKey::DeleteRecords,
        RequestKind::DescribeAcls(_) => ApiKey::DescribeAcls,
        RequestKind::CreateAcls(_) => ApiKey::CreateAcls,
        RequestKind::DeleteAcls(_) => ApiKey::DeleteAcls,
        RequestKind::DescribeConfigs(_) => ApiKey::DescribeConfigs,
        RequestKind::AlterConfigs(_) => ApiKey::AlterConfigs,
        RequestKind::IncrementalAlterConfigs(_) => ApiKey::IncrementalAlterConfigs,
        RequestKind::DescribeLogDirs(_) => ApiKey::DescribeLogDirs,
        RequestKind::DescribeCluster(_) => ApiKey::DescribeCluster,
        RequestKind::FindCoordinator(_) => ApiKey::FindCoordinator,
        RequestKind::InitProducerId(_) => ApiKey::InitProducerId,
        RequestKind::OffsetCommit(_) => ApiKey::OffsetCommit,
        RequestKind::OffsetFetch(_) => ApiKey::OffsetFetch,
        RequestKind::OffsetDelete(_) => ApiKey::OffsetDelete,
        RequestKind::JoinGroup(_) => ApiKey::JoinGroup,
        RequestKind::SyncGroup(_) => ApiKey::SyncGroup,
        RequestKind::Heartbeat(_) => ApiKey::Heartbeat,
        RequestKind::LeaveGroup(_) => ApiKey::LeaveGroup,
        RequestKind::DescribeGroups(_) => ApiKey::DescribeGroups,
        RequestKind::ListGroups(_) => ApiKey::ListGroups,
        RequestKind::DeleteGroups(_) => ApiKey::DeleteGroups,
        RequestKind::DescribeClientQuotas(_) => ApiKey::DescribeClientQuotas,
        RequestKind::AlterClientQuotas(_) => ApiKey::AlterClientQuotas,
        RequestKind::DescribeUserScramCredentials(_) => ApiKey::DescribeUserScramCredentials,
        RequestKind::AlterUserScramCredentials(_) => ApiKey::AlterUserScramCredentials,
        RequestKind::DescribeTransactions(_) => ApiKey::DescribeTransactions,
        RequestKind::ListTransactions(_) => ApiKey::ListTransactions,
        RequestKind::ConsumerGroupHeartbeat(_) => ApiKey::ConsumerGroupHeartbeat,
        RequestKind::ConsumerGroupDescribe(_) => ApiKey::ConsumerGroupDescribe,
        RequestKind::AddPartitionsToTxn(_) => ApiKey::AddPartitionsToTxn,
        RequestKind::AddOffsetsToTxn(_) => ApiKey::AddOffsetsToTxn,
        RequestKind::EndTxn(_) => ApiKey::EndTxn,
        RequestKind::TxnOffsetCommit(_) => ApiKey::TxnOffsetCommit,
        RequestKind::ListConfigResources(_) => ApiKey::ListConfigResources,
        _ => return (-1, "an API of which we ask nothing"),
    };
    (key as i16, name(key))
}

/// The field's name of an API, for metrics and logs.
pub fn name(key: ApiKey) -> &'static str {
    api::TABLE.iter().find(|e| e.key == key).map_or("other", |e| e.name)
}
