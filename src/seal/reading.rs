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
    /// Transactional ids of the old side's producers, where the proxy knows them.
    pub ids: HashMap<i64, String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judged {
    /// The new map, the epoch of the end, the gate's table.
    Sealed { map: SpliceMap, end: NOffset, next: NOffset, producers: Vec<SealedProducer> },
    /// Not still yet: read again.
    Again(&'static str),
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

    /// Its markers would come behind the end (DESIGN.md section 4: a late seam is not built yet).
    fn open_transaction(partition: &TopicPartition, old: Side, open: &ProducerState, id: Option<&String>) -> Judged {
        let whose = id.map(|id| format!("transactional id {id}, ")).unwrap_or_default();
        let message = format!(
            "{partition} on the {old} has an open transaction of {whose}producer id {}, from offset {} on",
            open.producer_id, open.current_txn_start_offset
        );
        let hint = "moving transactional producers is not built yet: stop its client, abort a transaction that hangs \
                    (`kafka-transactions.sh abort`), or leave the topic out of the migration";
        Judged::Refused(Self { code: "open_transaction", message, hint })
    }
}

pub fn judge(reading: &Reading, known: &Known, to: Side, now_ms: i64) -> Judged {
    let partition = &reading.partition;
    if let Some(open) = reading.producers.iter().find(|p| p.current_txn_start_offset >= 0) {
        return Guard::open_transaction(partition, to.other(), open, known.ids.get(&open.producer_id));
    }
    if reading.end != reading.end_again {
        return Judged::Again("the old side still grows");
    }
    if reading.high_watermark < reading.end {
        return Judged::Again("the old side's replicas have not caught up");
    }
    if known.map.virtual_end(reading.end).0 < known.visible {
        return Judged::Again("the old side's leader has less than was acknowledged");
    }
    if reading.other_end != known.other_end {
        return Guard::foreign_writer(format!(
            "{partition} on the {to} ends at {}, it should end at {}: somebody else writes to it",
            reading.other_end, known.other_end
        ));
    }
    if reading.other_high_watermark < reading.other_end {
        return Judged::Again("the new side's replicas have not caught up");
    }
    match known.map.sealed(reading.end, reading.end_epoch, (to, reading.other_end)) {
        Err(error) => Guard::foreign_writer(format!("{partition}: {error}")),
        Ok(map) => {
            let producers = producers(reading, known, now_ms);
            Judged::Sealed { map, end: reading.end, next: reading.other_end, producers }
        }
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
