//! JoinGroup (11), SyncGroup (14), Heartbeat (12), LeaveGroup (13), DescribeGroups (15), ListGroups (16),
//! DeleteGroups (42): forwarded to the coordinator on the group's home. Requests with many groups are split by group;
//! ListGroups goes to every broker of the home. Answers pass unchanged: a member's host is the proxy's own address.
//!
//! With several virtual nodes every one of them lists all groups: the connection does not say which node was meant,
//! and clients drop duplicates.

use std::collections::HashSet;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, ListGroupsResponse, RequestKind, ResponseKind,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Answers, Ask, Context, Input, Machine, Step, Unanswered};
use crate::error::{code, is_retriable};
use crate::groups::home;
use crate::groups::shadow::Told;
use crate::ids::Side;
use crate::upstream::Lane;

/// What a group's member or administrator is told when its coordinator did not answer: look it up and ask again.
/// NOT_COORDINATOR rather than COORDINATOR_NOT_AVAILABLE: sarama gives up its session at the second in JoinGroup and
/// SyncGroup, the Java consumer throws it out of `poll` in OffsetFetch. Member id and generation survive the first
/// everywhere.
pub const COORDINATOR_LOST: i16 = code::NOT_COORDINATOR;

/// What the client of a group is told in place of an answer. A look-up that was refused for good (no right to the group)
/// is no reason to look again: the client would do it for ever, and nobody would hear why.
pub fn lost_code(answer: Option<&Result<ResponseKind, Unanswered>>) -> i16 {
    match answer {
        Some(Err(Unanswered::NoCoordinator(error)))
            if !is_retriable(*error) && *error != code::UNKNOWN_SERVER_ERROR =>
        {
            *error
        }
        _ => COORDINATOR_LOST,
    }
}

/// Learns from an error in an answer that the coordinator known for a group is not one any more.
pub fn note_error(cx: &Context<'_>, group: &str, error: i16) {
    if error == code::NOT_COORDINATOR || error == code::COORDINATOR_NOT_AVAILABLE {
        cx.shared.coordinators.forget(home(group), group);
    }
}

pub struct Groups {
    request: RequestKind,
}

impl Groups {
    pub fn new(request: RequestKind) -> Self {
        Self { request }
    }

    fn start(&self, cx: &Context<'_>) -> Step {
        let asks: Vec<Ask> = match &self.request {
            RequestKind::DescribeGroups(r) => {
                // Built from parts: a copy of the request for each of its groups would be quadratic.
                let alone = |g: &GroupId| {
                    DescribeGroupsRequest::default()
                        .with_groups(vec![g.clone()])
                        .with_include_authorized_operations(r.include_authorized_operations)
                };
                r.groups.iter().map(|g| ask(g, Lane::Ordinary, RequestKind::DescribeGroups(alone(g)))).collect()
            }
            RequestKind::DeleteGroups(r) => {
                let alone = |g: &GroupId| DeleteGroupsRequest::default().with_groups_names(vec![g.clone()]);
                r.groups_names.iter().map(|g| ask(g, Lane::Ordinary, RequestKind::DeleteGroups(alone(g)))).collect()
            }
            RequestKind::ListGroups(_) => {
                let mut nodes: Vec<_> =
                    cx.topology.side(Side::Source).iter().flat_map(|c| c.brokers.keys().copied()).collect();
                nodes.sort_unstable();
                nodes.into_iter().map(|node| Ask::node(Side::Source, node, self.request.clone())).collect()
            }
            single => group_of(single).map(|(g, lane)| ask(g, lane, single.clone())).into_iter().collect(),
        };
        if asks.is_empty() { self.answer(cx, vec![]) } else { Step::Ask(asks) }
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> Step {
        Step::Answer(match &self.request {
            RequestKind::DescribeGroups(r) => ResponseKind::DescribeGroups(described(cx, r, answers)),
            RequestKind::DeleteGroups(r) => ResponseKind::DeleteGroups(deleted(cx, r, answers)),
            RequestKind::ListGroups(_) => ResponseKind::ListGroups(listed(cx, answers)),
            single => {
                let (group, _) = group_of(single).expect("`api::machine` gives no other request");
                let answer = answers.into_iter().next();
                let error = lost_code(answer.as_ref());
                let answer = answer.and_then(Result::ok).unwrap_or_else(|| lost(single, cx.version, error));
                note_error(cx, group, error_of(&answer));
                answer
            }
        })
    }
}

impl Machine for Groups {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => self.answer(cx, answers),
            Input::Start | Input::Woken => self.start(cx),
        }
    }
}

fn ask(group: &GroupId, lane: Lane, request: RequestKind) -> Ask {
    Ask { lane, ..Ask::coordinator(home(group), group, request) }
}

/// The one group of a member's request, and the connection it takes: joins wait for the other members.
fn group_of(request: &RequestKind) -> Option<(&GroupId, Lane)> {
    match request {
        RequestKind::JoinGroup(r) => Some((&r.group_id, Lane::Rebalance)),
        RequestKind::SyncGroup(r) => Some((&r.group_id, Lane::Rebalance)),
        RequestKind::Heartbeat(r) => Some((&r.group_id, Lane::Ordinary)),
        RequestKind::LeaveGroup(r) => Some((&r.group_id, Lane::Ordinary)),
        _ => None,
    }
}

fn error_of(answer: &ResponseKind) -> i16 {
    match answer {
        ResponseKind::JoinGroup(a) => a.error_code,
        ResponseKind::SyncGroup(a) => a.error_code,
        ResponseKind::Heartbeat(a) => a.error_code,
        ResponseKind::LeaveGroup(a) => a.error_code,
        _ => code::NONE,
    }
}

/// The answer to a member whose coordinator was lost.
fn lost(request: &RequestKind, version: i16, error: i16) -> ResponseKind {
    match request {
        RequestKind::JoinGroup(r) => ResponseKind::JoinGroup(
            JoinGroupResponse::default()
                .with_error_code(error)
                .with_generation_id(-1)
                // Not nullable before v7.
                .with_protocol_name((version < 7).then(StrBytes::default))
                .with_member_id(r.member_id.clone()),
        ),
        RequestKind::SyncGroup(_) => ResponseKind::SyncGroup(SyncGroupResponse::default().with_error_code(error)),
        RequestKind::LeaveGroup(_) => ResponseKind::LeaveGroup(LeaveGroupResponse::default().with_error_code(error)),
        _ => ResponseKind::Heartbeat(HeartbeatResponse::default().with_error_code(error)),
    }
}

fn described(cx: &Context<'_>, request: &DescribeGroupsRequest, answers: Answers) -> DescribeGroupsResponse {
    let mut merged = DescribeGroupsResponse::default();
    for (id, answer) in request.groups.iter().zip(answers) {
        let error = lost_code(Some(&answer));
        let found = match answer {
            Ok(ResponseKind::DescribeGroups(a)) => {
                merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                a.groups.into_iter().find(|g| g.group_id == *id)
            }
            _ => None,
        };
        let nobody = || DescribedGroup::default().with_group_id(id.clone()).with_error_code(error);
        let group = found.unwrap_or_else(nobody);
        note_error(cx, id, group.error_code);
        merged.groups.push(group);
    }
    merged
}

fn deleted(cx: &Context<'_>, request: &DeleteGroupsRequest, answers: Answers) -> DeleteGroupsResponse {
    let mut merged = DeleteGroupsResponse::default();
    let mut shadows = None;
    for (id, answer) in request.groups_names.iter().zip(answers) {
        let error = lost_code(Some(&answer));
        let found = match answer {
            Ok(ResponseKind::DeleteGroups(a)) => {
                merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                a.results.into_iter().find(|g| g.group_id == *id)
            }
            _ => None,
        };
        let nobody = || DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(error);
        let result = found.unwrap_or_else(nobody);
        note_error(cx, id, result.error_code);
        if result.error_code == code::NONE && *shadows.get_or_insert_with(|| has_sealed(cx)) {
            // Nobody writes any more when the proxy is stopping.
            drop(cx.shared.shadows.send(Told::Deleted(id.to_string())));
        }
        merged.results.push(result);
    }
    merged
}

/// Before the first seal no group has a shadow: what has its name on the other side is somebody else's.
pub(super) fn has_sealed(cx: &Context<'_>) -> bool {
    cx.partitions.topics.values().any(|states| states.iter().any(|s| s.map.seals() > 0))
}

/// The first error stands: a list without one broker's groups must not pass for a whole one.
fn listed(cx: &Context<'_>, answers: Answers) -> ListGroupsResponse {
    let mut merged = ListGroupsResponse::default();
    let mut seen: HashSet<GroupId> = HashSet::new();
    if answers.is_empty() {
        merged.error_code = code::COORDINATOR_NOT_AVAILABLE;
    }
    for answer in answers {
        let error = match answer {
            Ok(ResponseKind::ListGroups(a)) => {
                merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                merged.groups.extend(a.groups.into_iter().filter(|g| seen.insert(g.group_id.clone())));
                a.error_code
            }
            _ => {
                // Perhaps a broker that is no more.
                cx.shared.refresh(Side::Source);
                code::COORDINATOR_NOT_AVAILABLE
            }
        };
        if merged.error_code == code::NONE {
            merged.error_code = error;
        }
    }
    merged
}
