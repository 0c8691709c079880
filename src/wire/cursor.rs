//! Reads a message without trusting a number in it: every length is held against the bytes that are there, every count
//! against the least that its elements would take, and the elements of a message against one budget.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::error::WireError;

/// Elements of all arrays of a client's request, tagged fields included: each may weigh a hundred times its bytes.
pub const REQUEST_ELEMENTS: usize = 200_000;
/// The same of a broker's answer: Metadata of 200,000 partitions with three replicas has 1.4 million, DescribeProducers
/// one for each producer of each partition. The frame's limit is the real bound here.
pub const ANSWER_ELEMENTS: usize = 16_000_000;
/// Bytes on the wire that an element of our own decoders has at least, unless it is made to deceive.
const AN_ELEMENT: usize = 16;

/// A reader over one message; what it hands out shares the message's bytes.
#[derive(Debug, Clone)]
pub struct Cursor {
    message: Bytes,
    at: usize,
    limit: usize,
    budget: usize,
}

impl Cursor {
    /// Over what a client may have sent.
    pub fn new(message: Bytes) -> Self {
        Self::with_limit(message, REQUEST_ELEMENTS)
    }

    /// Over a broker's answer.
    pub fn of_answer(message: Bytes) -> Self {
        Self::with_limit(message, ANSWER_ELEMENTS)
    }

    fn with_limit(message: Bytes, limit: usize) -> Self {
        Self { message, at: 0, limit, budget: limit }
    }

    /// Elements that were counted so far.
    pub fn elements(&self) -> usize {
        self.limit - self.budget
    }

    pub fn remaining(&self) -> usize {
        self.message.len() - self.at
    }

    /// What has not been read, shared.
    pub fn rest(&self) -> Bytes {
        self.message.slice(self.at..)
    }

    pub fn finish(&self) -> Result<(), WireError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(WireError::Trailing(left)),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.message.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).ok_or(WireError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    pub fn skip(&mut self, n: usize) -> Result<(), WireError> {
        if n > self.remaining() {
            return Err(WireError::Truncated);
        }
        self.at += n;
        Ok(())
    }

    pub fn i8(&mut self) -> Result<i8, WireError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.fixed().map(u8::from_be_bytes)
    }

    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.u8()? != 0)
    }

    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        self.fixed().map(Uuid::from_bytes)
    }

    /// At most 5 bytes and 32 bits; more is an error, not something to cut.
    pub fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// `len` bytes from here, shared.
    pub fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        let from = self.at;
        self.skip(len)?;
        Ok(self.message.slice(from..self.at))
    }

    fn compact_len(&mut self) -> Result<Option<usize>, WireError> {
        Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize))
    }

    fn plain_len(len: i64) -> Result<Option<usize>, WireError> {
        match len {
            -1 => Ok(None),
            _ => usize::try_from(len).map(Some).map_err(|_| WireError::BadLength { len }),
        }
    }

    /// The length of a text; `None` is null.
    pub fn text_len(&mut self, compact: bool) -> Result<Option<usize>, WireError> {
        if compact { self.compact_len() } else { Self::plain_len(self.i16()?.into()) }
    }

    /// The length of bytes; `None` is null.
    pub fn bytes_len(&mut self, compact: bool) -> Result<Option<usize>, WireError> {
        if compact { self.compact_len() } else { Self::plain_len(self.i32()?.into()) }
    }

    pub fn opt_text(&mut self, compact: bool) -> Result<Option<StrBytes>, WireError> {
        match self.text_len(compact)? {
            None => Ok(None),
            Some(len) => StrBytes::from_utf8(self.take(len)?).map(Some).map_err(|_| WireError::Utf8),
        }
    }

    pub fn text(&mut self, compact: bool) -> Result<StrBytes, WireError> {
        self.opt_text(compact)?.ok_or(WireError::BadLength { len: -1 })
    }

    pub fn opt_bytes(&mut self, compact: bool) -> Result<Option<Bytes>, WireError> {
        match self.bytes_len(compact)? {
            None => Ok(None),
            Some(len) => self.take(len).map(Some),
        }
    }

    /// The count of an array whose elements take at least `least` bytes each; `None` is null.
    pub fn opt_count(&mut self, compact: bool, least: usize) -> Result<Option<usize>, WireError> {
        let count = if compact { i64::from(self.uvarint()?) - 1 } else { self.i32()?.into() };
        if count == -1 {
            return Ok(None);
        }
        let bytes = self.remaining();
        let fits = usize::try_from(count).ok().filter(|count| count.saturating_mul(least.max(1)) <= bytes);
        let count = fits.ok_or(WireError::Count { count, bytes })?;
        self.budget = self.budget.checked_sub(count).ok_or(WireError::TooMany { limit: self.limit })?;
        Ok(Some(count))
    }

    pub fn count(&mut self, compact: bool, least: usize) -> Result<usize, WireError> {
        self.opt_count(compact, least)?.ok_or(WireError::Count { count: -1, bytes: self.remaining() })
    }

    /// `count` elements of at least `least` bytes, read by `read`.
    pub fn array<T>(
        &mut self,
        compact: bool,
        least: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count(compact, least)?;
        // In memory an element is many times what it must be on the wire: room for as many as are there, and not for a lie.
        let mut all = Vec::with_capacity(count.min(self.remaining() / AN_ELEMENT + 1));
        for _ in 0..count {
            all.push(read(self)?);
        }
        Ok(all)
    }

    /// The tagged fields of a flexible version. `read` gets each tag with a cursor over its content and says whether it
    /// knows it; what it knows it must have read to the end.
    pub fn tags(
        &mut self,
        flexible: bool,
        mut read: impl FnMut(u32, &mut Self) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        if !flexible {
            return Ok(());
        }
        let count = self.uvarint()? as usize;
        let bytes = self.remaining();
        if count > bytes / 2 {
            return Err(WireError::Count { count: count as i64, bytes });
        }
        self.budget = self.budget.checked_sub(count).ok_or(WireError::TooMany { limit: self.limit })?;
        let mut last = None;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if last.replace(tag).is_some_and(|last| last >= tag) {
                return Err(WireError::Tag { tag });
            }
            let len = self.uvarint()? as usize;
            let end = self.at.checked_add(len).filter(|&end| end <= self.message.len()).ok_or(WireError::Truncated)?;
            let mut content =
                Self { message: self.message.slice(..end), at: self.at, limit: self.limit, budget: self.budget };
            if read(tag, &mut content)? {
                content.finish()?;
            }
            self.budget = content.budget;
            self.at = end;
        }
        Ok(())
    }

    pub fn skip_tags(&mut self, flexible: bool) -> Result<(), WireError> {
        self.tags(flexible, |_, _| Ok(false))
    }
}
