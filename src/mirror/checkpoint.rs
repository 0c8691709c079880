//! The ledgers on disk: one file for all of them, to which what is new is appended in frames. A frame that is not whole ends the
//! file. Pure; `book` does the writing.
//!
//! ```text
//! head     "KCUTLEDG"  format version u16
//! frame    length u32  crc32c u32  payload         `length` counts the payload; the checksum covers both
//! payload  a kind u8, then as varints
//!   0 name    its number in this file, its writer's producer id, its partition; then the topic's name
//!   1 ledger  its number, the closed bytes before it (0: it begins anew), where the copy begins, the open run's origin,
//!             copy and length, and up to where the origin is covered; then the closed bytes that are new
//! ```

use std::collections::BTreeMap;

use super::ledger::{Ledger, LedgerError};
use crate::ids::{NOffset, TopicPartition};
use crate::wire::batch::crc32c;

const MAGIC: &[u8; 8] = b"KCUTLEDG";
const FORMAT: u16 = 1;
/// Length and checksum of a frame.
const PREFIX: usize = 8;
const NAME: u8 = 0;
const LEDGER: u8 = 1;

/// The file is worth writing anew when it is longer than this, and more than twice what it would be.
const SLACK: usize = 64 * 1024;

/// Whose ledger: of a partition, as this writer copies it. One that is prepared again has another writer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub partition: TopicPartition,
    pub writer: i64,
}

/// What the file says of a ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Written {
    number: i64,
    /// Of its closed bytes.
    closed: usize,
    head: [i64; 5],
    /// Where these bytes begin: not there any more when the ledger has forgotten some.
    start: (NOffset, NOffset),
}

/// What the file says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct File {
    known: BTreeMap<Key, Written>,
    size: usize,
}

impl File {
    /// A file of these ledgers, with its bytes.
    pub fn whole<'a>(ledgers: impl IntoIterator<Item = (&'a Key, &'a Ledger)>) -> (Self, Vec<u8>) {
        let mut bytes = [&MAGIC[..], &FORMAT.to_be_bytes()].concat();
        let mut file = Self { known: BTreeMap::new(), size: bytes.len() };
        ledgers.into_iter().for_each(|(key, ledger)| bytes.extend(file.add(key, ledger)));
        (file, bytes)
    }

    /// What is to be appended, so that the file says all of this ledger. To be called whenever it was cut back, too.
    pub fn add(&mut self, key: &Key, ledger: &Ledger) -> Vec<u8> {
        let mut out = vec![];
        let number = match self.known.get(key) {
            Some(written) if written.head == ledger.head() && written.start == ledger.start() => return out,
            Some(written) => written.number,
            None => {
                let number = i64::try_from(self.known.len()).unwrap_or(i64::MAX);
                out.extend(framed(&name(number, key)));
                number
            }
        };
        let goes_on = |written: &&Written| {
            let has_grown = ledger.closed.len() >= written.closed && ledger.head()[1] >= written.head[1];
            has_grown && ledger.start() == written.start
        };
        let from = self.known.get(key).filter(goes_on).map_or(0, |written| written.closed);
        let mut payload = vec![LEDGER];
        put_varint(&mut payload, number);
        put_varint(&mut payload, i64::try_from(from).unwrap_or(i64::MAX));
        ledger.head().into_iter().for_each(|number| put_varint(&mut payload, number));
        payload.extend_from_slice(ledger.closed.get(from..).unwrap_or_default());
        out.extend(framed(&payload));
        let (closed, head, start) = (ledger.closed.len(), ledger.head(), ledger.start());
        self.known.insert(key.clone(), Written { number, closed, head, start });
        self.size += out.len();
        out
    }

    /// Most of it has been replaced since.
    pub fn is_worth_writing_anew(&self) -> bool {
        self.size > SLACK + 2 * self.known.values().map(|written| written.closed + 64).sum::<usize>()
    }
}

fn name(number: i64, key: &Key) -> Vec<u8> {
    let mut payload = vec![NAME];
    for one in [number, key.writer, i64::from(key.partition.partition)] {
        put_varint(&mut payload, one);
    }
    payload.extend_from_slice(key.partition.topic.as_bytes());
    payload
}

/// As read so far: closed bytes and the rest.
#[derive(Default)]
struct Read {
    closed: Vec<u8>,
    head: Option<[i64; 5]>,
}

/// A file's ledgers, and how many of its bytes are good: what follows was not written to its end, and is to be cut off.
pub fn read(file: &[u8]) -> Result<(BTreeMap<Key, Ledger>, File, usize), LedgerError> {
    let head = file.split_first_chunk::<8>().filter(|(magic, _)| *magic == MAGIC).map(|(_, rest)| rest);
    match head.and_then(|rest| rest.first_chunk::<2>()).map(|version| u16::from_be_bytes(*version)) {
        None => return Err(LedgerError::Garbled("it does not begin like a ledger")),
        Some(FORMAT) => {}
        Some(_) => return Err(LedgerError::Garbled("a newer version wrote it")),
    }
    let mut found: Vec<(Key, Read)> = vec![];
    let mut good = MAGIC.len() + size_of_val(&FORMAT);
    let mut last = 0;
    while let Some(payload) = frame(file.get(good..).unwrap_or_default()) {
        last = PREFIX + payload.len();
        good += last;
        take(payload, &mut found)?;
    }
    if found.pop_if(|(_, read)| read.head.is_none()).is_some() {
        // The process ended between a name and its ledger, which are written together.
        good -= last;
    }
    let (mut ledgers, mut known) = (BTreeMap::new(), BTreeMap::new());
    for (number, (key, read)) in (0..).zip(found) {
        let head = read.head.ok_or(LedgerError::Garbled("a name has no ledger"))?;
        let ledger = Ledger::restored(read.closed, head)?;
        known.insert(key.clone(), Written { number, closed: ledger.closed.len(), head, start: ledger.start() });
        ledgers.insert(key, ledger);
    }
    Ok((ledgers, File { known, size: good }, good))
}

fn take(payload: &[u8], found: &mut Vec<(Key, Read)>) -> Result<(), LedgerError> {
    let (kind, mut rest) = payload.split_first().ok_or(LedgerError::Garbled("a frame is empty"))?;
    let mut number = || varint(&mut rest).ok_or(LedgerError::Garbled("a frame ends early"));
    let at = usize::try_from(number()?).unwrap_or(usize::MAX);
    match *kind {
        NAME => {
            let (writer, partition) = (number()?, number()?);
            let topic = str::from_utf8(rest).map_err(|_| LedgerError::Garbled("a topic's name is none"))?;
            let partition = i32::try_from(partition).map_err(|_| LedgerError::Garbled("a partition is none"))?;
            if at != found.len() {
                return Err(LedgerError::Garbled("a name is missing"));
            }
            found.push((Key { partition: TopicPartition::new(topic, partition), writer }, Read::default()));
        }
        LEDGER => {
            let before = usize::try_from(number()?).unwrap_or(usize::MAX);
            let head = [number()?, number()?, number()?, number()?, number()?];
            let (_, read) = found.get_mut(at).ok_or(LedgerError::Garbled("a ledger has no name"))?;
            if before == 0 {
                read.closed.clear();
            }
            if before != read.closed.len() {
                return Err(LedgerError::Garbled("a frame is missing"));
            }
            read.closed.extend_from_slice(rest);
            read.head = Some(head);
        }
        _ => return Err(LedgerError::Garbled("a frame is of no kind that is known")),
    }
    Ok(())
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let crc = crc32c([&length, payload]).to_be_bytes();
    [&length[..], &crc, payload].concat()
}

/// The payload of the frame at the start of these bytes, if it is whole.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    (crc32c([length, payload]) == u32::from_be_bytes(*crc)).then_some(payload)
}

/// Seven bits a byte, the lowest first; of what is not negative.
pub(super) fn put_varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = number.unsigned_abs();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// `None`: the bytes end, or it is greater than an offset can be.
pub(super) fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(number).ok();
        }
    }
    None
}
