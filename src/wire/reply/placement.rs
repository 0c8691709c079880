//! Refusals about replicas and log directories. Tools print what stands at a partition; an error at the top hides it from
//! them, text and all.

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse, DescribeLogDirsResponse, ElectLeadersRequest, ElectLeadersResponse,
};

use super::Why;

pub(super) fn alter_replica_log_dirs(request: &AlterReplicaLogDirsRequest, why: &Why) -> AlterReplicaLogDirsResponse {
    let results = request.dirs.iter().flat_map(|dir| &dir.topics).map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            AlterReplicaLogDirPartitionResult::default().with_partition_index(index).with_error_code(why.error)
        });
        AlterReplicaLogDirTopicResult::default()
            .with_topic_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    AlterReplicaLogDirsResponse::default().with_results(results.collect())
}

/// Before version 3 only a directory can carry an error.
pub(super) fn describe_log_dirs(why: &Why) -> DescribeLogDirsResponse {
    let response = DescribeLogDirsResponse::default();
    if why.version >= 3 {
        return response.with_error_code(why.error);
    }
    response.with_results(vec![DescribeLogDirsResult::default().with_error_code(why.error)])
}

/// A null list means every partition: who asks so is answered at the top, which version 0 lacks.
pub(super) fn elect_leaders(request: &ElectLeadersRequest, why: &Why) -> Option<ElectLeadersResponse> {
    let Some(topics) = &request.topic_partitions else {
        return (why.version >= 1).then(|| ElectLeadersResponse::default().with_error_code(why.error));
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(why.error)
                .with_error_message(why.message.clone())
        });
        ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(partitions.collect())
    });
    Some(ElectLeadersResponse::default().with_replica_election_results(results.collect()))
}

pub(super) fn alter_partition_reassignments(
    request: &AlterPartitionReassignmentsRequest,
    why: &Why,
) -> AlterPartitionReassignmentsResponse {
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ReassignablePartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(why.error)
                .with_error_message(why.message.clone())
        });
        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    AlterPartitionReassignmentsResponse::default().with_error_message(None).with_responses(responses.collect())
}
