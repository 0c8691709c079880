//! One budget for all bytes that client connections hold (`limits.in_flight_bytes`): requests, frames that are half
//! read, answers that wait to be written.

#![allow(clippy::disallowed_methods, reason = "io: waits for room")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

pub struct InFlight {
    bytes: Arc<AtomicUsize>,
    limit: usize,
    /// Told when it falls below the limit. One is told, and tells the next: not all of ten thousand for one place.
    freed: Notify,
    /// The client that may read its frame to the end although the limit is reached; 0 is none. Half-read frames would
    /// else wait for each other.
    turn: AtomicU64,
    turn_over: Notify,
}

impl InFlight {
    /// `bytes`: where it counts.
    pub fn new(limit: usize, bytes: Arc<AtomicUsize>) -> Self {
        let (freed, turn_over) = (Notify::new(), Notify::new());
        Self { bytes, limit, freed, turn: AtomicU64::new(0), turn_over }
    }

    pub fn take(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn give_back(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.limit && before - bytes < self.limit {
            self.freed.notify_one();
        }
    }

    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether this client reads on beyond the limit: one at a time, until [`end_turn`](Self::end_turn).
    pub fn takes_turn(&self, client: u64) -> bool {
        let taken = self.turn.compare_exchange(0, client, Ordering::Relaxed, Ordering::Relaxed);
        taken.map_or_else(|whose| whose == client, |_| true)
    }

    pub fn end_turn(&self, client: u64) {
        if self.turn.compare_exchange(client, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.turn_over.notify_one();
        }
    }

    /// Until there may be room, or, if it is `urgent`, the turn may be free. Cancel safe.
    pub async fn room(&self, urgent: bool) {
        tokio::select! {
            () = self.freed.notified() => {}
            () = self.turn_over.notified(), if urgent => {}
        }
        if !self.is_full() {
            self.freed.notify_one();
        }
    }
}

/// Bytes that were read for consumers before they asked, for all connections together (`limits.read_ahead_bytes`).
#[derive(Debug)]
pub struct ReadAhead {
    bytes: AtomicUsize,
    limit: usize,
    pub per_connection: usize,
}

impl ReadAhead {
    pub fn new(limit: usize, per_connection: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit, per_connection }
    }

    /// False if there is no room: nothing was taken then.
    pub fn take(&self, bytes: usize) -> bool {
        let fits = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    pub fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }
}
