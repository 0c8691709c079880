//! `prepare`'s work on topics: which ones a migration has, those that the target lacks made like the source's, all of them pinned as
//! they are. Safe to repeat: what is there is looked at and left as it is.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::clock;
use crate::config::{Config, Migration, Mirror};
use crate::error::code;
use crate::ids::{CONSUMER, DEBUGGING_CONSUMER, EARLIEST, LATEST, TopicName, TopicPartition};
use crate::mirror::WRITERS;
use crate::store::{HeldTopic, PreparedPartition, PreparedTopic};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::{self, NewTopic, TopicConfig};
use crate::upstream::discovery;
use crate::upstream::topology::ClusterView;

use super::copies;
use super::seed::{self, Seeded, Untouched};

/// For the target to show what was made there.
pub(super) const TIME: Duration = Duration::from_secs(30);
/// Topics made by one request.
const AT_ONCE: usize = 100;
/// Names of brokers that the other cluster does not have.
const NEVER_COPIED: [&str; 2] = ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// One line each, with what to do.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
}

/// What `prepare` found and did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prepared {
    /// Every topic of the migration, by name; empty after a dry run.
    pub topics: Vec<PreparedTopic>,
    /// For the operator.
    pub done: Vec<String>,
}

/// A topic that the target lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    pub new: NewTopic,
    /// Configs of the source that the target does not know, or that make no sense there.
    pub left_out: Vec<String>,
}

/// The source's topics that the migration's patterns match, by name.
pub fn matched(migration: &Migration, source: &ClusterView) -> Vec<TopicName> {
    let fits = source.topics.iter().filter(|(name, topic)| !topic.internal && migration.matches(name));
    let mut names: Vec<TopicName> = fits.map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

/// The topics of a migration that another one matches too, each with the names of all that do.
pub fn claimed_twice(config: &Config, names: &[TopicName]) -> BTreeMap<TopicName, Vec<String>> {
    let claims = |name: &TopicName| config.migrations_of(name).map(|m| m.name.clone()).collect::<Vec<_>>();
    names.iter().map(|n| (n.clone(), claims(n))).filter(|(_, who)| who.len() > 1).collect()
}

/// Creates what is missing, waits for it, checks that the target's part of each partition is empty, and pins it.
/// `pinned`: what earlier runs have pinned and no seal has used yet; nothing is owed to it, so what has changed since
/// is pinned as it is now. `held`: see `copies::begin`. A dry run says what would be done.
pub async fn prepare(
    config: &Config,
    migration: &Migration,
    source: &Admin,
    target: &Admin,
    (pinned, held): (&[PreparedTopic], &BTreeMap<TopicName, HeldTopic>),
    dry_run: bool,
) -> Result<Prepared, PrepareError> {
    let from = discovery::look(source, &[]).await?;
    let to = discovery::look(target, &[]).await?;
    let names = matched(migration, &from);
    refuse_wrong(config, migration, &names, &from, &to)?;
    let mut done = Vec::new();
    let planned = plan(source, target, &from, &to, &names).await?;
    let left = pinned.iter().filter(|t| !names.contains(&t.name));
    if dry_run {
        done.extend(planned.iter().map(|p| describe("would create", p)));
        done.extend(left.map(|t| format!("topic {} would leave the migration", t.name)));
        done.push(format!("would pin {} topics of migration {}", names.len(), migration.name));
        if migration.mirror == Mirror::Forward {
            let from = migration.mirror_from;
            done.push(format!("would copy what they hold to the target, from {from}, until producers are switched"));
        }
        return Ok(Prepared { topics: Vec::new(), done });
    }
    done.extend(left.map(|t| format!("topic {} has left the migration; on the target it stays as it is", t.name)));
    create(target, &to, &planned, &mut done).await?;
    let to = shown(target, &from, &names, to).await?;
    let mut topics = pin(target, &from, &to, &names, pinned, &mut done).await?;
    if migration.mirror == Mirror::Forward {
        let writer = WRITERS | clock::now_ms();
        // One whose source was made anew has another copy, in a topic that is set as for the first.
        let mut held = held.clone();
        for topic in pinned {
            if let Some(mirror) = topic.mirror.clone() {
                held.insert(topic.name.clone(), HeldTopic { target_id: topic.target_id, mirror });
            }
        }
        let views = (&from, &to);
        let begun = copies::begin(source, target, views, &mut topics, &held, migration.mirror_from, writer).await?;
        if begun > 0 {
            done.push(format!("the mirror copies {begun} topics to the target, from {}", migration.mirror_from));
        }
    }
    Ok(Prepared { topics, done })
}

fn refuse_wrong(
    config: &Config,
    migration: &Migration,
    names: &[TopicName],
    from: &ClusterView,
    to: &ClusterView,
) -> Result<(), PrepareError> {
    let mut why = Vec::new();
    if names.is_empty() {
        why.push(format!("migration {} matches no topic of the source: correct its `topics`", migration.name));
    }
    for (name, claims) in claimed_twice(config, names) {
        let claims = claims.join(" and ");
        why.push(format!("topic {name} is matched by migrations {claims}: correct their `topics` so that one has it"));
    }
    why.extend(unequal(names, from, to));
    if why.is_empty() { Ok(()) } else { Err(PrepareError::Refused(why)) }
}

fn unequal(names: &[TopicName], from: &ClusterView, to: &ClusterView) -> Vec<String> {
    let counts = |name: &TopicName| Some((partitions(from, name)?, partitions(to, name)?));
    let wrong = names.iter().filter_map(|n| Some((n, counts(n)?))).filter(|(_, (ours, theirs))| ours != theirs);
    let line = |(name, (ours, theirs)): (&TopicName, (usize, usize))| {
        format!(
            "topic {name} has {ours} partitions on the source and {theirs} on the target: delete it there, or add partitions to the smaller"
        )
    };
    wrong.map(line).collect()
}

fn partitions(view: &ClusterView, name: &TopicName) -> Option<usize> {
    view.topics.get(name).map(|t| t.partitions.len())
}

/// What the target lacks, as it is to be made there.
pub async fn plan(
    source: &Admin,
    target: &Admin,
    from: &ClusterView,
    to: &ClusterView,
    names: &[TopicName],
) -> Result<Vec<Planned>, AdminError> {
    let missing: Vec<TopicName> = names.iter().filter(|n| !to.topics.contains_key(*n)).cloned().collect();
    let Some(address) = from.broker_list().first().map(|b| b.address()).filter(|_| !missing.is_empty()) else {
        return Ok(Vec::new());
    };
    let described = ask::describe_topics(source, &address, &missing).await?;
    let mut configs = ask::describe_topic_configs(source, from, &missing).await?;
    let known = known_configs(target, to, &missing).await?;
    let mut planned = Vec::with_capacity(missing.len());
    for name in missing {
        let replicas = described.get(&name).and_then(|d| d.as_ref().ok()).map_or(1, |d| d.replication_factor);
        let replicas = replicas.min(to.brokers.len()).max(1);
        let configs = match configs.remove(&name) {
            Some(Ok(configs)) => configs,
            Some(Err(code)) => return Err(no_configs(source, &name, code)),
            None => return Err(no_configs(source, &name, code::UNKNOWN_TOPIC_OR_PARTITION)),
        };
        let (copied, left_out) = chosen(configs, &known);
        let new = NewTopic {
            partitions: partitions(from, &name).and_then(|n| i32::try_from(n).ok()).unwrap_or(1),
            replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
            configs: copied,
            name,
        };
        planned.push(Planned { new, left_out });
    }
    Ok(planned)
}

fn no_configs(source: &Admin, name: &TopicName, code: i16) -> AdminError {
    AdminError::Refused { side: source.side, what: format!("DescribeConfigs of topic {name}"), code }
}

/// The names of the configs that the target's topics have: a trial creation shows them. `None`: it does not say.
async fn known_configs(
    target: &Admin,
    to: &ClusterView,
    missing: &[TopicName],
) -> Result<Option<HashMap<String, Option<String>>>, AdminError> {
    let Some(name) = missing.first().cloned() else { return Ok(None) };
    let trial = NewTopic { name: name.clone(), partitions: 1, replication_factor: 1, configs: Vec::new() };
    let mut answer = ask::validate_topics(target, to, vec![trial]).await?;
    let configs = answer.remove(&name).and_then(Result::ok).map(|done| done.configs);
    Ok(configs.filter(|c| !c.is_empty()))
}

/// What is set on the topic itself; the rest is the cluster's own business. With the names of what is not taken along.
fn chosen(
    configs: Vec<TopicConfig>,
    known: &Option<HashMap<String, Option<String>>>,
) -> (Vec<(String, String)>, Vec<String>) {
    let (mut copied, mut left_out) = (Vec::new(), Vec::new());
    for config in configs.into_iter().filter(|c| !c.is_default && !c.read_only) {
        let is_known = known.as_ref().is_none_or(|k| k.contains_key(&config.name));
        match config.value {
            Some(value) if is_known && !NEVER_COPIED.contains(&config.name.as_str()) => {
                copied.push((config.name, value));
            }
            _ => left_out.push(config.name),
        }
    }
    copied.sort();
    left_out.sort();
    (copied, left_out)
}

fn describe(verb: &str, planned: &Planned) -> String {
    let NewTopic { name, partitions, replication_factor, configs } = &planned.new;
    let configs: Vec<String> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let configs = if configs.is_empty() { String::new() } else { format!(", {}", configs.join(" ")) };
    let left_out = match planned.left_out.as_slice() {
        [] => String::new(),
        some => format!(" (without {}, which the target does not take)", some.join(", ")),
    };
    format!(
        "{verb} topic {name} on the target: {partitions} partitions, replication {replication_factor}{configs}{left_out}"
    )
}

async fn create(
    target: &Admin,
    to: &ClusterView,
    planned: &[Planned],
    done: &mut Vec<String>,
) -> Result<(), PrepareError> {
    let mut why = Vec::new();
    for some in planned.chunks(AT_ONCE) {
        let mut answers = ask::create_topics(target, to, some.iter().map(|p| p.new.clone()).collect()).await?;
        for planned in some {
            let name = &planned.new.name;
            match answers.remove(name) {
                Some(Ok(_)) => done.push(describe("created", planned)),
                // Somebody was faster, or a first try whose answer was lost: what is there is checked like any other.
                Some(Err(refused)) if refused.code == code::TOPIC_ALREADY_EXISTS => {}
                Some(Err(refused)) => why.push(format!(
                    "the target refuses to create topic {name} ({}): create it there yourself, with as many partitions",
                    refused.message
                )),
                None => why.push(format!("the target did not say what became of topic {name}: prepare again")),
            }
        }
    }
    if why.is_empty() { Ok(()) } else { Err(PrepareError::Refused(why)) }
}

/// The target's view once every topic is there, with as many partitions and a leader for each.
async fn shown(
    target: &Admin,
    from: &ClusterView,
    names: &[TopicName],
    mut to: ClusterView,
) -> Result<ClusterView, PrepareError> {
    let deadline = ask::within(TIME);
    loop {
        let lacking: Vec<&TopicName> = names.iter().filter(|n| !is_shown(&to, n)).collect();
        if lacking.is_empty() {
            let why = unequal(names, from, &to);
            return if why.is_empty() { Ok(to) } else { Err(PrepareError::Refused(why)) };
        }
        if !ask::pause(deadline).await {
            let names: Vec<&str> = lacking.iter().map(|n| &***n).collect();
            let names = names.join(", ");
            let line =
                format!("the target has no leader for every partition of {names}: look at its brokers, prepare again");
            return Err(PrepareError::Refused(vec![line]));
        }
        to = discovery::look(target, &to.broker_list()).await?;
    }
}

fn is_shown(view: &ClusterView, name: &TopicName) -> bool {
    view.topics.get(name).is_some_and(|t| !t.partitions.is_empty() && t.partitions.iter().all(|p| p.leader >= 0))
}

/// Where a log begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub start: i64,
    /// The log end offset.
    pub end: i64,
}

/// Of every partition of these topics, asked again while leaders move.
pub async fn extents(
    admin: &Admin,
    view: &ClusterView,
    names: &[TopicName],
) -> Result<BTreeMap<TopicPartition, Extent>, AdminError> {
    let all: Vec<TopicPartition> = names
        .iter()
        .flat_map(|n| (0..partitions(view, n).unwrap_or(0)).map(|i| TopicPartition::new(n.clone(), i as i32)))
        .collect();
    let ask = async |timestamp: i64, replica: i32| {
        ask::settled(admin, view, &all, ask::within(TIME), async |view, some| {
            ask::list_offsets(admin, view, some, timestamp, replica, 0).await
        })
        .await
    };
    let starts = ask(EARLIEST, CONSUMER).await?;
    let ends = ask(LATEST, DEBUGGING_CONSUMER).await?;
    let of = |answers: &ask::Answers<ask::LogOffset>, tp: &TopicPartition| {
        let found = answers.get(tp).copied().unwrap_or(Err(code::UNKNOWN_TOPIC_OR_PARTITION));
        let what = || format!("ListOffsets of {tp}");
        found.map(|f| f.offset).map_err(|code| AdminError::Refused { side: admin.side, what: what(), code })
    };
    let mut extents = BTreeMap::new();
    for tp in all {
        let extent = Extent { start: of(&starts, &tp)?, end: of(&ends, &tp)? };
        extents.insert(tp, extent);
    }
    Ok(extents)
}

async fn pin(
    target: &Admin,
    from: &ClusterView,
    to: &ClusterView,
    names: &[TopicName],
    pinned: &[PreparedTopic],
    done: &mut Vec<String>,
) -> Result<Vec<PreparedTopic>, PrepareError> {
    let before: HashMap<TopicPartition, i64> = pinned
        .iter()
        .filter(|t| is_as_pinned(t, from, to))
        .flat_map(|t| t.partitions.iter().map(|p| (TopicPartition::new(t.name.clone(), p.partition), p.target_start)))
        .collect();
    // What is in a copy, and who else writes to it, is the mirror's own concern.
    let is_copied = |t: &&PreparedTopic| t.mirror.is_some() && names.contains(&t.name) && is_as_pinned(t, from, to);
    let copied: HashMap<&TopicName, &PreparedTopic> = pinned.iter().filter(is_copied).map(|t| (&t.name, t)).collect();
    let of = |t: &&PreparedTopic| {
        let name = t.name.clone();
        t.partitions.iter().map(move |p| TopicPartition::new(name.clone(), p.partition)).collect::<Vec<_>>()
    };
    let copies: HashSet<TopicPartition> = copied.values().flat_map(of).collect();
    let found = free(extents(target, to, names).await?, &copies);
    let why: Vec<String> = touched(&found, &before).collect();
    if !why.is_empty() {
        return Err(PrepareError::Refused(why));
    }
    let untouched: Vec<TopicPartition> =
        found.iter().filter(|(tp, e)| e.end == 0 && !before.contains_key(*tp)).map(|(tp, _)| tp.clone()).collect();
    let mut ends = found;
    if !untouched.is_empty() {
        let untouched = with_policy(target, to, untouched).await?;
        let seeded = seed::seed(target, to, &untouched).await?;
        if let Some(why) = cannot_seed(&seeded) {
            return Err(PrepareError::Refused(vec![why]));
        }
        say(seeded, done);
        // Read again: that is where the parts begin.
        ends = free(extents(target, to, names).await?, &copies);
        let why: Vec<String> = touched(&ends, &before).collect();
        if !why.is_empty() {
            return Err(PrepareError::Refused(why));
        }
    }
    let mut topics: BTreeMap<&TopicName, Vec<PreparedPartition>> = BTreeMap::new();
    for (tp, extent) in &ends {
        let partition = PreparedPartition { partition: tp.partition, target_start: extent.end };
        topics.entry(&tp.topic).or_default().push(partition);
    }
    let id = |view: &ClusterView, name: &TopicName| view.topics.get(name).map(|t| t.id).unwrap_or_default();
    for topic in copied.values() {
        // Those that have come since lie behind them.
        topics.entry(&topic.name).or_default().splice(0..0, topic.partitions.iter().copied());
    }
    let prepared = topics.into_iter().map(|(name, partitions)| PreparedTopic {
        name: name.clone(),
        partitions,
        source_id: id(from, name),
        target_id: id(to, name),
        mirror: copied.get(name).and_then(|topic| topic.mirror.clone()),
    });
    let prepared: Vec<PreparedTopic> = prepared.collect();
    let partitions: usize = prepared.iter().map(|topic| topic.partitions.len()).sum();
    done.push(format!("pinned {} topics with {partitions} partitions", prepared.len()));
    Ok(prepared)
}

/// Those that are no copies.
fn free(
    mut extents: BTreeMap<TopicPartition, Extent>,
    copies: &HashSet<TopicPartition>,
) -> BTreeMap<TopicPartition, Extent> {
    extents.retain(|tp, _| !copies.contains(tp));
    extents
}

/// One that was deleted and made anew on either side is another topic under the same name: what was pinned says
/// nothing of it.
fn is_as_pinned(topic: &PreparedTopic, from: &ClusterView, to: &ClusterView) -> bool {
    let is = |view: &ClusterView, id| view.topics.get(&topic.name).is_some_and(|t| t.id == id);
    is(from, topic.source_id) && is(to, topic.target_id)
}

/// Partitions in which somebody has written. (An empty one may end anywhere: it was emptied since, and begins there
/// now.)
fn touched<'a>(
    found: &'a BTreeMap<TopicPartition, Extent>,
    before: &'a HashMap<TopicPartition, i64>,
) -> impl Iterator<Item = String> + 'a {
    let untouched = |tp: &TopicPartition, at: &Extent| before.get(tp) == Some(&at.end) || at.start == at.end;
    found.iter().filter(move |(tp, at)| !untouched(tp, at)).map(|(tp, at)| {
        let since = before.get(tp).map_or(String::new(), |p| format!(", it was prepared at {p}"));
        format!(
            "{tp} on the target holds records ({} to {}){since}: stop who writes there, \
             then delete the topic there, or its records",
            at.start, at.end
        )
    })
}

async fn with_policy(
    target: &Admin,
    to: &ClusterView,
    untouched: Vec<TopicPartition>,
) -> Result<Vec<Untouched>, AdminError> {
    let mut names: Vec<TopicName> = untouched.iter().map(|tp| tp.topic.clone()).collect();
    names.dedup();
    let configs = ask::describe_topic_configs(target, to, &names).await?;
    let deletable = |name: &TopicName| match configs.get(name) {
        Some(Ok(configs)) => {
            let policy = configs.iter().find(|c| c.name == "cleanup.policy").and_then(|c| c.value.as_deref());
            policy.is_none_or(|p| p.split(',').any(|one| one.trim() == "delete"))
        }
        _ => false,
    };
    Ok(untouched.into_iter().map(|tp| Untouched { deletable: deletable(&tp.topic), tp }).collect())
}

fn say(seeded: Seeded, done: &mut Vec<String>) {
    if let Some(tp) = &seeded.tried {
        let verdict = if seeded.accepted { "takes" } else { "refuses" };
        done.push(format!(
            "tried on {tp}: an empty log of the target {verdict} a producer in the middle of its sequence"
        ));
    }
    if !seeded.seeded.is_empty() {
        done.push(format!("gave {} empty partitions a record and deleted it again", seeded.seeded.len()));
    }
    if !seeded.left.is_empty() {
        let names: Vec<String> = seeded.left.iter().map(ToString::to_string).collect();
        done.push(format!(
            "warning: it was not tried whether the target takes producers in the middle of their sequences on an empty compacted log: {}",
            names.join(", ")
        ));
    }
}

/// Compacted logs that would need a record which nobody could delete again.
fn cannot_seed(seeded: &Seeded) -> Option<String> {
    let refused = seeded.tried.is_some() && !seeded.accepted && !seeded.left.is_empty();
    let names = || seeded.left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    refused.then(|| {
        format!(
            "the target refuses producers in the middle of their sequences on an empty log, and a record cannot be deleted again from {}: \
             set cleanup.policy=compact,delete on these topics of the target, prepare again, then set it back",
            names()
        )
    })
}
