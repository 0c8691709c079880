//! Refusals about ACLs, quotas and credentials: each entry that was to be written, or the whole question.

use kafka_protocol::messages::alter_client_quotas_response as quotas;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsResponse, DescribeClientQuotasResponse, DescribeUserScramCredentialsResponse,
};

use super::Why;

pub(super) fn describe_acls(why: &Why) -> DescribeAclsResponse {
    DescribeAclsResponse::default().with_error_code(why.error).with_error_message(why.message.clone())
}

pub(super) fn create_acls(request: &CreateAclsRequest, why: &Why) -> CreateAclsResponse {
    let refused = || AclCreationResult::default().with_error_code(why.error).with_error_message(why.message.clone());
    CreateAclsResponse::default().with_results(request.creations.iter().map(|_| refused()).collect())
}

pub(super) fn delete_acls(request: &DeleteAclsRequest, why: &Why) -> DeleteAclsResponse {
    let refused =
        || DeleteAclsFilterResult::default().with_error_code(why.error).with_error_message(why.message.clone());
    DeleteAclsResponse::default().with_filter_results(request.filters.iter().map(|_| refused()).collect())
}

pub(super) fn describe_client_quotas(why: &Why) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse::default()
        .with_error_code(why.error)
        .with_error_message(why.message.clone())
        .with_entries(None)
}

pub(super) fn alter_client_quotas(request: &AlterClientQuotasRequest, why: &Why) -> AlterClientQuotasResponse {
    let entries = request.entries.iter().map(|entry| {
        let named = entry.entity.iter().map(|e| {
            quotas::EntityData::default()
                .with_entity_type(e.entity_type.clone())
                .with_entity_name(e.entity_name.clone())
        });
        quotas::EntryData::default()
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
            .with_entity(named.collect())
    });
    AlterClientQuotasResponse::default().with_entries(entries.collect())
}

pub(super) fn describe_user_scram_credentials(why: &Why) -> DescribeUserScramCredentialsResponse {
    DescribeUserScramCredentialsResponse::default().with_error_code(why.error).with_error_message(why.message.clone())
}

pub(super) fn alter_user_scram_credentials(
    request: &AlterUserScramCredentialsRequest,
    why: &Why,
) -> AlterUserScramCredentialsResponse {
    let deletions = request.deletions.iter().map(|d| &d.name);
    let users = deletions.chain(request.upsertions.iter().map(|u| &u.name));
    let results = users.map(|user| {
        AlterUserScramCredentialsResult::default()
            .with_user(user.clone())
            .with_error_code(why.error)
            .with_error_message(why.message.clone())
    });
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}
