//! What one client connection sends to a partition stays in order whatever becomes of the head (PROTOCOL.md rule 16). Pure.
//!
//! A leader takes any first sequence of a producer that it does not know, and refuses every other one but the next. So what
//! was sent behind a head that failed, or behind one that another broker still has, must not be sent on: it is refused as
//! the head was, its client sends both again, and the head comes first. One broker, to which a client speaks by one
//! connection, does the same by itself.

use std::collections::HashMap;

use super::stamp::{self, Stamp};
use crate::error::{code, is_retriable};
use crate::ids::{NodeId, Side, TopicName, VirtualPid};

/// Producers with a failed head beyond which the memory starts anew: nobody has so many on one connection.
const MANY: usize = 10_000;

/// A producer on a partition.
pub type Key = (TopicName, i32, VirtualPid);
/// A broker of one of the clusters.
pub type At = (Side, NodeId);

#[derive(Debug, Default)]
pub struct Order {
    lines: HashMap<Key, Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// On their way: (epoch, first sequence, broker).
    flights: Vec<(i16, i32, At)>,
    refused: Option<Refused>,
}

/// The first of what failed.
#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: i16,
    first: i32,
    error: i16,
}

impl Order {
    /// The code for a batch that must not be sent to this broker now. It is remembered like a broker's.
    pub fn refuses(&mut self, key: &Key, stamp: &Stamp, at: At) -> Option<i16> {
        let line = self.lines.get_mut(key)?;
        if let Some(refused) = line.refused
            && refused.epoch == stamp.epoch
            && is_behind(stamp.first, refused.first)
        {
            return Some(refused.error);
        }
        if line.is_elsewhere(stamp, at) {
            line.note(stamp, code::NOT_LEADER_OR_FOLLOWER);
            return Some(code::NOT_LEADER_OR_FOLLOWER);
        }
        None
    }

    /// It was not sent, or a broker has refused it.
    pub fn refused(&mut self, key: &Key, stamp: &Stamp, error: i16) {
        if self.lines.len() >= MANY {
            self.lines.retain(|_, line| !line.flights.is_empty());
        }
        self.lines.entry(key.clone()).or_default().note(stamp, error);
    }

    pub fn forwarded(&mut self, key: &Key, stamp: &Stamp, at: At) {
        let line = self.lines.entry(key.clone()).or_default();
        line.flights.push((stamp.epoch, stamp.first, at));
        // The head comes again, or its producer has begun anew.
        let passed =
            |r: &Refused| r.epoch < stamp.epoch || r.epoch == stamp.epoch && stamp::at_or_before(r.first, stamp.first);
        if line.refused.as_ref().is_some_and(passed) {
            line.refused = None;
        }
    }

    /// A broker has it, and so all that was in front of it: whatever copies say now, nothing waits for them.
    pub fn stored(&mut self, key: &Key, stamp: &Stamp) {
        let Some(line) = self.lines.get_mut(key) else { return };
        let over = |epoch: i16, first: i32| {
            epoch < stamp.epoch || epoch == stamp.epoch && stamp::at_or_before(first, stamp.first)
        };
        line.flights.retain(|f| !over(f.0, f.1));
        line.refused = line.refused.filter(|r| !over(r.epoch, r.first));
        if line.flights.is_empty() && line.refused.is_none() {
            self.lines.remove(key);
        }
    }

    /// Whether this copy of it is on its way, and no other one is known to be stored.
    pub fn is_awaited(&self, key: &Key, stamp: &Stamp, at: At) -> bool {
        self.lines.get(key).is_some_and(|line| line.flights.contains(&(stamp.epoch, stamp.first, at)))
    }

    /// It has its outcome.
    pub fn answered(&mut self, key: &Key, stamp: &Stamp, at: At) {
        let Some(line) = self.lines.get_mut(key) else { return };
        if let Some(i) = line.flights.iter().position(|f| *f == (stamp.epoch, stamp.first, at)) {
            line.flights.remove(i);
        }
        if line.flights.is_empty() && line.refused.is_none() {
            self.lines.remove(key);
        }
    }
}

impl Line {
    fn note(&mut self, stamp: &Stamp, error: i16) {
        let earlier = self.refused.is_some_and(|r| {
            r.epoch > stamp.epoch || r.epoch == stamp.epoch && stamp::at_or_before(r.first, stamp.first)
        });
        if !earlier {
            // What is behind is good by itself: its client must get a code with which it sends it again.
            let error = if is_retriable(error) { error } else { code::NOT_LEADER_OR_FOLLOWER };
            self.refused = Some(Refused { epoch: stamp.epoch, first: stamp.first, error });
        }
    }

    /// Something in front of it is with another broker, and was not sent to this one since.
    fn is_elsewhere(&self, stamp: &Stamp, at: At) -> bool {
        let here = |first: i32| self.flights.contains(&(stamp.epoch, first, at));
        let before = |f: &&(i16, i32, At)| f.0 == stamp.epoch && f.2 != at && is_behind(stamp.first, f.1);
        self.flights.iter().filter(before).any(|f| !here(f.1))
    }
}

fn is_behind(first: i32, head: i32) -> bool {
    first != head && stamp::at_or_before(head, first)
}
