//! Topics made, deleted and emptied.

use std::collections::HashMap;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteTopicsRequest, RequestKind, ResponseKind,
};
use kafka_protocol::protocol::StrBytes;

use super::{another_answer, any_broker, leader, spoken, text};
use crate::error::code;
use crate::ids::{TopicName, TopicPartition};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;
use crate::virtual_cluster::versions;

const TIMEOUT_MS: i32 = 8_000;
const DELETE_TOPICS: i16 = 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    pub name: TopicName,
    pub partitions: i32,
    /// -1: the cluster's default.
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
}

/// Why a topic was not made or deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRefused {
    pub code: i16,
    pub message: String,
}

/// What a cluster says of a topic that it made, or would make.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicDone {
    /// All its configs, names with values; empty if the cluster does not say (versions before 5, no right to see them).
    pub configs: HashMap<String, Option<String>>,
}

pub type TopicsDone<T> = HashMap<TopicName, Result<T, TopicRefused>>;

/// Made by the controller.
pub async fn create_topics(
    admin: &Admin,
    view: &ClusterView,
    topics: Vec<NewTopic>,
) -> Result<TopicsDone<TopicDone>, AdminError> {
    create(admin, view, topics, false).await
}

/// Whether they could be made, and what they would be like. Changes nothing.
pub async fn validate_topics(
    admin: &Admin,
    view: &ClusterView,
    topics: Vec<NewTopic>,
) -> Result<TopicsDone<TopicDone>, AdminError> {
    create(admin, view, topics, true).await
}

async fn create(
    admin: &Admin,
    view: &ClusterView,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Result<TopicsDone<TopicDone>, AdminError> {
    let topics = topics.into_iter().map(|topic| {
        let configs = topic.configs.into_iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name))
                .with_value(Some(StrBytes::from_string(value)))
        });
        CreatableTopic::default()
            .with_name(text(&topic.name).into())
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_configs(configs.collect())
    });
    let request = CreateTopicsRequest::default()
        .with_topics(topics.collect())
        .with_timeout_ms(TIMEOUT_MS)
        .with_validate_only(validate_only);
    let request = RequestKind::CreateTopics(request);
    match admin.ask(&any_broker(admin, view)?, &request).await? {
        ResponseKind::CreateTopics(answer) => Ok(made(answer)),
        _ => Err(another_answer(admin, &request)),
    }
}

fn made(answer: CreateTopicsResponse) -> TopicsDone<TopicDone> {
    let one = |topic: kafka_protocol::messages::create_topics_response::CreatableTopicResult| {
        let name = TopicName::from(topic.name.as_str());
        if topic.error_code != code::NONE {
            return (name, Err(refused(topic.error_code, topic.error_message)));
        }
        let configs = topic.configs.unwrap_or_default();
        let configs = configs.into_iter().map(|c| (c.name.to_string(), c.value.map(|v| v.to_string())));
        (name, Ok(TopicDone { configs: configs.collect() }))
    };
    answer.topics.into_iter().map(one).collect()
}

fn refused(code: i16, message: Option<StrBytes>) -> TopicRefused {
    let message = message.map_or_else(|| crate::error::code_name(code), |m| m.to_string());
    TopicRefused { code, message }
}

/// Deleted by the controller.
pub async fn delete_topics(
    admin: &Admin,
    view: &ClusterView,
    names: &[TopicName],
) -> Result<TopicsDone<()>, AdminError> {
    let address = any_broker(admin, view)?;
    let none = AdminError::Unsupported { side: admin.side, api: "DeleteTopics", key: DELETE_TOPICS };
    let ours = versions::codec(DELETE_TOPICS).ok_or(none)?;
    let version = spoken(admin, &address, DELETE_TOPICS, "DeleteTopics", ours).await?.max;
    let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT_MS);
    // The list moved to another field when topics got ids (KIP-516).
    let request = if version >= 6 {
        let named = names.iter().map(|n| DeleteTopicState::default().with_name(Some(text(n).into())));
        request.with_topics(named.collect())
    } else {
        request.with_topic_names(names.iter().map(|n| text(n).into()).collect())
    };
    let request = RequestKind::DeleteTopics(request);
    let ResponseKind::DeleteTopics(answer) = admin.ask(&address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let one = |topic: kafka_protocol::messages::delete_topics_response::DeletableTopicResult| {
        let done = match topic.error_code {
            code::NONE => Ok(()),
            failed => Err(refused(failed, topic.error_message)),
        };
        Some((TopicName::from(topic.name?.as_str()), done))
    };
    Ok(answer.responses.into_iter().filter_map(one).collect())
}

/// Moves the log start up to `offset` (-1: the high watermark); says where it is then. Kafka refuses it for a topic that is
/// compacted and nothing else, with POLICY_VIOLATION.
pub async fn delete_records(
    admin: &Admin,
    view: &ClusterView,
    tp: &TopicPartition,
    offset: i64,
) -> Result<Result<i64, i16>, AdminError> {
    let address = match leader(view, tp) {
        Ok((_, address)) => address,
        Err(code) => return Ok(Err(code)),
    };
    let partition = DeleteRecordsPartition::default().with_partition_index(tp.partition).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(text(&tp.topic).into()).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let request = RequestKind::DeleteRecords(request);
    let ResponseKind::DeleteRecords(answer) = admin.ask(&address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let mut parts = answer.topics.into_iter().flat_map(|t| t.partitions);
    let done = parts.find(|p| p.partition_index == tp.partition);
    Ok(match done {
        Some(p) if p.error_code == code::NONE => Ok(p.low_watermark),
        Some(p) => Err(p.error_code),
        None => Err(code::UNKNOWN_SERVER_ERROR),
    })
}
