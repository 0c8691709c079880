//! An error answer of the right shape for any API and version of the schema: at the top where the API has a place for it
//! there, else for every topic, partition, group or resource that was asked for. Produce and Fetch bring their own
//! (`ProduceRequest::refused`, `FetchRequest::refused`).

mod groups;
mod placement;
mod security;
mod topics;
mod transactions;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, ApiVersionsResponse, DescribeClusterResponse, DescribeTransactionsResponse,
    EndTxnResponse, InitProducerIdResponse, ListConfigResourcesResponse, ListPartitionReassignmentsResponse,
    ListTransactionsResponse, RequestKind, ResponseKind, SaslAuthenticateResponse, SaslHandshakeResponse,
    describe_transactions_response::TransactionState,
};
use kafka_protocol::protocol::StrBytes;

use super::schema;

/// UNSUPPORTED_VERSION.
const UNSUPPORTED_VERSION: i16 = 35;
const API_VERSIONS: i16 = 18;

/// What every refusal says.
#[derive(Clone)]
struct Why {
    version: i16,
    error: i16,
    message: Option<StrBytes>,
}

/// `None` if the answer has no place for an error (Metadata about all topics before version 13, ElectLeaders of all
/// partitions in version 0, an API that is not ours): then the connection has to be closed.
pub fn refusal(kind: &RequestKind, version: i16, error: i16, message: Option<&str>) -> Option<ResponseKind> {
    let why = Why { version, error, message: message.map(|text| StrBytes::from_string(text.to_owned())) };
    Some(match kind {
        RequestKind::ListOffsets(request) => ResponseKind::ListOffsets(topics::list_offsets(request, &why)),
        RequestKind::Metadata(request) => ResponseKind::Metadata(topics::metadata(request, &why)?),
        RequestKind::OffsetCommit(request) => ResponseKind::OffsetCommit(groups::offset_commit(request, &why)),
        RequestKind::OffsetFetch(request) => ResponseKind::OffsetFetch(groups::offset_fetch(request, &why)),
        RequestKind::FindCoordinator(request) => ResponseKind::FindCoordinator(groups::find_coordinator(request, &why)),
        RequestKind::JoinGroup(request) => ResponseKind::JoinGroup(groups::join_group(request, &why)),
        RequestKind::Heartbeat(_) => ResponseKind::Heartbeat(groups::heartbeat(&why)),
        RequestKind::LeaveGroup(_) => ResponseKind::LeaveGroup(groups::leave_group(&why)),
        RequestKind::SyncGroup(_) => ResponseKind::SyncGroup(groups::sync_group(&why)),
        RequestKind::DescribeGroups(request) => ResponseKind::DescribeGroups(groups::describe_groups(request, &why)),
        RequestKind::ListGroups(_) => ResponseKind::ListGroups(groups::list_groups(&why)),
        RequestKind::SaslHandshake(_) => {
            ResponseKind::SaslHandshake(SaslHandshakeResponse::default().with_error_code(error))
        }
        RequestKind::ApiVersions(_) => ResponseKind::ApiVersions(api_versions(&why)),
        RequestKind::CreateTopics(request) => ResponseKind::CreateTopics(topics::create_topics(request, &why)),
        RequestKind::DeleteTopics(request) => ResponseKind::DeleteTopics(topics::delete_topics(request, &why)),
        RequestKind::DeleteRecords(request) => ResponseKind::DeleteRecords(topics::delete_records(request, &why)),
        RequestKind::InitProducerId(_) => ResponseKind::InitProducerId(
            // -1 and -1: no producer id.
            InitProducerIdResponse::default().with_error_code(error).with_producer_epoch(-1),
        ),
        RequestKind::OffsetForLeaderEpoch(request) => {
            ResponseKind::OffsetForLeaderEpoch(topics::offset_for_leader_epoch(request, &why))
        }
        RequestKind::AddPartitionsToTxn(request) => {
            ResponseKind::AddPartitionsToTxn(transactions::add_partitions_to_txn(request, &why))
        }
        RequestKind::AddOffsetsToTxn(_) => {
            ResponseKind::AddOffsetsToTxn(AddOffsetsToTxnResponse::default().with_error_code(error))
        }
        RequestKind::EndTxn(_) => ResponseKind::EndTxn(EndTxnResponse::default().with_error_code(error)),
        RequestKind::TxnOffsetCommit(request) => {
            ResponseKind::TxnOffsetCommit(transactions::txn_offset_commit(request, &why))
        }
        RequestKind::DescribeAcls(_) => ResponseKind::DescribeAcls(security::describe_acls(&why)),
        RequestKind::CreateAcls(request) => ResponseKind::CreateAcls(security::create_acls(request, &why)),
        RequestKind::DeleteAcls(request) => ResponseKind::DeleteAcls(security::delete_acls(request, &why)),
        RequestKind::DescribeConfigs(request) => ResponseKind::DescribeConfigs(topics::describe_configs(request, &why)),
        RequestKind::AlterConfigs(request) => ResponseKind::AlterConfigs(topics::alter_configs(request, &why)),
        RequestKind::AlterReplicaLogDirs(request) => {
            ResponseKind::AlterReplicaLogDirs(placement::alter_replica_log_dirs(request, &why))
        }
        RequestKind::DescribeLogDirs(_) => ResponseKind::DescribeLogDirs(placement::describe_log_dirs(&why)),
        RequestKind::SaslAuthenticate(_) => ResponseKind::SaslAuthenticate(
            SaslAuthenticateResponse::default().with_error_code(error).with_error_message(why.message),
        ),
        RequestKind::CreatePartitions(request) => {
            ResponseKind::CreatePartitions(topics::create_partitions(request, &why))
        }
        RequestKind::DeleteGroups(request) => ResponseKind::DeleteGroups(groups::delete_groups(request, &why)),
        RequestKind::ElectLeaders(request) => ResponseKind::ElectLeaders(placement::elect_leaders(request, &why)?),
        RequestKind::IncrementalAlterConfigs(request) => {
            ResponseKind::IncrementalAlterConfigs(topics::incremental_alter_configs(request, &why))
        }
        RequestKind::AlterPartitionReassignments(request) => {
            ResponseKind::AlterPartitionReassignments(placement::alter_partition_reassignments(request, &why))
        }
        RequestKind::ListPartitionReassignments(_) => ResponseKind::ListPartitionReassignments(
            ListPartitionReassignmentsResponse::default().with_error_code(error).with_error_message(why.message),
        ),
        RequestKind::OffsetDelete(_) => ResponseKind::OffsetDelete(groups::offset_delete(&why)),
        RequestKind::DescribeClientQuotas(_) => {
            ResponseKind::DescribeClientQuotas(security::describe_client_quotas(&why))
        }
        RequestKind::AlterClientQuotas(request) => {
            ResponseKind::AlterClientQuotas(security::alter_client_quotas(request, &why))
        }
        RequestKind::DescribeUserScramCredentials(_) => {
            ResponseKind::DescribeUserScramCredentials(security::describe_user_scram_credentials(&why))
        }
        RequestKind::AlterUserScramCredentials(request) => {
            ResponseKind::AlterUserScramCredentials(security::alter_user_scram_credentials(request, &why))
        }
        RequestKind::DescribeCluster(_) => ResponseKind::DescribeCluster(
            DescribeClusterResponse::default().with_error_code(error).with_error_message(why.message),
        ),
        RequestKind::DescribeProducers(request) => {
            ResponseKind::DescribeProducers(topics::describe_producers(request, &why))
        }
        RequestKind::DescribeTransactions(request) => {
            let refused = request
                .transactional_ids
                .iter()
                .map(|id| TransactionState::default().with_error_code(error).with_transactional_id(id.clone()));
            ResponseKind::DescribeTransactions(
                DescribeTransactionsResponse::default().with_transaction_states(refused.collect()),
            )
        }
        RequestKind::ListTransactions(_) => {
            ResponseKind::ListTransactions(ListTransactionsResponse::default().with_error_code(error))
        }
        RequestKind::ConsumerGroupHeartbeat(_) => {
            ResponseKind::ConsumerGroupHeartbeat(groups::consumer_group_heartbeat(&why))
        }
        RequestKind::ConsumerGroupDescribe(request) => {
            ResponseKind::ConsumerGroupDescribe(groups::consumer_group_describe(request, &why))
        }
        RequestKind::ListConfigResources(_) => {
            ResponseKind::ListConfigResources(ListConfigResourcesResponse::default().with_error_code(error))
        }
        RequestKind::DescribeTopicPartitions(request) => {
            ResponseKind::DescribeTopicPartitions(topics::describe_topic_partitions(request, &why))
        }
        _ => return None,
    })
}

/// A client whose version is not spoken is told which are (KIP-511); the answer is then written as version 0.
fn api_versions(why: &Why) -> ApiVersionsResponse {
    let spoken = schema::versions(API_VERSIONS).filter(|_| why.error == UNSUPPORTED_VERSION);
    let api_keys = spoken.into_iter().map(|all| {
        ApiVersion::default().with_api_key(API_VERSIONS).with_min_version(*all.start()).with_max_version(*all.end())
    });
    ApiVersionsResponse::default().with_error_code(why.error).with_api_keys(api_keys.collect())
}
