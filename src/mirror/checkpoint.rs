//! The ledger on disk: a file for each partition to which each checkpoint appends what is new, in a frame of its own. A frame
//! that is not whole ends the file: what it said is found out anew from the logs. Pure; `store` has the files.
//!
//! ```text
//! head     "KCUTLEDG"  format version u16
//! frame    length u32  crc32c u32  payload         `length` counts the payload; the checksum covers both
//! payload  as varints the closed bytes before it, the open run's origin, copy and length, and how far the origin is covered;
//!          then the closed bytes that are new
//! ```

use super::ledger::{Ledger, LedgerError, Run};
use crate::ids::Native;
use crate::wire::batch::crc32c;

const MAGIC: &[u8; 8] = b"KCUTLEDG";
const FORMAT: u16 = 1;
/// Length and checksum of a frame.
const PREFIX: usize = 8;

/// How far a ledger has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Of its closed bytes.
    closed: usize,
}

/// A whole ledger, for a new file.
pub fn whole(ledger: &Ledger) -> (Vec<u8>, Written) {
    let mut out = [&MAGIC[..], &FORMAT.to_be_bytes()].concat();
    let mut written = Written::default();
    out.extend(more(ledger, &mut written));
    (out, written)
}

/// What has come since `written`, to be appended; that is then up to here.
pub fn more(ledger: &Ledger, written: &mut Written) -> Vec<u8> {
    let open = ledger.open();
    let mut payload = vec![];
    put_varint(&mut payload, i64::try_from(written.closed).unwrap_or(i64::MAX));
    for number in [open.origin.0, open.copy.0, open.length, ledger.covered().0] {
        put_varint(&mut payload, number);
    }
    payload.extend_from_slice(ledger.closed.get(written.closed..).unwrap_or_default());
    written.closed = ledger.closed.len();
    framed(&payload)
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
        let open = Run { origin: Native(number()?), copy: Native(number()?), length: number()? };
        let covered = number()?;
        if usize::try_from(before) != Ok(closed.len()) {
            return Err(LedgerError::Garbled("a frame is missing"));
        }
        closed.extend_from_slice(rest);
        last = Some((open, covered));
    }
    let (open, covered) = last.ok_or(LedgerError::Garbled("there is nothing in it"))?;
    let written = Written { closed: closed.len() };
    Ok((Ledger::restored(closed, open, covered)?, written, good))
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
