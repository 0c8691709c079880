//! Looks at a cluster: brokers, topics, leaders. Asked again when something turned out to be old, and now and then.
#![expect(clippy::disallowed_methods, reason = "io: waits between looks")]

use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeConfigsRequest, MetadataRequest, MetadataResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;

use super::admin::{Admin, AdminError};
use super::topology::{Broker, ClusterView, PartitionView, TopicView};
use crate::error::code;
use crate::ids::{NO_EPOCH, TopicName};

/// Looks that follow each other closely are spread by this.
const SPREAD: Duration = Duration::from_millis(20);
/// After a failed look the next one comes this soon.
const AGAIN: Duration = Duration::from_millis(250);
const BROKER: i8 = 4;
/// Partitions of one topic beyond which an answer is not believed.
const MOST_PARTITIONS: usize = 1_000_000;

/// One look at the whole cluster.
pub async fn look(admin: &Admin, known: &[Broker]) -> Result<ClusterView, AdminError> {
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let answer = admin.ask_any(known, &RequestKind::Metadata(request)).await?;
    match answer {
        ResponseKind::Metadata(answer) => Ok(view(&answer)),
        _ => Err(AdminError::Refused { side: admin.side, what: "Metadata".to_owned(), code: -1 }),
    }
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
        if !topic.topic_id.is_nil() {
            seen.names.insert(topic.topic_id, name.clone());
        }
        let view = TopicView { id: topic.topic_id, internal: topic.is_internal, partitions };
        seen.topics.insert(name, Arc::new(view));
    }
    seen
}

/// Whether the cluster's brokers create topics that clients ask for (`auto.create.topics.enable`). `None`: they do not
/// say.
pub async fn creates_topics(admin: &Admin, view: &ClusterView) -> Option<bool> {
    let (node, broker) = view.brokers.iter().next()?;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_string(node.to_string()))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str("auto.create.topics.enable")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = admin.ask(&broker.address(), &RequestKind::DescribeConfigs(request)).await.ok()?;
    let ResponseKind::DescribeConfigs(answer) = answer else { return None };
    let configs = answer.results.into_iter().filter(|r| r.error_code == code::NONE).flat_map(|r| r.configs);
    let found = configs.into_iter().find(|c| c.name.as_str() == "auto.create.topics.enable")?;
    Some(found.value.as_ref().is_none_or(|v| v.as_str() == "true"))
}

/// Looks for ever; `publish` hears of every look, `wake` asks for one before its time.
pub async fn watch<F, P>(admin: Rc<Admin>, every: Duration, wake: impl Fn() -> F, publish: P)
where
    F: Future<Output = ()>,
    P: Fn(Result<ClusterView, AdminError>) -> Vec<Broker>,
{
    let mut known: Vec<Broker> = Vec::new();
    let mut creates = HashMap::new();
    loop {
        let mut seen = look(&admin, &known).await;
        if let Ok(view) = &mut seen {
            // Asked once per cluster: a broker's default does not change while it runs.
            if !creates.contains_key(&view.cluster_id) {
                let answer = creates_topics(&admin, view).await;
                creates.insert(view.cluster_id.clone(), answer.unwrap_or(false));
            }
            view.creates_topics = creates.get(&view.cluster_id).copied().unwrap_or(false);
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
