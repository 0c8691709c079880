//! Idempotent batches whose answer was lost: kept whole, so that the seal can resolve them by sending them again
//! (DESIGN.md section 4, step 2). Bounded: what does not fit makes the partition wait out the settle time instead.
//!
//! A producer's batches are kept together or not at all. A leader that does not know the producer takes any first
//! sequence, so a later batch sent again without an earlier one would shut that one out for ever.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::stamp::{self, Stamp};
use crate::ids::{Side, VirtualPid};

/// Bytes kept per partition.
const LIMIT: usize = 8 << 20;

#[derive(Clone, Debug)]
pub struct Unknown {
    pub side: Side,
    pub stamp: Stamp,
    pub acks: i16,
    /// As it was sent, with its upstream PID.
    pub records: Bytes,
    /// When a copy of it was lost or sent last.
    pub at_ms: i64,
}

#[derive(Debug, Default)]
pub struct Unknowns {
    batches: Vec<Unknown>,
    bytes: usize,
    /// Producers with a lost batch that is not kept, and when the last of them was.
    gaps: HashMap<VirtualPid, i64>,
}

impl Unknowns {
    /// False: it is not kept, and what was kept of its producer is kept no more.
    pub fn keep(&mut self, batch: Unknown, settle: Duration) -> bool {
        self.expire(batch.at_ms, settle);
        if let Some(known) = self.batches.iter_mut().find(|b| b.stamp == batch.stamp && b.side == batch.side) {
            known.at_ms = batch.at_ms;
            return true;
        }
        let pid = batch.stamp.pid;
        if self.gaps.contains_key(&pid) || self.bytes + batch.records.len() > LIMIT {
            self.gaps.insert(pid, batch.at_ms);
            self.retain(|b| b.stamp.pid != pid);
            return false;
        }
        self.bytes += batch.records.len();
        self.batches.push(batch);
        true
    }

    /// Something definite about every copy of it.
    pub fn resolved(&mut self, stamp: &Stamp) {
        if !self.batches.is_empty() {
            self.retain(|b| b.stamp != *stamp);
        }
    }

    /// Another copy of it is on its way.
    pub fn sent_again(&mut self, stamp: &Stamp, now_ms: i64) {
        for batch in self.batches.iter_mut().filter(|b| b.stamp == *stamp) {
            batch.at_ms = now_ms;
        }
    }

    /// A seal has passed: whatever they were, the gate knows them now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Per producer in the order of their sequences.
    pub fn list(&mut self, now_ms: i64, settle: Duration) -> Vec<Unknown> {
        self.expire(now_ms, settle);
        let mut list = self.batches.clone();
        // Less than half of the circle apart: a producer has five batches on its way.
        list.sort_by(|a, b| {
            let (a, b) = (&a.stamp, &b.stamp);
            let sequence = || match (a.first == b.first, stamp::at_or_before(a.first, b.first)) {
                (true, _) => std::cmp::Ordering::Equal,
                (_, true) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            a.pid.cmp(&b.pid).then(a.epoch.cmp(&b.epoch)).then_with(sequence)
        });
        list
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.gaps.is_empty()
    }

    /// What has not landed within the settle time never will: sent again it would be old data, written as new. A producer's
    /// batches are forgotten when the youngest of them is.
    pub fn expire(&mut self, now_ms: i64, settle: Duration) {
        let settle_ms = i64::try_from(settle.as_millis()).unwrap_or(i64::MAX);
        let is_young = |at_ms: i64| now_ms.saturating_sub(at_ms) <= settle_ms;
        let young: HashSet<VirtualPid> =
            self.batches.iter().filter(|b| is_young(b.at_ms)).map(|b| b.stamp.pid).collect();
        self.retain(|b| young.contains(&b.stamp.pid));
        self.gaps.retain(|_, at_ms| is_young(*at_ms));
    }

    fn retain(&mut self, keep: impl FnMut(&Unknown) -> bool) {
        self.batches.retain(keep);
        self.bytes = self.batches.iter().map(|b| b.records.len()).sum();
    }
}
