//! Refusals about topics, partitions and configs: each that was asked for, named as it was asked for.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::incremental_alter_configs_response as incremental;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::Why;
use crate::ids::NONE;

pub(super) fn list_offsets(request: &ListOffsetsRequest, why: &Why) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(why.error)
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Before version 13 only a named topic can carry an error.
pub(super) fn metadata(request: &MetadataRequest, why: &Why) -> Option<MetadataResponse> {
    let topics: Vec<_> = request
        .topics
        .iter()
        .flatten()
        .map(|topic| {
            MetadataResponseTopic::default()
                .with_error_code(why.error)
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
        })
        .collect();
    let response = MetadataResponse::default();
    match (why.version >= 13, topics.is_empty()) {
        (true, _) => Some(response.with_error_code(why.error).with_topics(topics)),
        (false, false) => Some(response.with_topics(topics)),
        (false, true) => None,
    }
}

pub(super) fn create_topics(request: &CreateTopicsRequest, why: &Why) -> CreateTopicsResponse {
    let topics = request.topics.iter().map(|topic| {
        CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

pub(super) fn delete_topics(request: &DeleteTopicsRequest, why: &Why) -> DeleteTopicsResponse {
    let refused = || {
        let result = DeletableTopicResult::default().with_error_code(why.error);
        if why.version >= 5 { result.with_error_message(why.message.clone()) } else { result }
    };
    let named = request.topic_names.iter().map(|name| refused().with_name(Some(name.clone())));
    let stated =
        request.topics.iter().map(|topic| refused().with_name(topic.name.clone()).with_topic_id(topic.topic_id));
    DeleteTopicsResponse::default().with_responses(named.chain(stated).collect())
}

pub(super) fn delete_records(request: &DeleteRecordsRequest, why: &Why) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(NONE)
                .with_error_code(why.error)
        });
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

pub(super) fn offset_for_leader_epoch(
    request: &OffsetForLeaderEpochRequest,
    why: &Why,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|partition| EpochEndOffset::default().with_partition(partition.partition).with_error_code(why.error));
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

pub(super) fn describe_configs(request: &DescribeConfigsRequest, why: &Why) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        DescribeConfigsResult::default()
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

pub(super) fn alter_configs(request: &AlterConfigsRequest, why: &Why) -> AlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        AlterConfigsResourceResponse::default()
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

pub(super) fn incremental_alter_configs(
    request: &IncrementalAlterConfigsRequest,
    why: &Why,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.iter().map(|resource| {
        incremental::AlterConfigsResourceResponse::default()
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

pub(super) fn create_partitions(request: &CreatePartitionsRequest, why: &Why) -> CreatePartitionsResponse {
    let results = request.topics.iter().map(|topic| {
        CreatePartitionsTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub(super) fn describe_producers(request: &DescribeProducersRequest, why: &Why) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            PartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(why.error)
                .with_error_message(why.message.clone())
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

pub(super) fn describe_topic_partitions(
    request: &DescribeTopicPartitionsRequest,
    why: &Why,
) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default().with_error_code(why.error).with_name(Some(topic.name.clone()))
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}
