//! Refusals about groups, their members and their offsets.

use kafka_protocol::messages::consumer_group_describe_response as consumer_group;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse,
    ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Why;
use crate::ids::NONE;

const NO_NODE: BrokerId = BrokerId(-1);

pub(super) fn offset_commit(request: &OffsetCommitRequest, why: &Why) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(why.error)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Per partition in version 1, for the one group until 7, then per group.
pub(super) fn offset_fetch(request: &OffsetFetchRequest, why: &Why) -> OffsetFetchResponse {
    match why.version {
        ..2 => {
            let topics = request.topics.iter().flatten().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|&index| {
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(NONE)
                        .with_metadata(Some(StrBytes::new()))
                        .with_error_code(why.error)
                });
                OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
            });
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
        2..8 => OffsetFetchResponse::default().with_error_code(why.error),
        8.. => {
            let groups = request.groups.iter().map(|group| {
                OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(why.error)
            });
            OffsetFetchResponse::default().with_groups(groups.collect())
        }
    }
}

pub(super) fn find_coordinator(request: &FindCoordinatorRequest, why: &Why) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default();
    if why.version < 4 {
        let response = response.with_error_code(why.error).with_node_id(NO_NODE).with_port(-1);
        return if why.version >= 1 { response.with_error_message(why.message.clone()) } else { response };
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(NO_NODE)
            .with_port(-1)
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
    });
    response.with_coordinators(coordinators.collect())
}

pub(super) fn join_group(request: &JoinGroupRequest, why: &Why) -> JoinGroupResponse {
    // Null only from version 7 on, as Kafka's `JoinGroupResponse` has it.
    let protocol = (why.version < 7).then(StrBytes::new);
    JoinGroupResponse::default()
        .with_error_code(why.error)
        .with_protocol_name(protocol)
        .with_member_id(request.member_id.clone())
}

pub(super) fn heartbeat(why: &Why) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(why.error)
}

pub(super) fn leave_group(why: &Why) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(why.error)
}

pub(super) fn sync_group(why: &Why) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(why.error)
}

pub(super) fn describe_groups(request: &DescribeGroupsRequest, why: &Why) -> DescribeGroupsResponse {
    let groups = request.groups.iter().map(|group| {
        let refused = DescribedGroup::default().with_error_code(why.error).with_group_id(group.clone());
        if why.version >= 6 { refused.with_error_message(why.message.clone()) } else { refused }
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub(super) fn list_groups(why: &Why) -> ListGroupsResponse {
    ListGroupsResponse::default().with_error_code(why.error)
}

pub(super) fn delete_groups(request: &DeleteGroupsRequest, why: &Why) -> DeleteGroupsResponse {
    let results = request
        .groups_names
        .iter()
        .map(|group| DeletableGroupResult::default().with_group_id(group.clone()).with_error_code(why.error));
    DeleteGroupsResponse::default().with_results(results.collect())
}

pub(super) fn offset_delete(why: &Why) -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(why.error)
}

pub(super) fn consumer_group_heartbeat(why: &Why) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(why.error).with_error_message(why.message.clone())
}

pub(super) fn consumer_group_describe(
    request: &ConsumerGroupDescribeRequest,
    why: &Why,
) -> ConsumerGroupDescribeResponse {
    let groups = request.group_ids.iter().map(|group| {
        consumer_group::DescribedGroup::default()
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
            .with_group_id(group.clone())
    });
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}
