//! What preflight knows of both clusters: asked once, changing nothing.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use kafka_protocol::messages::ResponseKind;

use super::writers::{self, Held, Seen, Writers};
use crate::config::{Config, Migration};
use crate::error::code;
use crate::ids::{DEBUGGING_CONSUMER, LATEST, NodeId, Side, TopicName, TopicPartition};
use crate::migration::marker;
use crate::migration::topics::{self, Extent};
use crate::store::identity::MarkerSeen;
use crate::upstream::admin::{Admin, AdminError, which_versions};
use crate::upstream::topology::{Broker, ClusterView};
use crate::upstream::{ask, discovery};
use crate::virtual_cluster::versions::{self, Range};

/// What one broker serves, by API key.
pub type Spoken = HashMap<i16, Range>;

/// Both clusters, and the migrations' topics on them.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub sides: [SideFacts; 2],
    /// By name: every topic of the source that one of the migrations matches.
    pub topics: BTreeMap<TopicName, TopicFacts>,
    pub groups: Vec<GroupOnTarget>,
    /// `group a`, or all of them: what could not be asked, and why.
    pub groups_unknown: Vec<(String, String)>,
    /// By transactional id: the topics of the source that it writes to or reads from.
    pub writers: Writers,
    /// Why they are not all known.
    pub writers_unknown: Option<String>,
    /// Before a switch of topics that `prepare` has pinned.
    pub switch: bool,
}

#[derive(Clone, Debug, Default)]
pub struct SideFacts {
    /// `Err`: why not.
    pub view: Option<Result<ClusterView, String>>,
    /// Each broker, asked at the address that it advertises.
    pub brokers: Vec<(Broker, Result<Spoken, String>)>,
    /// Questions that a seal asks, tried on a real partition: what was asked, and why it was not answered.
    pub refused: Vec<(String, String)>,
    /// `group.min.session.timeout.ms` and such, where the brokers tell.
    pub limits: BTreeMap<String, i64>,
    /// Limits by which a broker counts connections, where they are set: all clients come from one address now.
    pub connections: BTreeMap<String, String>,
}

/// An open transaction on the source, with records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    pub partition: i32,
    /// Native.
    pub producer_id: i64,
    pub start_offset: i64,
    /// Coordinators were asked about it, and none knows it.
    pub said: bool,
}

/// A group that has committed positions of the migrations' topics on the source, and is known to the target too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOnTarget {
    pub group: String,
    /// Empty: the target does not say.
    pub state: String,
    /// A topic of the migrations in which it has committed on the target, although no seal of ours has begun a part
    /// there.
    pub committed: Option<TopicName>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    pub source_partitions: usize,
    /// `None`: the target does not have it.
    pub target_partitions: Option<usize>,
    /// Why the target would not create it.
    pub cannot_create: Option<String>,
    /// Replicas that each partition has, or would have, on the target.
    pub target_replicas: Option<usize>,
    /// By side; the target's as they are, or as they would be. `None`: it does not tell.
    pub configs: [Option<BTreeMap<String, String>>; 2],
    /// What the mirror sets on its copy, for its time.
    pub held: Held,
    /// Partitions of the target that hold records and that no seal of ours has begun.
    pub foreign: Vec<(i32, Extent)>,
    /// On the source, that no coordinator knows; or, where its coordinators do not say what they know, all.
    pub open_transactions: Vec<OpenTransaction>,
}

/// Limits of brokers that clients of both clusters meet.
pub const LIMITS: [&str; 5] = [
    "group.min.session.timeout.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "offset.metadata.max.bytes",
    "transaction.max.timeout.ms",
];

/// What a broker counts by the client's address.
pub const CONNECTIONS: [&str; 3] =
    ["max.connections.per.ip", "max.connections.per.ip.overrides", "max.connection.creation.rate"];

/// For what a group's coordinator is asked.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

impl Facts {
    pub fn view(&self, side: Side) -> Option<&ClusterView> {
        self.sides[side.index()].view.as_ref()?.as_ref().ok()
    }

    /// Whether a broker leads a partition of the migrations' topics; of a cluster that tells nothing, each may.
    pub fn leads(&self, side: Side, broker: &Broker) -> bool {
        let Some(view) = self.view(side) else { return true };
        let led =
            |name| view.topics.get(name).is_some_and(|t| t.partitions.iter().any(|p| leads(view, p.leader, broker)));
        self.topics.is_empty() || self.topics.keys().any(led)
    }
}

fn leads(view: &ClusterView, leader: NodeId, broker: &Broker) -> bool {
    view.brokers.get(&leader) == Some(broker)
}

/// `pinned`: what a switch is about. What else the patterns match stays where it is, and is not looked at.
pub async fn gather(
    config: &Config,
    admins: [&Admin; 2],
    migrations: &[&Migration],
    pinned: Option<&HashSet<TopicName>>,
    seen: &Seen,
) -> Facts {
    let mut facts = Facts { switch: pinned.is_some(), ..Facts::default() };
    for (side, admin) in Side::BOTH.into_iter().zip(admins) {
        facts.sides[side.index()] = side_facts(admin).await;
    }
    let whole = facts.view(Side::Source).cloned();
    if let (Some(pinned), Some(Ok(view))) = (pinned, &mut facts.sides[Side::Source.index()].view) {
        view.topics.retain(|name, _| pinned.contains(name));
    }
    let [Some(mut from), Some(mut to)] = Side::BOTH.map(|side| facts.view(side).cloned()) else { return facts };
    // One that does not answer is a finding of its own, and is not asked for anything else.
    for (view, side) in [(&mut from, Side::Source), (&mut to, Side::Target)] {
        let silent = |broker: &Broker| facts.sides[side.index()].brokers.iter().any(|(b, v)| b == broker && v.is_err());
        view.brokers.retain(|_, broker| !silent(broker));
    }
    let mut names: Vec<TopicName> = migrations.iter().flat_map(|m| topics::matched(m, &from)).collect();
    names.sort();
    names.dedup();
    if let Some(whole) = whole {
        let whole = ClusterView { brokers: from.brokers.clone(), ..whole };
        let gathered = writers::gather(admins[Side::Source.index()], &whole, &names, seen).await;
        (facts.writers, facts.writers_unknown) = gathered;
    }
    for (side, admin) in Side::BOTH.into_iter().zip(admins) {
        let view = if side == Side::Source { &from } else { &to };
        tried(admin, view, &names, &mut facts.sides[side.index()].refused).await;
    }
    // A cluster that does not answer one of these is named; the rest is judged all the same.
    match topic_facts(config, admins, &from, &to, &names).await {
        Ok((topics, begun)) => {
            facts.topics = topics;
            for (name, topic) in &mut facts.topics {
                topic.held = seen.held.get(name).cloned();
                // What lies there is its copy.
                topic.foreign.retain(|_| topic.held.is_none());
            }
            if let Err(e) = groups_on_both(admins, [&from, &to], &names, &begun, &mut facts).await {
                facts.groups_unknown.push(("all groups".to_owned(), e.to_string()));
            }
        }
        Err(e) => {
            let side = match &e {
                AdminError::Unreachable { side, .. } | AdminError::Unsupported { side, .. } => *side,
                AdminError::Refused { side, .. } | AdminError::Garbled(_, side) => *side,
            };
            facts.sides[side.index()].refused.push(("the migrations' topics".to_owned(), e.to_string()));
        }
    }
    facts
}

async fn side_facts(admin: &Admin) -> SideFacts {
    let mut facts = SideFacts::default();
    let view = match discovery::look(admin, &[]).await {
        Ok(view) => view,
        Err(AdminError::Unreachable { reason, .. }) => {
            facts.view = Some(Err(reason));
            return facts;
        }
        Err(e) => {
            facts.view = Some(Err(e.to_string()));
            return facts;
        }
    };
    for broker in view.broker_list() {
        let versions = broker_versions(admin, &broker).await.map_err(|e| match e {
            AdminError::Unreachable { reason, .. } => reason,
            other => other.to_string(),
        });
        facts.brokers.push((broker, versions));
    }
    for key in LIMITS {
        let value = ask::describe_broker_config(admin, &view, key).await.ok().flatten();
        if let Some(value) = value.and_then(|v| v.parse().ok()) {
            facts.limits.insert(key.to_owned(), value);
        }
    }
    for key in CONNECTIONS {
        if let Some(value) = ask::describe_broker_config(admin, &view, key).await.ok().flatten() {
            facts.connections.insert(key.to_owned(), value);
        }
    }
    facts.view = Some(Ok(view));
    facts
}

pub async fn broker_versions(admin: &Admin, broker: &Broker) -> Result<Spoken, AdminError> {
    let request = which_versions();
    match admin.ask(&broker.address(), &request).await? {
        ResponseKind::ApiVersions(answer) if answer.error_code == code::NONE => Ok(versions::served(&answer)),
        ResponseKind::ApiVersions(answer) => {
            Err(AdminError::Refused { side: admin.side, what: "ApiVersions".to_owned(), code: answer.error_code })
        }
        _ => Ok(HashMap::new()),
    }
}

/// DescribeProducers and ListOffsets as a debugging consumer, on a partition that a seal would ask about, or on any.
async fn tried(admin: &Admin, view: &ClusterView, names: &[TopicName], refused: &mut Vec<(String, String)>) {
    let led =
        |name: &&TopicName| view.topics.get(*name).is_some_and(|t| t.partitions.first().is_some_and(|p| p.leader >= 0));
    let mut others: Vec<&TopicName> = view.topics.keys().collect();
    others.sort();
    let Some(name) = names.iter().chain(others).find(led) else { return };
    let one = [TopicPartition::new(name.clone(), 0)];
    let offsets = ask::list_offsets(admin, view, &one, LATEST, DEBUGGING_CONSUMER, 0).await;
    let producers = ask::describe_producers(admin, view, &one).await;
    let why = |code: i16| crate::error::code_name(code);
    let first = |answer: Option<Result<(), i16>>| answer.unwrap_or(Err(code::UNKNOWN_SERVER_ERROR)).map_err(why);
    let offsets = offsets.map_err(|e| e.to_string()).and_then(|a| first(a.get(&one[0]).map(|r| r.map(|_| ()))));
    let producers = producers
        .map_err(|e| e.to_string())
        .and_then(|a| first(a.get(&one[0]).map(|r| r.as_ref().map(|_| ()).map_err(|c| *c))));
    for (what, answer) in [("ListOffsets with replica_id -2", offsets), ("DescribeProducers", producers)] {
        if let Err(why) = answer {
            refused.push((format!("{what} of {}", one[0]), why));
        }
    }
}

async fn topic_facts(
    config: &Config,
    [source, target]: [&Admin; 2],
    from: &ClusterView,
    to: &ClusterView,
    names: &[TopicName],
) -> Result<(BTreeMap<TopicName, TopicFacts>, HashSet<TopicName>), AdminError> {
    if names.is_empty() {
        return Ok(<_>::default());
    }
    let partitions = |view: &ClusterView, name| view.topics.get(name).map(|t| t.partitions.len());
    let mut facts: BTreeMap<TopicName, TopicFacts> = BTreeMap::new();
    for name in names {
        let source_partitions = partitions(from, name).unwrap_or(0);
        let target_partitions = partitions(to, name);
        facts.insert(name.clone(), TopicFacts { source_partitions, target_partitions, ..TopicFacts::default() });
    }
    let there: Vec<TopicName> = names.iter().filter(|n| to.topics.contains_key(*n)).cloned().collect();
    for (side, admin, view, names) in [(Side::Source, source, from, names), (Side::Target, target, to, &there)] {
        for (name, configs) in ask::describe_topic_configs(admin, view, names).await? {
            let set = |c: ask::TopicConfig| Some((c.name, c.value?));
            if let (Some(topic), Ok(configs)) = (facts.get_mut(&name), configs) {
                topic.configs[side.index()] = Some(configs.into_iter().filter_map(set).collect());
            }
        }
    }
    would_be(source, target, from, to, names, &mut facts).await?;
    if let Some(broker) = to.broker_list().first() {
        for (name, described) in ask::describe_topics(target, &broker.address(), &there).await? {
            if let (Some(topic), Ok(described)) = (facts.get_mut(&name), described) {
                topic.target_replicas = Some(described.replication_factor);
            }
        }
    }
    let ours = ours(config, target).await?;
    for (tp, extent) in topics::extents(target, to, &there).await? {
        if extent.start != extent.end && !ours.contains(&tp) {
            facts.entry(tp.topic).or_default().foreign.push((tp.partition, extent));
        }
    }
    open_transactions(source, from, names, &mut facts).await?;
    Ok((facts, ours.into_iter().map(|tp| tp.topic).collect()))
}

/// Those that hang: a leader has them open before and after no coordinator does. (One that has begun or ended in between is
/// none.)
async fn open_transactions(
    source: &Admin,
    from: &ClusterView,
    names: &[TopicName],
    facts: &mut BTreeMap<TopicName, TopicFacts>,
) -> Result<(), AdminError> {
    let count = |name: &TopicName| from.topics.get(name).map_or(0, |t| t.partitions.len());
    let all = names.iter().flat_map(|n| (0..count(n)).map(|i| TopicPartition::new(n.clone(), i as i32)));
    let all: Vec<TopicPartition> = all.collect();
    let found = match open_on_leaders(source, from, &all).await {
        // `tried` has said so already.
        Err(AdminError::Unsupported { .. }) => return Ok(()),
        other => other?,
    };
    if found.is_empty() {
        return Ok(());
    }
    let (known, said) = match patiently(async || ask::transactions::open_transactions(source, from).await).await {
        Err(AdminError::Unsupported { .. }) => (HashSet::new(), false),
        other => (other?.into_iter().map(|t| t.producer_id).collect(), true),
    };
    let suspects: Vec<_> = found.into_iter().filter(|(_, p)| !known.contains(&p.producer_id)).collect();
    let partitions: HashSet<TopicPartition> = suspects.iter().map(|(tp, _)| tp.clone()).collect();
    let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
    let still = open_on_leaders(source, from, &partitions).await?;
    for (tp, open) in suspects.into_iter().filter(|suspect| still.contains(suspect)) {
        facts.entry(tp.topic).or_default().open_transactions.push(OpenTransaction {
            partition: tp.partition,
            said,
            ..open
        });
    }
    for topic in facts.values_mut() {
        topic.open_transactions.sort_by_key(|t| (t.partition, t.start_offset));
    }
    Ok(())
}

async fn open_on_leaders(
    source: &Admin,
    from: &ClusterView,
    partitions: &[TopicPartition],
) -> Result<Vec<(TopicPartition, OpenTransaction)>, AdminError> {
    let found = ask::describe_producers(source, from, partitions).await?;
    let all = found.into_iter().flat_map(|(tp, producers)| {
        let open = producers.unwrap_or_default().into_iter().filter(|p| p.current_txn_start_offset >= 0);
        open.map(move |p| {
            let open = OpenTransaction {
                partition: tp.partition,
                producer_id: p.producer_id,
                start_offset: p.current_txn_start_offset,
                said: true,
            };
            (tp.clone(), open)
        })
    });
    Ok(all.collect())
}

/// Groups with positions of these topics on the source that the target knows as well.
async fn groups_on_both(
    [source, target]: [&Admin; 2],
    [from, to]: [&ClusterView; 2],
    names: &[TopicName],
    begun: &HashSet<TopicName>,
    facts: &mut Facts,
) -> Result<(), AdminError> {
    if names.is_empty() {
        return Ok(());
    }
    let there = patiently(async || ask::groups::group_states(target, to).await).await?;
    if there.is_empty() {
        return Ok(());
    }
    let here = patiently(async || ask::groups::group_states(source, from).await).await?;
    for (group, state) in there.into_iter().filter(|(group, _)| here.contains_key(group)) {
        let committed = async |admin: &Admin, view: &ClusterView| {
            patiently(async || {
                let address = ask::groups::coordinator(admin, &view.broker_list(), &group).await?;
                ask::groups::committed(admin, &address, &group, false).await
            })
            .await
        };
        let positions = committed(source, from).await;
        let ours = positions.map(|positions| {
            let topics = positions.into_keys().map(|tp| tp.topic);
            topics.filter(|t| names.contains(t) && !begun.contains(t)).collect::<HashSet<TopicName>>()
        });
        let theirs = match &ours {
            Ok(ours) if ours.is_empty() => continue,
            Ok(_) => committed(target, to).await,
            Err(_) => Ok(HashMap::new()),
        };
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let committed = theirs.into_keys().map(|tp| tp.topic).filter(|t| ours.contains(t)).min();
                facts.groups.push(GroupOnTarget { group, state, committed });
            }
            (Err(e), _) | (_, Err(e)) => facts.groups_unknown.push((format!("group {group}"), e.to_string())),
        }
    }
    Ok(())
}

/// A coordinator that loads or moves answers a little later.
pub(super) async fn patiently<T>(ask: impl AsyncFn() -> Result<T, AdminError>) -> Result<T, AdminError> {
    for _ in 1..TRIES {
        match ask().await {
            Err(error) if error.is_passing() => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    ask().await
}

/// Topics that the target lacks: how it would make them, and why it would not.
async fn would_be(
    source: &Admin,
    target: &Admin,
    from: &ClusterView,
    to: &ClusterView,
    names: &[TopicName],
    facts: &mut BTreeMap<TopicName, TopicFacts>,
) -> Result<(), AdminError> {
    let planned = topics::plan(source, target, from, to, names).await?;
    if planned.is_empty() {
        return Ok(());
    }
    let replicas: HashMap<TopicName, i16> =
        planned.iter().map(|p| (p.new.name.clone(), p.new.replication_factor)).collect();
    for (name, done) in ask::validate_topics(target, to, planned.into_iter().map(|p| p.new).collect()).await? {
        let Some(topic) = facts.get_mut(&name) else { continue };
        topic.target_replicas = replicas.get(&name).and_then(|n| usize::try_from(*n).ok());
        match done {
            Ok(done) if done.configs.is_empty() => {}
            Ok(done) => {
                let set = done.configs.into_iter().filter_map(|(k, v)| Some((k, v?)));
                topic.configs[Side::Target.index()] = Some(set.collect());
            }
            // Somebody made it in the meantime.
            Err(refused) if refused.code == code::TOPIC_ALREADY_EXISTS => {}
            Err(refused) => topic.cannot_create = Some(refused.message),
        }
    }
    Ok(())
}

/// Partitions in which a seal of ours is known to have begun a part: the marker names them.
async fn ours(config: &Config, target: &Admin) -> Result<HashSet<TopicPartition>, AdminError> {
    Ok(match marker::read(target, &config.name).await? {
        MarkerSeen::Found(marker) => {
            let begun = marker.partitions.into_iter().filter(|(.., map)| map.is_used(Side::Target));
            begun.map(|(topic, partition, _)| TopicPartition::new(topic, partition)).collect()
        }
        MarkerSeen::Absent | MarkerSeen::Unreadable(_) => HashSet::new(),
    })
}
