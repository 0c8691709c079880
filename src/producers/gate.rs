//! The sequence gate of one partition (DESIGN.md section 7, PROTOCOL.md rule 19). Pure.
//!
//! After a seal the new side has never seen a producer's PID and would take any first sequence: a retry of what the old
//! side has already would be stored twice, and a gap would turn into reordering. So the gate knows what the old side had,
//! lets the next sequence through alone, and steps aside for a PID once the new side has acknowledged its head.
//! `model/` in the design searches these rules exhaustively (`judge`, `reply`, `close_client`).

use std::collections::{HashMap, VecDeque};

use super::stamp::{self, Stamp};
use crate::error::code;
use crate::ids::{VOffset, VirtualPid};

/// How long a sealed sequence may demand that nothing is missing behind it, and how long own observations count.
pub const MEMORY_MS: i64 = 10 * 60 * 1000;
/// Batches whose offsets are remembered per producer: as many as a broker does (`NUM_BATCHES_TO_RETAIN`).
const REMEMBERED: usize = 5;
/// Producers per partition beyond which those that were quiet for `MEMORY_MS` are forgotten.
const MANY: usize = 10_000;

/// A client connection, for what is "refused on this connection".
pub type ClientId = u64;

/// The last of a producer's batches that the sealed side has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    pub epoch: i16,
    pub last_sequence: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Forward,
    /// The old side has it: success, with its offset if that is still known.
    Acknowledge(Option<VOffset>),
    /// Something of this producer is on its way: judge again when the gate has changed.
    Wait,
    /// It looks like a gap: ask the open side whether it knows the producer, tell `known`, judge again.
    Ask,
    Refuse(i16),
}

/// What became of a batch that was forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Appended(Option<VOffset>),
    Refused(i16),
    Lost,
}

#[derive(Clone, Debug)]
struct Batch {
    epoch: i16,
    first: i32,
    last: i32,
    offset: VOffset,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    client: ClientId,
    epoch: i16,
    first: i32,
    error: i16,
}

#[derive(Clone, Debug, Default)]
struct Producer {
    sealed: Option<Sealed>,
    sealed_at_ms: i64,
    /// The open side knows the PID and checks its sequences itself.
    opened: bool,
    /// What must come first: (epoch, sequence).
    expect: Option<(i16, i32)>,
    in_flight: u32,
    /// The head that failed last, and where: what the same connection sent behind it fails likewise.
    refused: Option<Refused>,
    /// The open side is being asked whether it knows the PID; it was asked and does not.
    asking: bool,
    unknown: bool,
    /// Own observations, newest last.
    recent: VecDeque<Batch>,
    /// (epoch, last sequence) acknowledged through us.
    acknowledged: Option<Sealed>,
    touched_ms: i64,
}

/// What a seal takes along of a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recent {
    pub pid: VirtualPid,
    pub epoch: i16,
    pub last_sequence: i32,
    pub base_offset: Option<VOffset>,
    pub at_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Gate {
    producers: HashMap<VirtualPid, Producer>,
    /// Seals that this partition has passed; with none the gate only watches.
    seals: u32,
}

impl Gate {
    pub fn seals(&self) -> u32 {
        self.seals
    }

    pub fn judge(&self, stamp: &Stamp, client: ClientId, now_ms: i64) -> Verdict {
        let Some(producer) = self.producers.get(&stamp.pid) else { return Verdict::Forward };
        if let Some(error) = producer.refused.and_then(|r| r.reaches(stamp, client)) {
            return Verdict::Refuse(error);
        }
        if self.seals == 0 {
            return Verdict::Forward;
        }
        if let Some(sealed) = producer.sealed {
            if sealed.epoch == stamp.epoch && stamp::at_or_before(stamp.last, sealed.last_sequence) {
                return Verdict::Acknowledge(producer.offset_of(stamp));
            }
            if stamp.epoch < sealed.epoch {
                return Verdict::Refuse(code::INVALID_PRODUCER_EPOCH);
            }
        }
        if producer.opened {
            return Verdict::Forward;
        }
        let head = producer.expect.is_none_or(|(epoch, next)| {
            (stamp.epoch, stamp.first) == (epoch, next) || stamp.epoch > epoch && stamp.first == 0
        });
        if head {
            return Verdict::Forward;
        }
        if producer.in_flight > 0 || producer.asking {
            return Verdict::Wait;
        }
        if now_ms.saturating_sub(producer.sealed_at_ms) > MEMORY_MS {
            return Verdict::Forward;
        }
        if !producer.unknown {
            return Verdict::Ask;
        }
        // What the sealed side would have said.
        Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE_NUMBER)
    }

    /// The batch is on its way to the open side.
    pub fn forwarded(&mut self, stamp: &Stamp, now_ms: i64) {
        self.forget_quiet(now_ms);
        let seals = self.seals;
        let producer = self.producers.entry(stamp.pid).or_default();
        producer.touched_ms = now_ms;
        producer.in_flight += 1;
        producer.refused = None;
        if seals > 0 && !producer.opened {
            // One at a time, also for a producer that no table knows, until the new side has acknowledged the head.
            producer.expect = Some((stamp.epoch, stamp.first));
            if producer.sealed.is_none() && producer.sealed_at_ms == 0 {
                producer.sealed_at_ms = now_ms;
            }
        }
    }

    /// Its outcome. True if somebody may be waiting for it.
    pub fn answered(&mut self, stamp: &Stamp, client: ClientId, outcome: Outcome, now_ms: i64) -> bool {
        let seals = self.seals;
        let Some(producer) = self.producers.get_mut(&stamp.pid) else { return false };
        producer.in_flight = producer.in_flight.saturating_sub(1);
        producer.touched_ms = now_ms;
        match outcome {
            Outcome::Appended(offset) => {
                producer.opened |= seals > 0;
                producer.refused = None;
                producer.observe(stamp, offset);
            }
            Outcome::Refused(error) if !producer.opened && seals > 0 => {
                producer.refused = Some(Refused { client, epoch: stamp.epoch, first: stamp.first, error });
                producer.unknown = false;
            }
            Outcome::Refused(_) | Outcome::Lost => producer.unknown = false,
        }
        seals > 0
    }

    /// A refusal of ours, before anything was sent: what comes behind it on this connection fails likewise, or a broker
    /// that does not know the producer would take it out of order.
    pub fn refused(&mut self, stamp: &Stamp, client: ClientId, error: i16, now_ms: i64) {
        let producer = self.producers.entry(stamp.pid).or_default();
        producer.touched_ms = now_ms;
        producer.unknown = false;
        if error == code::NOT_LEADER_OR_FOLLOWER && producer.refused.is_none() {
            producer.refused = Some(Refused { client, epoch: stamp.epoch, first: stamp.first, error });
        }
    }

    /// The open side is asked for the PID (DescribeProducers), and what it said.
    pub fn asks(&mut self, pid: VirtualPid) {
        if let Some(producer) = self.producers.get_mut(&pid) {
            producer.asking = true;
        }
    }

    pub fn known(&mut self, pid: VirtualPid, known: bool) {
        if let Some(producer) = self.producers.get_mut(&pid) {
            producer.asking = false;
            producer.opened |= known;
            producer.unknown = !known;
        }
    }

    /// What was acknowledged through us in the last ten minutes: a broker may have forgotten it by its records' timestamps.
    pub fn recent(&self, now_ms: i64) -> impl Iterator<Item = Recent> + '_ {
        let fresh = move |p: &&Producer| now_ms.saturating_sub(p.touched_ms) <= MEMORY_MS;
        self.producers.iter().filter_map(move |(pid, p)| {
            let last = Some(p).filter(fresh)?.acknowledged?;
            let newest = p.recent.back().filter(|b| (b.epoch, b.last) == (last.epoch, last.last_sequence));
            Some(Recent {
                pid: *pid,
                epoch: last.epoch,
                last_sequence: last.last_sequence,
                base_offset: newest.map(|b| b.offset),
                at_ms: p.touched_ms,
            })
        })
    }

    /// The partition has passed a seal (or is restored from the journal): `table` is laid over what earlier seals left.
    pub fn seal(&mut self, seals: u32, table: impl IntoIterator<Item = (Recent, i64)>) {
        self.seals = seals;
        for producer in self.producers.values_mut() {
            // A head that was refused before the seal is still awaited after it.
            if producer.opened {
                producer.expect = None;
            }
            producer.opened = false;
            producer.unknown = false;
        }
        for (recent, sealed_at_ms) in table {
            let producer = self.producers.entry(recent.pid).or_default();
            producer.sealed = Some(Sealed { epoch: recent.epoch, last_sequence: recent.last_sequence });
            producer.sealed_at_ms = sealed_at_ms;
            producer.expect = Some((recent.epoch, stamp::after(recent.last_sequence)));
            producer.touched_ms = producer.touched_ms.max(recent.at_ms);
            if let Some(offset) = recent.base_offset
                && producer.recent.is_empty()
            {
                let last = recent.last_sequence;
                producer.recent.push_back(Batch { epoch: recent.epoch, first: last, last, offset });
            }
        }
    }

    /// A million producers that came and went must not stay. What a seal took along stays as long as it may matter.
    fn forget_quiet(&mut self, now_ms: i64) {
        if self.producers.len() < MANY || self.producers.len().count_ones() != 1 {
            return;
        }
        self.producers.retain(|_, p| p.in_flight > 0 || now_ms.saturating_sub(p.touched_ms) <= MEMORY_MS);
    }
}

impl Refused {
    /// The code for a batch that the same connection sent behind this one.
    fn reaches(&self, stamp: &Stamp, client: ClientId) -> Option<i16> {
        let behind = stamp.first != self.first && stamp::at_or_before(self.first, stamp.first);
        (self.client == client && self.epoch == stamp.epoch && behind).then_some(self.error)
    }
}

impl Producer {
    fn observe(&mut self, stamp: &Stamp, offset: Option<VOffset>) {
        let newer = self.acknowledged.is_none_or(|a| {
            stamp.epoch > a.epoch || stamp.epoch == a.epoch && stamp::at_or_before(a.last_sequence, stamp.last)
        });
        if newer {
            self.acknowledged = Some(Sealed { epoch: stamp.epoch, last_sequence: stamp.last });
        }
        if let Some(offset) = offset {
            if self.recent.len() == REMEMBERED {
                self.recent.pop_front();
            }
            self.recent.push_back(Batch { epoch: stamp.epoch, first: stamp.first, last: stamp.last, offset });
        }
    }

    fn offset_of(&self, stamp: &Stamp) -> Option<VOffset> {
        let same = |b: &&Batch| b.epoch == stamp.epoch && b.last == stamp.last && b.first == stamp.first;
        self.recent.iter().find(same).map(|b| b.offset)
    }
}
