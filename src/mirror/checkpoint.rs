//! The ledger on disk: a file for each partition to which each checkpoint appends what is new, in a frame of its own. A frame
//! that is not whole ends the file. Pure.
//!
//! ```text
//! head     "KCUTLEDG"  format version u16
//! frame    length u32  crc32c u32  payload         `length` counts the payload; the checksum covers both
//! payload  as varints the closed bytes before it, where the copy begins, the open run's origin, copy and length, and up to
//!          where the origin is covered; then the closed bytes that are new
//! ```

use super::ledger::{Ledger, LedgerError};
use crate::ids::NOffset;
use crate::wire::batch::crc32c;

const MAGIC: &[u8; 8] = b"KCUTLEDG";
const FORMAT: u16 = 1;
/// Length and checksum of a frame.
const PREFIX: usize = 8;

/// A file is written anew when what was appended to it is more than this, and as much as it would be anew.
const SLACK: usize = 16 * 1024;

/// What a ledger's file says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Of its closed bytes.
    closed: usize,
    head: [i64; 5],
    /// Where these bytes begin: not there any more when the ledger has forgotten some.
    start: (NOffset, NOffset),
    /// Bytes of the file.
    size: usize,
}

/// What is to be done with its file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// It says all already.
    Nothing,
    /// To be appended.
    More(Vec<u8>),
    /// To be put in its place.
    Anew(Vec<u8>),
}

/// A whole ledger, for a new file.
pub fn whole(ledger: &Ledger) -> (Vec<u8>, Written) {
    let mut out = [&MAGIC[..], &FORMAT.to_be_bytes()].concat();
    out.extend(framed(&payload(ledger, 0)));
    let written = Written { closed: ledger.closed.len(), head: ledger.head(), start: ledger.start(), size: out.len() };
    (out, written)
}

/// What has come since `written`, which is then up to here.
pub fn next(ledger: &Ledger, written: &mut Written) -> Next {
    let is_longer = ledger.start() == written.start && ledger.closed.len() >= written.closed;
    if is_longer && ledger.head() == written.head {
        return Next::Nothing;
    }
    if !is_longer || written.size > SLACK + 2 * ledger.closed.len() || ledger.head()[1] < written.head[1] {
        let (file, all) = whole(ledger);
        *written = all;
        return Next::Anew(file);
    }
    let more = framed(&payload(ledger, written.closed));
    *written = Written {
        closed: ledger.closed.len(),
        head: ledger.head(),
        start: written.start,
        size: written.size + more.len(),
    };
    Next::More(more)
}

fn payload(ledger: &Ledger, from: usize) -> Vec<u8> {
    let mut payload = vec![];
    put_varint(&mut payload, i64::try_from(from).unwrap_or(i64::MAX));
    ledger.head().into_iter().for_each(|number| put_varint(&mut payload, number));
    payload.extend_from_slice(ledger.closed.get(from..).unwrap_or_default());
    payload
}

/// A file's ledger, and how many of its bytes are good: what follows was not written to its end, and is to be cut off.
pub fn read(file: &[u8]) -> Result<(Ledger, Written, usize), LedgerError> {
    let head = file.split_first_chunk::<8>().filter(|(magic, _)| *magic == MAGIC).map(|(_, rest)| rest);
    match head.and_then(|rest| rest.first_chunk::<2>()).map(|version| u16::from_be_bytes(*version)) {
        None => return Err(LedgerError::Garbled("it does not begin like a ledger")),
        Some(FORMAT) => {}
        Some(_) => return Err(LedgerError::Garbled("a newer version wrote it")),
    }
    let (mut closed, mut last) = (Vec::new(), None);
    let mut good = MAGIC.len() + size_of_val(&FORMAT);
    while let Some(payload) = frame(file.get(good..).unwrap_or_default()) {
        good += PREFIX + payload.len();
        let mut rest = payload;
        let mut number = || varint(&mut rest).ok_or(LedgerError::Garbled("a frame ends early"));
        let before = number()?;
        let head = [number()?, number()?, number()?, number()?, number()?];
        if usize::try_from(before) != Ok(closed.len()) {
            return Err(LedgerError::Garbled("a frame is missing"));
        }
        closed.extend_from_slice(rest);
        last = Some(head);
    }
    let head = last.ok_or(LedgerError::Garbled("there is nothing in it"))?;
    let ledger = Ledger::restored(closed, head)?;
    let written = Written { closed: ledger.closed.len(), head, start: ledger.start(), size: good };
    Ok((ledger, written, good))
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
