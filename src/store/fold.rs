//! State as a fold over events: pure, the same at boot and live. A seal's details count only from its commit on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::event::{
    ApiVersions, Check, Event, GroupPosition, Identity, PreparedTopic, SealDetail, SealedProducer, Skipped,
    TopicMirror, WaiverKind,
};
use crate::ids::{NOffset, Native, Side, TopicName, TopicPartition, VOffset, VirtualPid};
use crate::offsets::{MapError, SpliceMap};

/// All that is decided. Cheap to clone: histories are shared.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub identity: Option<Identity>,
    pub api_versions: Option<ApiVersions>,
    pub migrations: BTreeMap<String, MigrationState>,
    #[serde(with = "sorted_entries")]
    pub partitions: HashMap<TopicPartition, Arc<PartitionHistory>>,
    /// The highest number that a seal was begun with, and the last that was committed.
    pub intent: u64,
    pub committed: u64,
    /// The seal that was begun and has neither a commit nor an end.
    pub pending: Option<PendingSeal>,
    /// Those that were moved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupHome>,
    /// Groups of KIP-848 whose members may have been told that they have no partitions, for a move that has not been.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub called: BTreeSet<String>,
    /// Transactional ids that have changed sides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transactional_ids: BTreeMap<String, TransactionalIdHome>,
    /// By transactional id what its transactions have carried.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub carriers: BTreeMap<String, Carrier>,
    /// Topics of copies whose time is over, that are still set to keep what was copied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held: BTreeMap<TopicName, HeldTopic>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldTopic {
    pub target_id: Uuid,
    pub mirror: TopicMirror,
}

/// A pipeline: the groups whose positions its transactions carry, and the topics of migrations that they write to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    pub groups: BTreeSet<String>,
    pub topics: BTreeSet<TopicName>,
}

/// The side that coordinates a transactional id which has moved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionalIdHome {
    pub side: Side,
    /// See [`MovedId`](super::event::MovedId).
    pub client: (VirtualPid, i16),
    pub native: (i64, i16),
    /// Its producers of before can no longer write on the side that it left.
    pub fenced: bool,
    pub at_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupHome {
    /// The migration that it was moved for.
    pub migration: String,
    pub side: Side,
    /// The members' ids at the home that it left.
    pub members: Vec<String>,
    pub moved_at_ms: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub consumer: bool,
    /// As they were taken along.
    #[serde(default, skip_serializing_if = "super::event::is_none")]
    pub positions: Arc<Vec<GroupPosition>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationState {
    pub scheme: String,
    /// The step reached: the scheme's own word.
    pub step: String,
    pub topics: Vec<PreparedTopic>,
    /// When its last seal was committed, and how long produce was held.
    pub sealed_at_ms: Option<i64>,
    pub hold_ms: Option<u64>,
    /// Left out while there is none: a version that knows no waivers reads what this one writes until one is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<Waiver>,
    /// Since when its readers are held at the seam, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers_held_at_ms: Option<i64>,
    /// Segments of its partitions that readers skip.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// Since when its late seam is open, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_since_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Arc<Completion>>,
    /// Groups of a completion that has not been yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closing: BTreeMap<String, ClosedGroup>,
}

/// What is on record of a migration that is done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    pub at_ms: i64,
    pub checks: Vec<Check>,
    /// The maps, before the side that was left was dropped from them.
    pub maps: Vec<(TopicPartition, SpliceMap)>,
    pub groups: BTreeMap<String, ClosedGroup>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedGroup {
    pub home: Side,
    pub at_ms: i64,
    pub positions: Arc<Vec<GroupPosition>>,
}

/// The operator's word, with its reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    pub kind: WaiverKind,
    pub name: String,
    pub why: String,
    pub at_ms: i64,
}

impl MigrationState {
    pub fn waiver(&self, kind: WaiverKind, name: &str) -> Option<&Waiver> {
        self.waived.iter().find(|w| w.kind == kind && w.name == name)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionHistory {
    pub map: SpliceMap,
    /// The target's LEO at prepare.
    pub target_start: i64,
    /// Cumulative over the seals: per producer the last batch that a sealed side has.
    pub producers: BTreeMap<VirtualPid, SealedProducer>,
    /// Up to here, exclusive, its part on the source is copied to the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_to: Option<NOffset>,
}

impl PartitionHistory {
    /// Where a side that does not take records now must stand: its last journalled end, else what `prepare` found there.
    pub fn journalled_end(&self, side: Side) -> NOffset {
        let prepared = if side == Side::Target { self.target_start } else { 0 };
        self.map.end_of(side).unwrap_or(Native(prepared))
    }

    fn seal(&mut self, detail: &SealDetail) -> Result<(), MapError> {
        let (is_first, map) = (!self.map.is_late(), detail.map(&self.map)?);
        self.map = map;
        // What closes a late seam tells nothing new of those that left at its opening.
        if !is_first {
            return Ok(());
        }
        self.copied_to = detail.copied_to;
        for producer in &detail.producers {
            let known = self.producers.entry(producer.pid).or_insert(*producer);
            if producer.replaces(known) {
                *known = *producer;
            }
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingSeal {
    pub migration: String,
    pub number: u64,
    pub to: Side,
    #[serde(with = "listed")]
    pub details: BTreeMap<TopicPartition, Arc<SealDetail>>,
}

/// An event that cannot follow what came before: a defect of the writer, or a journal put together by hand.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FoldError {
    #[error("the journal belongs to {ours} and cannot become {other}'s")]
    IdentityChanged { ours: uuid::Uuid, other: uuid::Uuid },
    #[error("migration {0} is not prepared")]
    UnknownMigration(String),
    #[error("migration {migration} has scheme {is}, not {asked}")]
    SchemeChanged { migration: String, is: String, asked: String },
    #[error("seal {number} does not come after seal {intent}")]
    NumberNotNew { number: u64, intent: u64 },
    #[error("seal {number} of {migration} is not under way")]
    NoSuchSeal { migration: String, number: u64 },
    #[error("migration {0} has sealed partitions already")]
    Sealed(String),
    #[error("{0} is not prepared")]
    UnknownPartition(TopicPartition),
    #[error("seal {number} has two details for {partition}")]
    DetailTwice { number: u64, partition: TopicPartition },
    #[error("seal {number} goes to the {to}, its detail for {partition} does not")]
    OtherWay { number: u64, to: Side, partition: TopicPartition },
    #[error("{partition}: {error}")]
    Map { partition: TopicPartition, error: MapError },
    #[error("transactional id {0} has not moved")]
    UnknownTransactionalId(String),
    #[error("{partition} has no closed segment of the {side} from {from} to {to}")]
    NoSuchSegment { partition: TopicPartition, side: Side, from: VOffset, to: VOffset },
}

/// The step of a migration that `Prepared` leaves it at.
pub const PREPARED: &str = "prepared";

impl State {
    /// As it was at the first contact; `None`: not known, or the cluster has none.
    pub fn cluster_id(&self, side: Side) -> Option<String> {
        let identity = self.identity.as_ref()?;
        let id = match side {
            Side::Source => Some(identity.source_cluster_id.clone()),
            Side::Target => identity.target_cluster_id.clone(),
        };
        id.filter(|id| !id.is_empty())
    }

    /// On an error the state is as before.
    pub fn apply(&mut self, event: &Event) -> Result<(), FoldError> {
        match event {
            Event::Identity(identity) => self.identify(identity),
            Event::ApiVersions(versions) => {
                self.api_versions = Some(versions.clone());
                Ok(())
            }
            Event::Prepared { migration, scheme, topics } => self.prepare(migration, scheme, topics),
            Event::Pinned { migration, scheme, topics } => self.pin(migration, scheme, topics),
            Event::Aborted { migration } => self.abort(migration),
            Event::SealIntent { migration, number, to } => self.intend(migration, *number, *to),
            Event::SealDetail(detail) => self.detail(detail),
            Event::SealCommit { migration, number, at_ms, hold_ms } => {
                self.commit(migration, *number, *at_ms, *hold_ms)
            }
            Event::SealUndone { migration, number, .. } => {
                self.pending_seal(migration, *number)?;
                self.pending = None;
                Ok(())
            }
            Event::Step { migration, step } => {
                self.migration(migration)?.step.clone_from(step);
                Ok(())
            }
            Event::GroupCalled { migration, group } => {
                self.migration(migration)?;
                self.called.insert(group.clone());
                Ok(())
            }
            Event::GroupMoved { migration, group, to, members, at_ms, consumer, positions } => {
                self.migration(migration)?;
                let (migration, members, positions) = (migration.clone(), members.clone(), positions.clone());
                let home =
                    GroupHome { migration, side: *to, members, moved_at_ms: *at_ms, consumer: *consumer, positions };
                self.groups.insert(group.clone(), home);
                self.called.remove(group);
                Ok(())
            }
            Event::GroupClosed { migration, group, home, positions, at_ms } => {
                let closed = ClosedGroup { home: *home, at_ms: *at_ms, positions: positions.clone() };
                self.migration(migration)?.closing.insert(group.clone(), closed);
                Ok(())
            }
            Event::Completed { migration, checks, at_ms } => self.complete(migration, checks, *at_ms),
            Event::Waived { migration, kind, name, why, at_ms } => {
                let waiver = Waiver { kind: *kind, name: name.clone(), why: why.clone(), at_ms: *at_ms };
                let waived = &mut self.migration(migration)?.waived;
                waived.retain(|w| (w.kind, &w.name) != (*kind, name));
                waived.push(waiver);
                Ok(())
            }
            Event::ConsumersHeld { migration, at_ms } => {
                self.migration(migration)?.consumers_held_at_ms = Some(*at_ms);
                Ok(())
            }
            Event::ConsumersReleased { migration, .. } => {
                self.migration(migration)?.consumers_held_at_ms = None;
                Ok(())
            }
            Event::Skipped(skipped) => self.skip(skipped),
            Event::TransactionalIdMoved(moved) => {
                self.transactional_ids.insert(moved.id.clone(), moved.home());
                Ok(())
            }
            Event::TransactionCarries { id, group, topics } => {
                let carrier = self.carriers.entry(id.clone()).or_default();
                carrier.groups.insert(group.clone());
                carrier.topics.extend(topics.iter().cloned());
                Ok(())
            }
            Event::ConfigsRestored { topic } => {
                self.held.remove(topic);
                Ok(())
            }
            Event::TransactionalIdFenced { id } => {
                let home = self.transactional_ids.get_mut(id);
                home.ok_or_else(|| FoldError::UnknownTransactionalId(id.clone()))?.fenced = true;
                Ok(())
            }
        }
    }

    pub fn partition(&self, partition: &TopicPartition) -> Option<&Arc<PartitionHistory>> {
        self.partitions.get(partition)
    }

    /// Whether a migration holds the readers of this partition.
    pub fn holds_consumers(&self, partition: &TopicPartition) -> bool {
        let has = |m: &MigrationState| {
            let named = m.topics.iter().filter(|t| t.name == partition.topic);
            named.flat_map(|t| &t.partitions).any(|p| p.partition == partition.partition)
        };
        self.migrations.values().any(|m| m.consumers_held_at_ms.is_some() && has(m))
    }

    fn migration(&mut self, name: &str) -> Result<&mut MigrationState, FoldError> {
        self.migrations.get_mut(name).ok_or_else(|| FoldError::UnknownMigration(name.to_owned()))
    }

    fn pending_seal(&mut self, migration: &str, number: u64) -> Result<&mut PendingSeal, FoldError> {
        let pending = self.pending.as_mut().filter(|p| p.number == number && p.migration == migration);
        pending.ok_or_else(|| FoldError::NoSuchSeal { migration: migration.to_owned(), number })
    }

    fn identify(&mut self, identity: &Identity) -> Result<(), FoldError> {
        if let Some(ours) = &self.identity {
            // Only an unknown target may become known.
            let target = ours.target_cluster_id.clone().or_else(|| identity.target_cluster_id.clone());
            if *identity != (Identity { target_cluster_id: target, ..ours.clone() }) {
                return Err(FoldError::IdentityChanged { ours: ours.journal, other: identity.journal });
            }
        }
        self.identity = Some(identity.clone());
        Ok(())
    }

    fn prepare(&mut self, name: &str, scheme: &str, topics: &[PreparedTopic]) -> Result<(), FoldError> {
        if let Some(m) = self.migrations.get(name).filter(|m| m.scheme != scheme) {
            let (migration, is, asked) = (name.to_owned(), m.scheme.clone(), scheme.to_owned());
            return Err(FoldError::SchemeChanged { migration, is, asked });
        }
        let fresh = || MigrationState {
            scheme: scheme.to_owned(),
            step: PREPARED.to_owned(),
            topics: Vec::new(),
            sealed_at_ms: None,
            hold_ms: None,
            waived: Vec::new(),
            completed: None,
            closing: BTreeMap::new(),
            consumers_held_at_ms: None,
            late_since_ms: None,
            skipped: Vec::new(),
        };
        let migration = self.migrations.entry(name.to_owned()).or_insert_with(fresh);
        for topic in topics {
            migration.topics.retain(|t| t.name != topic.name);
            migration.topics.push(topic.clone());
            for p in &topic.partitions {
                let key = TopicPartition::new(topic.name.clone(), p.partition);
                let fresh = PartitionHistory {
                    map: SpliceMap::whole(Side::Source),
                    target_start: p.target_start,
                    producers: BTreeMap::new(),
                    copied_to: None,
                };
                // Prepared again before its first seal: what lies on the target is read anew. A map is never forgotten.
                let history = self.partitions.entry(key).or_insert_with(|| Arc::new(fresh));
                Arc::make_mut(history).target_start = p.target_start;
            }
        }
        Ok(())
    }

    /// The whole set. A topic that a seal has used stays, whatever is said: a map is never forgotten.
    fn pin(&mut self, name: &str, scheme: &str, topics: &[PreparedTopic]) -> Result<(), FoldError> {
        let before = self.migrations.get(name).map(|m| m.topics.clone()).unwrap_or_default();
        let (sealed, free): (Vec<_>, Vec<_>) = before.into_iter().partition(|t| self.is_sealed(t));
        self.prepare(name, scheme, topics)?;
        let stays = |t: &PreparedTopic| topics.iter().chain(&sealed).any(|other| other.name == t.name);
        self.migration(name)?.topics.retain(stays);
        self.forget(&free);
        self.release(&free);
        for topic in topics.iter().filter(|topic| topic.mirror.is_some()) {
            self.held.remove(&topic.name);
        }
        Ok(())
    }

    /// The time of these copies is over.
    fn release(&mut self, topics: &[PreparedTopic]) {
        for topic in topics {
            if let Some(mirror) = topic.mirror.clone() {
                self.held.insert(topic.name.clone(), HeldTopic { target_id: topic.target_id, mirror });
            }
        }
    }

    fn abort(&mut self, name: &str) -> Result<(), FoldError> {
        let unknown = || FoldError::UnknownMigration(name.to_owned());
        let topics = self.migrations.get(name).map(|m| m.topics.clone()).ok_or_else(unknown)?;
        let is_under_way = self.pending.as_ref().is_some_and(|p| p.migration == name);
        if is_under_way || topics.iter().any(|t| self.is_sealed(t)) {
            return Err(FoldError::Sealed(name.to_owned()));
        }
        self.migrations.remove(name);
        self.forget(&topics);
        self.release(&topics);
        Ok(())
    }

    /// Whether a seal has used one of its partitions.
    pub fn is_sealed(&self, topic: &PreparedTopic) -> bool {
        let history = |p: &super::event::PreparedPartition| {
            self.partitions.get(&TopicPartition::new(topic.name.clone(), p.partition))
        };
        topic.partitions.iter().filter_map(history).any(|h| h.map.seals() > 0)
    }

    /// Histories that no migration's set names any more.
    fn forget(&mut self, topics: &[PreparedTopic]) {
        let State { partitions, migrations, .. } = self;
        let names = |topic: &PreparedTopic, partition: i32| {
            let named = migrations.values().flat_map(|m| &m.topics).filter(|t| t.name == topic.name);
            named.flat_map(|t| &t.partitions).any(|p| p.partition == partition)
        };
        for topic in topics {
            for p in topic.partitions.iter().filter(|p| !names(topic, p.partition)) {
                partitions.remove(&TopicPartition::new(topic.name.clone(), p.partition));
            }
        }
    }

    /// From here on its log has one side.
    fn complete(&mut self, name: &str, checks: &[Check], at_ms: i64) -> Result<(), FoldError> {
        let migration = self.migration(name)?;
        let groups = std::mem::take(&mut migration.closing);
        let all = migration.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.partition)));
        let all: Vec<TopicPartition> = all.map(|(topic, partition)| TopicPartition::new(topic, partition)).collect();
        let mut maps = Vec::new();
        for partition in all {
            if let Some(history) = self.partitions.get_mut(&partition) {
                let history = Arc::make_mut(history);
                maps.push((partition, history.map.clone()));
                history.map = history.map.leave();
            }
        }
        let topics = self.migration(name)?.topics.clone();
        self.release(&topics);
        self.migration(name)?.completed = Some(Arc::new(Completion { at_ms, checks: checks.to_vec(), maps, groups }));
        Ok(())
    }

    /// Whether a migration is under way, for which the markers are kept (DESIGN.md section 4).
    pub fn is_needed(&self) -> bool {
        self.migrations.values().any(|m| m.completed.is_none())
    }

    fn intend(&mut self, migration: &str, number: u64, to: Side) -> Result<(), FoldError> {
        self.migration(migration)?;
        if number <= self.intent {
            return Err(FoldError::NumberNotNew { number, intent: self.intent });
        }
        self.intent = number;
        self.pending = Some(PendingSeal { migration: migration.to_owned(), number, to, details: BTreeMap::new() });
        Ok(())
    }

    fn detail(&mut self, detail: &SealDetail) -> Result<(), FoldError> {
        let key = detail.topic_partition();
        let history = self.partitions.get(&key).cloned().ok_or_else(|| FoldError::UnknownPartition(key.clone()))?;
        let pending = self.pending_seal(&detail.migration, detail.number)?;
        if pending.details.contains_key(&key) {
            return Err(FoldError::DetailTwice { number: detail.number, partition: key });
        }
        if pending.to != detail.next.0 {
            return Err(FoldError::OtherWay { number: detail.number, to: pending.to, partition: key });
        }
        // Judged now, so that the commit cannot fail.
        detail.map(&history.map).map_err(|error| FoldError::Map { partition: key.clone(), error })?;
        pending.details.insert(key, Arc::new(detail.clone()));
        Ok(())
    }

    fn skip(&mut self, skipped: &Skipped) -> Result<(), FoldError> {
        let (partition, side, from, to) = (skipped.topic_partition(), skipped.side, skipped.from, skipped.to);
        self.migration(&skipped.migration)?;
        let Some(history) = self.partitions.get_mut(&partition) else {
            return Err(FoldError::UnknownPartition(partition));
        };
        let Some(map) = history.map.skipping(side, from, to) else {
            return Err(FoldError::NoSuchSegment { partition, side, from, to });
        };
        Arc::make_mut(history).map = map;
        let all = &mut self.migration(&skipped.migration)?.skipped;
        all.retain(|s| (s.topic_partition(), s.side, s.from) != (partition.clone(), side, from));
        all.push(skipped.clone());
        Ok(())
    }

    fn commit(&mut self, migration: &str, number: u64, at_ms: i64, hold_ms: u64) -> Result<(), FoldError> {
        let details = self.pending_seal(migration, number)?.details.clone();
        let sealed = details.into_iter().map(|(key, detail)| {
            let mut history = self.partitions.get(&key).ok_or(FoldError::UnknownPartition(key.clone()))?.clone();
            let done = Arc::make_mut(&mut history).seal(&detail);
            done.map_err(|error| FoldError::Map { partition: key.clone(), error })?;
            Ok((key, history))
        });
        let sealed: Vec<_> = sealed.collect::<Result<_, FoldError>>()?;
        let is_late = sealed.iter().any(|(_, history)| history.map.is_late());
        let m = self.migration(migration)?;
        if m.late_since_ms.is_some() {
            // The second hold of one switch.
            m.hold_ms = m.hold_ms.max(Some(hold_ms));
        } else {
            m.hold_ms = Some(hold_ms);
        }
        m.sealed_at_ms = Some(at_ms);
        m.late_since_ms = is_late.then_some(at_ms);
        self.partitions.extend(sealed);
        self.pending = None;
        self.committed = number;
        Ok(())
    }
}

/// A map with structured keys as JSON: a list of pairs, sorted, so that the same state is the same bytes.
mod sorted_entries {
    use super::*;
    use serde::{Deserializer, Serializer};

    type Partitions = HashMap<TopicPartition, Arc<PartitionHistory>>;

    pub fn serialize<S: Serializer>(map: &Partitions, out: S) -> Result<S::Ok, S::Error> {
        let sorted: BTreeMap<&TopicPartition, &PartitionHistory> = map.iter().map(|(k, v)| (k, &**v)).collect();
        out.collect_seq(sorted)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Partitions, D::Error> {
        let entries = Vec::<(TopicPartition, PartitionHistory)>::deserialize(from)?;
        Ok(entries.into_iter().map(|(k, v)| (k, Arc::new(v))).collect())
    }
}

/// The details as a list: each names its own partition.
mod listed {
    use super::*;
    use serde::{Deserializer, Serializer};

    type Details = BTreeMap<TopicPartition, Arc<SealDetail>>;

    pub fn serialize<S: Serializer>(details: &Details, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(details.values().map(|d| &**d))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Details, D::Error> {
        let details = Vec::<SealDetail>::deserialize(from)?;
        Ok(details.into_iter().map(|d| (d.topic_partition(), Arc::new(d))).collect())
    }
}
