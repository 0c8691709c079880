//! A migration's topics are those that `prepare` pinned by their ids. One that was deleted and made anew, on either side,
//! is another topic under the same name: its partitions stop, loudly, until the operator has looked at it. Pure.

use std::sync::Arc;

use crate::ids::Side;
use crate::store::State;
use crate::upstream::topology::PartitionView;
use crate::upstream::{ClusterView, TopicView};

/// A topic that is not what was pinned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MadeAnew {
    pub migration: String,
    pub topic: String,
    /// The id that it has now.
    pub id: uuid::Uuid,
    /// A seal has used what was pinned: no command makes another topic of it.
    pub sealed: bool,
}

/// Takes the leaders from such topics, so that nothing is read from them or written to them; clients still see the id
/// that they know.
pub fn stop_made_anew(view: &mut ClusterView, side: Side, journal: &State) -> Vec<MadeAnew> {
    let mut found = Vec::new();
    for (migration, state) in &journal.migrations {
        for topic in &state.topics {
            let pinned = if side == Side::Source { topic.source_id } else { topic.target_id };
            let Some(seen) = view.topics.get(&topic.name).filter(|t| t.id != pinned && !pinned.is_nil()) else {
                continue;
            };
            let id = seen.id;
            let sealed = journal.is_sealed(topic);
            // It had a leader once: clients are told of one, and wait.
            let stopped = PartitionView { leader: -1, epoch: 1 };
            let partitions = vec![stopped; topic.partitions.len().max(seen.partitions.len())];
            view.names.remove(&seen.id);
            view.names.insert(pinned, topic.name.clone());
            let stopped = TopicView { id: pinned, internal: seen.internal, partitions };
            view.topics.insert(topic.name.clone(), Arc::new(stopped));
            found.push(MadeAnew { migration: migration.clone(), topic: topic.name.to_string(), id, sealed });
        }
    }
    found
}
