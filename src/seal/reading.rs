//! Step 3, judged: what was read of the two sides, and the map that follows from it. Pure.

use std::collections::HashMap;

use crate::ids::{NOffset, Native, Side, TopicPartition, VirtualPid};
use crate::offsets::SpliceMap;
use crate::producers::gate::{MEMORY_MS, Recent};
use crate::store::SealedProducer;
use crate::upstream::ask::ProducerState;

/// One partition between two equal looks at its end.
#[derive(Clone, Debug)]
pub struct Reading {
    pub partition: TopicPartition,
    /// Old side: log end before and after its producers were read, the leader epoch with it, high watermark.
    pub end: NOffset,
    pub end_again: NOffset,
    pub end_epoch: i32,
    pub high_watermark: NOffset,
    /// Where its committed records end: the last stable offset.
    pub stable: NOffset,
    /// New side: log end and high watermark.
    pub other_end: NOffset,
    pub other_high_watermark: NOffset,
    /// Old side's producers.
    pub producers: Vec<ProducerState>,
}

/// What the reading is held against.
#[derive(Clone, Debug)]
pub struct Known {
    pub map: SpliceMap,
    /// The highest virtual end that was acknowledged or shown.
    pub visible: i64,
    /// Where the new side must stand.
    pub other_end: NOffset,
    pub recent: Vec<Recent>,
    /// Its copy on the new side, if it has one that is under way.
    pub mirror: Option<Mirror>,
}

/// How a mirror stands, looked at after both sides were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// Up to here, exclusive, the old side is copied.
    pub mirrored: NOffset,
    /// Where its copy ends, if nothing is on its way.
    pub copy_end: Option<NOffset>,
    /// It stays where it is.
    pub is_halted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judged {
    /// The new map, the epoch of the end, the gate's table.
    Sealed { map: SpliceMap, end: NOffset, next: NOffset, producers: Vec<SealedProducer> },
    /// Not still yet: read again.
    Again(&'static str),
    /// A transaction of this producer (native) is open on the old side.
    Open { producer_id: i64 },
    /// Will not change by waiting.
    Refused(Guard),
}

/// Why this partition must not be sealed now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guard {
    pub code: &'static str,
    pub message: String,
    pub hint: &'static str,
}

impl Guard {
    fn foreign_writer(message: String) -> Judged {
        let hint = "find out who writes there, empty the target topic and prepare again, or abort";
        Judged::Refused(Self { code: "foreign_writer", message, hint })
    }
}

/// What an end is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// The seam, now.
    Seam,
    /// What goes on goes to the new side; the seam is known when the last transaction of before has ended.
    LateSeam,
    /// The place of a late seam.
    LateEnd,
}

pub fn judge(reading: &Reading, known: &Known, to: Side, wants: Wants, now_ms: i64) -> Judged {
    match wants {
        Wants::LateEnd => late_end(reading, known, to),
        Wants::Seam | Wants::LateSeam => switch(reading, known, to, wants == Wants::LateSeam, now_ms),
    }
}

/// Why the old side's end cannot be read now: something is written there still, or not all of it is what readers of committed
/// records get.
fn is_not_still(reading: &Reading, known: &Known) -> Option<Judged> {
    if let Some(open) = reading.producers.iter().find(|p| p.current_txn_start_offset >= 0) {
        return Some(Judged::Open { producer_id: open.producer_id });
    }
    if reading.end != reading.end_again {
        return Some(Judged::Again("the old side still grows"));
    }
    if reading.high_watermark < reading.end {
        return Some(Judged::Again("the old side's replicas have not caught up"));
    }
    has_less(reading, known)
}

fn has_less(reading: &Reading, known: &Known) -> Option<Judged> {
    let less = known.map.virtual_end(reading.end).0 < known.visible;
    less.then_some(Judged::Again("the old side's leader has less than was acknowledged"))
}

fn late_end(reading: &Reading, known: &Known, to: Side) -> Judged {
    if let Some(not_yet) = is_not_still(reading, known) {
        return not_yet;
    }
    let partition = &reading.partition;
    let next = known.map.late_next().unwrap_or(UNREAD);
    match known.map.sealed(reading.end, reading.end_epoch, (to, next)) {
        Err(error) => Guard::foreign_writer(format!("{partition}: {error}")),
        Ok(map) => Judged::Sealed { map, end: reading.end, next, producers: vec![] },
    }
}

fn switch(reading: &Reading, known: &Known, to: Side, late: bool, now_ms: i64) -> Judged {
    let partition = &reading.partition;
    // With a late seam the end is a bound from below: markers of transactions still come.
    if let Some(not_yet) = if late { has_less(reading, known) } else { is_not_still(reading, known) } {
        return not_yet;
    }
    let other_end = match copied(reading, known, late) {
        Ok(end) => end,
        Err(why) => return Judged::Again(why),
    };
    if reading.other_end != other_end {
        return Guard::foreign_writer(format!(
            "{partition} on the {to} ends at {}, it should end at {other_end}: somebody else writes to it",
            reading.other_end
        ));
    }
    if reading.other_high_watermark < reading.other_end {
        return Judged::Again("the new side's replicas have not caught up");
    }
    let next = (to, reading.other_end);
    let map = match late {
        true => known.map.late(reading.end, next),
        false => known.map.sealed(reading.end, reading.end_epoch, next),
    };
    match map {
        Err(error) => Guard::foreign_writer(format!("{partition}: {error}")),
        Ok(map) => {
            let producers = producers(reading, known, now_ms);
            Judged::Sealed { map, end: reading.end, next: reading.other_end, producers }
        }
    }
}

/// Where the new side is to end: at the end of its copy, once that is whole (with a late seam, once it rests). `Err`: not yet.
fn copied(reading: &Reading, known: &Known, late: bool) -> Result<NOffset, &'static str> {
    let Some(mirror) = known.mirror else { return Ok(known.other_end) };
    // With transactions open, what is committed.
    if mirror.mirrored < if late { reading.stable } else { reading.end } {
        return Err("the mirror has not copied all of the old side");
    }
    match mirror.copy_end.filter(|_| mirror.is_halted) {
        None => Err("the mirror has batches on their way"),
        // It was read before the last batch came.
        Some(end) if reading.other_end < end => Err("the new side has less than the mirror has written"),
        Some(end) => Ok(end),
    }
}

/// What DescribeProducers says, merged with what was acknowledged through us in the last ten minutes.
fn producers(reading: &Reading, known: &Known, now_ms: i64) -> Vec<SealedProducer> {
    let mut table: HashMap<VirtualPid, SealedProducer> = HashMap::new();
    for producer in &reading.producers {
        // Those of another generation of ids did not come through this part of the log.
        let Some(pid) = VirtualPid::from_upstream(producer.producer_id, known.map.seals()) else { continue };
        if producer.last_sequence < 0 {
            continue;
        }
        let at_ms = if producer.last_timestamp > 0 { producer.last_timestamp } else { now_ms };
        let sealed = SealedProducer {
            pid,
            epoch: producer.producer_epoch,
            last_sequence: producer.last_sequence,
            base_offset: None,
            at_ms: at_ms.min(now_ms),
        };
        table.insert(pid, sealed);
    }
    for recent in known.recent.iter().filter(|r| now_ms.saturating_sub(r.at_ms) <= MEMORY_MS) {
        let own = SealedProducer {
            pid: recent.pid,
            epoch: recent.epoch,
            last_sequence: recent.last_sequence,
            base_offset: recent.base_offset.map(|o| o.0),
            at_ms: recent.at_ms,
        };
        let entry = table.entry(recent.pid).or_insert(own);
        if own.is_ahead_of(entry) || (own.epoch, own.last_sequence) == (entry.epoch, entry.last_sequence) {
            *entry = own;
        }
    }
    let mut list: Vec<SealedProducer> = table.into_values().collect();
    list.sort_by_key(|p| p.pid);
    // The gap rule counts from the seal.
    for producer in &mut list {
        producer.at_ms = now_ms;
    }
    list
}

/// A native offset that was never read.
pub const UNREAD: NOffset = Native(-1);
