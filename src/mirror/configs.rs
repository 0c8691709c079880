//! What the topics of copies are set to for as long as they are copied (DESIGN.md section 8): records keep their times and would be
//! deleted at once, or refused, by what the topic is set to otherwise. Clients see and alter the configured values all the while.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::wanted;
use crate::error::code_name;
use crate::ids::{Side, TopicName};
use crate::routing::Shared;
use crate::store::{PreparedTopic, State};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::{TopicConfig, alter_topic_configs, describe_topic_configs};
use crate::upstream::{ClusterView, discovery};

const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const LONGEST: &str = "9223372036854775807";
/// By name, where the cluster knows it.
const FOR_A_TIME: [(&str, &str); 6] = [
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    (TIMESTAMP_TYPE, "CreateTime"),
    ("message.timestamp.difference.max.ms", LONGEST),
    ("message.timestamp.before.max.ms", LONGEST),
    ("message.timestamp.after.max.ms", LONGEST),
];
/// New records have the times that the topic is set to have, as soon as they come.
const UNTIL_THE_SEAL: [&str; 1] = [TIMESTAMP_TYPE];
const MAX_BYTES: &str = "max.message.bytes";
/// A batch that was opened may come out longer than it was.
const ROOM: i64 = 64 * 1024;

/// By topic what its copy is set to now, whatever clients set.
pub fn held(journal: &State) -> HashMap<TopicName, Arc<BTreeMap<String, String>>> {
    let open: BTreeSet<TopicName> = wanted::topics(journal).into_iter().collect();
    let under_way = journal.migrations.values().filter(|m| m.completed.is_none());
    let held = under_way.flat_map(|m| &m.topics).filter_map(|topic| {
        let mut configs = topic.mirror.as_ref()?.configs.clone();
        configs.retain(|name, _| open.contains(&topic.name) || !UNTIL_THE_SEAL.contains(&name.as_str()));
        Some((topic.name.clone(), Arc::new(configs)))
    });
    held.collect()
}

/// All configs of a topic.
type Configs = [TopicConfig];

fn value<'a>(configs: &'a Configs, name: &str) -> Option<&'a str> {
    configs.iter().find(|c| c.name == name)?.value.as_deref()
}

/// What is set on the topic itself.
fn own<'a>(configs: &'a Configs, name: &str) -> Option<&'a str> {
    configs.iter().find(|c| c.name == name && !c.is_default)?.value.as_deref()
}

/// What a topic of a copy is set to for its time. `origin` and `copy`: all configs of the topic on both sides.
pub fn for_a_time(origin: &Configs, copy: &Configs) -> BTreeMap<String, String> {
    let known = FOR_A_TIME.iter().filter(|(name, _)| copy.iter().any(|c| c.name == *name));
    let mut all: BTreeMap<String, String> = known.map(|(name, to)| ((*name).to_owned(), (*to).to_owned())).collect();
    let bytes = |configs| value(configs, MAX_BYTES).and_then(|text| text.parse::<i64>().ok());
    if let Some(most) = [bytes(origin), bytes(copy)].into_iter().flatten().max() {
        let most = most.saturating_mul(2).saturating_add(ROOM).min(i64::from(i32::MAX));
        all.insert(MAX_BYTES.to_owned(), most.to_string());
    }
    all
}

/// What the copy's topic has itself of that.
pub fn own_of(copy: &Configs, names: &BTreeMap<String, String>) -> BTreeMap<String, Option<String>> {
    names.keys().map(|name| (name.clone(), own(copy, name).map(str::to_owned))).collect()
}

/// What the copy's topic is to be set to when its time is over: what the origin's is set to, else what it was.
pub fn configured(topic: &PreparedTopic, origin: &Configs) -> BTreeMap<String, Option<String>> {
    let Some(mirror) = &topic.mirror else { return BTreeMap::new() };
    let of = |(name, before): (&String, &Option<String>)| {
        (name.clone(), own(origin, name).map(str::to_owned).or_else(|| before.clone()))
    };
    mirror.own_configs.iter().map(of).collect()
}

/// Sets what is to be set while topics are copied, and takes back what ends with the seal. Whether all is as it is to be.
pub(super) async fn set(admins: &[Admin; 2], shared: &Shared, journal: &State) -> bool {
    let open: BTreeSet<TopicName> = wanted::topics(journal).into_iter().collect();
    let under_way = journal.migrations.values().filter(|m| m.completed.is_none());
    let topics: Vec<&PreparedTopic> = under_way.flat_map(|m| &m.topics).filter(|t| t.mirror.is_some()).collect();
    if topics.is_empty() {
        return true;
    }
    let [source, target] = admins;
    let done = async {
        let names: Vec<TopicName> = topics.iter().map(|t| t.name.clone()).collect();
        let (origin, _) = described(source, &names).await?;
        let (copy, view) = described(target, &names).await?;
        for topic in topics {
            let (Some(origin), Some(copy), Some(mirror)) =
                (origin.get(&topic.name), copy.get(&topic.name), &topic.mirror)
            else {
                continue;
            };
            let mut wanted: BTreeMap<String, Option<String>> =
                mirror.configs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
            if !open.contains(&topic.name) {
                let configured = configured(topic, origin);
                wanted.retain(|name, _| UNTIL_THE_SEAL.contains(&name.as_str()));
                wanted.iter_mut().for_each(|(name, value)| *value = configured.get(name).cloned().flatten());
            }
            alter(target, &view, &topic.name, copy, wanted).await?;
        }
        Ok::<(), String>(())
    };
    match done.await {
        Ok(()) => true,
        Err(why) => {
            if shared.alarms.is_first(format!("configs of copies: {why}")) {
                tracing::warn!(why, "the mirror waits: its topics cannot be set to keep what is copied");
            }
            false
        }
    }
}

/// When the time of a migration's copies is over; what could not be set, in words.
pub async fn restore(source: &Admin, target: &Admin, topics: &[PreparedTopic]) -> Vec<String> {
    let topics: Vec<&PreparedTopic> = topics.iter().filter(|t| t.mirror.is_some()).collect();
    if topics.is_empty() {
        return vec![];
    }
    let names: Vec<TopicName> = topics.iter().map(|t| t.name.clone()).collect();
    let both = async { Ok::<_, String>((described(source, &names).await?, described(target, &names).await?)) };
    let ((origin, _), (copy, view)) = match both.await {
        Ok(both) => both,
        Err(why) => return vec![format!("the topics of the target are still set to keep what was copied ({why})")],
    };
    let mut failed = vec![];
    for topic in topics {
        let Some(copy) = copy.get(&topic.name) else { continue };
        let wanted = configured(topic, origin.get(&topic.name).map_or(&[], Vec::as_slice));
        if let Err(why) = alter(target, &view, &topic.name, copy, wanted).await {
            failed.push(format!("topic {} of the target is still set to keep what was copied ({why})", topic.name));
        }
    }
    failed
}

async fn described(
    admin: &Admin,
    names: &[TopicName],
) -> Result<(HashMap<TopicName, Vec<TopicConfig>>, ClusterView), String> {
    let ask = async {
        let view = discovery::look(admin, &[]).await?;
        Ok::<_, AdminError>((describe_topic_configs(admin, &view, names).await?, view))
    };
    let (found, view) = ask.await.map_err(|e| e.to_string())?;
    let mut configs = HashMap::with_capacity(found.len());
    for (name, found) in found {
        match found {
            Ok(found) => drop(configs.insert(name, found)),
            Err(code) => {
                return Err(format!("the {} does not tell the configs of {name}: {}", admin.side, code_name(code)));
            }
        }
    }
    Ok((configs, view))
}

/// Only what is set otherwise.
async fn alter(
    admin: &Admin,
    view: &ClusterView,
    topic: &TopicName,
    now: &Configs,
    wanted: BTreeMap<String, Option<String>>,
) -> Result<(), String> {
    let other: Vec<_> = wanted.into_iter().filter(|(name, to)| own(now, name) != to.as_deref()).collect();
    if other.is_empty() {
        return Ok(());
    }
    match alter_topic_configs(admin, view, topic, &other).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err((code, said))) => {
            let side: Side = admin.side;
            Err(format!("the {side} does not alter the configs of {topic}: {} {said}", code_name(code)))
        }
        Err(error) => Err(error.to_string()),
    }
}
