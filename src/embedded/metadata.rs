//! ApiVersions v0-4 and Metadata v0-13.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::state::{Node, State, Topic, is_legal_topic_name};
use super::{Call, ClusterSpec, codec};

/// READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS: what a cluster without an authorizer allows.
const TOPIC_OPERATIONS: i32 = 0xdf8;
const FEATURES: &[(&str, i16)] = &[("metadata.version", 25), ("group.version", 0), ("transaction.version", 2)];

pub fn base64(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = id.as_u128();
    // 22 letters of 6 bits: the last four bits are padding.
    let last = ALPHABET[(bits as usize & 0b11) << 4];
    bits >>= 2;
    let mut letters: Vec<u8> = (0..21).map(|i| ALPHABET[(bits >> (6 * i)) as usize & 63]).collect();
    letters.reverse();
    letters.push(last);
    letters.into_iter().map(char::from).collect()
}

pub fn api_versions(call: &Call) -> ApiVersionsResponse {
    let (spec, version) = (&call.shared.spec, call.version);
    let mut keys = spoken(spec);
    keys.extend(
        spec.listed_only.iter().map(|&(key, low, high)| {
            ApiVersion::default().with_api_key(key).with_min_version(low).with_max_version(high)
        }),
    );
    for key in &mut keys {
        if let Some(&(low, high)) = spec.node_api_limits.get(&(call.node, key.api_key)) {
            (key.min_version, key.max_version) = (key.min_version.max(low), key.max_version.min(high));
        }
    }
    let mut response = ApiVersionsResponse::default().with_api_keys(keys);
    if version >= 3 && codec::versions(spec, ApiKey::Produce as i16).is_some_and(|(_, high)| high >= 10) {
        response.finalized_features_epoch = 1;
        // A minimum of 0 is not shown below v4 (KAFKA-17011).
        let shown = FEATURES.iter().filter(|(name, _)| version >= 4 || *name == "metadata.version");
        response.supported_features = shown
            .map(|&(name, max)| {
                let min = if name == "metadata.version" { 7 } else { 0 };
                SupportedFeatureKey::default().with_name(name.into()).with_min_version(min).with_max_version(max)
            })
            .collect();
        let finalized = FEATURES.iter().take(1).chain(&spec.features).map(|&(name, level)| {
            FinalizedFeatureKey::default()
                .with_name(name.into())
                .with_min_version_level(level)
                .with_max_version_level(level)
        });
        response.finalized_features = finalized.collect();
    }
    response
}

/// KIP-511: a v0 body, the error, and the range of ApiVersions itself.
pub fn unsupported_api_versions(spec: &ClusterSpec) -> ApiVersionsResponse {
    let mut keys = spoken(spec);
    keys.retain(|k| k.api_key == ApiKey::ApiVersions as i16);
    ApiVersionsResponse::default().with_error_code(E::UnsupportedVersion.code()).with_api_keys(keys)
}

fn spoken(spec: &ClusterSpec) -> Vec<ApiVersion> {
    let range = |&(key, ..): &(ApiKey, i16, i16)| {
        let (low, high) = codec::versions(spec, key as i16)?;
        // librdkafka needs to see Produce v0 (KAFKA-18659), though 0-2 are refused.
        let low = if key == ApiKey::Produce { 0 } else { low };
        Some(ApiVersion::default().with_api_key(key as i16).with_min_version(low).with_max_version(high))
    };
    codec::SPOKEN.iter().filter_map(range).collect()
}

pub fn metadata(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let spec = &call.shared.spec;
    let unknown = call.shared.faults.unknown_to(call.node);
    let mut state = call.shared.lock();
    let wanted = request.topics.filter(|topics| !(call.version == 0 && topics.is_empty()));
    let show_operations = request.include_topic_authorized_operations;
    let mut response = MetadataResponse::default();
    match wanted {
        None => {
            response.topics = state
                .topics
                .iter()
                .filter(|(n, _)| !unknown.contains(*n))
                .map(|(n, t)| describe(&state, n, t, call.version))
                .collect();
        }
        Some(wanted) => {
            for topic in wanted {
                let by_id = !topic.topic_id.is_nil();
                let name = if by_id {
                    state.topic_names.get(&topic.topic_id).cloned()
                } else {
                    topic.name.map(|n| n.to_string())
                };
                let known = name.as_ref().and_then(|n| Some((n, state.topics.get(n)?)));
                let answer = match (known, name.as_deref()) {
                    (Some((name, _)), _) if unknown.contains(name) => MetadataResponseTopic::default()
                        .with_error_code(E::UnknownTopicOrPartition.code())
                        .with_name(Some(TopicName(StrBytes::from_string(name.clone())))),
                    (Some((name, found)), _) => describe(&state, name, found, call.version),
                    (None, None) => {
                        let code = E::UnknownTopicId.code();
                        let name = (call.version < 12).then(TopicName::default);
                        MetadataResponseTopic::default()
                            .with_error_code(code)
                            .with_name(name)
                            .with_topic_id(topic.topic_id)
                    }
                    (None, Some(name)) => {
                        let error = missing(spec, &mut state, name, request.allow_auto_topic_creation);
                        MetadataResponseTopic::default()
                            .with_error_code(error.code())
                            .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
                    }
                };
                response.topics.push(answer);
            }
        }
    }
    if show_operations && call.version >= 8 {
        for topic in response.topics.iter_mut().filter(|t| t.error_code == 0) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    if let Some(old) = call.shared.faults.old_leaders(call.node) {
        for topic in &mut response.topics {
            let Some(name) = topic.name.as_ref().map(|n| n.0.to_string()) else { continue };
            for partition in &mut topic.partitions {
                if let Some((leader, epoch)) = old.get(&(name.clone(), partition.partition_index)) {
                    (partition.leader_id, partition.leader_epoch) = (BrokerId(*leader), *epoch);
                }
            }
        }
    }
    response.brokers = state.nodes.iter().filter(|n| n.alive).map(broker).collect();
    response.controller_id = controller(&state).into();
    if call.version >= 2 {
        response.cluster_id = Some(StrBytes::from_string(spec.cluster_id.clone()));
    }
    response
}

pub fn controller(state: &State) -> i32 {
    state.nodes.iter().find(|n| n.alive).map_or(-1, |n| n.id)
}

/// A topic that is made on demand is there at the next question, as with KRaft.
fn missing(spec: &ClusterSpec, state: &mut State, name: &str, may_create: bool) -> E {
    if !is_legal_topic_name(name) {
        return E::InvalidTopicException;
    }
    if let Some(partitions) = spec.auto_create.filter(|_| may_create) {
        let replication = state.default_replication(spec);
        let partitions = usize::try_from(partitions).unwrap_or(1).max(1);
        // It cannot exist: this is only asked of topics that were not found under the same lock.
        let _ = state.create_topic(name, partitions, replication, Default::default());
    }
    E::UnknownTopicOrPartition
}

fn broker(node: &Node) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(node.id.into())
        .with_host(StrBytes::from_string(node.host.clone()))
        .with_port(i32::from(node.port))
}

fn describe(state: &State, name: &str, topic: &Topic, version: i16) -> MetadataResponseTopic {
    let id = |&node: &usize| BrokerId(state.nodes[node].id);
    let partitions = (0..).zip(&topic.partitions).map(|(index, p)| {
        let mut part = MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(p.leader.as_ref().map_or(BrokerId(-1), id))
            .with_replica_nodes(p.replicas.iter().map(id).collect())
            .with_isr_nodes(p.in_sync.iter().map(id).collect());
        if p.leader.is_none() {
            part.error_code = E::LeaderNotAvailable.code();
        }
        if version >= 5 {
            part.offline_replicas = p.replicas.iter().filter(|&&r| !state.nodes[r].alive).map(id).collect();
        }
        if version >= 7 {
            part.leader_epoch = p.epoch;
        }
        part
    });
    let answer = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_partitions(partitions.collect());
    if version >= 10 { answer.with_topic_id(topic.id) } else { answer }
}
