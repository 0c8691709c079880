//! A topic that is deleted and made anew is another log under the same name: what was seen of the old one (ends, batches)
//! says nothing about it. Pure.

use std::collections::HashMap;

use uuid::Uuid;

use super::partitions::Partitions;
use crate::ids::TopicName;
use crate::upstream::ClusterView;

/// The ids that tracked topics had when they were last there.
#[derive(Debug, Default)]
pub struct Ids(HashMap<TopicName, Uuid>);

impl Ids {
    /// The snapshot without topics that were made anew since the last look; `None`: there are none. Those that a migration
    /// has prepared stay: they are stopped until the operator has looked at them (`migration::pinned`).
    pub fn forget_made_anew(
        &self,
        now: &Partitions,
        source: &ClusterView,
        is_prepared: impl Fn(&str) -> bool,
    ) -> Option<Partitions> {
        let mut next: Option<Partitions> = None;
        for name in now.topics.keys() {
            let (Some(before), Some(id)) = (self.0.get(name), id_of(source, name)) else { continue };
            if *before != id && !is_prepared(name) {
                next.get_or_insert_with(|| now.clone()).topics.remove(name);
            }
        }
        next
    }

    pub fn note(&mut self, tracked: &Partitions, source: &ClusterView) {
        for name in tracked.topics.keys() {
            // One that is not listed may be back the next time, the same or another.
            if let Some(id) = id_of(source, name) {
                self.0.insert(name.clone(), id);
            }
        }
    }
}

fn id_of(source: &ClusterView, topic: &TopicName) -> Option<Uuid> {
    source.topics.get(topic).map(|t| t.id).filter(|id| !id.is_nil())
}
