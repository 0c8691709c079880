//! Which partitions have a state of their own: those of every topic that a migration of the config matches, and those
//! that the journal knows. From the first sight of a topic on, so that nothing of it is ever on its way unseen.
//!
//! A topic that was deleted and made anew before any seal is another one: what was seen of the old log (its end, its
//! producers) says nothing of the new, and would keep it from being sealed. After a seal `pinned` has stopped it,
//! under the id that clients know.

use std::sync::Arc;
use std::time::Duration;

use super::partitions::{Live, PartitionState, Partitions};
use crate::config::Config;
use crate::ids::{Side, TopicName, TopicPartition, Virtual};
use crate::offsets::SpliceMap;
use crate::producers::gate::Recent;
use crate::store::{PartitionHistory, State};
use crate::upstream::ClusterView;

/// The snapshot with what is new in `source`; `None`: nothing is.
///
/// `unsettled_until_ms`: for partitions that an earlier process may have left something on its way to.
pub fn track(
    config: &Config,
    journal: &State,
    now: &Partitions,
    source: &ClusterView,
    unsettled_until_ms: i64,
    now_ms: i64,
) -> Option<Partitions> {
    let mut next: Option<Partitions> = None;
    for (name, view) in &source.topics {
        let is_another = now.ids.get(name).is_some_and(|id| *id != view.id && !view.id.is_nil());
        let known = now.topics.get(name).filter(|states| !is_another || states.iter().any(is_in_use));
        let count = view.partitions.len().max(known.map_or(0, |k| k.len()));
        if known.is_some_and(|k| k.len() >= count) || !(known.is_some() || is_tracked(config, journal, name)) {
            continue;
        }
        // What was on its way to the old topic may land in the new one.
        let unsettled_until_ms = match is_another {
            true => unsettled_until_ms.max(now_ms.saturating_add(millis(config.seal.settle_time))),
            false => unsettled_until_ms,
        };
        let mut states: Vec<PartitionState> = known.map(|k| k.as_ref().clone()).unwrap_or_default();
        for index in states.len()..count {
            let partition = TopicPartition { topic: name.clone(), partition: i32::try_from(index).unwrap_or(i32::MAX) };
            let history = journal.partition(&partition);
            let mut state = first_state(config.default_side, history.map(Arc::as_ref), unsettled_until_ms);
            state.consumers_held = journal.holds_consumers(&partition);
            states.push(state);
        }
        let base = next.get_or_insert_with(|| now.clone());
        base.topics.insert(name.clone(), Arc::new(states));
        if !view.id.is_nil() {
            base.ids.insert(name.clone(), view.id);
        }
    }
    next
}

/// The snapshot with what is decided of a migration's readers: whether they are held, and what they skip.
pub fn decided(journal: &State, migration: &str, now: &Partitions) -> Partitions {
    let mut next = now.clone();
    for topic in journal.migrations.get(migration).iter().flat_map(|m| &m.topics) {
        next.alter(&topic.name, |index, state| {
            let partition = TopicPartition::new(topic.name.clone(), i32::try_from(index).unwrap_or(i32::MAX));
            state.consumers_held = journal.holds_consumers(&partition);
            if let Some(history) = journal.partition(&partition).filter(|h| h.map.seals() > 0) {
                state.map = history.map.clone();
            }
        });
    }
    next
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A seal holds it, or has used it.
fn is_in_use(state: &PartitionState) -> bool {
    state.held || state.map.seals() > 0
}

fn is_tracked(config: &Config, journal: &State, topic: &TopicName) -> bool {
    config.migrations_of(topic).next().is_some()
        || journal.migrations.values().any(|m| m.topics.iter().any(|t| t.name == *topic))
}

fn first_state(default_side: Side, history: Option<&PartitionHistory>, unsettled_until_ms: i64) -> PartitionState {
    let live = Arc::new(Live::default());
    live.unsettled_until(unsettled_until_ms);
    let map = history.map_or_else(|| SpliceMap::whole(default_side), |h| h.map.clone());
    if let Some(history) = history {
        live.show(map.tail_start());
        live.gate().restore(map.seals(), table(history));
    }
    PartitionState { map, held: false, consumers_held: false, live }
}

/// What the journal knows of producers, for the gate.
pub fn table(history: &PartitionHistory) -> Vec<(Recent, i64)> {
    let entry = |p: &crate::store::SealedProducer| {
        let recent = Recent {
            pid: p.pid,
            epoch: p.epoch,
            last_sequence: p.last_sequence,
            base_offset: p.base_offset.map(Virtual),
            at_ms: p.at_ms,
        };
        (recent, p.at_ms)
    };
    history.producers.values().map(entry).collect()
}
