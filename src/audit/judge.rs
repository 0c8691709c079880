//! The judgement of a whole history: loss, copies, order, places, skips, the two sides, the clients' own tallies.

use std::collections::{HashMap, HashSet};

use super::check::{Checker, Reader};
use super::expect::Duplicates;
use super::history::{Index, Place, known};
use super::verdict::{Class, Verdict};

pub(super) fn judge(mut checker: Checker) -> Verdict {
    checker.tallies();
    checker.phantoms();
    checker.acked_places();
    checker.skips();
    checker.order();
    checker.copies();
    checker.sides();
    checker.loss();
    checker.count();
    checker.verdict
}

impl Checker {
    /// Each client's own counts against its events, and what has no outcome.
    fn tallies(&mut self) {
        for (name, client) in &self.clients {
            let Some(done) = client.done else {
                if !self.expect.vanishing.contains(name) {
                    self.verdict.blame(Class::BrokenHistory, || format!("{name} never said that it was done"));
                }
                continue;
            };
            // `send` events may be left out.
            let sent = done.sent.filter(|_| client.sent > 0);
            let counted = [
                ("sent", sent, client.sent),
                ("acked", done.acked, client.acked),
                ("failed", done.failed, client.failed),
                ("received", done.received, client.received),
            ];
            for (what, told, seen) in counted {
                if told.is_some_and(|told| told != seen) {
                    let told = told.unwrap_or_default();
                    let text = || format!("{name} says {told} {what}, its events say {seen}");
                    self.verdict.blame(Class::BrokenHistory, text);
                }
            }
            let open = done.sent.unwrap_or(0).saturating_sub(client.acked + client.failed);
            if open > 0 {
                let text = || format!("{name}: {open} records have no outcome");
                self.verdict.blame(Class::ClientError, text);
            }
        }
    }

    /// Records that were read and that nobody sent, and two records with one number.
    fn phantoms(&mut self) {
        let mut claimed: HashMap<(u32, u64), Index> = HashMap::new();
        for (index, entry) in (0..).zip(&self.history.entries) {
            if entry.is(known::CLAIMED)
                && let Some(other) = claimed.insert((entry.producer, entry.seq), index)
            {
                let (one, two) = (self.history.describe(other), self.history.describe(index));
                self.verdict.blame(Class::BrokenHistory, || format!("{one} and {two} share a sequence"));
            }
        }
        let mut drifted = Vec::new();
        for (index, entry) in (0..).zip(&self.history.entries) {
            if entry.is(known::CLAIMED | known::DRIFTED) {
                continue;
            }
            let what = self.history.describe(index);
            if let Some(&original) = claimed.get(&(entry.producer, entry.seq)) {
                let was = self.history.describe(original);
                drifted.extend([original, index]);
                self.verdict.blame(Class::ByteDrift, || format!("{what} was read, {was} was sent"));
            } else if self.clients.get(self.history.producers.name(entry.producer)).is_none_or(|c| c.sent > 0) {
                // A producer that logs each send has sent no such record; one that logs outcomes only may have.
                drifted.push(index);
                self.verdict.blame(Class::ByteDrift, || format!("{what} was read, nobody sent it"));
            }
        }
        for index in drifted {
            self.history.mark(index, known::DRIFTED);
        }
    }

    /// An acknowledged offset is where the record is; what nobody has read yet joins the log there.
    fn acked_places(&mut self) {
        let damaged: HashSet<Place> = self.damaged.iter().copied().collect();
        for index in 0..self.history.entries.len() as Index {
            let entry = &self.history.entries[index as usize];
            let Some(acked) = entry.acked_at else { continue };
            if damaged.contains(&acked) {
                self.history.mark(index, known::DRIFTED);
            } else if entry.seen_at.is_some() {
                if !self.history.places(index).any(|place| place == acked) {
                    let (what, told) = (self.history.describe(index), self.history.show(acked));
                    let is = self.history.places(index).map(|p| self.history.show(p)).collect::<Vec<_>>().join(", ");
                    self.verdict.blame(Class::AckOffset, || format!("{what} was acknowledged at {told}, is at {is}"));
                }
            } else if !entry.is(known::DRIFTED)
                && let Err(other) = self.history.saw(index, acked)
            {
                let (one, two) = (self.history.describe(other), self.history.describe(index));
                let at = self.history.show(acked);
                self.verdict.blame(Class::InconsistentOffsets, || format!("{at} held {one}, and {two} by its answer"));
            }
        }
    }

    fn skips(&mut self) {
        for jump in std::mem::take(&mut self.jumps) {
            let missed = self.history.between(jump.partition, jump.from, jump.to);
            if missed == 0 {
                continue; // Offsets without records: markers, compaction.
            }
            let class = if self.crosses(jump.partition, jump.from, jump.to) { Class::SeamGap } else { Class::PollSkip };
            let (consumer, partition) =
                (self.consumers.name(jump.consumer), self.history.partitions.name(jump.partition));
            let (from, to) = (jump.from, jump.to);
            let text = || format!("{consumer} went from {from} to {to} in partition {partition} past {missed} records");
            self.verdict.blame(class, text);
        }
    }

    /// Per partition: each producer's sequences rise with the offsets, and so do they per key.
    fn order(&mut self) {
        for (partition, log) in (0u32..).zip(&self.history.logs) {
            let mut by_producer: HashMap<u32, u64> = HashMap::new();
            let mut by_key: HashMap<(u32, u32), u64> = HashMap::new();
            let mut copied: HashSet<Index> = HashSet::new();
            for (offset, &index) in log {
                // A second copy is a duplicate, not disorder.
                if self.history.copies.contains_key(&index) && !copied.insert(index) {
                    continue;
                }
                let entry = &self.history.entries[index as usize];
                let key_high = by_key.entry((entry.producer, entry.key)).or_insert(entry.seq);
                let high = by_producer.entry(entry.producer).or_insert(entry.seq);
                let (before_key, before) = (*key_high, *high);
                *key_high = before_key.max(entry.seq);
                *high = before.max(entry.seq);
                if entry.seq >= before || self.expect.producer(self.history.producers.name(entry.producer)).reordering {
                    continue;
                }
                let class = if entry.seq < before_key { Class::OrderInversion } else { Class::NonmonotonicSend };
                let what = self.history.describe(index);
                let at = self.history.show(Place { partition, offset: *offset });
                self.verdict.reordered += 1;
                let later = if entry.seq < before_key { before_key } else { before };
                self.verdict.blame(class, || format!("{what} lies at {at}, behind that producer's {later}"));
            }
        }
    }

    /// Copies in the log, and records given to a group more often than they lie there.
    fn copies(&mut self) {
        for index in 0..self.history.entries.len() as Index {
            let entry = &self.history.entries[index as usize];
            let in_log = self.history.copies.get(&index).map_or(0, Vec::len) as u64;
            let producer = self.history.producers.name(entry.producer);
            let promise = self.expect.producer(producer).duplicates;
            let forgiven = match promise {
                Duplicates::Never => false,
                Duplicates::AfterConnectionLoss => self.clients.get(producer).is_some_and(|c| c.lost_connection),
                Duplicates::Always => true,
            };
            if in_log > 0 && !forgiven {
                let what = self.history.describe(index);
                let at = self.history.places(index).map(|p| self.history.show(p)).collect::<Vec<_>>().join(", ");
                self.verdict.duplicated += in_log;
                self.verdict.blame(Class::Duplicate, || format!("{what} lies at {at}"));
            }
            for reader in self.readers.iter().filter(|r| r.group && !r.redelivery) {
                let more = (reader.count(index) as u64).saturating_sub(1 + in_log);
                if more > 0 {
                    let what = self.history.describe(index);
                    self.verdict.duplicated += more;
                    let text = || format!("group {} received {what} {more} times too often", reader.name);
                    self.verdict.blame(Class::Duplicate, text);
                }
            }
        }
    }

    /// The two clusters' own logs: nothing on both, nothing acknowledged outside of a side's part.
    fn sides(&mut self) {
        let stray: HashMap<Index, String> = std::mem::take(&mut self.stray).into_iter().collect();
        for (index, entry) in (0..).zip(&self.history.entries) {
            let both = entry.is(known::ON_SOURCE) && entry.is(known::ON_TARGET);
            let outside = stray.get(&index).filter(|_| entry.is(known::ACKED));
            if !both && outside.is_none() {
                continue;
            }
            let what = self.history.describe(index);
            let text = || match outside {
                _ if both => format!("{what} is on both sides"),
                Some(at) => format!("{what} was acknowledged and lies at {at}, outside of that side's part"),
                None => what,
            };
            self.verdict.blame(Class::SplitBrainWrite, text);
        }
    }

    /// What was acknowledged reaches every group and every final read.
    fn loss(&mut self) {
        if self.readers.is_empty() && !self.dumped && self.history.entries.iter().any(|e| e.is(known::ACKED)) {
            let text = || "nobody was declared to read everything: loss would go unseen".to_owned();
            self.verdict.blame(Class::BrokenHistory, text);
        }
        for (index, entry) in (0..).zip(&self.history.entries) {
            let promised = entry.is(known::ACKED) && !entry.is(known::DRIFTED);
            if !promised || self.expect.producer(self.history.producers.name(entry.producer)).loss {
                continue;
            }
            let undumped = self.dumped && !entry.is(known::DUMPED);
            let missing = self.readers.iter().find(|r| r.count(index) == 0);
            if !undumped && missing.is_none() {
                continue;
            }
            self.verdict.lost += 1;
            let what = self.history.describe(index);
            match missing {
                Some(reader) if !undumped && entry.is(known::RECEIVED | known::DUMPED) => {
                    let text = || format!("{what} is there, but {} did not receive it", reader.name);
                    self.verdict.blame(Class::Unseen, text);
                }
                _ => {
                    let told = entry.acked_at.map_or("an unknown offset".to_owned(), |p| self.history.show(p));
                    self.verdict.blame(Class::LostWrite, || format!("{what} was acknowledged at {told} and is gone"));
                }
            }
        }
    }

    fn count(&mut self) {
        let count = |bits| self.history.entries.iter().filter(|e| e.is(bits)).count() as u64;
        self.verdict.records_sent = count(known::CLAIMED);
        self.verdict.records_acked = count(known::ACKED);
        self.verdict.records_received = count(known::RECEIVED);
    }
}

impl Reader {
    fn count(&self, index: Index) -> u8 {
        self.counts.get(index as usize).copied().unwrap_or(0)
    }
}
