//! Frames in and out of a stream.
#![allow(clippy::disallowed_methods, reason = "io: reads and writes the stream it is given")]

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::chain::Chain;
use super::spare;

/// A frame holds at least a correlation id.
const SMALLEST_FRAME: usize = 4;
/// What is read at once from a peer that has shown nothing yet.
pub const FIRST_READ: usize = 8 * 1024;
/// Between frames, room for less than this is not worth a system call.
const WORTH_A_READ: usize = 1024;
/// A frame from here on gets its allocation for itself: an idle connection must not hold it, and one who has the whole
/// frame may then rewrite it in place.
const OWN_ALLOCATION: usize = 16 * 1024;
/// Pieces in one vectored write.
const SLICES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a frame of {len} bytes is not between {SMALLEST_FRAME} and {limit}")]
    Length { len: i32, limit: usize },
    #[error("the stream ended within a frame")]
    Cut,
}

/// What one read brought.
#[derive(Debug)]
pub enum Step {
    Frame(Bytes),
    /// Not yet a whole frame.
    Part,
    /// The stream has ended between frames.
    End,
}

/// Reads frames. Its buffer grows only as bytes arrive: a length alone earns nothing that the peer has not shown
/// before, by the bytes of this frame or by a frame of that size that it sent in full.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    limit: usize,
    /// The largest frame that arrived in full.
    largest: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(stream: R, limit: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), limit, largest: 0 }
    }

    /// The next frame without its length; `None` when the stream ends between frames. Cancel safe: what was read stays
    /// in the buffer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            match self.step().await? {
                Step::Frame(frame) => return Ok(Some(frame)),
                Step::End => return Ok(None),
                Step::Part => {}
            }
        }
    }

    /// A frame that is there already, or one read: for whoever looks between two reads whether there is room for more.
    /// Cancel safe.
    pub async fn step(&mut self) -> Result<Step, FrameError> {
        if let Some(frame) = self.whole()? {
            return Ok(Step::Frame(frame));
        }
        let room = self.buffer.capacity() - self.buffer.len();
        if room == 0 || self.buffer.len() < 4 && room < WORTH_A_READ {
            self.grow(self.announced()?.map_or(FIRST_READ, |len| 4 + len));
        }
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return if self.buffer.is_empty() { Ok(Step::End) } else { Err(FrameError::Cut) };
        }
        Ok(self.whole()?.map_or(Step::Part, Step::Frame))
    }

    /// Towards `whole` bytes, as far as they are earned.
    fn grow(&mut self, whole: usize) {
        let earned = self.buffer.len() + self.buffer.len().max(self.largest).max(FIRST_READ);
        let fresh = whole.min(earned);
        match (fresh == whole).then(|| spare::take(whole)).flatten() {
            Some(spare) => self.move_to(spare),
            // What is small is looked for in the allocation that is there, and may be larger than it must.
            None if fresh < spare::SMALLEST => self.buffer.reserve(fresh - self.buffer.len()),
            None => self.move_to(BytesMut::with_capacity(fresh)),
        }
    }

    fn move_to(&mut self, mut larger: BytesMut) {
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }

    /// Bytes of frames that have come and were not handed out.
    pub fn unfinished(&self) -> usize {
        self.buffer.len()
    }

    fn whole(&mut self) -> Result<Option<Bytes>, FrameError> {
        Ok(self.announced()?.filter(|len| self.buffer.len() >= 4 + len).map(|len| self.take(len)))
    }

    /// The length that the next frame claims, checked.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(len) = self.buffer.first_chunk::<4>().map(|len| i32::from_be_bytes(*len)) else { return Ok(None) };
        usize::try_from(len)
            .ok()
            .filter(|len| (SMALLEST_FRAME..=self.limit).contains(len))
            .map(Some)
            .ok_or(FrameError::Length { len, limit: self.limit })
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.largest = self.largest.max(4 + len);
        let mut frame = if self.buffer.len() == 4 + len && len >= OWN_ALLOCATION {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(4 + len)
        };
        frame.advance(4);
        frame.freeze()
    }

    pub fn get_ref(&self) -> &R {
        &self.stream
    }

    pub fn get_mut(&mut self) -> &mut R {
        &mut self.stream
    }
}

/// Writes all of `queue` and flushes. What has been written is gone from the queue at every await, so a caller that was
/// cancelled knows what is left.
pub async fn write_chains<W: AsyncWrite + Unpin>(stream: &mut W, queue: &mut VecDeque<Chain>) -> io::Result<()> {
    loop {
        while queue.front().is_some_and(Chain::is_empty) {
            queue.pop_front();
        }
        if queue.is_empty() {
            return stream.flush().await;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut filled = 0;
        for chain in queue.iter() {
            match slices.get_mut(filled..) {
                Some(free) if !free.is_empty() => filled += chain.io_slices(free),
                _ => break,
            }
        }
        let mut written = stream.write_vectored(slices.get(..filled).unwrap_or_default()).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let Some(front) = queue.front_mut() else { break };
            written = front.advance(written);
            if front.is_empty() {
                queue.pop_front();
            }
        }
    }
}
