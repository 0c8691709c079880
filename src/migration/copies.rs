//! `prepare` for a migration with a mirror: where each partition's copy begins, and what its topic is set to until it is whole.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, HashMap};

use super::topics::{PrepareError, TIME, extents};
use crate::config::MirrorFrom;
use crate::error::{code, code_name};
use crate::ids::{CONSUMER, NOffset, Native, TopicName, TopicPartition};
use crate::mirror::configs::{for_a_time, own_of};
use crate::store::{HeldTopic, PreparedTopic, TopicMirror};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::{self, TopicConfig};

/// Gives each topic that has none a mirror, and each partition that has come since a start. `held`: topics of the target that
/// earlier copies have left as they are not configured. `writer`: the producer id of new copies' batches.
pub async fn begin(
    source: &Admin,
    target: &Admin,
    views: (&ClusterView, &ClusterView),
    topics: &mut [PreparedTopic],
    held: &BTreeMap<TopicName, HeldTopic>,
    from: MirrorFrom,
    writer: i64,
) -> Result<usize, PrepareError> {
    let has_more = |t: &&PreparedTopic| t.mirror.as_ref().is_some_and(|m| m.starts.len() < t.partitions.len());
    let grown: Vec<TopicName> = topics.iter().filter(has_more).map(|t| t.name.clone()).collect();
    if !grown.is_empty() {
        let starts = starts(source, views.0, &grown, from).await?;
        for topic in topics.iter_mut() {
            let Some(mirror) = &mut topic.mirror else { continue };
            for (tp, at) in starts.iter().filter(|(tp, _)| tp.topic == topic.name) {
                if mirror.starts.iter().all(|(known, _)| *known != tp.partition) {
                    mirror.starts.push((tp.partition, *at));
                }
            }
        }
    }
    let new: Vec<TopicName> = topics.iter().filter(|t| t.mirror.is_none()).map(|t| t.name.clone()).collect();
    if new.is_empty() {
        return Ok(grown.len());
    }
    let starts = starts(source, views.0, &new, from).await?;
    let [mut origin, mut copy] = [configs(source, views.0, &new).await?, configs(target, views.1, &new).await?];
    for topic in topics.iter_mut().filter(|t| t.mirror.is_none()) {
        let (Some(origin), Some(copy)) = (origin.remove(&topic.name), copy.remove(&topic.name)) else { continue };
        let before = held.get(&topic.name).filter(|held| held.target_id == topic.target_id).map(|held| &held.mirror);
        let configs = before.map_or_else(|| for_a_time(&origin, &copy), |before| before.configs.clone());
        let own_configs = before.map_or_else(|| own_of(&origin, &copy, &configs), |before| before.own_configs.clone());
        let of = |(tp, at): (&TopicPartition, &NOffset)| (tp.topic == topic.name).then_some((tp.partition, *at));
        let starts: Vec<(i32, NOffset)> = starts.iter().filter_map(of).collect();
        topic.mirror = Some(TopicMirror { writer, starts, configs, own_configs });
    }
    Ok(new.len() + grown.len())
}

async fn starts(
    source: &Admin,
    view: &ClusterView,
    names: &[TopicName],
    from: MirrorFrom,
) -> Result<BTreeMap<TopicPartition, NOffset>, PrepareError> {
    let extents = extents(source, view, names).await?;
    let MirrorFrom::Timestamp(at_ms) = from else {
        let at = |extent: super::topics::Extent| if from == MirrorFrom::Earliest { extent.start } else { extent.end };
        return Ok(extents.into_iter().map(|(tp, extent)| (tp, Native(at(extent)))).collect());
    };
    let all: Vec<TopicPartition> = extents.keys().cloned().collect();
    let found = ask::settled(source, view, &all, ask::within(TIME), async |view, some| {
        ask::list_offsets(source, view, some, at_ms, CONSUMER, 0).await
    });
    let found = found.await?;
    let mut starts = BTreeMap::new();
    for (tp, extent) in extents {
        let at = match found.get(&tp).copied().unwrap_or(Err(code::UNKNOWN_TOPIC_OR_PARTITION)) {
            // Nothing is as late.
            Ok(found) if found.offset < 0 => extent.end,
            Ok(found) => found.offset,
            Err(code) => {
                let what = format!("ListOffsets of {tp}");
                return Err(AdminError::Refused { side: source.side, what, code }.into());
            }
        };
        starts.insert(tp, Native(at));
    }
    Ok(starts)
}

async fn configs(
    admin: &Admin,
    view: &ClusterView,
    names: &[TopicName],
) -> Result<HashMap<TopicName, Vec<TopicConfig>>, PrepareError> {
    let mut all = HashMap::new();
    for (name, found) in ask::describe_topic_configs(admin, view, names).await? {
        let refused = |code| {
            let why = format!("the {} does not tell the configs of topic {name} ({})", admin.side, code_name(code));
            PrepareError::Refused(vec![format!("{why}: allow DESCRIBE_CONFIGS to the proxy's own principal")])
        };
        let found = found.map_err(refused)?;
        all.insert(name, found);
    }
    Ok(all)
}
