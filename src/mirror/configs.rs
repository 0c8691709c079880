//! What the topics of copies are set to for as long as they are copied (DESIGN.md section 8): records keep their times and would be
//! deleted at once, or refused, by what the topic is set to otherwise. Clients see and alter the configured values all the while.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::wanted;
use crate::error::code_name;
use crate::ids::{Side, TopicName};
use crate::routing::Shared;
use crate::store::{Decision, Event, State, TopicMirror};
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

/// What the topics of both sides have themselves of that.
pub fn own_of(
    origin: &Configs,
    copy: &Configs,
    names: &BTreeMap<String, String>,
) -> BTreeMap<String, [Option<String>; 2]> {
    let of = |name: &String| [origin, copy].map(|configs| own(configs, name).map(str::to_owned));
    names.keys().map(|name| (name.clone(), of(name))).collect()
}

/// What the copy's topic is to be set to when its time is over: what it was, unless the origin's was altered since. `origin`: `None`
/// if it is no more.
pub fn configured(mirror: &TopicMirror, origin: Option<&Configs>) -> BTreeMap<String, Option<String>> {
    let of = |(name, [source, target]): (&String, &[Option<String>; 2])| {
        let now = origin.map(|origin| own(origin, name).map(str::to_owned));
        let to = now.filter(|now| now != source).unwrap_or_else(|| target.clone());
        (name.clone(), to)
    };
    mirror.own_configs.iter().map(of).collect()
}

/// Sets what is to be set while topics are copied, and takes back what ends with the seal, or with the time of a copy. Topics that
/// are not as they are to be, with the reason.
pub(super) async fn set(admins: &[Admin; 2], shared: &Shared, journal: &State) -> BTreeMap<TopicName, String> {
    let open: BTreeSet<TopicName> = wanted::topics(journal).into_iter().collect();
    let under_way = journal.migrations.values().filter(|m| m.completed.is_none()).flat_map(|m| &m.topics);
    let copies = under_way.filter_map(|topic| Some((&topic.name, (topic.target_id, topic.mirror.as_ref()?, true))));
    let over = journal.held.iter().map(|(name, held)| (name, (held.target_id, &held.mirror, false)));
    let topics: BTreeMap<&TopicName, (Uuid, &TopicMirror, bool)> = over.chain(copies).collect();
    if topics.is_empty() {
        return BTreeMap::new();
    }
    let names: Vec<TopicName> = topics.keys().map(|name| (*name).clone()).collect();
    let [source, target] = admins;
    let both = async { Ok::<_, AdminError>((described(source, &names).await?, described(target, &names).await?)) };
    let ((origins, _), (copies, view)) = match both.await {
        Ok(both) => both,
        Err(error) => return names.into_iter().map(|name| (name, error.to_string())).collect(),
    };
    let mut failed = BTreeMap::new();
    for (name, (target_id, mirror, is_copied)) in topics {
        let is_there = view.topics.get(name).is_some_and(|topic| topic.id == target_id);
        let done = match (copies.get(name), origins.get(name)) {
            // Another topic is nothing of ours.
            _ if !is_there => Ok(()),
            (Some(Ok(copy)), origin) => {
                let origin = origin.and_then(|found| found.as_deref().ok());
                let wanted = wanted_of(mirror, origin, copy, is_copied.then(|| open.contains(name)));
                alter(target, &view, name, copy, wanted).await
            }
            (Some(Err(code)), _) => Err(format!("the {} does not tell its configs: {}", target.side, code_name(*code))),
            (None, _) => Err(format!("the {} does not tell its configs", target.side)),
        };
        match done {
            Err(why) => {
                if shared.alarms.is_first(format!("configs of {name}: {why}")) {
                    tracing::warn!(topic = %name, why, "a copy's topic is not set as it is to be: it is tried again");
                }
                failed.insert(name.clone(), why);
            }
            Ok(()) if !is_copied => restored(shared, name).await,
            Ok(()) => {}
        }
    }
    failed
}

/// What is to be set of a copy. `is_open`: it is copied still; `None`: its time is over.
fn wanted_of(
    mirror: &TopicMirror,
    origin: Option<&Configs>,
    copy: &Configs,
    is_open: Option<bool>,
) -> BTreeMap<String, Option<String>> {
    if is_open == Some(true) {
        return mirror.configs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    }
    let mut wanted = configured(mirror, origin);
    wanted.retain(|name, _| is_open.is_none() || UNTIL_THE_SEAL.contains(&name.as_str()));
    // What somebody has set there since is his.
    wanted.retain(|name, _| own(copy, name) == mirror.configs.get(name).map(String::as_str));
    wanted
}

/// On record, so that nobody does it again.
async fn restored(shared: &Shared, topic: &TopicName) {
    let (done, durable) = oneshot::channel();
    let event = Event::ConfigsRestored { topic: topic.clone() };
    // If it cannot be written the process ends.
    drop(shared.decisions.send(Decision { event, done: Some(done), claim: None }));
    drop(durable.await);
}

type Described = HashMap<TopicName, Result<Vec<TopicConfig>, i16>>;

async fn described(admin: &Admin, names: &[TopicName]) -> Result<(Described, ClusterView), AdminError> {
    let view = discovery::look(admin, &[]).await?;
    Ok((describe_topic_configs(admin, &view, names).await?, view))
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
