//! Metadata (3), v0 to v12: synthesised. The virtual nodes lead every partition; ids and partition counts are the
//! source's, epochs -1. Topics that only the target has are hidden. A topic that the snapshot lacks is looked up once
//! more; if the client allows it and the source would, it is created there by our own decision (PROTOCOL.md rule 6).

use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, MetadataRequest, MetadataResponse, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::topics::moved_on;
use super::{Ask, Context, Input, Machine, Step, To};
use crate::error::code;
use crate::ids::{NO_EPOCH, Side};
use crate::store::identity::is_marker_topic;
use crate::upstream::{Lane, PartitionView, TopicView};

/// How long a client waits for a topic that is being created, or that was not there a moment ago.
const PATIENCE: Duration = Duration::from_secs(2);
const NOT_ASKED: i32 = i32::MIN;

pub struct Metadata {
    request: MetadataRequest,
    created: bool,
    give_up: Option<tokio::time::Instant>,
}

impl Metadata {
    pub fn new(request: MetadataRequest) -> Self {
        Self { request, created: false, give_up: None }
    }

    /// Asked by name and not in the snapshot.
    fn missing(&self, cx: &Context<'_>) -> Vec<TopicName> {
        let asked = self.request.topics.iter().flatten();
        let named = asked.filter_map(|t| t.name.clone());
        named.filter(|n| cx.topology.topic(Side::Source, n.as_str()).is_none_or(|t| !has_leaders(t))).collect()
    }

    fn unknown_ids(&self, cx: &Context<'_>) -> Vec<Uuid> {
        let asked = self.request.topics.iter().flatten();
        asked.filter(|t| t.name.is_none() && name_of(cx, t.topic_id).is_none()).map(|t| t.topic_id).collect()
    }

    fn may_create(&self, cx: &Context<'_>) -> bool {
        // Below v4 brokers always do.
        (cx.version < 4 || self.request.allow_auto_topic_creation) && !self.created
    }
}

impl Machine for Metadata {
    fn step(&mut self, cx: &Context<'_>, _: Input) -> Step {
        let deadline = *self.give_up.get_or_insert(cx.now + PATIENCE);
        let missing = self.missing(cx);
        let generation = cx.topology.generation(Side::Source);
        let unknown = self.unknown_ids(cx);
        let look_again = Step::AwaitTopology { side: Side::Source, newer_than: generation, deadline };
        if (!missing.is_empty() || !unknown.is_empty()) && cx.topology.reachable(Side::Source) && cx.now < deadline {
            let looked = cx.topology.side(Side::Source).and_then(|s| s.began);
            let names = missing.iter().map(|n| n.to_string()).chain(unknown.iter().map(Uuid::to_string));
            let sought = names.map(|n| cx.shared.seek(Side::Source, &n, looked, cx.now));
            if sought.fold(false, |any, one| any | one) {
                return look_again;
            }
            let any_missing = !missing.is_empty();
            let absent: Vec<TopicName> =
                missing.into_iter().filter(|n| cx.topology.topic(Side::Source, n.as_str()).is_none()).collect();
            if !absent.is_empty() && self.may_create(cx) && cx.shared.source_creates_topics() {
                self.created = true;
                let new: Vec<TopicName> = absent.into_iter().filter(|n| may_appear(cx, n)).collect();
                if !new.is_empty() {
                    return Step::Ask(vec![create(new)]);
                }
                return Step::Answer(ResponseKind::Metadata(answer(cx, &self.request)));
            }
            if self.created || any_missing && absent.is_empty() {
                // Created, or without a leader yet: a moment later it has one.
                cx.shared.refresh(Side::Source);
                return look_again;
            }
        }
        Step::Answer(ResponseKind::Metadata(answer(cx, &self.request)))
    }
}

/// As CreateTopics has it: what every migration of its name has left behind does not appear on the source any more.
fn may_appear(cx: &Context<'_>, name: &TopicName) -> bool {
    let moved_on = moved_on(cx, name);
    if let Some(migration) = moved_on
        && cx.shared.alarms.is_first(format!("{} not created", name.as_str()))
    {
        tracing::error!(topic = %name.as_str(), migration = %migration.name,
            "a client asks for a topic that is not there, and its migration has switched its producers: not created; \
             create it on both clusters, then prepare it");
    }
    moved_on.is_none() && !is_marker_topic(name)
}

/// With the cluster's own defaults for partitions and replicas, as a broker's auto-creation has it.
fn create(names: Vec<TopicName>) -> Ask {
    let topic = |name| CreatableTopic::default().with_name(name).with_num_partitions(-1).with_replication_factor(-1);
    let request =
        CreateTopicsRequest::default().with_timeout_ms(5_000).with_topics(names.into_iter().map(topic).collect());
    Ask { side: Side::Source, to: To::Controller, lane: Lane::Ordinary, request: RequestKind::CreateTopics(request) }
}

/// A partition between two leaders, or without one for long, is described all the same; only one that never had a
/// leader is waited for.
fn has_leaders(topic: &TopicView) -> bool {
    !topic.partitions.iter().any(never_led)
}

fn never_led(partition: &PartitionView) -> bool {
    partition.leader < 0 && partition.epoch <= 0
}

fn name_of(cx: &Context<'_>, id: Uuid) -> Option<crate::ids::TopicName> {
    cx.topology.side(Side::Source)?.names.get(&id).cloned()
}

fn answer(cx: &Context<'_>, request: &MetadataRequest) -> MetadataResponse {
    let brokers = cx.nodes.all().iter().map(|n| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(n.id))
            .with_host(StrBytes::from_string(n.host.clone()))
            .with_port(i32::from(n.port))
    });
    let all = match &request.topics {
        None => true,
        // v0: an empty list means all topics.
        Some(list) => cx.version == 0 && list.is_empty(),
    };
    let topics = match (all, cx.topology.side(Side::Source)) {
        (true, Some(source)) => source.topics.iter().map(|(name, view)| describe(cx, name, view)).collect(),
        (true, None) => vec![],
        (false, _) => request.topics.iter().flatten().map(|t| one(cx, t.name.as_ref(), t.topic_id)).collect(),
    };
    let version = cx.version;
    let mut answer = MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics);
    if version >= 1 {
        answer.controller_id = BrokerId(cx.nodes.first().id);
    }
    if version >= 2 {
        answer.cluster_id = Some(StrBytes::from_string(cx.shared.cluster.cluster_id.clone()));
    }
    if (8..=10).contains(&version) {
        answer.cluster_authorized_operations = NOT_ASKED;
    }
    answer
}

fn one(cx: &Context<'_>, name: Option<&TopicName>, id: Uuid) -> MetadataResponseTopic {
    let by_id = if name.is_none() { name_of(cx, id) } else { None };
    let wanted = name.map(|n| n.as_str()).or(by_id.as_deref());
    if let Some((name, view)) = wanted.and_then(|n| Some((n, cx.topology.topic(Side::Source, n)?))) {
        return describe(cx, name, view);
    }
    let topic = MetadataResponseTopic::default().with_topic_authorized_operations(NOT_ASKED);
    match name {
        Some(name) => topic.with_error_code(code::UNKNOWN_TOPIC_OR_PARTITION).with_name(Some(name.clone())),
        None => {
            // As a broker has it; nothing was nullable before v12, nor could a client ask by id then.
            let name = (cx.version < 12).then(TopicName::default);
            topic.with_error_code(code::UNKNOWN_TOPIC_ID).with_topic_id(id).with_name(name)
        }
    }
}

fn describe(cx: &Context<'_>, name: &str, view: &TopicView) -> MetadataResponseTopic {
    let partitions = (0i32..).zip(&view.partitions).map(|(index, partition)| {
        let node = BrokerId(cx.nodes.leader(name, index).id);
        let partition_view = MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
            // Set at every version: the encoder leaves it out below v7.
            .with_leader_epoch(NO_EPOCH);
        // A partition between two leaders keeps its virtual one: its produce and fetch are retried here.
        if never_led(partition) { partition_view.with_error_code(code::LEADER_NOT_AVAILABLE) } else { partition_view }
    });
    let mut topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_is_internal(view.internal)
        .with_topic_authorized_operations(NOT_ASKED)
        .with_partitions(partitions.collect());
    if cx.version >= 10 {
        topic.topic_id = view.id;
    }
    topic
}
