//! What happened, kept small: some 150 bytes a record, so that a run of a million is judged in memory.
//!
//! Every record has an index; every partition is a map from offset to index. Nothing here depends on the order in
//! which two clients' events arrive: only on the order of each client's own.

use std::collections::{BTreeMap, HashMap};

use super::record::Record;

/// What is known about a record, as bits.
pub mod known {
    pub const SENT: u8 = 1;
    pub const ACKED: u8 = 1 << 1;
    pub const FAILED: u8 = 1 << 2;
    /// In a native dump, outside of mirrored copies.
    pub const ON_SOURCE: u8 = 1 << 3;
    pub const ON_TARGET: u8 = 1 << 4;
    /// In a mirrored copy.
    pub const COPIED: u8 = 1 << 5;
    /// Seen damaged: reported as such, not again as lost.
    pub const DRIFTED: u8 = 1 << 6;
    pub const RECEIVED: u8 = 1 << 7;

    pub const CLAIMED: u8 = SENT | ACKED | FAILED;
    pub const DUMPED: u8 = ON_SOURCE | ON_TARGET | COPIED;
}

/// Names to numbers and back.
#[derive(Default)]
pub struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(n) = self.numbers.get(name) {
            return *n;
        }
        let n = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), n);
        self.names.push(name.to_owned());
        n
    }

    pub fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("?", String::as_str)
    }
}

/// A virtual offset of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    pub partition: u32,
    pub offset: i64,
}

/// An index into [`History::entries`].
pub type Index = u32;

pub struct Entry {
    pub id: u64,
    pub seq: u64,
    pub producer: u32,
    pub key: u32,
    pub known: u8,
    /// Where its producer was told that it is.
    pub acked_at: Option<Place>,
    /// Where it was first seen.
    pub seen_at: Option<Place>,
}

impl Entry {
    pub fn is(&self, any_of: u8) -> bool {
        self.known & any_of != 0
    }
}

/// Why an id is not the record it claims to be.
pub struct Drift {
    pub index: Index,
    pub was: String,
}

#[derive(Default)]
pub struct History {
    pub producers: Names,
    pub keys: Names,
    pub partitions: Names,
    pub entries: Vec<Entry>,
    ids: HashMap<u64, Index>,
    /// Per partition, what was seen where.
    pub logs: Vec<BTreeMap<i64, Index>>,
    /// Second and further places of a record.
    pub copies: HashMap<Index, Vec<Place>>,
}

impl History {
    /// The index of a record, known before or new; `Err` if its id is known as another record.
    pub fn know(&mut self, record: Record<'_>) -> Result<Index, Drift> {
        let producer = self.producers.number(record.producer);
        let key = self.keys.number(record.key);
        if let Some(&index) = self.ids.get(&record.id) {
            let known = &self.entries[index as usize];
            if (known.producer, known.seq, known.key) == (producer, record.seq, key) {
                return Ok(index);
            }
            return Err(Drift { index, was: self.describe(index) });
        }
        let index = self.entries.len() as Index;
        self.entries.push(Entry {
            id: record.id,
            seq: record.seq,
            producer,
            key,
            known: 0,
            acked_at: None,
            seen_at: None,
        });
        self.ids.insert(record.id, index);
        Ok(index)
    }

    /// Whose a record really is, by its producer's word.
    pub fn correct(&mut self, index: Index, record: Record<'_>) {
        let (producer, key) = (self.producers.number(record.producer), self.keys.number(record.key));
        let entry = &mut self.entries[index as usize];
        (entry.producer, entry.seq, entry.key) = (producer, record.seq, key);
    }

    pub fn mark(&mut self, index: Index, bits: u8) {
        self.entries[index as usize].known |= bits;
    }

    pub fn place(&mut self, partition: &str, offset: i64) -> Place {
        Place { partition: self.partitions.number(partition), offset }
    }

    /// Notes that a record was seen at a place; `Err` with the record that is there already.
    pub fn saw(&mut self, index: Index, place: Place) -> Result<(), Index> {
        let at = place.partition as usize;
        if self.logs.len() <= at {
            self.logs.resize_with(at + 1, BTreeMap::new);
        }
        let there = *self.logs[at].entry(place.offset).or_insert(index);
        if there != index {
            return Err(there);
        }
        let entry = &mut self.entries[index as usize];
        match entry.seen_at {
            None => entry.seen_at = Some(place),
            Some(first) if first == place => {}
            Some(_) => {
                let copies = self.copies.entry(index).or_default();
                if !copies.contains(&place) {
                    copies.push(place);
                }
            }
        }
        Ok(())
    }

    /// Every place at which a record was seen.
    pub fn places(&self, index: Index) -> impl Iterator<Item = Place> + '_ {
        let more = self.copies.get(&index).map_or(&[][..], Vec::as_slice);
        self.entries[index as usize].seen_at.into_iter().chain(more.iter().copied())
    }

    /// How many records lie between two offsets of a partition, both left out.
    pub fn between(&self, partition: u32, from: i64, to: i64) -> usize {
        let first = from.saturating_add(1);
        match self.logs.get(partition as usize) {
            Some(log) if first < to => log.range(first..to).count(),
            _ => 0,
        }
    }

    pub fn describe(&self, index: Index) -> String {
        let e = &self.entries[index as usize];
        let (producer, key) = (self.producers.name(e.producer), self.keys.name(e.key));
        Record { producer, seq: e.seq, key, id: e.id }.to_string()
    }

    pub fn show(&self, place: Place) -> String {
        format!("partition {} offset {}", self.partitions.name(place.partition), place.offset)
    }
}
