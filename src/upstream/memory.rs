//! What the looks before this one have seen. Brokers learn of changes one after the other: whoever asks another one than
//! before may be told less, and topics that are there would seem to be gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::topology::{ClusterView, TopicView};
use crate::ids::TopicName;

/// A broker that has not caught up with its cluster by then is believed.
const LAG: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Memory {
    cluster_id: String,
    told_by: String,
    topics: HashMap<TopicName, Arc<TopicView>>,
    /// Topics that the broker asked now has not shown yet, and others have: since when.
    owed: HashMap<TopicName, Instant>,
}

impl Memory {
    /// Whether this look has a leader that the one before did not have.
    pub fn is_news(&self, view: &ClusterView) -> bool {
        let known = |name: &TopicName| self.topics.get(name).map(|t| &t.partitions);
        view.topics.iter().any(|(name, topic)| known(name).is_none_or(|before| *before != topic.partitions))
    }

    /// Adds to a look what others knew: `elsewhere` is what they say now, the rest what they said before. What the same
    /// broker does not show any more is gone.
    pub fn complete(&mut self, view: &mut ClusterView, elsewhere: Vec<(TopicName, Arc<TopicView>)>, now: Instant) {
        if view.cluster_id != self.cluster_id {
            *self = Self::default();
        }
        self.owed.retain(|topic, _| !view.topics.contains_key(topic));
        let absent = |topic: &TopicName| !view.topics.contains_key(topic);
        if view.told_by != self.told_by {
            for topic in self.topics.keys().filter(|t| absent(t)) {
                self.owed.entry(topic.clone()).or_insert(now);
            }
        }
        for (topic, told) in elsewhere.into_iter().filter(|(t, _)| absent(t)) {
            self.owed.entry(topic.clone()).or_insert(now);
            self.topics.insert(topic, told);
        }
        self.owed.retain(|_, since| now.saturating_duration_since(*since) < LAG);
        for topic in self.owed.keys() {
            if let Some(known) = self.topics.get(topic) {
                tracing::debug!(%topic, broker = %view.told_by, "the broker does not know this topic yet, others do");
                view.add_topic(topic.clone(), known.clone());
            }
        }
        self.cluster_id.clone_from(&view.cluster_id);
        self.told_by.clone_from(&view.told_by);
        self.topics.clone_from(&view.topics);
    }
}
