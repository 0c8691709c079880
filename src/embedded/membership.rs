//! JoinGroup v0-9, SyncGroup v0-5, Heartbeat v0-4, LeaveGroup v0-5.

use std::time::Duration;

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::group::{Joining, Reply};
use super::state::State;

/// `group.max.session.timeout.ms`
const MAX_SESSION_MS: i32 = 1_800_000;

/// The checks before a group is looked at.
pub fn coordinated(call: &Call, state: &State, group: &str) -> Result<(), E> {
    if group.is_empty() {
        return Err(E::InvalidGroupId);
    }
    if state.coordinator(group) == Some(call.node) { Ok(()) } else { Err(E::NotCoordinator) }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

pub async fn join_group(call: &Call<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    let refused = |error: E| {
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_member_id(member_id.clone())
    };
    let reply = begin_join(call, request);
    call.shared.deadlines.notify_one();
    let mut response = match reply {
        Err(error) => refused(error),
        Ok(Reply::Now(response)) => response,
        // Without a sender the group was deleted under its members.
        Ok(Reply::Later(wait)) => wait.await.unwrap_or_else(|_| refused(E::UnknownMemberId)),
    };
    if call.version < 7 {
        response.protocol_type = None;
        response.protocol_name.get_or_insert_default();
    }
    if call.version < 5 {
        response.members.iter_mut().for_each(|m| m.group_instance_id = None);
    }
    response
}

fn begin_join(call: &Call, request: JoinGroupRequest) -> Result<Reply<JoinGroupResponse>, E> {
    let spec = &call.shared.spec;
    let mut state = call.shared.lock();
    coordinated(call, &state, &request.group_id)?;
    if !(spec.group_min_session_timeout_ms..=MAX_SESSION_MS).contains(&request.session_timeout_ms) {
        return Err(E::InvalidSessionTimeout);
    }
    if !request.member_id.is_empty() && !state.groups.contains_key(request.group_id.as_str()) {
        return Err(E::UnknownMemberId);
    }
    let rebalance_timeout = if call.version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    let join = Joining {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|i| i.to_string()),
        client_id: call.client_id.clone(),
        client_host: call.client_host.clone(),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout),
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), p.metadata)).collect(),
        requires_member_id: call.version >= 4,
        skips_assignment: call.version >= 9,
        initial_delay: Duration::from_millis(spec.group_initial_rebalance_delay_ms),
    };
    Ok(state.groups.entry(request.group_id.to_string()).or_default().join(join, call.now))
}

pub async fn sync_group(call: &Call<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    let group_id = request.group_id.clone();
    let reply = begin_sync(call, request);
    call.shared.deadlines.notify_one();
    let assigned = match reply {
        Reply::Now(result) => result,
        Reply::Later(wait) => wait.await.unwrap_or(Err(E::UnknownMemberId)),
    };
    match assigned {
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
        Ok(assignment) => {
            let response = SyncGroupResponse::default().with_assignment(assignment);
            if call.version < 5 {
                return response;
            }
            let state = call.shared.lock();
            let group = state.groups.get(group_id.as_str());
            let text = |s: &String| StrBytes::from_string(s.clone());
            response
                .with_protocol_type(group.and_then(|g| g.protocol_type.as_ref()).map(text))
                .with_protocol_name(group.and_then(|g| g.protocol.as_ref()).map(text))
        }
    }
}

fn begin_sync(call: &Call, request: SyncGroupRequest) -> Reply<Result<bytes::Bytes, E>> {
    let mut state = call.shared.lock();
    if let Err(error) = coordinated(call, &state, &request.group_id) {
        return Reply::Now(Err(error));
    }
    let Some(group) = state.groups.get_mut(request.group_id.as_str()) else {
        return Reply::Now(Err(E::UnknownMemberId));
    };
    let instance = request.group_instance_id.as_deref();
    let differs = |asked: &Option<StrBytes>, is: &Option<String>| {
        asked.as_ref().is_some_and(|a| is.as_ref().is_some_and(|i| a.as_str() != i))
    };
    if let Err(error) = group.check(&request.member_id, instance, request.generation_id) {
        return Reply::Now(Err(error));
    }
    if differs(&request.protocol_type, &group.protocol_type) || differs(&request.protocol_name, &group.protocol) {
        return Reply::Now(Err(E::InconsistentGroupProtocol));
    }
    let assignments = request.assignments.into_iter().map(|a| (a.member_id.to_string(), a.assignment));
    group.sync(&request.member_id, instance, request.generation_id, assignments, call.now)
}

pub fn heartbeat(call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let mut state = call.shared.lock();
    let beat = coordinated(call, &state, &request.group_id).and_then(|()| {
        let group = state.groups.get_mut(request.group_id.as_str()).ok_or(E::UnknownMemberId)?;
        let instance = request.group_instance_id.as_deref();
        group.heartbeat(&request.member_id, instance, request.generation_id, call.now)
    });
    HeartbeatResponse::default().with_error_code(beat.err().map_or(0, |e| e.code()))
}

pub fn leave_group(call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let mut state = call.shared.lock();
    if let Err(error) = coordinated(call, &state, &request.group_id) {
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    let mut leave = |id: &str, instance: Option<&str>| {
        let group = state.groups.get_mut(request.group_id.as_str()).ok_or(E::UnknownMemberId);
        group.and_then(|g| g.leave(id, instance, call.now)).err().map_or(0, |e| e.code())
    };
    let mut response = LeaveGroupResponse::default();
    if call.version < 3 {
        response.error_code = leave(&request.member_id, None);
    }
    for member in &request.members {
        let error = leave(&member.member_id, member.group_instance_id.as_deref());
        response.members.push(
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(error),
        );
    }
    call.shared.deadlines.notify_one();
    response
}
