//! What each transactional id writes to, and reads: by the source's coordinators and leaders, and by what the proxy has seen.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::facts::patiently;
use crate::error::code_name;
use crate::ids::{TopicName, TopicPartition};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask;
use crate::upstream::topology::ClusterView;

/// Groups that are asked about at a time.
const AT_ONCE: usize = 16;

/// Topics by transactional id: those that it writes to, and those whose positions its transactions commit.
pub type Writers = BTreeMap<String, BTreeSet<TopicName>>;

/// Configs of a topic that is a copy.
pub type Held = Option<Arc<BTreeMap<String, String>>>;

/// What a proxy knows, while it runs: no cluster says whose positions a transaction carries, or what is a copy.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub topics: Writers,
    /// Ids with groups whose positions their transactions have carried.
    pub carried: Vec<(String, String)>,
    /// By topic what its copy is set to for its time.
    pub held: HashMap<TopicName, Arc<BTreeMap<String, String>>>,
}

/// What is known of them, and why that is not all. `names`: the topics that matter: where no transactional id writes to one of them
/// the others are not asked about. A producer is in a partition's list for as long as its broker remembers it: a day by default.
pub async fn gather(source: &Admin, view: &ClusterView, names: &[TopicName], seen: &Seen) -> (Writers, Option<String>) {
    let mut writers = seen.topics.clone();
    // A writer without a name.
    writers.remove("");
    let mut missing: Option<String> = None;
    for (groups, carried) in carried(source, view, seen).await {
        match carried {
            Ok(topics) => groups.into_iter().for_each(|id| writers.entry(id).or_default().extend(topics.clone())),
            Err(error) => missing = Some(error.to_string()),
        }
    }
    match written(source, view, names, &mut writers).await {
        Ok(None) => {}
        Ok(error) => missing = missing.or(error),
        Err(error) => missing = Some(error.to_string()),
    }
    (writers, missing)
}

/// The topics whose positions each group has committed, with the ids that carry them.
async fn carried(
    source: &Admin,
    view: &ClusterView,
    seen: &Seen,
) -> Vec<(Vec<String>, Result<BTreeSet<TopicName>, AdminError>)> {
    let mut ids_of: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (id, group) in &seen.carried {
        ids_of.entry(group).or_default().push(id.clone());
    }
    let asked = stream::iter(ids_of).map(|(group, ids)| async move {
        let committed = patiently(async || {
            let address = ask::groups::coordinator(source, &view.broker_list(), group).await?;
            ask::groups::committed(source, &address, group, false).await
        });
        (ids, committed.await.map(|positions| positions.into_keys().map(|tp| tp.topic).collect()))
    });
    asked.buffered(AT_ONCE).collect().await
}

/// By the leaders of the partitions, and the coordinators. What some leader has refused to tell.
async fn written(
    source: &Admin,
    view: &ClusterView,
    names: &[TopicName],
    writers: &mut Writers,
) -> Result<Option<String>, AdminError> {
    let ids = match patiently(async || ask::transactions::known_ids(source, view).await).await {
        // Brokers older than 3.0.
        Err(AdminError::Unsupported { .. }) => return Ok(None),
        other => other?,
    };
    let by_pid: HashMap<i64, &String> = ids.iter().map(|(id, pid)| (*pid, id)).collect();
    let mut refused = None;
    let (ours, others): (Vec<_>, Vec<_>) =
        view.topics.iter().filter(|(_, topic)| !topic.internal).partition(|(name, _)| names.contains(name));
    for topics in [ours, others] {
        let each = topics.iter().flat_map(|(name, topic)| {
            (0..).zip(&topic.partitions).map(|(index, _)| TopicPartition::new((*name).clone(), index))
        });
        let partitions: Vec<TopicPartition> = each.collect();
        if by_pid.is_empty() || partitions.is_empty() {
            break;
        }
        let mut any = false;
        for (tp, producers) in ask::describe_producers(source, view, &partitions).await? {
            if let Err(code) = &producers {
                refused = Some(format!("{tp}: {}", code_name(*code)));
            }
            for id in producers.unwrap_or_default().iter().filter_map(|p| by_pid.get(&p.producer_id)) {
                writers.entry((*id).clone()).or_default().insert(tp.topic.clone());
                any = true;
            }
        }
        if !any {
            break;
        }
    }
    Ok(refused)
}
