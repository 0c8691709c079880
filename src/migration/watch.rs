//! Watches the sealed sides (DESIGN.md sections 3 and 4): growth there was written by somebody who bypasses the proxy,
//! and a log that ends below the seal has lost records that clients were promised. On connections of its own, so that
//! neither a command nor a seal ever waits for it; each side and each broker for itself, so that a dead one silences
//! no other.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters, waits between two looks")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Map, json};
use tokio::sync::broadcast;

use crate::control::protocol::{Event as Told, Truncated};
use crate::ids::{DEBUGGING_CONSUMER, LATEST, NO_EPOCH, NodeId, Side, TopicPartition};
use crate::routing::{PartitionState, Shared};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where a sealed side ended, under which leader epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    pub end: i64,
    /// -1: not known.
    pub epoch: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    pub stragglers: u64,
    /// From here to the end records are gone.
    pub lost_from: Option<i64>,
}

/// `epoch_end`: where the leader's log has the epoch of the seal end. It stays below the seal's end for good, also
/// when the log has grown beyond it again: what lies there then are other records.
pub fn judge(sealed: Sealed, log_end: i64, epoch_end: Option<i64>) -> Judged {
    let kept = sealed.end.min(log_end).min(epoch_end.unwrap_or(i64::MAX));
    let stragglers = u64::try_from(log_end - kept).unwrap_or(0);
    Judged { stragglers, lost_from: (kept < sealed.end).then_some(kept) }
}

type Ends = HashMap<TopicPartition, Sealed>;

/// What the sides of all partitions were sealed at; those that a seal holds now are left out.
fn sealed(states: &HashMap<crate::ids::TopicName, Arc<Vec<PartitionState>>>, side: Side) -> Ends {
    let mut ends = Ends::new();
    for (topic, states) in states {
        for (partition, state) in (0..).zip(states.iter()) {
            let takes = state.map.open_side() == side || state.map.tail_side() == side;
            if state.held || takes || state.map.left() == Some(side) {
                continue;
            }
            if let Some(end) = state.map.end_of(side) {
                let last = state.map.segments().iter().rev().find(|s| s.side == side);
                let epoch = last.map_or(NO_EPOCH, |s| s.end_epoch);
                ends.insert(TopicPartition::new(topic.clone(), partition), Sealed { end: end.0, epoch });
            }
        }
    }
    ends
}

/// For ever.
pub async fn run(shared: Arc<Shared>, admins: [Admin; 2], events: broadcast::Sender<Told>) {
    let watch = Watch { shared, events, grown: RefCell::default() };
    let [source, target] = &admins;
    join(watch.side(source), watch.side(target)).await;
}

struct Watch {
    shared: Arc<Shared>,
    events: broadcast::Sender<Told>,
    /// Stragglers of each partition, as far as they were seen.
    grown: RefCell<HashMap<TopicPartition, u64>>,
}

impl Watch {
    async fn side(&self, admin: &Admin) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let ends = sealed(&self.shared.partitions.load().topics, admin.side);
            let view = self.shared.topology.load().side(admin.side).cloned();
            if let Some(view) = view.filter(|v| v.reachable && !ends.is_empty()) {
                self.look(admin, &view, ends).await;
            }
        }
    }

    async fn look(&self, admin: &Admin, view: &ClusterView, ends: Ends) {
        let mut by_leader: BTreeMap<NodeId, Ends> = BTreeMap::new();
        for (tp, sealed) in ends {
            let leader = view.topics.get(&tp.topic).and_then(|t| t.partitions.get(usize::try_from(tp.partition).ok()?));
            by_leader.entry(leader.map_or(-1, |p| p.leader)).or_default().insert(tp, sealed);
        }
        by_leader.remove(&-1);
        let asked = by_leader.into_iter().map(async |(leader, ends)| {
            if let Err(error) = self.ask_one(admin, view, &ends).await {
                tracing::debug!(side = %admin.side, leader, %error, "a sealed side was not looked at");
                self.shared.refresh(admin.side);
            }
        });
        join_all(asked).await;
        self.count();
    }

    /// Partitions of one leader.
    async fn ask_one(&self, admin: &Admin, view: &ClusterView, ends: &Ends) -> Result<(), AdminError> {
        let all: Vec<TopicPartition> = ends.keys().cloned().collect();
        let epochs = ends.iter().filter(|(_, s)| s.epoch >= 0).map(|(tp, s)| (tp.clone(), s.epoch));
        let epochs: Vec<(TopicPartition, i32)> = epochs.collect();
        let log_ends = ask::list_offsets(admin, view, &all, LATEST, DEBUGGING_CONSUMER, 0).await?;
        // Not spoken by this side: its log's end is all that can be said.
        let epoch_ends = ask::epoch_ends(admin, view, &epochs).await.unwrap_or_default();
        if log_ends.values().any(Result::is_err) {
            // Most likely the leader is another one.
            self.shared.refresh(admin.side);
        }
        let now = sealed(&self.shared.partitions.load().topics, admin.side);
        for (tp, sealed) in ends {
            // A seal may have opened it in the meantime.
            let Some(Ok(log_end)) = log_ends.get(tp).filter(|_| now.get(tp) == Some(sealed)) else { continue };
            let epoch_end = epoch_ends.get(tp).and_then(|found| found.ok().flatten());
            let judged = judge(*sealed, log_end.offset, epoch_end);
            self.grown.borrow_mut().insert(tp.clone(), judged.stragglers);
            if let Some(from) = judged.lost_from {
                self.lost(admin.side, tp, from, sealed.end);
            }
        }
        Ok(())
    }

    /// Said once: it does not heal.
    fn lost(&self, side: Side, tp: &TopicPartition, from: i64, end: i64) {
        let truncated = Truncated { topic: tp.topic.to_string(), partition: tp.partition, side, from, end };
        let migration = self.migration(tp);
        if !self.shared.truncations.is_new(&migration, truncated.clone()) {
            return;
        }
        tracing::error!(%side, partition = %tp, from, end, migration,
            "a sealed side has lost records that were acknowledged: readers go on behind them");
        self.shared.metrics.truncated(side);
        let details = Map::from_iter([("truncated".to_owned(), json!(truncated))]);
        self.alarm(migration, details);
    }

    fn count(&self) {
        let mut grown: BTreeMap<String, u64> = BTreeMap::new();
        for (tp, records) in self.grown.borrow().iter() {
            *grown.entry(self.migration(tp)).or_default() += records;
        }
        for (migration, records) in grown {
            let before = self.shared.stragglers.of(&migration);
            if records <= before {
                continue;
            }
            self.shared.metrics.stragglers(&migration).increment(records - before);
            self.shared.stragglers.set(&migration, records);
            tracing::error!(%migration, records, new = records - before,
                "stragglers: records were written to a sealed side by somebody who bypasses the proxy; \
                readers do not see them");
            self.alarm(migration, Map::from_iter([("stragglers".to_owned(), json!(records))]));
        }
    }

    fn alarm(&self, migration: String, details: Map<String, serde_json::Value>) {
        // Nobody may be listening.
        drop(self.events.send(Told { kind: "alarm".to_owned(), migration: Some(migration), details }));
    }

    fn migration(&self, tp: &TopicPartition) -> String {
        self.shared.config.migrations_of(&tp.topic).next().map_or_else(String::new, |m| m.name.clone())
    }
}
