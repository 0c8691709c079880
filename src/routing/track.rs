//! Which partitions have a state of their own: those of every topic that a migration of the config matches, and those
//! that the journal knows. From the first sight of a topic on, so that nothing of it is ever on its way unseen.

use std::sync::Arc;

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
) -> Option<Partitions> {
    let mut next: Option<Partitions> = None;
    for (name, view) in &source.topics {
        let known = now.topics.get(name);
        let count = view.partitions.len().max(known.map_or(0, |k| k.len()));
        if known.is_some_and(|k| k.len() >= count) || !(known.is_some() || is_tracked(config, journal, name)) {
            continue;
        }
        let mut states: Vec<PartitionState> = known.map(|k| k.as_ref().clone()).unwrap_or_default();
        for index in states.len()..count {
            let partition = TopicPartition { topic: name.clone(), partition: i32::try_from(index).unwrap_or(i32::MAX) };
            let history = journal.partition(&partition);
            states.push(first_state(config.default_side, history.map(Arc::as_ref), unsettled_until_ms));
        }
        let base = next.get_or_insert_with(|| now.clone());
        base.topics.insert(name.clone(), Arc::new(states));
    }
    next
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
    PartitionState { map, held: false, live }
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
