//! How far a group is from the seam of a partition, and whether anything is left for it below (DESIGN.md section 3,
//! "Exhausted is proven"). Pure; `migration::readers` does the asking.
//!
//! A position at or behind the last seam is drained. One below it is drained only if a read of what lies between has
//! found nothing: compaction, retention and the markers of transactions leave ends that no client ever reads, and whose
//! offsets no client ever commits. Records of an aborted transaction count as records: who does not read committed sees
//! them, and a position does not say who reads.

use std::collections::BTreeMap;

use crate::ids::{NOffset, Native, Side, TopicPartition, VOffset};
use crate::offsets::{Place, SpliceMap, Verdict, Verdicts, judge_probe};
use crate::store::State;
use crate::store::event::WaiverKind;
use crate::wire::batch;

/// What a group has left to read of one partition below its last seam.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing, which is proven.
    Drained,
    /// So many offsets: from its position, or the first record behind it that is known of, to the seam.
    Behind(u64),
    /// It has no position here, and from the first record to the seam there are so many offsets: whether it wants them
    /// only its operator knows.
    Uncommitted(u64),
    /// The read that would tell has not been answered.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judged {
    Is(Standing),
    /// A read of the rest of this segment would tell.
    Asks(Place),
}

/// What was read of the closed segments of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Closed {
    /// For ever: nothing is written below a seam.
    nothing: Verdicts,
    /// By segment. Retention and compaction may take what was there.
    records: BTreeMap<usize, Found>,
    /// They only rise.
    log_starts: [Option<NOffset>; 2],
}

/// The first record that a read found, and from where on it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    from: NOffset,
    at: NOffset,
}

enum Lies {
    Nothing,
    Record(NOffset),
    Unknown,
}

impl Closed {
    /// What may have changed since it was read is to be read again.
    pub fn forget_records(&mut self) {
        self.records.clear();
    }

    /// Nothing lies from `place` to its segment's end.
    pub fn prove(&mut self, place: &Place) {
        self.nothing.prove(place.segment, place.native, false);
    }

    /// The first record from `place` on is this one.
    pub fn found(&mut self, place: &Place, at: NOffset) {
        self.records.insert(place.segment, Found { from: place.native, at });
    }

    /// A side's log begins here.
    pub fn begins(&mut self, side: Side, start: NOffset) {
        let known = &mut self.log_starts[side.index()];
        *known = (*known).max(Some(start));
    }

    fn lies(&self, place: &Place, end: NOffset) -> Lies {
        if place.native >= end || self.nothing.is_exhausted(place.segment, place.native, false) {
            return Lies::Nothing;
        }
        match self.records.get(&place.segment) {
            Some(found) if place.native > found.at => Lies::Unknown,
            Some(found) if place.native >= found.from => Lies::Record(found.at),
            Some(_) => Lies::Record(place.native),
            None => Lies::Unknown,
        }
    }
}

/// `position`: where the group goes on, `None` without a commit of it. Of several positions the highest is to be judged
/// first: the read that it asks for answers those below it too.
pub fn judge(map: &SpliceMap, position: Option<VOffset>, closed: &Closed) -> Judged {
    let seam = map.tail_start();
    let mut place = map.locate(position.unwrap_or_else(|| map.start()));
    while let (Some(end), Some(next)) = (place.end, place.virtual_end) {
        if let Some(start) = closed.log_starts[place.side.index()] {
            place.native = place.native.max(start);
        }
        match closed.lies(&place, end) {
            Lies::Nothing => place = map.locate(next),
            Lies::Record(at) => {
                let left = u64::try_from(seam.0.saturating_sub(place.to_virtual(at).0)).unwrap_or(0);
                return Judged::Is(match position {
                    Some(_) => Standing::Behind(left),
                    None => Standing::Uncommitted(left),
                });
            }
            Lies::Unknown => return Judged::Asks(place),
        }
    }
    Judged::Is(Standing::Drained)
}

/// What the answer to a read says of what lies from a place to its segment's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probed {
    Nothing,
    Record(NOffset),
    /// Nothing up to here: what follows is to be read.
    GoOn(NOffset),
    /// It proves neither.
    NotYet,
}

/// Judges an answer without an error to a read_uncommitted fetch of this one partition from `place` on.
pub fn probed(place: &Place, end: NOffset, high_watermark: i64, last_stable: i64, records: &[u8]) -> Probed {
    let (mut at, mut beyond) = (place.native, None);
    for read in batch::batches(records) {
        let Ok((_, head)) = read else { return Probed::NotYet };
        if head.next_offset() <= at.0 {
            continue;
        }
        if head.base_offset >= end.0 {
            beyond = Some(Native(head.base_offset));
            break;
        }
        // Compaction leaves empty batches, for what they say of a producer.
        if !head.is_control() && head.count > 0 {
            // Of a compressed entry of an older format only the last record's offset is known.
            let is_exact = head.magic >= 2 || head.compression() == 0;
            return Probed::Record(if is_exact { at.max(Native(head.base_offset)) } else { at });
        }
        at = Native(head.next_offset());
    }
    if at > place.native && at < end && beyond.is_none() {
        return Probed::GoOn(at);
    }
    // Bytes that hold nothing whole from the place on are no proof of anything.
    if at == place.native && beyond.is_none() && !records.is_empty() {
        return Probed::NotYet;
    }
    let rest = Place { native: at, ..*place };
    match judge_probe(&rest, end, Native(high_watermark), Native(last_stable), false, beyond) {
        Verdict::Exhausted => Probed::Nothing,
        Verdict::NotYet => Probed::NotYet,
    }
}

/// One partition of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDrain {
    pub partition: TopicPartition,
    pub position: Option<VOffset>,
    pub standing: Standing,
}

/// A group that has a position on some topic of a migration, with all partitions of such topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDrain {
    pub id: String,
    pub home: Side,
    /// As the broker names it.
    pub state: String,
    pub partitions: Vec<PartitionDrain>,
}

impl GroupDrain {
    /// Offsets below the seams that it has not read; `None` while that is not known of some partition.
    pub fn behind(&self) -> Option<u64> {
        self.partitions.iter().try_fold(0_u64, |sum, p| match p.standing {
            Standing::Drained => Some(sum),
            Standing::Behind(left) | Standing::Uncommitted(left) => Some(sum.saturating_add(left)),
            Standing::Unknown => None,
        })
    }

    /// Partitions with records below the seam and without a position of it.
    pub fn uncommitted(&self) -> usize {
        self.partitions.iter().filter(|p| matches!(p.standing, Standing::Uncommitted(_))).count()
    }

    /// As it was seen, only that nobody knows whether it still is so.
    pub fn unknown(&self) -> Self {
        let partitions = self.partitions.iter().map(|p| PartitionDrain { standing: Standing::Unknown, ..p.clone() });
        Self { partitions: partitions.collect(), ..self.clone() }
    }
}

/// What the last look at the groups of a migration has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drain {
    pub groups: Vec<GroupDrain>,
    /// Whom it has not heard: there may be groups that are not in the list.
    pub unheard: Vec<Unheard>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unheard {
    /// If it is about one.
    pub group: Option<String>,
    pub what: String,
}

/// Why a migration is not drained; empty if it is. `drain`: of a look that began after its last seal, and `None` before
/// there was one.
pub fn not_drained(state: &State, migration: &str, drain: Option<&Drain>) -> Vec<String> {
    let Some(drain) = drain else { return vec!["the groups have not been looked at yet".to_owned()] };
    let waived = |group: &str| {
        let known = state.migrations.get(migration);
        known.is_some_and(|m| m.waiver(WaiverKind::Group, group).is_some())
    };
    let heard = |unheard: &Unheard| unheard.group.as_deref().is_some_and(waived);
    let unheard = drain.unheard.iter().filter(|u| !heard(u)).map(|u| u.what.clone());
    let groups = drain.groups.iter().filter(|g| !waived(&g.id));
    groups.filter_map(reason).chain(unheard).collect()
}

fn reason(group: &GroupDrain) -> Option<String> {
    let (id, uncommitted) = (&group.id, group.uncommitted());
    match group.behind() {
        Some(0) => None,
        None => Some(format!("what group {id} has left to read below the seam is not known")),
        Some(left) if uncommitted == 0 => Some(format!("group {id} has {left} records left to read below the seam")),
        Some(left) => Some(format!(
            "group {id} has {left} records left to read below the seam, and no position on {uncommitted} partitions \
             of them: it reads them, or is waived"
        )),
    }
}
