//! A frame to be written, as pieces: what we write ourselves is collected in small buffers, record bytes are slices of
//! the frame that they came in. Nothing big is copied between two sockets.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::WireError;
use super::spare;

/// Below this a copy is cheaper than one more slice in a vectored write.
const WORTH_SHARING: usize = 1024;

/// Bytes to be written, as pieces. Never holds an empty piece.
#[derive(Clone, Default, Debug)]
pub struct Chain {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Chain {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.pieces.iter()
    }

    pub fn into_pieces(self) -> VecDeque<Bytes> {
        self.pieces
    }

    /// A copy in one piece: for tests and for messages that are small.
    pub fn to_bytes(&self) -> Bytes {
        if let (1, Some(only)) = (self.pieces.len(), self.pieces.front()) {
            return only.clone();
        }
        let mut all = BytesMut::with_capacity(self.len);
        self.pieces.iter().for_each(|piece| all.put_slice(piece));
        all.freeze()
    }

    /// Fills `slices` from the front; how many it filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Forgets up to `n` bytes at the front, which have been written; how many of `n` are left.
    pub fn advance(&mut self, mut n: usize) -> usize {
        while n > 0 {
            let Some(front) = self.pieces.front_mut() else { break };
            let step = n.min(front.len());
            front.advance(step);
            n -= step;
            self.len -= step;
            if front.is_empty() {
                self.pieces.pop_front().into_iter().for_each(spare::give);
            }
        }
        n
    }
}

impl From<Bytes> for Chain {
    fn from(piece: Bytes) -> Self {
        let mut chain = Self::new();
        chain.push(piece);
        chain
    }
}

/// Writes the numbers and texts of the Kafka protocol. What cannot be expressed (a text above 32,767 bytes in an old
/// version, a frame above 2 GiB) is remembered and comes out of [`ChainWriter::finish`], so that encoders read plainly.
#[derive(Debug, Default)]
pub struct ChainWriter {
    /// The first piece stays writable until the length in front of it is known.
    first: Option<BytesMut>,
    rest: Vec<Bytes>,
    /// Bytes in `first` and `rest`.
    done: usize,
    tail: BytesMut,
    framed: bool,
    failed: Option<WireError>,
}

impl ChainWriter {
    /// Without a length in front: a part of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// With room for the length of the frame in front; `finish` fills it in.
    pub fn frame() -> Self {
        let mut writer = Self { framed: true, tail: BytesMut::with_capacity(256), ..Self::default() };
        writer.tail.put_i32(0);
        writer
    }

    /// Bytes written so far, the frame's length in front included.
    pub fn len(&self) -> usize {
        self.done + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where encoders that know only contiguous buffers write; nothing that is in it already may be touched.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Makes `finish` fail; the first reason stays.
    pub fn fail(&mut self, reason: WireError) {
        self.failed.get_or_insert(reason);
    }

    pub fn put_u8(&mut self, value: u8) {
        self.tail.put_u8(value);
    }

    pub fn put_bool(&mut self, value: bool) {
        self.tail.put_u8(u8::from(value));
    }

    pub fn put_i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    pub fn put_i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    pub fn put_i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    pub fn put_i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    pub fn put_slice(&mut self, value: &[u8]) {
        self.tail.put_slice(value);
    }

    pub fn put_uuid(&mut self, value: uuid::Uuid) {
        self.tail.put_slice(value.as_bytes());
    }

    pub fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// A text with an i16 length; compact: with a varint of length + 1.
    pub fn put_str(&mut self, value: &str, compact: bool) {
        self.put_opt_str(Some(value), compact);
    }

    pub fn put_opt_str(&mut self, value: Option<&str>, compact: bool) {
        match value {
            None if compact => self.put_uvarint(0),
            None => self.put_i16(-1),
            Some(text) => {
                if compact {
                    self.put_compact_len(text.len());
                } else {
                    match i16::try_from(text.len()) {
                        Ok(len) => self.put_i16(len),
                        Err(_) => self.fail(WireError::TooLarge { len: text.len() as u64, limit: i16::MAX as u64 }),
                    }
                }
                self.put_slice(text.as_bytes());
            }
        }
    }

    /// The count in front of an array: i32, or compact: a varint of count + 1.
    pub fn put_count(&mut self, count: usize, compact: bool) {
        self.put_len(count, compact);
    }

    /// A null array, or null bytes.
    pub fn put_null(&mut self, compact: bool) {
        if compact { self.put_uvarint(0) } else { self.put_i32(-1) }
    }

    /// The length in front of bytes: i32, or compact: a varint of length + 1.
    pub fn put_len(&mut self, len: usize, compact: bool) {
        if compact {
            self.put_compact_len(len);
        } else {
            match i32::try_from(len) {
                Ok(len) => self.put_i32(len),
                Err(_) => self.fail(WireError::TooLarge { len: len as u64, limit: i32::MAX as u64 }),
            }
        }
    }

    fn put_compact_len(&mut self, len: usize) {
        match i32::try_from(len) {
            Ok(len) => self.put_uvarint(len as u32 + 1),
            Err(_) => self.fail(WireError::TooLarge { len: len as u64, limit: i32::MAX as u64 }),
        }
    }

    /// An empty section of tagged fields, in flexible versions.
    pub fn put_no_tags(&mut self, flexible: bool) {
        if flexible {
            self.put_u8(0);
        }
    }

    /// Bytes that stay where they are if they are worth it.
    pub fn put_shared(&mut self, piece: Bytes) {
        if piece.len() < WORTH_SHARING {
            self.tail.put_slice(&piece);
            return;
        }
        self.flush_tail();
        self.done += piece.len();
        self.rest.push(piece);
    }

    /// The pieces of another chain, each shared or copied by its size.
    pub fn put_chain(&mut self, chain: Chain) {
        chain.into_pieces().into_iter().for_each(|piece| self.put_shared(piece));
    }

    fn flush_tail(&mut self) {
        let tail = self.tail.split();
        self.done += tail.len();
        if self.first.is_none() {
            self.first = Some(tail);
        } else if !tail.is_empty() {
            self.rest.push(tail.freeze());
        }
    }

    pub fn finish(mut self) -> Result<Chain, WireError> {
        if let Some(reason) = self.failed {
            return Err(reason);
        }
        self.flush_tail();
        let mut chain = Chain::new();
        if let Some(mut first) = self.first {
            if self.framed {
                let body = self.done - 4;
                let len = i32::try_from(body)
                    .map_err(|_| WireError::TooLarge { len: body as u64, limit: i32::MAX as u64 })?;
                if let Some(slot) = first.get_mut(..4) {
                    slot.copy_from_slice(&len.to_be_bytes());
                }
            }
            chain.push(first.freeze());
        }
        self.rest.into_iter().for_each(|piece| chain.push(piece));
        Ok(chain)
    }
}
