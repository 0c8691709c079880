//! What each transactional id writes to, and reads: by the source's coordinators and leaders, and by what the proxy has seen.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::facts::patiently;
use crate::ids::{TopicName, TopicPartition};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask;
use crate::upstream::topology::ClusterView;

/// Topics by transactional id: those that it writes to, and those whose positions its transactions commit.
pub type Writers = BTreeMap<String, BTreeSet<TopicName>>;

/// What a proxy knows of them, while it runs: no cluster says whose positions a transaction carries.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub topics: Writers,
    /// Ids with groups whose positions their transactions have carried.
    pub carried: Vec<(String, String)>,
}

/// A producer is in a partition's list for as long as its broker remembers it: a day by default.
pub async fn gather(source: &Admin, view: &ClusterView, seen: &Seen) -> Result<Writers, AdminError> {
    let mut writers = seen.topics.clone();
    // A writer without a name.
    writers.remove("");
    for (id, group) in &seen.carried {
        let committed = patiently(async || {
            let address = ask::groups::coordinator(source, &view.broker_list(), group).await?;
            ask::groups::committed(source, &address, group, false).await
        });
        let topics = committed.await?.into_keys().map(|tp| tp.topic);
        writers.entry(id.clone()).or_default().extend(topics);
    }
    let ids = match patiently(async || ask::transactions::known_ids(source, view).await).await {
        // Brokers older than 3.0.
        Err(AdminError::Unsupported { .. }) => return Ok(writers),
        other => other?,
    };
    if ids.is_empty() {
        return Ok(writers);
    }
    let topics = view.topics.iter().filter(|(_, topic)| !topic.internal);
    let partitions =
        topics.flat_map(|(name, t)| (0..).zip(&t.partitions).map(|(i, _)| TopicPartition::new(name.clone(), i)));
    let partitions: Vec<TopicPartition> = partitions.collect();
    let by_pid: HashMap<i64, &String> = ids.iter().map(|(id, pid)| (*pid, id)).collect();
    for (tp, producers) in ask::describe_producers(source, view, &partitions).await? {
        for id in producers.unwrap_or_default().iter().filter_map(|p| by_pid.get(&p.producer_id)) {
            writers.entry((*id).clone()).or_default().insert(tp.topic.clone());
        }
    }
    Ok(writers)
}
