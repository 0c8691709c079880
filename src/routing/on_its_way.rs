//! A request other than Produce that a seal has to wait for.

use std::sync::Arc;
use std::time::Duration;

use super::partitions::Live;
use crate::clock;

/// Counts as produce on its way to these partitions until it has arrived. Dropped before, it may still arrive: they are not
/// sealed for a while, as after a lost batch.
#[derive(Debug)]
pub struct OnItsWay {
    to: Vec<Arc<Live>>,
    settle: Duration,
    has_arrived: bool,
}

impl OnItsWay {
    pub fn new(to: Vec<Arc<Live>>, settle: Duration) -> Self {
        to.iter().for_each(|live| live.sent());
        Self { to, settle, has_arrived: false }
    }

    /// Its answer is there, or it was never sent.
    pub fn arrived(mut self) {
        self.has_arrived = true;
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        for live in &self.to {
            if !self.has_arrived {
                live.unsettle(clock::now_ms(), self.settle);
            }
            live.outcome();
        }
    }
}
