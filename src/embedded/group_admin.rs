//! DescribeGroups v0-6, ListGroups v0-5, DeleteGroups v0-2.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::group::{Group, GroupState};
use super::membership::coordinated;

/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS
const GROUP_OPERATIONS: i32 = 0xd48;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub fn describe_groups(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let state = call.shared.lock();
    let mut response = DescribeGroupsResponse::default();
    for id in request.groups {
        let answer = DescribedGroup::default().with_group_id(id.clone());
        let group = state.groups.get(id.as_str());
        let mut answer = match (coordinated(call, &state, &id), group) {
            (Err(error), _) => answer.with_error_code(error.code()),
            (Ok(()), Some(group)) => describe(answer, group, call.version),
            // Before v6 a group that is not there is dead (KIP-1043).
            (Ok(()), None) if call.version < 6 => answer.with_group_state("Dead".into()),
            (Ok(()), None) => answer
                .with_group_state("Dead".into())
                .with_error_code(E::GroupIdNotFound.code())
                .with_error_message(Some(text(&format!("Group {} not found.", id.0)))),
        };
        if request.include_authorized_operations && answer.error_code == 0 {
            answer.authorized_operations = GROUP_OPERATIONS;
        }
        response.groups.push(answer);
    }
    response
}

fn describe(answer: DescribedGroup, group: &Group, version: i16) -> DescribedGroup {
    let stable = group.state == GroupState::Stable;
    let protocol = group.protocol.as_deref().filter(|_| stable).unwrap_or_default();
    let members = group.members.iter().map(|(id, member)| {
        let answer = DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host));
        let answer = match &member.instance_id {
            Some(instance) if version >= 4 => answer.with_group_instance_id(Some(text(instance))),
            _ => answer,
        };
        if stable {
            answer.with_member_metadata(member.metadata(protocol)).with_member_assignment(member.assignment.clone())
        } else {
            answer
        }
    });
    answer
        .with_group_state(group.state.name().into())
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(protocol))
        .with_members(members.collect())
}

pub fn list_groups(call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let state = call.shared.lock();
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|f| f.as_str().eq_ignore_ascii_case(value))
    };
    let mut response = ListGroupsResponse::default();
    for (id, group) in &state.groups {
        let shown = state.coordinator(id) == Some(call.node)
            && passes(&request.states_filter, group.state.name())
            && passes(&request.types_filter, "classic");
        if !shown {
            continue;
        }
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()));
        if call.version >= 4 {
            listed.group_state = group.state.name().into();
        }
        if call.version >= 5 {
            listed.group_type = "classic".into();
        }
        response.groups.push(listed);
    }
    response
}

pub fn delete_groups(call: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut state = call.shared.lock();
    let mut response = DeleteGroupsResponse::default();
    for id in request.groups_names {
        let done = coordinated(call, &state, &id).and_then(|()| match state.groups.get(id.as_str()) {
            None => Err(E::GroupIdNotFound),
            Some(group) if group.state != GroupState::Empty => Err(E::NonEmptyGroup),
            Some(_) => Ok(()),
        });
        if done.is_ok() {
            state.groups.remove(id.as_str());
        }
        let answer = DeletableGroupResult::default().with_group_id(id);
        response.results.push(answer.with_error_code(done.err().map_or(0, |e| e.code())));
    }
    response
}
