//! CreateTopics v2-7, DeleteTopics v1-6, CreatePartitions v0-3, DeleteRecords v0-2. Any node takes them, as with KRaft.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::state::{State, is_legal_topic_name};
use super::{Call, ClusterSpec, configs};

/// More in one request is a mistake, not a topic.
const MAX_PARTITIONS: i32 = 10_000;
type Refusal = (E, String);

fn refusal(error: E, why: impl Into<String>) -> Refusal {
    (error, why.into())
}
fn message((error, why): &Refusal) -> Option<StrBytes> {
    Some(StrBytes::from_string(if why.is_empty() { error.to_string() } else { why.clone() }))
}

pub fn create_topics(call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut state = call.shared.lock();
    let mut times: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut response = CreateTopicsResponse::default();
    for topic in request.topics {
        let name = topic.name.clone();
        let done = if times.get(name.as_str()).is_some_and(|&n| n > 1) {
            Err(refusal(E::InvalidRequest, "Duplicate topic name."))
        } else {
            create(&call.shared.spec, &mut state, topic, request.validate_only)
        };
        let answer =
            CreatableTopicResult::default().with_name(name).with_num_partitions(-1).with_replication_factor(-1);
        response.topics.push(match done {
            Ok(made) => {
                let mut answer = answer;
                if call.version >= 5 {
                    answer.num_partitions = made.partitions as i32;
                    answer.replication_factor = made.replication as i16;
                    answer.configs = Some(made.configs);
                }
                if call.version >= 7 {
                    answer.topic_id = made.id;
                }
                answer
            }
            Err(why) => answer.with_error_code(why.0.code()).with_error_message(message(&why)),
        });
    }
    response
}

struct Made {
    id: uuid::Uuid,
    partitions: usize,
    replication: usize,
    configs: Vec<CreatableTopicConfigs>,
}

fn create(spec: &ClusterSpec, state: &mut State, topic: CreatableTopic, validate_only: bool) -> Result<Made, Refusal> {
    let name = topic.name.as_str();
    if !is_legal_topic_name(name) {
        return Err(refusal(E::InvalidTopicException, format!("Topic name is invalid: {name:?}")));
    }
    if state.topics.contains_key(name) {
        return Err(refusal(E::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    let mut set = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.as_deref().unwrap_or_default();
        if let Some(why) = configs::refuse(&config.name, value) {
            return Err(refusal(E::InvalidConfig, why));
        }
        set.insert(config.name.to_string(), value.to_owned());
    }
    let assigned = !topic.assignments.is_empty();
    if assigned && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        return Err(refusal(E::InvalidRequest, "A manual partition assignment was given, but counts too."));
    }
    let partitions = match topic.num_partitions {
        _ if assigned => topic.assignments.len() as i32,
        -1 => spec.default_partitions,
        n => n,
    };
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err(refusal(E::InvalidPartitions, "Number of partitions was set to an invalid value."));
    }
    let replication = match topic.replication_factor {
        -1 => state.default_replication(spec),
        n => usize::try_from(n).unwrap_or(0),
    };
    if replication == 0 || replication > state.nodes.len() {
        return Err(refusal(E::InvalidReplicationFactor, "More replicas than brokers."));
    }
    let mut by_hand = BTreeMap::new();
    for assignment in &topic.assignments {
        by_hand.insert(assignment.partition_index, nodes_of(state, &assignment.broker_ids)?);
    }
    if !by_hand.keys().copied().eq(0..by_hand.len() as i32) {
        return Err(refusal(E::InvalidReplicaAssignment, "Partitions must be numbered from 0."));
    }
    let shown = configs::as_created(&set);
    let partitions = partitions as usize;
    let mut id = uuid::Uuid::nil();
    if !validate_only {
        id = state.create_topic(name, partitions, replication, set).map_err(|e| refusal(e, ""))?;
        for (index, replicas) in by_hand {
            let made = state.new_partition(replicas);
            if let Some(partition) = state.partition_mut(name, index) {
                *partition = made;
            }
        }
    }
    Ok(Made { id, partitions, replication, configs: shown })
}

fn nodes_of(state: &State, ids: &[BrokerId]) -> Result<Vec<usize>, Refusal> {
    let index = |id: &BrokerId| state.nodes.iter().position(|n| n.id == id.0);
    let nodes: Option<Vec<usize>> = ids.iter().map(index).collect();
    let known = nodes.filter(|n| !n.is_empty());
    known.ok_or_else(|| refusal(E::InvalidReplicaAssignment, "The assignment names no or unknown brokers."))
}

pub fn delete_topics(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut state = call.shared.lock();
    let by_name = |name| DeleteTopicState::default().with_name(Some(name));
    let wanted = request.topics.into_iter().chain(request.topic_names.into_iter().map(by_name));
    let mut response = DeleteTopicsResponse::default();
    for topic in wanted {
        let name = match &topic.name {
            Some(name) => Some(name.to_string()),
            None => state.topic_names.get(&topic.topic_id).cloned(),
        };
        let deleted = name.as_ref().and_then(|n| state.delete_topic(n));
        let missing = if topic.name.is_some() { E::UnknownTopicOrPartition } else { E::UnknownTopicId };
        let mut answer = DeletableTopicResult::default().with_name(topic.name);
        if call.version >= 6 {
            answer.topic_id = deleted.as_ref().map_or(topic.topic_id, |t| t.id);
            answer.name = name.map(|n| StrBytes::from_string(n).into());
        }
        if deleted.is_none() {
            answer.error_code = missing.code();
            if call.version >= 5 {
                answer.error_message = message(&refusal(missing, ""));
            }
        }
        response.responses.push(answer);
    }
    response
}

pub fn create_partitions(call: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut state = call.shared.lock();
    let mut response = CreatePartitionsResponse::default();
    for topic in request.topics {
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        response.results.push(match grow(&mut state, &topic, request.validate_only) {
            Ok(()) => answer,
            Err(why) => answer.with_error_code(why.0.code()).with_error_message(message(&why)),
        });
    }
    response
}

fn grow(state: &mut State, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let found = state.topics.get(topic.name.as_str()).ok_or_else(|| refusal(E::UnknownTopicOrPartition, ""))?;
    let have = found.partitions.len();
    let replication = found.partitions.first().map_or(1, |p| p.replicas.len());
    let want = usize::try_from(topic.count).unwrap_or(0);
    if want <= have || topic.count > MAX_PARTITIONS {
        let why =
            format!("The topic {} currently has {have} partition(s); {want} would not be an increase.", topic.name.0);
        return Err(refusal(E::InvalidPartitions, why));
    }
    let nodes = state.nodes.len();
    let replicas: Vec<Vec<usize>> = match &topic.assignments {
        Some(given) if given.len() != want - have => {
            return Err(refusal(E::InvalidReplicaAssignment, "One assignment for each new partition."));
        }
        Some(given) => given.iter().map(|a| nodes_of(state, &a.broker_ids)).collect::<Result<_, _>>()?,
        None => (have..want).map(|i| (0..replication).map(|r| (i + r) % nodes).collect()).collect(),
    };
    if validate_only {
        return Ok(());
    }
    let made: Vec<_> = replicas.into_iter().map(|r| state.new_partition(r)).collect();
    if let Some(found) = state.topics.get_mut(topic.name.as_str()) {
        found.partitions.extend(made);
    }
    Ok(())
}

pub fn delete_records(call: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut state = call.shared.lock();
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut answer = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let part = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
            answer.partitions.push(match cut(call, &mut state, &topic.name, wanted.partition_index, wanted.offset) {
                Ok(low) => part.with_low_watermark(low),
                Err(error) => part.with_low_watermark(-1).with_error_code(error.code()),
            });
        }
        response.topics.push(answer);
    }
    response
}

fn cut(call: &Call, state: &mut State, topic: &str, partition: i32, offset: i64) -> Result<i64, E> {
    let found = state.topics.get(topic).ok_or(E::UnknownTopicOrPartition)?;
    if !found.config("cleanup.policy").split(',').any(|p| p == "delete") {
        return Err(E::PolicyViolation);
    }
    let log = &mut state.led(call.node, topic, partition, -1)?.log;
    let offset = if offset == -1 { log.high_watermark() } else { offset };
    if offset < 0 || offset > log.high_watermark() {
        return Err(E::OffsetOutOfRange);
    }
    log.set_start(offset);
    Ok(log.start)
}
