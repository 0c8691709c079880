//! Looks at a cluster: brokers, topics, leaders. Asked again when something turned out to be old, and now and then.
#![expect(clippy::disallowed_methods, reason = "io: waits between looks")]

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DescribeConfigsRequest, MetadataRequest, MetadataResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, timeout};

use super::admin::{Admin, AdminError};
use super::memory::Memory;
use super::topology::{Broker, ClusterView, PartitionView, TopicView};
use crate::error::code;
use crate::ids::{NO_EPOCH, TopicName};

/// Looks that follow each other closely are spread by this.
const SPREAD: Duration = Duration::from_millis(20);
/// A look at one broker takes less, or the next one is asked; after so many it is the cluster that is slow.
const HANGS: Duration = Duration::from_secs(4);
const MOST_HUNG: usize = 2;
/// Another broker is asked for a topic no longer than this.
const SOON: Duration = Duration::from_secs(1);
/// How many others, for how many topics at once.
const MOST_ASKED: usize = 4;
const MOST_SOUGHT: usize = 100;
/// After a failed look the next one comes this soon.
const AGAIN: Duration = Duration::from_millis(250);
const BROKER: i8 = 4;
const AUTO_CREATE: &str = "auto.create.topics.enable";
const METADATA_MAX: &str = "offset.metadata.max.bytes";
/// Partitions of one topic beyond which an answer is not believed.
const MOST_PARTITIONS: usize = 1_000_000;

/// One look at the whole cluster, by any broker that answers.
pub async fn look(admin: &Admin, known: &[Broker]) -> Result<ClusterView, AdminError> {
    let addresses = admin.addresses(known);
    let view = look_in_order(admin, &addresses).await?;
    admin.prefer(&view.told_by);
    Ok(view)
}

/// The same, by the first of these that answers.
pub async fn look_in_order(admin: &Admin, addresses: &[String]) -> Result<ClusterView, AdminError> {
    let mut last = AdminError::Unreachable { side: admin.side, reason: "no address is known".to_owned() };
    for address in addresses {
        match look_at(admin, address).await {
            Err(unreachable @ AdminError::Unreachable { .. }) => last = unreachable,
            other => return other,
        }
    }
    Err(last)
}

async fn look_at(admin: &Admin, address: &str) -> Result<ClusterView, AdminError> {
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let ResponseKind::Metadata(answer) = admin.ask(address, &RequestKind::Metadata(request)).await? else {
        return Err(AdminError::Refused { side: admin.side, what: "Metadata".to_owned(), code: -1 });
    };
    let view = ClusterView { told_by: address.to_owned(), ..view(&answer) };
    let unreachable = |reason: String| Err(AdminError::Unreachable { side: admin.side, reason });
    if view.brokers.is_empty() {
        // One that is starting knows nobody yet, not even itself.
        return unreachable(format!("{address} names no broker"));
    }
    match admin.expected() {
        Some(ours) if ours != view.cluster_id => {
            tracing::error!(side = %admin.side, address, cluster_id = %view.cluster_id, expected = %ours,
                "this address leads to another cluster: it is not listened to; correct the bootstrap addresses or their DNS");
            unreachable(format!("{address} is a broker of cluster {}, not of {ours}", view.cluster_id))
        }
        _ => Ok(view),
    }
}

/// One look after the other at a cluster, by the same broker as long as it answers: another may lag behind it, and topics
/// would come and go. One that hangs, or knows only old leaders, must not hide what the others know.
#[derive(Default)]
struct Watched {
    known: Vec<Broker>,
    /// Asked first.
    first: Option<String>,
}

impl Watched {
    async fn look(&mut self, admin: &Admin) -> Result<ClusterView, AdminError> {
        let mut addresses: Vec<String> = self.known.iter().map(Broker::address).collect();
        if let Some(at) = addresses.iter().position(|a| Some(a) == self.first.as_ref()) {
            addresses.rotate_left(at);
        }
        addresses.extend(admin.bootstrap());
        let mut seen = HashSet::new();
        addresses.retain(|a| seen.insert(a.clone()));
        let mut hung = 0;
        let mut last = AdminError::Unreachable { side: admin.side, reason: "no address is known".to_owned() };
        for address in addresses {
            // A cluster that is slow has all its time.
            let asked = if hung < MOST_HUNG {
                timeout(HANGS, look_at(admin, &address)).await
            } else {
                Ok(look_at(admin, &address).await)
            };
            match asked {
                Ok(Err(unreachable @ AdminError::Unreachable { .. })) => last = unreachable,
                Ok(Ok(view)) => {
                    self.first = Some(address);
                    return Ok(view);
                }
                Ok(refused) => return refused,
                Err(_) => {
                    hung += 1;
                    admin.hang_up(&address);
                    let reason = format!("{address}: no answer in {} s", HANGS.as_secs());
                    last = AdminError::Unreachable { side: admin.side, reason };
                }
            }
        }
        Err(last)
    }

    /// What the one that is asked first knows is old, and it does not learn better.
    fn turn_away(&mut self) {
        let next = self.known.iter().map(Broker::address).skip_while(|a| Some(a) != self.first.as_ref()).nth(1);
        self.first = next.or_else(|| self.known.first().map(Broker::address));
    }
}

/// Topics that one broker does not know, as other brokers know them: they learn of a new one at different times.
async fn look_elsewhere(admin: &Admin, view: &ClusterView, sought: Vec<TopicName>) -> Vec<(TopicName, Arc<TopicView>)> {
    let mut missing: Vec<TopicName> = sought.into_iter().filter(|t| !view.topics.contains_key(t)).collect();
    missing.truncate(MOST_SOUGHT);
    let mut found = Vec::new();
    let others = view.broker_list().into_iter().map(|b| b.address()).filter(|address| *address != view.told_by);
    for address in others.take(MOST_ASKED) {
        if missing.is_empty() {
            break;
        }
        let named = missing.iter().map(|t| {
            let name = kafka_protocol::messages::TopicName(StrBytes::from_string(t.to_string()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let request =
            MetadataRequest::default().with_topics(Some(named.collect())).with_allow_auto_topic_creation(false);
        let asked = timeout(SOON, admin.ask(&address, &RequestKind::Metadata(request))).await;
        let Ok(Ok(ResponseKind::Metadata(answer))) = asked else { continue };
        found.extend(self::view(&answer).topics);
        missing.retain(|t| !found.iter().any(|(name, _)| name == t));
    }
    found
}

fn view(answer: &MetadataResponse) -> ClusterView {
    let broker = |b: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| {
        let port = u16::try_from(b.port).ok()?;
        Some((b.node_id.0, Broker { host: b.host.to_string(), port }))
    };
    let mut seen = ClusterView {
        cluster_id: answer.cluster_id.as_ref().map(|id| id.to_string()).unwrap_or_default(),
        controller: answer.controller_id.0,
        brokers: answer.brokers.iter().filter_map(broker).collect(),
        reachable: true,
        ..ClusterView::default()
    };
    for topic in answer.topics.iter().filter(|t| t.error_code == code::NONE) {
        let Some(name) = &topic.name else { continue };
        let name = TopicName::from(name.as_str());
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let Some(index) = usize::try_from(partition.partition_index).ok().filter(|i| *i < MOST_PARTITIONS) else {
                continue;
            };
            if partitions.len() <= index {
                partitions.resize(index + 1, PartitionView { leader: -1, epoch: NO_EPOCH });
            }
            if let Some(slot) = partitions.get_mut(index) {
                *slot = PartitionView { leader: partition.leader_id.0, epoch: partition.leader_epoch };
            }
        }
        let view = TopicView { id: topic.topic_id, internal: topic.is_internal, partitions };
        seen.add_topic(name, Arc::new(view));
    }
    seen
}

/// What its brokers' own configs say.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `auto.create.topics.enable`
    pub creates_topics: bool,
    /// `offset.metadata.max.bytes`
    pub commit_metadata: Option<usize>,
}

/// Asked of one broker. `None`: no answer; one that may not say it has none of its own.
pub async fn broker_config(admin: &Admin, view: &ClusterView) -> Option<BrokerConfig> {
    let (node, broker) = view.brokers.iter().next()?;
    let keys = [AUTO_CREATE, METADATA_MAX].map(StrBytes::from_static_str);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_string(node.to_string()))
        .with_configuration_keys(Some(keys.to_vec()));
    let request = RequestKind::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![resource]));
    let asked = timeout(SOON, admin.ask(&broker.address(), &request)).await;
    let Ok(Ok(ResponseKind::DescribeConfigs(answer))) = asked else { return None };
    let configs: Vec<_> =
        answer.results.into_iter().filter(|r| r.error_code == code::NONE).flat_map(|r| r.configs).collect();
    let value = |name: &str| configs.iter().find(|c| c.name.as_str() == name).map(|c| c.value.as_ref());
    Some(BrokerConfig {
        creates_topics: value(AUTO_CREATE).is_some_and(|v| v.is_none_or(|v| v.as_str() == "true")),
        commit_metadata: value(METADATA_MAX).flatten().and_then(|v| v.parse().ok()),
    })
}

/// What a look is asked for with.
pub struct Wanted<W, S, O> {
    /// Asks for one before its time.
    pub wake: W,
    /// Topics that somebody asks for and the last look did not have.
    pub sought: S,
    /// Whether a broker has said since the last time that it does not lead what that look says it leads.
    pub leaders_are_old: O,
}

/// Looks for ever; `publish` hears of every look. `first`: what was seen before, which another broker may not know yet.
pub async fn watch<F, P, W, S, O>(
    admin: Rc<Admin>,
    every: Duration,
    first: Option<ClusterView>,
    wanted: Wanted<W, S, O>,
    publish: P,
) where
    F: Future<Output = ()>,
    P: Fn(Result<ClusterView, AdminError>) -> Vec<Broker>,
    W: Fn() -> F,
    S: Fn() -> Vec<TopicName>,
    O: Fn() -> bool,
{
    let mut watched = Watched::default();
    let mut memory = Memory::default();
    if let Some(mut first) = first {
        watched = Watched { known: first.broker_list(), first: Some(first.told_by.clone()) };
        memory.complete(&mut first, vec![], Instant::now());
    }
    let mut configs = HashMap::new();
    loop {
        let (began, leaders_are_old) = (Instant::now(), (wanted.leaders_are_old)());
        let mut seen = watched.look(&admin).await;
        if let Ok(view) = &mut seen {
            view.began = Some(began);
            // Asked once per cluster: a broker's default does not change while it runs.
            if !configs.contains_key(&view.cluster_id)
                && let Some(answer) = broker_config(&admin, view).await
            {
                configs.insert(view.cluster_id.clone(), answer);
            }
            let config = configs.get(&view.cluster_id).copied().unwrap_or_default();
            view.creates_topics = config.creates_topics;
            view.commit_metadata = config.commit_metadata;
            let elsewhere = look_elsewhere(&admin, view, (wanted.sought)()).await;
            if leaders_are_old && !memory.is_news(view) {
                watched.turn_away();
            }
            memory.complete(view, elsewhere, Instant::now());
        }
        let failed = seen.is_err();
        if failed {
            admin.forget_versions();
        }
        watched.known = publish(seen);
        let pause = if failed { AGAIN } else { every };
        tokio::time::sleep(SPREAD).await;
        drop(timeout(pause, (wanted.wake)()).await);
    }
}
