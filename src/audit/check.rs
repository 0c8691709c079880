//! The checker: takes events as they come, keeps a history, judges it at the end.
//!
//! What one event shows by itself (a failure, a value that does not parse, a step backwards) is noted at once; what
//! needs the whole log (loss, copies, order, skips) waits for [`Checker::finish`], in `judge`.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use crate::ids::Side;

use super::event::{Event, EventError, Tally, What};
use super::expect::{Expectations, Reading, seams};
use super::history::{History, Index, Names, Place, known};
use super::record::Record;
use super::verdict::{Class, Verdict};

/// Log lines that tell of a lost connection, in any library's words.
const CONNECTION_LOST: &str =
    r"(?i)disconnect|broken pipe|connection.{0,40}(reset|closed|lost|refused|aborted)|\bEOF\b";

pub struct Checker {
    pub(super) expect: Expectations,
    pub(super) history: History,
    pub(super) verdict: Verdict,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) readers: Vec<Reader>,
    pub(super) consumers: Names,
    /// Per consumer and partition, the highest offset received in the present assignment.
    cursors: HashMap<(u32, u32), i64>,
    pub(super) jumps: Vec<Jump>,
    /// Places at which a damaged record was seen.
    pub(super) damaged: Vec<Place>,
    /// Records in a dump outside of every segment of that side.
    pub(super) stray: Vec<(Index, String)>,
    pub(super) dumped: bool,
    /// Virtual offsets of seams by partition number, found when a partition is first met.
    pub(super) seams: HashMap<u32, Vec<i64>>,
    connection_lost: Regex,
}

/// A group, or a final read: somebody who must get everything, by record index how often it did (0 to 255).
pub(super) struct Reader {
    pub name: String,
    pub redelivery: bool,
    pub group: bool,
    pub counts: Vec<u8>,
}

/// A consumer went from one offset to another that is not the next.
pub(super) struct Jump {
    pub consumer: u32,
    pub partition: u32,
    pub from: i64,
    pub to: i64,
}

#[derive(Default)]
pub(super) struct Client {
    lib: Option<String>,
    pub sent: u64,
    pub acked: u64,
    pub failed: u64,
    pub received: u64,
    pub done: Option<Tally>,
    pub lost_connection: bool,
}

impl Checker {
    pub fn new(expect: Expectations) -> Self {
        let mut readers: Vec<Reader> = Vec::new();
        for (client, reading) in &expect.readers {
            let (name, redelivery, group) = match reading {
                Reading::Group { name, redelivery } => (name, *redelivery, true),
                Reading::Assign { complete: true } => (client, true, false),
                Reading::Assign { complete: false } => continue,
            };
            match readers.iter_mut().find(|r| r.group == group && r.name == *name) {
                Some(reader) => reader.redelivery |= redelivery,
                None => readers.push(Reader { name: name.clone(), redelivery, group, counts: Vec::new() }),
            }
        }
        Self {
            expect,
            history: History::default(),
            verdict: Verdict::default(),
            clients: BTreeMap::new(),
            readers,
            consumers: Names::default(),
            cursors: HashMap::new(),
            jumps: Vec::new(),
            damaged: Vec::new(),
            stray: Vec::new(),
            dumped: false,
            seams: HashMap::new(),
            connection_lost: Regex::new(CONNECTION_LOST).expect("a constant, tried by every test"),
        }
    }

    /// Takes one line of a driver.
    pub fn line(&mut self, line: &str) -> Result<(), EventError> {
        self.event(&Event::parse(line)?);
        Ok(())
    }

    pub fn event(&mut self, event: &Event) {
        let c = event.client.as_str();
        match &event.what {
            What::Ready { lib } => {
                let client = self.client(c);
                client.lib = lib.clone().or(client.lib.take());
            }
            What::Send { seq, key, id } => {
                self.client(c).sent += 1;
                self.claim(Record { producer: c, seq: *seq, key, id: *id }, known::SENT, None);
            }
            What::Ack { seq, key, id, partition, offset } => {
                self.client(c).acked += 1;
                let at = offset.map(|o| self.history.place(partition, o));
                self.claim(Record { producer: c, seq: *seq, key, id: *id }, known::ACKED, at);
            }
            What::Fail { seq, key, id, error } => {
                self.client(c).failed += 1;
                if let Some(id) = id {
                    self.claim(Record { producer: c, seq: *seq, key, id: *id }, known::FAILED, None);
                }
                self.verdict.blame(Class::ClientError, || format!("{c}: record {seq} ({key}) failed: {error}"));
            }
            What::Recv { partition, offset, value, key } => {
                self.client(c).received += 1;
                self.received(c, partition, *offset, value, key.as_deref());
            }
            What::Assign { partitions } | What::Revoke { partitions } => {
                self.client(c);
                let consumer = self.consumers.number(c);
                for partition in partitions {
                    let partition = self.history.partitions.number(partition);
                    self.cursors.remove(&(consumer, partition));
                }
            }
            What::Commit { ok, error } => {
                self.client(c);
                if !ok {
                    self.verdict.blame(Class::ClientError, || format!("{c}: commit failed: {error}"));
                }
            }
            What::Log { level, text } => self.logged(c, level, text),
            What::Done(tally) => {
                if self.client(c).done.replace(*tally).is_some() {
                    self.verdict.blame(Class::BrokenHistory, || format!("{c} was done twice"));
                }
            }
        }
    }

    /// Takes one record of a cluster's own log, read without the proxy; both clusters must then be given whole.
    pub fn dump(&mut self, side: Side, partition: &str, native: i64, value: &[u8]) {
        self.dumped = true;
        let index = match Record::parse(value).map(|r| self.history.know(r)) {
            Ok(Ok(index)) => index,
            Ok(Err(drift)) => {
                self.history.mark(drift.index, known::DRIFTED);
                let text = || format!("{side} partition {partition} offset {native}: {} changed", drift.was);
                return self.verdict.blame(Class::ByteDrift, text);
            }
            Err(error) => {
                let text = || format!("{side} partition {partition} offset {native}: {error}");
                return self.verdict.blame(Class::ByteDrift, text);
            }
        };
        let on = if side == Side::Source { known::ON_SOURCE } else { known::ON_TARGET };
        let Some(layout) = self.expect.layout.get(partition) else {
            // Nothing says where this lies in the virtual log: only presence and copies are judged.
            if self.history.entries[index as usize].is(on) {
                let what = self.history.describe(index);
                self.verdict.duplicated += 1;
                self.verdict.blame(Class::Duplicate, || format!("{what} is on the {side} twice"));
            }
            return self.history.mark(index, on);
        };
        let found = layout.iter().filter(|s| s.side == side).find_map(|s| Some((s.copy, s.to_virtual(native)?)));
        match found {
            Some((copy, offset)) => {
                self.history.mark(index, if copy { known::COPIED } else { on });
                let place = self.history.place(partition, offset);
                self.seen(index, place);
            }
            None => {
                self.history.mark(index, on);
                self.stray.push((index, format!("{side} partition {partition} offset {native}")));
            }
        }
    }

    /// Judges what was taken.
    pub fn finish(self) -> Verdict {
        super::judge::judge(self)
    }

    fn client(&mut self, name: &str) -> &mut Client {
        if !self.clients.contains_key(name) {
            self.clients.insert(name.to_owned(), Client::default());
        }
        self.clients.get_mut(name).expect("inserted above")
    }

    /// A producer speaks of a record of its own.
    fn claim(&mut self, record: Record<'_>, bit: u8, acked_at: Option<Place>) {
        let index = match self.history.know(record) {
            Ok(index) => index,
            Err(drift) => {
                let text = || format!("{record} has the id of {}", drift.was);
                if self.history.entries[drift.index as usize].is(known::CLAIMED) {
                    return self.verdict.blame(Class::BrokenHistory, text);
                }
                // A consumer spoke first, of what came off the wire: the producer knows better.
                self.verdict.blame(Class::ByteDrift, text);
                self.history.correct(drift.index, record);
                self.history.mark(drift.index, known::DRIFTED);
                drift.index
            }
        };
        let entry = &mut self.history.entries[index as usize];
        if entry.is(bit) {
            self.verdict.blame(Class::BrokenHistory, || format!("{record}: the same event twice"));
        }
        entry.known |= bit;
        entry.acked_at = acked_at.or(entry.acked_at);
    }

    fn received(&mut self, consumer: &str, partition: &str, offset: i64, value: &str, key: Option<&str>) {
        let place = self.history.place(partition, offset);
        self.step(consumer, place);
        let index = match Record::parse(value.as_bytes()) {
            Ok(record) => match self.history.know(record) {
                Ok(index) => {
                    if let Some(came) = key.filter(|k| *k != record.key) {
                        self.verdict.blame(Class::ByteDrift, || format!("{record} came under the key {came}"));
                    }
                    index
                }
                Err(drift) => {
                    let text = || format!("{consumer} received {record}, whose id is that of {}", drift.was);
                    self.verdict.blame(Class::ByteDrift, text);
                    self.history.mark(drift.index, known::DRIFTED);
                    drift.index
                }
            },
            Err(error) => {
                let at = self.history.show(place);
                self.damaged.push(place);
                let text = || format!("{consumer} received at {at} what is no record ({error}): {value:.80}");
                return self.verdict.blame(Class::ByteDrift, text);
            }
        };
        self.history.mark(index, known::RECEIVED);
        self.seen(index, place);
        let (name, group) = match self.expect.readers.get(consumer) {
            Some(Reading::Group { name, .. }) => (name.as_str(), true),
            Some(Reading::Assign { complete: true }) => (consumer, false),
            Some(Reading::Assign { complete: false }) => return,
            None => {
                let text = || format!("{consumer} received records, but nobody said how it reads");
                return self.verdict.blame(Class::BrokenHistory, text);
            }
        };
        if let Some(reader) = self.readers.iter_mut().find(|r| r.group == group && r.name == name) {
            if reader.counts.len() <= index as usize {
                reader.counts.resize(index as usize + 1, 0);
            }
            let count = &mut reader.counts[index as usize];
            *count = count.saturating_add(1);
        }
    }

    fn seen(&mut self, index: Index, place: Place) {
        if let Err(other) = self.history.saw(index, place) {
            let (one, two) = (self.history.describe(other), self.history.describe(index));
            let at = self.history.show(place);
            self.verdict.blame(Class::InconsistentOffsets, || format!("{at} held {one} and {two}"));
        }
    }

    /// A consumer's position moves, within one assignment forwards and by one.
    fn step(&mut self, consumer: &str, to: Place) {
        let number = self.consumers.number(consumer);
        let Some(last) = self.cursors.get_mut(&(number, to.partition)) else {
            self.cursors.insert((number, to.partition), to.offset);
            return;
        };
        let from = *last;
        *last = from.max(to.offset);
        if to.offset <= from {
            let back = self.crosses(to.partition, to.offset, from);
            let class = if back { Class::SeamOverlap } else { Class::NonmonotonicPoll };
            let partition = self.history.partitions.name(to.partition);
            let text = || format!("{consumer} went from {from} back to {} in partition {partition}", to.offset);
            self.verdict.blame(class, text);
        } else if to.offset - from > 1 {
            self.jumps.push(Jump { consumer: number, partition: to.partition, from, to: to.offset });
        }
    }

    /// Whether a seam lies between two virtual offsets.
    pub(super) fn crosses(&mut self, partition: u32, low: i64, high: i64) -> bool {
        let (history, expect) = (&self.history, &self.expect);
        let seams = self
            .seams
            .entry(partition)
            .or_insert_with(|| expect.layout.get(history.partitions.name(partition)).map_or(Vec::new(), |l| seams(l)));
        seams.iter().any(|seam| low < *seam && *seam <= high)
    }

    fn logged(&mut self, c: &str, level: &str, text: &str) {
        let lost = self.connection_lost.is_match(text);
        let client = self.client(c);
        client.lost_connection |= lost;
        let lib = client.lib.clone();
        let quiet = matches!(level.to_ascii_uppercase().as_str(), "INFO" | "NOTICE" | "DEBUG" | "TRACE");
        let lib = lib.as_deref().or(self.expect.libs.get(c).map(String::as_str)).unwrap_or("");
        if !quiet && !self.expect.allow.allows(lib, text) {
            self.verdict.blame(Class::ClientError, || format!("{c}: {level}: {text}"));
        }
    }
}
