//! What one connection holds of the memory that it shares with all others.

#![allow(clippy::disallowed_methods, reason = "io: waits for room")]

use std::cell::Cell;
use std::sync::Arc;

use crate::routing::Shared;
use crate::wire::io::FIRST_READ;

/// Requests without an answer, answers that are not written, the frame that is half read. Dropped, it gives all back.
pub struct Held {
    shared: Arc<Shared>,
    client: u64,
    limit: usize,
    bytes: Cell<usize>,
    half_read: Cell<usize>,
}

impl Held {
    pub fn new(shared: Arc<Shared>, client: u64) -> Self {
        let limit = shared.config.limits.in_flight_bytes_per_connection.as_u64();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { shared, client, limit, bytes: Cell::new(0), half_read: Cell::new(0) }
    }

    pub fn take(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.shared.in_flight.take(bytes);
    }

    pub fn give_back(&self, bytes: usize) {
        let bytes = bytes.min(self.bytes.get());
        self.bytes.set(self.bytes.get() - bytes);
        self.shared.in_flight.give_back(bytes);
    }

    /// So much of a frame has come. What every connection may have costs it nothing.
    pub fn half_read(&self, bytes: usize) {
        let counted = if bytes > FIRST_READ { bytes } else { 0 };
        let before = self.half_read.replace(counted);
        match counted.checked_sub(before) {
            Some(more) => self.take(more),
            None => self.give_back(before - counted),
        }
    }

    /// A frame is whole.
    pub fn end_turn(&self) {
        self.shared.in_flight.end_turn(self.client);
    }

    /// Whether more may be read; `urgent`: a half frame, which may have its turn.
    pub fn may_read(&self, urgent: bool) -> bool {
        let all = &self.shared.in_flight;
        !all.is_full() || urgent && all.takes_turn(self.client)
    }

    /// Until there may be room.
    pub async fn room(&self, urgent: bool) {
        self.shared.in_flight.room(urgent).await;
    }

    /// This connection's own limit is reached.
    pub fn is_full(&self) -> bool {
        self.bytes.get() >= self.limit
    }

    pub fn is_short(&self) -> bool {
        self.is_full() || self.shared.in_flight.is_full()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(self.bytes.get());
        self.end_turn();
    }
}
