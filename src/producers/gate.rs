//! The sequence gate of one partition (DESIGN.md section 7, PROTOCOL.md rule 19). Pure.
//!
//! After a seal the new side has never seen a producer's PID and would take any first sequence: a retry of what the old
//! side has already would be stored twice, and a gap would turn into reordering. So the gate knows what the old side had,
//! lets the next sequence through alone, and steps aside for a PID once the new side has acknowledged its head. What the
//! same client has sent behind a refused head is not its business: see `order`.
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
/// So far behind the open side's last sequence nothing is a retry of what the sealed side has: five batches are far less,
/// and half the circle, where "before" turns into "behind", is far more.
pub const FAR: i32 = 1 << 20;
/// A broker forgets a producer that writes nothing for a day (`producer.id.expiration.ms`).
const FORGOTTEN_MS: i64 = 24 * 60 * 60 * 1000;

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
    /// What it is depends on what the open side knows of the producer: ask, tell `known`, judge again.
    Ask,
    /// The open side could not be asked: the client comes back with it, and then it is asked again.
    Later,
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

/// Whether the open side knows a producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Question {
    #[default]
    Open,
    Asked,
    /// It does not.
    Unknown,
    /// Nobody answered.
    Failed,
}

#[derive(Clone, Debug, Default)]
struct Producer {
    sealed: Option<Sealed>,
    sealed_at_ms: i64,
    /// The entry is an earlier process's: how far the producer has come since then the open side must say first.
    restored: bool,
    /// What `sealed` was before the producer went far beyond it: no journal brings it back.
    lapsed: Option<Sealed>,
    /// The open side knows the PID and checks its sequences itself.
    opened: bool,
    /// What must come first: (epoch, sequence).
    expect: Option<(i16, i32)>,
    in_flight: u32,
    question: Question,
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
    /// So many producers are looked at for quiet ones.
    crowded: usize,
}

impl Gate {
    pub fn seals(&self) -> u32 {
        self.seals
    }

    pub fn judge(&self, stamp: &Stamp, now_ms: i64) -> Verdict {
        if self.seals == 0 {
            return Verdict::Forward;
        }
        let Some(producer) = self.producers.get(&stamp.pid) else { return Verdict::Forward };
        if let Some(sealed) = producer.sealed {
            if sealed.epoch == stamp.epoch && stamp::at_or_before(stamp.last, sealed.last_sequence) {
                return match producer.question {
                    Question::Open if producer.restored => Verdict::Ask,
                    Question::Failed if producer.restored => Verdict::Later,
                    Question::Asked if producer.restored => Verdict::Wait,
                    _ => Verdict::Acknowledge(producer.offset_of(stamp)),
                };
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
        if producer.in_flight > 0 || producer.question == Question::Asked {
            return Verdict::Wait;
        }
        if now_ms.saturating_sub(producer.sealed_at_ms) > MEMORY_MS {
            return Verdict::Forward;
        }
        match producer.question {
            Question::Open | Question::Asked => Verdict::Ask,
            Question::Failed => Verdict::Later,
            // What the sealed side would have said.
            Question::Unknown => Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE_NUMBER),
        }
    }

    /// The batch is on its way to the open side.
    pub fn forwarded(&mut self, stamp: &Stamp, now_ms: i64) {
        self.forget_quiet(now_ms);
        let seals = self.seals;
        let producer = self.producers.entry(stamp.pid).or_default();
        producer.touched_ms = now_ms;
        producer.in_flight += 1;
        if seals > 0 && !producer.opened {
            // One at a time, also for a producer that no table knows, until the new side has acknowledged the head.
            producer.expect = Some((stamp.epoch, stamp.first));
            if producer.sealed.is_none() && producer.sealed_at_ms == 0 {
                producer.sealed_at_ms = now_ms;
            }
        }
    }

    /// Its outcome. True if somebody may be waiting for it.
    pub fn answered(&mut self, stamp: &Stamp, outcome: Outcome, now_ms: i64) -> bool {
        let seals = self.seals;
        let Some(producer) = self.producers.get_mut(&stamp.pid) else { return false };
        producer.in_flight = producer.in_flight.saturating_sub(1);
        producer.touched_ms = now_ms;
        // Nobody waits for a producer that the open side knows.
        let waited_for = seals > 0 && !producer.opened;
        match outcome {
            Outcome::Appended(offset) => {
                producer.opened |= seals > 0;
                producer.observe(stamp, offset);
                if seals > 0 {
                    producer.has_come_to(stamp.epoch, stamp.last);
                }
            }
            Outcome::Refused(_) | Outcome::Lost => producer.forget_answer(),
        }
        waited_for
    }

    /// Whether this producer's place behind the seal is still to be decided: what comes behind a refused head then must
    /// not reach a side that would take any first sequence.
    pub fn awaits_head(&self, pid: VirtualPid) -> bool {
        self.seals > 0 && self.producers.get(&pid).is_none_or(|p| !p.opened)
    }

    /// The open side is asked for the PID (DescribeProducers).
    pub fn asks(&mut self, pid: VirtualPid) {
        if let Some(producer) = self.producers.get_mut(&pid) {
            producer.question = Question::Asked;
        }
    }

    /// What it said: the producer's last batch there, or that it has none.
    pub fn known(&mut self, pid: VirtualPid, last: Option<Sealed>, now_ms: i64) {
        let Some(producer) = self.asked(pid) else { return };
        producer.restored = false;
        match last {
            Some(last) => {
                producer.question = Question::Open;
                producer.opened = true;
                producer.has_come_to(last.epoch, last.last_sequence);
            }
            None => {
                producer.question = Question::Unknown;
                // It may have come far and been forgotten since: as on one cluster, nothing is remembered of it then.
                if now_ms.saturating_sub(producer.sealed_at_ms) > FORGOTTEN_MS {
                    producer.lapse();
                }
            }
        }
    }

    /// The question got no answer.
    pub fn not_answered(&mut self, pid: VirtualPid) {
        if let Some(producer) = self.asked(pid) {
            producer.question = Question::Failed;
        }
    }

    /// An answer that comes after the next seal is another side's.
    fn asked(&mut self, pid: VirtualPid) -> Option<&mut Producer> {
        self.producers.get_mut(&pid).filter(|p| p.question == Question::Asked)
    }

    /// A batch was refused by what the open side said, or because it said nothing: the next one asks again.
    pub fn refused(&mut self, pid: VirtualPid) {
        if let Some(producer) = self.producers.get_mut(&pid) {
            producer.forget_answer();
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

    /// The partition has passed a seal: `table` is laid over what earlier seals left.
    pub fn seal(&mut self, seals: u32, table: impl IntoIterator<Item = (Recent, i64)>) {
        self.lay(seals, table, false);
    }

    /// The same by a journal, in a new process.
    pub fn restore(&mut self, seals: u32, table: impl IntoIterator<Item = (Recent, i64)>) {
        self.lay(seals, table, true);
    }

    fn lay(&mut self, seals: u32, table: impl IntoIterator<Item = (Recent, i64)>, restored: bool) {
        self.seals = seals;
        for producer in self.producers.values_mut() {
            // A head that was refused before the seal is still awaited after it.
            if producer.opened {
                producer.expect = None;
            }
            producer.opened = false;
            producer.question = Question::Open;
        }
        for (recent, sealed_at_ms) in table {
            let producer = self.producers.entry(recent.pid).or_default();
            let sealed = Sealed { epoch: recent.epoch, last_sequence: recent.last_sequence };
            if producer.lapsed == Some(sealed) {
                continue;
            }
            producer.restored = restored || producer.restored && producer.sealed == Some(sealed);
            producer.sealed = Some(sealed);
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
        if self.producers.len() < self.crowded.max(MANY) {
            return;
        }
        self.producers.retain(|_, p| p.in_flight > 0 || now_ms.saturating_sub(p.touched_ms) <= MEMORY_MS);
        self.crowded = self.producers.len().saturating_mul(2);
    }
}

impl Producer {
    /// The open side has this batch. Far enough behind the seal the comparison with what was sealed must end: sequences go
    /// round, and half a circle later every new one would look like an old one.
    fn has_come_to(&mut self, epoch: i16, last: i32) {
        if self.sealed.is_some_and(|s| s.epoch == epoch && stamp::distance(s.last_sequence, last) >= FAR) {
            self.lapse();
        }
    }

    fn lapse(&mut self) {
        self.lapsed = self.sealed.take().or(self.lapsed);
    }

    fn forget_answer(&mut self) {
        if matches!(self.question, Question::Unknown | Question::Failed) {
            self.question = Question::Open;
        }
    }

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
