//! Looks at a cluster: brokers, topics, leaders. Asked again when something turned out to be old, and now and then.
#![expect(clippy::disallowed_methods, reason = "io: waits between looks")]

use std::collections::HashMap;
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
/// A look at one broker takes less, or the next one is asked.
const HANGS: Duration = Duration::from_secs(4);
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

/// One look at the whole cluster.
pub async fn look(admin: &Admin, known: &[Broker]) -> Result<ClusterView, AdminError> {
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let (told_by, answer) = admin.ask_first(known, &RequestKind::Metadata(request)).await?;
    match answer {
        ResponseKind::Metadata(answer) => Ok(ClusterView { told_by, ..view(&answer) }),
        _ => Err(AdminError::Refused { side: admin.side, what: "Metadata".to_owned(), code: -1 }),
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

/// Asked of one broker. `None`: it does not say.
pub async fn broker_config(admin: &Admin, view: &ClusterView) -> Option<BrokerConfig> {
    let (node, broker) = view.brokers.iter().next()?;
    let keys = [AUTO_CREATE, METADATA_MAX].map(StrBytes::from_static_str);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_string(node.to_string()))
        .with_configuration_keys(Some(keys.to_vec()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = admin.ask(&broker.address(), &RequestKind::DescribeConfigs(request)).await.ok()?;
    let ResponseKind::DescribeConfigs(answer) = answer else { return None };
    let configs: Vec<_> =
        answer.results.into_iter().filter(|r| r.error_code == code::NONE).flat_map(|r| r.configs).collect();
    let found = |name: &str| configs.iter().find(|c| c.name.as_str() == name);
    let creates_topics = found(AUTO_CREATE)?.value.as_ref().is_none_or(|v| v.as_str() == "true");
    let commit_metadata = found(METADATA_MAX).and_then(|c| c.value.as_ref()?.parse().ok());
    Some(BrokerConfig { creates_topics, commit_metadata })
}

/// Looks for ever; `publish` hears of every look, `wake` asks for one before its time, `sought` are topics that somebody
/// asks for and the last look did not have.
pub async fn watch<F, P>(
    admin: Rc<Admin>,
    every: Duration,
    wake: impl Fn() -> F,
    sought: impl Fn() -> Vec<TopicName>,
    publish: P,
) where
    F: Future<Output = ()>,
    P: Fn(Result<ClusterView, AdminError>) -> Vec<Broker>,
{
    let mut known: Vec<Broker> = Vec::new();
    let mut memory = Memory::default();
    let mut configs = HashMap::new();
    loop {
        // The same broker as long as it answers: another may lag behind it, and topics would come and go. One that hangs
        // must not hide what the others know; a cluster that is slow has all its time.
        let mut seen = match timeout(HANGS, look(&admin, &known)).await {
            Ok(seen) => seen,
            Err(_) => {
                admin.avoid_preferred();
                look(&admin, &known).await
            }
        };
        if let Ok(view) = &mut seen {
            // Asked once per cluster: a broker's default does not change while it runs.
            if !configs.contains_key(&view.cluster_id)
                && let Some(answer) = broker_config(&admin, view).await
            {
                configs.insert(view.cluster_id.clone(), answer);
            }
            let config = configs.get(&view.cluster_id).copied().unwrap_or_default();
            view.creates_topics = config.creates_topics;
            view.commit_metadata = config.commit_metadata;
            let elsewhere = look_elsewhere(&admin, view, sought()).await;
            memory.complete(view, elsewhere, Instant::now());
        }
        let failed = seen.is_err();
        if failed {
            admin.forget_versions();
        }
        known = publish(seen);
        let pause = if failed { AGAIN } else { every };
        tokio::time::sleep(SPREAD).await;
        drop(timeout(pause, wake()).await);
    }
}
