//! The decisions that are journalled, as JSON in the journal's records. Names are for ever: a new meaning is a new event, and a
//! version that meets one that it does not know refuses to open the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fold::TransactionalIdHome;
use crate::ids::{NOffset, Side, TopicName, TopicPartition, VOffset, VirtualPid};
use crate::offsets::{MapError, SpliceMap};
use crate::producers::{gate, stamp};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The first of a journal: whose it is. Once more when the target's id becomes known.
    Identity(Identity),
    /// What clients are told, from first contact to the end.
    ApiVersions(ApiVersions),
    /// A migration's topics are pinned; again when later topics are taken in. Written no more: it could not say that a
    /// topic left.
    Prepared { migration: String, scheme: String, topics: Vec<PreparedTopic> },
    /// These are a migration's topics, as they are now, and no others: what no seal has used and is not here is no
    /// longer its.
    Pinned { migration: String, scheme: String, topics: Vec<PreparedTopic> },
    /// A migration that has sealed nothing is as if it had never been prepared.
    Aborted { migration: String },
    /// A seal is under way: its marker is about to be written.
    SealIntent { migration: String, number: u64, to: Side },
    /// What one partition becomes if the seal of this number commits.
    SealDetail(SealDetail),
    /// The seal is done, for every partition that has a detail.
    SealCommit { migration: String, number: u64, at_ms: i64, hold_ms: u64 },
    /// The seal was given up before its commit.
    SealUndone { migration: String, number: u64, why: String },
    /// A migration has reached a step of its scheme.
    Step { migration: String, step: String },
    /// The members of a group of KIP-848 are about to be told that they have no partitions, so that it can move: until it
    /// has, they may have been told so and not otherwise.
    GroupCalled { migration: String, group: String },
    /// A group is at home there from here on. `members`: their ids at the home that it left.
    GroupMoved {
        migration: String,
        group: String,
        to: Side,
        members: Vec<String>,
        at_ms: i64,
        /// Its members speak the protocol of KIP-848: they keep their ids.
        #[serde(default, skip_serializing_if = "is_false")]
        consumer: bool,
        /// What was taken along.
        #[serde(default, skip_serializing_if = "is_none")]
        positions: Arc<Vec<GroupPosition>>,
    },
    /// What a group has committed on both sides at the end of a migration, each in its own terms and without trailers. It
    /// counts from `Completed` on.
    GroupClosed { migration: String, group: String, home: Side, positions: Arc<Vec<GroupPosition>>, at_ms: i64 },
    /// A migration is done: its log has left the other side, of which only names and ids of topics are still used.
    Completed { migration: String, checks: Vec<Check>, at_ms: i64 },
    /// The operator's word that something which would stop a step is accepted. Of two about the same the later counts.
    Waived { migration: String, kind: WaiverKind, name: String, why: String, at_ms: i64 },
    /// The migration's readers stay at the seams on the target until they are let go on. Journalled with a seal's commit.
    ConsumersHeld { migration: String, at_ms: i64 },
    /// Readers that were held go on.
    ConsumersReleased { migration: String, at_ms: i64 },
    /// Readers skip this closed segment: its side is lost.
    Skipped(Skipped),
    /// A transactional id is coordinated by that side from here on (DESIGN.md section 7).
    TransactionalIdMoved(MovedId),
    /// Transactions of this id, which write to these topics, carry positions of this group: the two change sides together.
    TransactionCarries { id: String, group: String, topics: BTreeSet<TopicName> },
    /// The topic of a copy whose time is over is set to what is configured again, or is no more.
    ConfigsRestored { topic: TopicName },
    /// Its producers of before are fenced on the side that it left.
    TransactionalIdFenced { id: String },
}

/// Where a transactional id went, and under which name its producer is known there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedId {
    pub id: String,
    pub to: Side,
    /// What its producer calls itself until it is initialised again: producer id and epoch.
    pub client: (VirtualPid, i16),
    /// What the new coordinator calls that producer.
    pub native: (i64, i16),
    pub at_ms: i64,
}

impl MovedId {
    pub fn home(&self) -> TransactionalIdHome {
        let Self { to: side, client, native, at_ms, .. } = *self;
        TransactionalIdHome { side, client, native, fenced: false, at_ms }
    }
}

pub(super) fn is_none(positions: &Arc<Vec<GroupPosition>>) -> bool {
    positions.is_empty()
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What was looked at before a migration was completed, and what was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// `snake_case`, for ever; of one that can be waived the name of the finding.
    pub name: String,
    pub result: CheckResult,
    pub detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    Ok,
    /// It is not so, and the operator accepts it.
    Waived,
    /// It is not so, whoever accepts it.
    Failed,
}

/// A position of a group, as its clients see it and as each side has it committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPosition {
    pub topic: TopicName,
    pub partition: i32,
    #[serde(rename = "virtual")]
    pub at: VOffset,
    /// Native. `None`: nothing is committed there.
    pub source: Option<i64>,
    pub target: Option<i64>,
}

/// What can be waived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaiverKind {
    /// A group that is not drained, by its id.
    Group,
    /// A finding of preflight, by its code.
    Finding,
}

impl fmt::Display for WaiverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaiverKind::Group => "group",
            WaiverKind::Finding => "finding",
        })
    }
}

/// A closed segment that readers skip. Of two about the same the later counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    pub migration: String,
    pub topic: TopicName,
    pub partition: i32,
    pub side: Side,
    /// Its start and its end, virtual.
    pub from: VOffset,
    pub to: VOffset,
    pub why: String,
    pub at_ms: i64,
}

impl Skipped {
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), self.partition)
    }

    pub fn offsets(&self) -> u64 {
        u64::try_from(self.to.0.saturating_sub(self.from.0)).unwrap_or(0)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub journal: Uuid,
    /// The config key `name`: it names the marker topic.
    pub name: String,
    pub source_cluster_id: String,
    pub target_cluster_id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiVersions {
    /// (API key, min, max)
    pub ranges: Vec<(i16, i16, i16)>,
    /// (feature, min, max)
    pub supported_features: Vec<(String, i16, i16)>,
    /// (feature, min level, max level)
    pub finalized_features: Vec<(String, i16, i16)>,
    pub finalized_features_epoch: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedTopic {
    pub name: TopicName,
    pub partitions: Vec<PreparedPartition>,
    pub source_id: Uuid,
    pub target_id: Uuid,
    /// Its records are copied to the target until its first seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<TopicMirror>,
}

/// How a topic is copied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicMirror {
    /// The producer id of the copy's batches.
    pub writer: i64,
    /// Where on the source the copy of each partition begins.
    pub starts: Vec<(i32, NOffset)>,
    /// What the copy's topic is set to for its time.
    pub configs: BTreeMap<String, String>,
    /// What the topics of both sides were set to themselves of that before, the source's first.
    pub own_configs: BTreeMap<String, [Option<String>; 2]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedPartition {
    pub partition: i32,
    /// LEO on the target at prepare: where its part will begin, or its copy.
    pub target_start: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealDetail {
    pub migration: String,
    pub number: u64,
    pub topic: TopicName,
    pub partition: i32,
    /// Native end of the side that is sealed, and the leader epoch of its last record.
    pub end: NOffset,
    pub end_epoch: i32,
    /// Where the log goes on.
    pub next: (Side, NOffset),
    pub producers: Vec<SealedProducer>,
    /// Transactions still end on the side that is sealed: `end` is the least that its end can be, and a later seal of the
    /// same partition to the same place has the right one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub late: bool,
    /// Up to here, exclusive and native, the side that is sealed is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_to: Option<NOffset>,
}

impl SealDetail {
    /// The map that it makes of one.
    pub fn map(&self, before: &SpliceMap) -> Result<SpliceMap, MapError> {
        match self.late {
            true => before.late(self.end, self.next),
            false => before.sealed(self.end, self.end_epoch, self.next),
        }
    }

    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), self.partition)
    }
}

/// The last batch of a producer that a sealed side has: what the sequence gate compares retries with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedProducer {
    pub pid: VirtualPid,
    pub epoch: i16,
    pub last_sequence: i32,
    /// Virtual base offset of that batch, where it is remembered.
    pub base_offset: Option<i64>,
    pub at_ms: i64,
}

impl SealedProducer {
    /// Whether this, read by a later seal, takes the place of what an earlier one left. It can be behind by the few batches
    /// that a memory has missed, and no more: sequences go round, so that "ahead" by half a circle is no test.
    pub fn replaces(&self, earlier: &SealedProducer) -> bool {
        if self.epoch != earlier.epoch {
            return self.epoch > earlier.epoch;
        }
        let behind = stamp::distance(self.last_sequence, earlier.last_sequence);
        behind >= gate::FAR
    }

    /// Whether this is later in the producer's life: a higher epoch, or in the same one a sequence ahead, modulo 2^31.
    pub fn is_ahead_of(&self, other: &SealedProducer) -> bool {
        if self.epoch != other.epoch {
            return self.epoch > other.epoch;
        }
        let ahead = self.last_sequence.wrapping_sub(other.last_sequence) & i32::MAX;
        ahead != 0 && ahead < 1 << 30
    }
}
