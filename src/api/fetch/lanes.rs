//! The upstream connections of one client that carry fetches, and what stands on each: kept from fetch to fetch.

use std::collections::HashMap;

use uuid::Uuid;

use crate::ids::{NOffset, NodeId, Side, TopicName};
use crate::upstream::Lane;
use crate::wire::fetch::FetchResponse;

/// An upstream connection of this client that carries fetches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct LaneKey {
    pub side: Side,
    pub node: NodeId,
    /// A probe asks for one partition alone.
    pub probe: bool,
}

impl LaneKey {
    pub fn lane(self) -> Lane {
        if self.probe { Lane::Probe } else { Lane::Fetch }
    }
}

pub(super) type Key = (TopicName, i32);

/// What was asked on a lane: native offsets.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub(super) parts: HashMap<Key, NOffset>,
    /// Topic ids of that side, for answers that carry only those.
    pub(super) names: HashMap<Uuid, TopicName>,
    pub(super) isolation: i8,
}

#[derive(Debug, Default)]
enum LaneState {
    #[default]
    Idle,
    Busy(Asked),
    Ready(Asked, Option<FetchResponse>),
}

/// The lanes of one client connection, kept from fetch to fetch.
#[derive(Debug, Default)]
pub struct Lanes {
    states: HashMap<LaneKey, LaneState>,
    /// The last ends that were heard, for answers without news: high watermark, last stable offset, log start.
    pub(super) ends: HashMap<Key, (i64, i64, i64)>,
}

/// Partitions whose ends are remembered per connection.
pub(super) const MANY_ENDS: usize = 20_000;

impl Lanes {
    /// A fetch was sent.
    pub(super) fn busy(&mut self, key: LaneKey, asked: Asked) {
        self.states.insert(key, LaneState::Busy(asked));
    }

    /// The outcome of a lane's fetch; `None`: lost.
    pub fn arrived(&mut self, key: LaneKey, answer: Option<FetchResponse>) {
        let state = self.states.entry(key).or_default();
        if let LaneState::Busy(asked) = std::mem::take(state) {
            *state = LaneState::Ready(asked, answer);
        }
    }

    pub(super) fn is_idle(&self, key: &LaneKey) -> bool {
        matches!(self.states.get(key), None | Some(LaneState::Idle))
    }

    pub(super) fn take_ready(&mut self) -> Vec<(LaneKey, Asked, Option<FetchResponse>)> {
        let mut ready = Vec::new();
        for (key, state) in &mut self.states {
            if matches!(state, LaneState::Ready(..))
                && let LaneState::Ready(asked, answer) = std::mem::take(state)
            {
                ready.push((*key, asked, answer));
            }
        }
        ready
    }
}
