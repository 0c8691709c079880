//! 4. What a request means: the table of APIs, then one file per Kafka API.
//!
//! An API is a pure machine: `step` takes what has happened and says what to do next; `connection::drive` does it. One
//! round is the common case. Produce and Fetch have drivers of their own in `connection/`, since they are never queued
//! behind anything else.

use std::sync::Arc;

use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use tokio::time::Instant;

use crate::ids::{NodeId, Side};
use crate::producers::homes::Claim;
use crate::routing::{Partitions, Shared};
use crate::store::Event;
use crate::upstream::{Lane, Lost, Topology};
use crate::virtual_cluster::{Nodes, Range};

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod api_versions;
pub mod beginning;
pub mod configs;
pub mod create_partitions;
pub mod crossing;
pub mod delete_records;
pub mod consumer_groups;
pub mod describe_cluster;
pub mod describe_producers;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod following;
pub mod groups;
pub mod init_producer_id;
pub mod list_config_resources;
pub mod list_offsets;
pub mod log_dirs;
pub mod membership;
pub mod metadata;
pub mod not_offered;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod produce;
pub mod security;
pub mod shown;
pub mod topics;
pub mod unseen_brokers;
pub mod transactions;
pub mod txn_offset_commit;

/// One line of the table.
pub struct Entry {
    pub key: ApiKey,
    pub name: &'static str,
    /// What we implement; `virtual_cluster::versions` intersects it with both clusters.
    pub versions: Range,
    /// Answered without any broker: advertised whatever they speak.
    pub local: bool,
}

const fn entry(key: ApiKey, name: &'static str, min: i16, max: i16) -> Entry {
    Entry { key, name, versions: Range { min, max }, local: false }
}

const fn local(key: ApiKey, name: &'static str, min: i16, max: i16) -> Entry {
    Entry { key, name, versions: Range { min, max }, local: true }
}

/// Every API that clients are offered. What is not here is not advertised, and closes the connection: [`not_offered`].
pub const TABLE: &[Entry] = &[
    // Advertised from 0 for librdkafka (KAFKA-18659); below 3 is refused.
    entry(ApiKey::Produce, "Produce", 3, 13),
    entry(ApiKey::Fetch, "Fetch", 4, 18),
    entry(ApiKey::ListOffsets, "ListOffsets", 1, 9),
    entry(ApiKey::Metadata, "Metadata", 0, 12),
    entry(ApiKey::OffsetCommit, "OffsetCommit", 2, 9),
    entry(ApiKey::OffsetFetch, "OffsetFetch", 1, 9),
    entry(ApiKey::FindCoordinator, "FindCoordinator", 0, 6),
    entry(ApiKey::JoinGroup, "JoinGroup", 0, 9),
    entry(ApiKey::Heartbeat, "Heartbeat", 0, 4),
    entry(ApiKey::LeaveGroup, "LeaveGroup", 0, 5),
    entry(ApiKey::SyncGroup, "SyncGroup", 0, 5),
    entry(ApiKey::DescribeGroups, "DescribeGroups", 0, 6),
    entry(ApiKey::ListGroups, "ListGroups", 0, 5),
    local(ApiKey::ApiVersions, "ApiVersions", 0, 4),
    entry(ApiKey::CreateTopics, "CreateTopics", 2, 7),
    entry(ApiKey::DeleteTopics, "DeleteTopics", 1, 6),
    entry(ApiKey::DeleteRecords, "DeleteRecords", 0, 2),
    entry(ApiKey::InitProducerId, "InitProducerId", 0, 5),
    // The second protocol of transactions (KIP-890) is EndTxn and TxnOffsetCommit v5, with the feature `transaction.version`;
    // clients that do not see it stay below Produce v12 in a transaction.
    entry(ApiKey::AddPartitionsToTxn, "AddPartitionsToTxn", 0, 3),
    entry(ApiKey::AddOffsetsToTxn, "AddOffsetsToTxn", 0, 4),
    entry(ApiKey::EndTxn, "EndTxn", 0, 5),
    entry(ApiKey::TxnOffsetCommit, "TxnOffsetCommit", 0, 5),
    entry(ApiKey::DescribeAcls, "DescribeAcls", 1, 3),
    entry(ApiKey::CreateAcls, "CreateAcls", 1, 3),
    entry(ApiKey::DeleteAcls, "DeleteAcls", 1, 3),
    entry(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4),
    entry(ApiKey::AlterConfigs, "AlterConfigs", 0, 2),
    local(ApiKey::AlterReplicaLogDirs, "AlterReplicaLogDirs", 1, 2),
    entry(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4),
    entry(ApiKey::CreatePartitions, "CreatePartitions", 0, 3),
    local(ApiKey::ElectLeaders, "ElectLeaders", 0, 2),
    entry(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1),
    local(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", 0, 1),
    local(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0),
    entry(ApiKey::OffsetDelete, "OffsetDelete", 0, 0),
    entry(ApiKey::DescribeCluster, "DescribeCluster", 0, 1),
    entry(ApiKey::DescribeProducers, "DescribeProducers", 0, 0),
    entry(ApiKey::DescribeTransactions, "DescribeTransactions", 0, 0),
    entry(ApiKey::ListTransactions, "ListTransactions", 0, 2),
    entry(ApiKey::ConsumerGroupHeartbeat, "ConsumerGroupHeartbeat", 0, 1),
    entry(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe", 0, 1),
    entry(ApiKey::ListConfigResources, "ListConfigResources", 0, 1),
    entry(ApiKey::DeleteGroups, "DeleteGroups", 0, 2),
    entry(ApiKey::DescribeClientQuotas, "DescribeClientQuotas", 0, 1),
    entry(ApiKey::AlterClientQuotas, "AlterClientQuotas", 0, 1),
    entry(ApiKey::DescribeUserScramCredentials, "DescribeUserScramCredentials", 0, 0),
    entry(ApiKey::AlterUserScramCredentials, "AlterUserScramCredentials", 0, 0),
];

/// What a machine may look at: snapshots of now, nothing that moves.
pub struct Context<'a> {
    pub shared: &'a Shared,
    pub topology: Arc<Topology>,
    pub partitions: Arc<Partitions>,
    /// The virtual nodes of the listener that the client used.
    pub nodes: &'a Nodes,
    pub version: i16,
    pub now: Instant,
    pub now_ms: i64,
}

/// Who is to be asked on a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    Any,
    Node(NodeId),
    /// The coordinator of this group, looked up if it is not known.
    Coordinator(String),
    /// The coordinator of this transactional id, likewise.
    TransactionCoordinator(String),
    /// The controller, for clusters that do not forward.
    Controller,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub side: Side,
    pub to: To,
    pub lane: Lane,
    pub request: RequestKind,
}

impl Ask {
    pub fn any(side: Side, request: RequestKind) -> Self {
        Self { side, to: To::Any, lane: Lane::Ordinary, request }
    }

    pub fn node(side: Side, node: NodeId, request: RequestKind) -> Self {
        Self { side, to: To::Node(node), lane: Lane::Ordinary, request }
    }

    pub fn coordinator(side: Side, group: &str, request: RequestKind) -> Self {
        Self { side, to: To::Coordinator(group.to_owned()), lane: Lane::Ordinary, request }
    }
}

/// Why an `Ask` has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    Lost(Lost),
    /// Nothing was sent: the look-up of the coordinator was answered with this.
    NoCoordinator(i16),
}

impl From<Lost> for Unanswered {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// One answer each for the requests of an `Ask`, in their order.
pub type Answers = Vec<Result<ResponseKind, Unanswered>>;

pub enum Input {
    Start,
    Answers(Answers),
    /// What was waited for has happened, or its deadline has passed.
    Woken,
}

#[allow(clippy::large_enum_variant, reason = "moved once per request, never stored")]
pub enum Step {
    Ask(Vec<Ask>),
    /// Until this side's topology is newer than the generation given, at most until the instant.
    AwaitTopology {
        side: Side,
        newer_than: u64,
        deadline: Instant,
    },
    /// Until the partition snapshot is newer than the version given, at most until the instant.
    AwaitRoutes {
        newer_than: u64,
        deadline: Instant,
    },
    /// Until more moves of groups have ended than the number given, at most until the instant.
    AwaitMoveEnd {
        newer_than: u64,
        deadline: Instant,
    },
    /// Until this is in the journal. If it will not be, the connection ends. The claim is kept until it has been acted on.
    Decide(Box<Event>, Option<Arc<Claim>>),
    Answer(ResponseKind),
    /// The connection ends; the text is for the log.
    Close(String),
}

/// One request in progress.
pub trait Machine {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step;
}

/// A request that is answered from the snapshots at once.
pub struct Immediate(pub Option<ResponseKind>);

impl Machine for Immediate {
    fn step(&mut self, _: &Context<'_>, _: Input) -> Step {
        match self.0.take() {
            Some(answer) => Step::Answer(answer),
            None => Step::Close("answered twice".to_owned()),
        }
    }
}

/// The machine of a decoded request. `None`: not an API of the table that is driven this way.
pub fn machine(cx: &Context<'_>, request: RequestKind) -> Option<Box<dyn Machine>> {
    Some(match request {
        RequestKind::Metadata(r) => Box::new(metadata::Metadata::new(r)),
        RequestKind::FindCoordinator(r) => Box::new(Immediate(Some(find_coordinator::answer(cx, &r)))),
        RequestKind::DescribeCluster(r) => Box::new(Immediate(Some(describe_cluster::answer(cx, &r)))),
        RequestKind::InitProducerId(r) => Box::new(init_producer_id::InitProducerId::new(r)),
        RequestKind::ListOffsets(r) => Box::new(list_offsets::ListOffsets::new(r)),
        RequestKind::OffsetCommit(r) => Box::new(offset_commit::OffsetCommit::new(r)),
        RequestKind::OffsetFetch(r) => Box::new(offset_fetch::OffsetFetch::new(r)),
        RequestKind::OffsetDelete(r) => Box::new(offset_delete::OffsetDelete::new(r)),
        RequestKind::JoinGroup(_)
        | RequestKind::SyncGroup(_)
        | RequestKind::Heartbeat(_)
        | RequestKind::LeaveGroup(_) => Box::new(membership::Membership::new(request)),
        RequestKind::DescribeGroups(_) | RequestKind::ListGroups(_) | RequestKind::DeleteGroups(_) => {
            Box::new(groups::Groups::new(request))
        }
        RequestKind::ConsumerGroupHeartbeat(r) => Box::new(consumer_groups::Heartbeat::new(r)),
        RequestKind::ConsumerGroupDescribe(r) => Box::new(consumer_groups::Describe(r)),
        RequestKind::DescribeProducers(r) => Box::new(describe_producers::DescribeProducers::new(r)),
        RequestKind::AddPartitionsToTxn(r) => Box::new(add_partitions_to_txn::AddPartitionsToTxn::new(r)),
        RequestKind::AddOffsetsToTxn(r) => Box::new(add_offsets_to_txn::AddOffsetsToTxn::new(r)),
        RequestKind::EndTxn(r) => Box::new(end_txn::EndTxn::new(r)),
        RequestKind::TxnOffsetCommit(r) => Box::new(txn_offset_commit::TxnOffsetCommit::new(r)),
        RequestKind::DescribeTransactions(r) => Box::new(transactions::Describe(r)),
        RequestKind::ListTransactions(r) => Box::new(transactions::List::new(r)),
        RequestKind::CreateTopics(_) | RequestKind::DeleteTopics(_) => Box::new(topics::Topics::new(request)),
        RequestKind::DeleteRecords(r) => Box::new(delete_records::DeleteRecords::new(r)),
        RequestKind::CreatePartitions(r) => Box::new(create_partitions::CreatePartitions::new(r)),
        RequestKind::ElectLeaders(_)
        | RequestKind::AlterPartitionReassignments(_)
        | RequestKind::AlterReplicaLogDirs(_)
        | RequestKind::ListPartitionReassignments(_) => Box::new(Immediate(unseen_brokers::answer(cx, request))),
        RequestKind::AlterConfigs(_) | RequestKind::IncrementalAlterConfigs(_) => {
            Box::new(alter_configs::AlterConfigs::new(request)?)
        }
        RequestKind::DescribeLogDirs(r) => Box::new(log_dirs::DescribeLogDirs::new(r)),
        RequestKind::DescribeAcls(_) => Box::new(security::Read::new(request, security::acls::hide)),
        RequestKind::DescribeClientQuotas(_) | RequestKind::DescribeUserScramCredentials(_) => {
            Box::new(security::Read::new(request, |_| {}))
        }
        RequestKind::CreateAcls(r) => Box::new(security::Both::new(security::CreateAcls(r))),
        RequestKind::DeleteAcls(r) => Box::new(security::DeleteAcls::new(r)),
        RequestKind::AlterClientQuotas(r) => Box::new(security::Both::new(security::AlterClientQuotas(r))),
        RequestKind::AlterUserScramCredentials(r) => {
            Box::new(security::Both::new(security::AlterUserScramCredentials::new(r)))
        }
        RequestKind::ListConfigResources(r) => {
            Box::new(list_config_resources::ListConfigResources::new(cx.version, &r))
        }
        RequestKind::DescribeConfigs(r) => Box::new(configs::DescribeConfigs::new(r)),
        _ => return None,
    })
}
