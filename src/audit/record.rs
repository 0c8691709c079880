//! The audit record: its value says who produced it, as that producer's how-manieth, under which key, and a random id.
//!
//! `kc1 <producer> <seq> <key> <16 hex digits>`, then optionally a space and `x` up to the wanted size. All ASCII, so
//! that `kcat` shows it and a driver in any language can make and cut it.

use std::fmt;

use thiserror::Error;

/// The first word of every value; a new format gets a new one.
pub const MAGIC: &str = "kc1";

/// Who a record is. `seq` starts at 0 and counts per producer, over all its keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record<'a> {
    pub producer: &'a str,
    pub seq: u64,
    pub key: &'a str,
    pub id: u64,
}

#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum RecordError {
    #[error("not ASCII")]
    NotAscii,
    #[error("not `kc1 <producer> <seq> <key> <16 hex digits>`")]
    Shape,
    #[error("sequence is not a plain decimal number")]
    Sequence,
    #[error("id is not 16 lower-case hex digits")]
    Id,
    #[error("padding holds something else than x")]
    Padding,
}

/// The key of the `i`-th key.
pub fn key(i: u64) -> String {
    format!("k{i}")
}

/// An id as events and values carry it.
pub fn hex(id: u64) -> String {
    format!("{id:016x}")
}

/// Back from [`hex`]; strict, since a changed byte must show.
pub fn parse_hex(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}

impl<'a> Record<'a> {
    /// The value, padded to `size` bytes where it is shorter.
    pub fn encode(&self, size: usize) -> String {
        let mut value = self.to_string();
        // One byte of room cannot hold a space and an x: such a value stays as it is.
        if value.len() + 2 <= size {
            value.push(' ');
            value.extend(std::iter::repeat_n('x', size - value.len()));
        }
        value
    }

    /// Reads a value, with or without its padding. Every byte counts.
    pub fn parse(value: &'a [u8]) -> Result<Self, RecordError> {
        if !value.is_ascii() {
            return Err(RecordError::NotAscii);
        }
        let text = std::str::from_utf8(value).map_err(|_| RecordError::NotAscii)?;
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next().filter(|w| !w.is_empty()).ok_or(RecordError::Shape);
        if word()? != MAGIC {
            return Err(RecordError::Shape);
        }
        let (producer, seq, key, id) = (word()?, word()?, word()?, word()?);
        let canonical = seq.bytes().all(|b| b.is_ascii_digit()) && (seq == "0" || !seq.starts_with('0'));
        let seq = seq.parse().ok().filter(|_| canonical).ok_or(RecordError::Sequence)?;
        let id = parse_hex(id).ok_or(RecordError::Id)?;
        match words.next() {
            None => {}
            Some(padding) if !padding.is_empty() && padding.bytes().all(|b| b == b'x') => {}
            Some(_) => return Err(RecordError::Padding),
        }
        Ok(Self { producer, seq, key, id })
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAGIC} {} {} {} {:016x}", self.producer, self.seq, self.key, self.id)
    }
}
