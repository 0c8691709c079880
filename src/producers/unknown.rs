//! Idempotent batches whose answer was lost: kept whole, so that the seal can resolve them by sending them again
//! (DESIGN.md section 4, step 2). Bounded: what does not fit makes the partition wait out the settle time instead.

use std::collections::VecDeque;

use bytes::Bytes;

use super::stamp::Stamp;
use crate::ids::Side;

/// Bytes kept per partition.
const LIMIT: usize = 8 << 20;

#[derive(Clone, Debug)]
pub struct Unknown {
    pub side: Side,
    pub stamp: Stamp,
    pub acks: i16,
    /// As it was sent, with its upstream PID.
    pub records: Bytes,
    pub at_ms: i64,
}

#[derive(Debug, Default)]
pub struct Unknowns {
    batches: VecDeque<Unknown>,
    bytes: usize,
}

impl Unknowns {
    /// False: no room, the batch is not known.
    pub fn keep(&mut self, batch: Unknown, now_ms: i64, settle_ms: i64) -> bool {
        self.expire(now_ms, settle_ms);
        if self.batches.iter().any(|b| b.stamp == batch.stamp && b.side == batch.side) {
            return true;
        }
        if self.bytes + batch.records.len() > LIMIT {
            return false;
        }
        self.bytes += batch.records.len();
        self.batches.push_back(batch);
        true
    }

    /// A definite answer to a copy of it: the client's own retry, or our resend.
    pub fn resolved(&mut self, stamp: &Stamp) {
        self.batches.retain(|b| b.stamp != *stamp);
        self.bytes = self.batches.iter().map(|b| b.records.len()).sum();
    }

    /// A seal has passed: whatever they were, the gate knows them now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// In the order of their sequences per producer.
    pub fn list(&self) -> Vec<Unknown> {
        self.batches.iter().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// What has not landed within the settle time never will.
    pub fn expire(&mut self, now_ms: i64, settle_ms: i64) {
        self.batches.retain(|b| now_ms.saturating_sub(b.at_ms) <= settle_ms);
        self.bytes = self.batches.iter().map(|b| b.records.len()).sum();
    }
}
