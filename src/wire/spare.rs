//! Allocations of large frames, kept for the next ones of this thread. The allocator gives memory of this size back to
//! the system, which fills it with zeros page by page when it is wanted again: a fifth of what a large frame costs.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The allocator keeps what is smaller by itself.
pub const SMALLEST: usize = 64 * 1024;
/// What one thread keeps.
pub const MOST: usize = 32 * 1024 * 1024;
/// A frame does not sit in an allocation of more than this many times its size: whoever counts its bytes would count too
/// few.
const ROOMY: usize = 2;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

#[derive(Default)]
struct Kept {
    /// Empty ones, the last that was used at the back.
    vecs: VecDeque<Vec<u8>>,
    capacity: usize,
}

/// Takes back the allocation behind a piece that is done with, if this was its last user and it is worth keeping.
pub fn give(piece: Bytes) {
    let Ok(mut last) = piece.try_into_mut() else { return };
    last.clear();
    let vec = Vec::from(last);
    if (SMALLEST..=MOST).contains(&vec.capacity()) {
        KEPT.with_borrow_mut(|kept| kept.put(vec));
    }
}

/// An empty buffer for a frame of `len` bytes, if one of about that size is there.
pub fn take(len: usize) -> Option<BytesMut> {
    if len < SMALLEST {
        return None;
    }
    let vec = KEPT.with_borrow_mut(|kept| kept.find(len))?;
    Bytes::from(vec).try_into_mut().ok()
}

impl Kept {
    fn put(&mut self, vec: Vec<u8>) {
        self.capacity += vec.capacity();
        self.vecs.push_back(vec);
        while self.capacity > MOST {
            let Some(oldest) = self.vecs.pop_front() else { break };
            self.capacity -= oldest.capacity();
        }
    }

    fn find(&mut self, len: usize) -> Option<Vec<u8>> {
        let suits = |vec: &Vec<u8>| (len..=len.saturating_mul(ROOMY)).contains(&vec.capacity());
        let found = self.vecs.remove(self.vecs.iter().rposition(suits)?)?;
        self.capacity -= found.capacity();
        Some(found)
    }
}
