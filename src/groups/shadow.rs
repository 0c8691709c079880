//! The shadow of a group's positions on the cluster that is not its home (DESIGN.md section 6): what is owed there, the
//! newest position of each partition only, until it is written. Pure; `shadow_writer` does the asking.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use super::position::{METADATA_MAX_BYTES, untouched};
use crate::error::{code, is_retriable};
use crate::ids::{Side, TopicPartition, VOffset, Virtual};
use crate::offsets::{SpliceMap, restore, shadow as native_of, trailer};
use crate::upstream::ask::groups::Stored;

/// Partitions of one group in one commit.
const PER_COMMIT: usize = 2_000;
/// OFFSET_METADATA_TOO_LARGE
const METADATA_TOO_LARGE: i16 = 12;

/// Whether commits of a group of that home get a shadow of this partition on the other side: where that side has a part of
/// the log, after a seal and until it is left; and before a seal what a group has left behind that has moved.
/// `map`: none for a partition that no migration has touched.
pub fn is_owed(map: Option<&SpliceMap>, home: Side) -> bool {
    match map {
        Some(map) if map.left() == Some(home.other()) => false,
        Some(map) => (map.seals() > 0 || home != super::home::DEFAULT) && map.has_part(home.other()),
        None => home != super::home::DEFAULT,
    }
}

/// A position in a side's own terms. `None`: the side has no part of this log.
pub fn position(map: &SpliceMap, side: Side, v: VOffset, metadata: Option<&str>) -> Option<Stored> {
    let native = native_of(map, side, v)?;
    // Where the side cannot say v the position is the nearest one, and what the client noted of v would be wrong there.
    let exact = map.to_virtual(side, native) == Some(v) || restore(map, side, native, None) == v;
    let kept = metadata.map(trailer::clean).filter(|m| exact && m.len() <= METADATA_MAX_BYTES);
    Some(Stored { offset: native.0, metadata: Some(kept.unwrap_or_default().to_owned()) })
}

/// A commit that succeeded on the group's home, as the client made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shadow {
    pub group: String,
    pub partition: TopicPartition,
    pub v: VOffset,
    pub metadata: Option<String>,
}

/// What the writer is told, in the order in which it happened on the groups' homes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    Committed(Shadow),
    /// A transaction has ended that carried positions of the group: what they are now only its home knows.
    Changed(String),
    /// The group: its shadow goes with it.
    Deleted(String),
    /// Single positions of a group: their shadows go with them.
    Forgotten {
        group: String,
        partitions: Vec<TopicPartition>,
    },
}

/// What is owed for one partition of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    pub v: VOffset,
    pub metadata: Option<String>,
    stamp: u64,
}

/// One commit's worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupBatch {
    pub group: String,
    pub positions: Vec<(TopicPartition, Owed)>,
}

/// What waits to be written. The newest position wins; beyond the limit the oldest group's go, counted.
#[derive(Debug)]
pub struct Pending {
    groups: HashMap<String, Waiting>,
    /// The groups, the one that has waited longest in front.
    queue: VecDeque<String>,
    /// Groups whose positions are to be read anew.
    changed: BTreeSet<String>,
    /// Groups whose shadows are to be deleted.
    deleted: HashMap<String, Deletion>,
    /// Groups that have lost single positions, whose shadows are to be deleted.
    forgotten: HashMap<String, Forgotten>,
    limit: usize,
    entries: usize,
    stamp: u64,
    overflowed: u64,
}

#[derive(Debug)]
struct Deletion {
    /// From this moment on it is another group.
    moment: u64,
    not_before: Option<Instant>,
}

#[derive(Debug, Default)]
struct Forgotten {
    /// Each with the moment from which on it is another position.
    partitions: BTreeMap<TopicPartition, u64>,
    not_before: Option<Instant>,
}

#[derive(Debug, Default)]
struct Waiting {
    positions: BTreeMap<TopicPartition, Owed>,
    not_before: Option<Instant>,
}

impl Pending {
    pub fn new(limit: usize) -> Self {
        let (groups, queue, deleted, forgotten) = (HashMap::new(), VecDeque::new(), HashMap::new(), HashMap::new());
        let changed = BTreeSet::new();
        Self { groups, queue, changed, deleted, forgotten, limit, entries: 0, stamp: 0, overflowed: 0 }
    }

    /// Partitions of groups that wait.
    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Nothing is to be written, read or deleted.
    pub fn owes_nothing(&self) -> bool {
        self.is_empty() && self.changed.is_empty() && self.deleted.is_empty() && self.forgotten.is_empty()
    }

    /// Half of the room is left to commits: a pass over all groups stops here.
    pub fn has_room(&self) -> bool {
        self.entries < self.limit / 2
    }

    pub fn tell(&mut self, told: Told) {
        match told {
            Told::Committed(shadow) => self.put(shadow),
            Told::Changed(group) => self.change(group),
            Told::Deleted(group) => self.delete(group),
            Told::Forgotten { group, partitions } => self.forget(group, partitions),
        }
    }

    /// Its positions are to be read anew; beyond the limit those of all groups are.
    pub fn change(&mut self, group: String) {
        if self.changed.len() < self.limit {
            self.changed.insert(group);
        } else {
            self.overflowed += 1;
        }
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Up to `max` groups to be read anew now.
    pub fn take_changed(&mut self, max: usize) -> Vec<String> {
        std::iter::from_fn(|| self.changed.pop_first()).take(max).collect()
    }

    /// The group is gone: what was owed to it is not owed any more, also what is being read or written just now.
    pub fn delete(&mut self, group: String) {
        if let Some(waiting) = self.groups.remove(&group) {
            self.entries -= waiting.positions.len();
            self.queue.retain(|g| *g != group);
        }
        self.forgotten.remove(&group);
        self.changed.remove(&group);
        self.deleted.insert(group, Deletion { moment: self.stamp, not_before: None });
    }

    /// These positions are gone: what was owed for them is not owed any more, also what is being read or written just now.
    /// Beyond the limit their shadows stay, counted.
    fn forget(&mut self, group: String, partitions: Vec<TopicPartition>) {
        if let Some(waiting) = self.groups.get_mut(&group) {
            let before = waiting.positions.len();
            partitions.iter().for_each(|tp| drop(waiting.positions.remove(tp)));
            self.entries -= before - waiting.positions.len();
            if waiting.positions.is_empty() {
                self.groups.remove(&group);
                self.queue.retain(|g| *g != group);
            }
        }
        let held: usize = self.forgotten.values().map(|f| f.partitions.len()).sum();
        let room = self.limit.saturating_sub(held);
        self.overflowed += u64::try_from(partitions.len().saturating_sub(room)).unwrap_or(u64::MAX);
        let forgotten = self.forgotten.entry(group.clone()).or_default();
        forgotten.partitions.extend(partitions.into_iter().take(room).map(|tp| (tp, self.stamp)));
        if forgotten.partitions.is_empty() {
            self.forgotten.remove(&group);
        }
    }

    /// Up to `max` groups that have lost positions whose shadows are to be deleted now.
    pub fn forgotten(&self, max: usize, now: Instant) -> Vec<(String, Vec<TopicPartition>)> {
        let due = self.forgotten.iter().filter(|(_, f)| f.not_before.is_none_or(|at| at <= now));
        due.take(max).map(|(group, f)| (group.clone(), f.partitions.keys().cloned().collect())).collect()
    }

    /// They could not be deleted, and nobody else waits for that.
    pub fn forget_later(&mut self, group: &str, not_before: Instant) {
        if let Some(forgotten) = self.forgotten.get_mut(group) {
            forgotten.not_before = Some(not_before);
        }
    }

    /// There is no shadow of these positions any more, as far as they were gone at that `moment`.
    pub fn are_forgotten(&mut self, group: &str, partitions: &[TopicPartition], moment: u64) {
        let Some(forgotten) = self.forgotten.get_mut(group) else { return };
        for tp in partitions {
            if forgotten.partitions.get(tp).is_some_and(|at| *at <= moment) {
                forgotten.partitions.remove(tp);
            }
        }
        if forgotten.partitions.is_empty() {
            self.forgotten.remove(group);
        }
    }

    /// Up to `max` groups whose shadows are to be deleted now, before anything is written for new ones of their names.
    pub fn deletions(&self, max: usize, now: Instant) -> Vec<String> {
        let due = self.deleted.iter().filter(|(_, deletion)| deletion.not_before.is_none_or(|at| at <= now));
        due.take(max).map(|(group, _)| group.clone()).collect()
    }

    /// It could not be deleted, and nobody else waits for that.
    pub fn delete_later(&mut self, group: &str, not_before: Instant) {
        if let Some(deletion) = self.deleted.get_mut(group) {
            deletion.not_before = Some(not_before);
        }
    }

    /// There is no shadow of the old group any more.
    pub fn is_deleted(&mut self, group: &str) {
        self.deleted.remove(group);
    }

    /// A client's commit: newer than all before it.
    pub fn put(&mut self, shadow: Shadow) {
        self.stamp += 1;
        let owed = Owed { v: shadow.v, metadata: shadow.metadata, stamp: self.stamp };
        self.insert(&shadow.group, shadow.partition, owed, |_| true);
    }

    /// A moment: what is put from now on is newer.
    pub fn moment(&self) -> u64 {
        self.stamp
    }

    /// A position that the authority was found to have when it was asked, after `moment`. A commit put since may be
    /// newer, and is known to be if it is not the same: it stays.
    pub fn put_found(&mut self, shadow: Shadow, moment: u64) {
        let owed = Owed { v: shadow.v, metadata: shadow.metadata, stamp: moment };
        self.insert(&shadow.group, shadow.partition, owed, |there| there.stamp <= moment);
    }

    /// What could not be written, to be tried again at `not_before`. What has come since is newer.
    pub fn put_back(&mut self, batch: GroupBatch, not_before: Instant) {
        let group = batch.group;
        for (partition, owed) in batch.positions {
            self.insert(&group, partition, owed, |_| false);
        }
        if let Some(waiting) = self.groups.get_mut(&group) {
            waiting.not_before = Some(not_before);
        }
    }

    /// Up to `max` groups whose time has come, the one that has waited longest first.
    pub fn due(&mut self, max: usize, now: Instant) -> Vec<GroupBatch> {
        let mut batches = Vec::new();
        for _ in 0..self.queue.len() {
            if batches.len() == max {
                break;
            }
            let Some(group) = self.queue.pop_front() else { break };
            let Some(waiting) = self.groups.get_mut(&group) else { continue };
            if waiting.not_before.is_some_and(|at| now < at) || self.deleted.contains_key(&group) {
                self.queue.push_back(group);
                continue;
            }
            let rest = waiting.positions.keys().nth(PER_COMMIT).cloned();
            let rest = rest.map(|first| waiting.positions.split_off(&first)).unwrap_or_default();
            let positions: Vec<_> = std::mem::replace(&mut waiting.positions, rest).into_iter().collect();
            self.entries -= positions.len();
            if waiting.positions.is_empty() {
                self.groups.remove(&group);
            } else {
                self.queue.push_back(group.clone());
            }
            batches.push(GroupBatch { group, positions });
        }
        batches
    }

    /// When the first group's time comes; `None`: nothing waits.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let deletions = self.deleted.values().map(|d| d.not_before.unwrap_or(now));
        let deletions = deletions.chain(self.forgotten.values().map(|f| f.not_before.unwrap_or(now)));
        // A new group of a deleted one's name waits for the deletion.
        let waiting = self.groups.iter().filter(|(group, _)| !self.deleted.contains_key(*group));
        waiting.map(|(_, w)| w.not_before.unwrap_or(now)).chain(deletions).min()
    }

    /// How many positions were dropped for want of room since the last call: only the authority knows them now.
    pub fn take_overflowed(&mut self) -> u64 {
        std::mem::take(&mut self.overflowed)
    }

    fn insert(&mut self, group: &str, partition: TopicPartition, owed: Owed, replaces: impl Fn(&Owed) -> bool) {
        if self.deleted.get(group).is_some_and(|deletion| owed.stamp <= deletion.moment) {
            return;
        }
        if let Some(forgotten) = self.forgotten.get_mut(group) {
            match forgotten.partitions.get(&partition) {
                Some(moment) if owed.stamp <= *moment => return,
                // A new one, which takes the old one's place there.
                Some(_) => drop(forgotten.partitions.remove(&partition)),
                None => {}
            }
            if forgotten.partitions.is_empty() {
                self.forgotten.remove(group);
            }
        }
        let waiting = match self.groups.get_mut(group) {
            Some(waiting) => waiting,
            None => {
                self.queue.push_back(group.to_owned());
                self.groups.entry(group.to_owned()).or_default()
            }
        };
        match waiting.positions.get_mut(&partition) {
            Some(there) if replaces(there) => *there = owed,
            Some(_) => {}
            None => {
                waiting.positions.insert(partition, owed);
                self.entries += 1;
                if self.entries > self.limit {
                    self.drop_oldest();
                }
            }
        }
    }

    fn drop_oldest(&mut self) {
        let Some(waiting) = self.queue.front().and_then(|group| self.groups.get_mut(group)) else { return };
        if waiting.positions.pop_first().is_some() {
            self.entries -= 1;
            self.overflowed += 1;
        }
        if waiting.positions.is_empty()
            && let Some(group) = self.queue.pop_front()
        {
            self.groups.remove(&group);
        }
    }
}

/// What to do with a position after its commit was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Written,
    /// Another answer may come later.
    Again,
    /// The metadata is too much for this cluster: once more without.
    WithoutMetadata,
    /// A group of this name has members there: somebody else's, its positions are not ours to write.
    Taken,
    /// No later answer will be another one (no right to the group or topic).
    Refused,
}

pub fn verdict(answer: Result<(), i16>) -> Verdict {
    /// ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, NON_EMPTY_GROUP, FENCED_INSTANCE_ID,
    /// FENCED_MEMBER_EPOCH, STALE_MEMBER_EPOCH
    const MEMBERS: [i16; 7] = [22, 25, 27, 68, 82, 110, 113];
    match answer {
        Ok(()) => Verdict::Written,
        Err(METADATA_TOO_LARGE) => Verdict::WithoutMetadata,
        Err(code) if MEMBERS.contains(&code) => Verdict::Taken,
        Err(code) if is_retriable(code) => Verdict::Again,
        // Brokers say it of what they did not expect to happen.
        Err(code::UNKNOWN_SERVER_ERROR) => Verdict::Again,
        Err(_) => Verdict::Refused,
    }
}

/// A group's commit that was answered, part by part.
#[derive(Debug, Default)]
pub struct Sorted {
    pub written: usize,
    /// To be tried again.
    pub again: Vec<(TopicPartition, Owed)>,
    /// Dropped, with Kafka's code of the last.
    pub taken: Option<i16>,
    pub refused: Option<i16>,
    pub failed: usize,
    /// The broker that was asked is not, or no longer, the group's coordinator.
    pub moved: bool,
}

/// `has_moved`: members of the group there are its own of before its move.
pub fn sort(has_moved: bool, answered: impl IntoIterator<Item = (TopicPartition, Owed, Result<(), i16>)>) -> Sorted {
    let mut sorted = Sorted::default();
    for (partition, mut owed, answer) in answered {
        sorted.failed += usize::from(answer.is_err());
        sorted.moved |= matches!(answer, Err(code::NOT_COORDINATOR | code::COORDINATOR_NOT_AVAILABLE));
        match verdict(answer) {
            Verdict::Written => sorted.written += 1,
            Verdict::Again => sorted.again.push((partition, owed)),
            Verdict::WithoutMetadata if owed.metadata.is_some() => {
                owed.metadata = None;
                sorted.again.push((partition, owed));
            }
            Verdict::Taken if has_moved => sorted.again.push((partition, owed)),
            Verdict::Taken => sorted.taken = answer.err(),
            Verdict::WithoutMetadata | Verdict::Refused => sorted.refused = answer.err(),
        }
    }
    sorted
}

/// What is owed for what a group's home stores: of the partitions that get a shadow.
pub fn owed_for<'a>(
    group: &'a str,
    home: Side,
    stored: impl IntoIterator<Item = (TopicPartition, Stored)> + 'a,
    map_of: impl Fn(&TopicPartition) -> Option<SpliceMap> + 'a,
) -> impl Iterator<Item = (Shadow, SpliceMap)> + 'a {
    stored.into_iter().filter_map(move |(partition, stored)| {
        let map = map_of(&partition);
        if !is_owed(map.as_ref(), home) {
            return None;
        }
        let map = map.unwrap_or_else(untouched);
        let shown = super::position::shown(Some(&map), home, stored.offset, stored.metadata.as_deref());
        let v = Virtual(shown.offset);
        (v.0 >= 0).then(|| (Shadow { group: group.to_owned(), partition, v, metadata: shown.metadata }, map))
    })
}
