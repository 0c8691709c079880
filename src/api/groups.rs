//! DescribeGroups (15), ListGroups (16), DeleteGroups (42): forwarded to the coordinator on the group's home. Requests with
//! many groups are split by group; ListGroups goes to every broker of each side where a group is at home, and of each side's
//! answer stands what is at home there: the rest are shadows. Answers pass unchanged: a member's host is the proxy's own
//! address.
//!
//! With several virtual nodes every one of them lists all groups: the connection does not say which node was meant,
//! and clients drop duplicates.

use std::collections::HashSet;
use std::time::Duration;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsResponse, RequestKind, ResponseKind,
};

use tokio::time::Instant;

use super::{Answers, Ask, Context, Input, Machine, Step, Unanswered};
use crate::error::{code, is_retriable};
use crate::groups::commits::UnderWay;
use crate::groups::shadow::Told;
use crate::ids::Side;

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
        cx.shared.coordinators.forget(cx.shared.homes.of(group), group);
    }
}

/// Nothing that writes to a group's positions begins while they are taken to another home: it waits for the end of that.
pub fn enter(cx: &Context<'_>, group: &str) -> Result<UnderWay, UntilMoved> {
    /// It takes a few round trips.
    const PATIENCE: Duration = Duration::from_secs(30);
    // Read before it is looked whether there is a barrier: one that ends in between is not missed.
    let ended = cx.shared.moves.ended();
    let deadline = cx.now + PATIENCE;
    cx.shared.commits.enter(group).ok_or(UntilMoved { newer_than: ended, deadline })
}

/// The wait for the end of a move.
pub struct UntilMoved {
    newer_than: u64,
    deadline: Instant,
}

impl From<UntilMoved> for Step {
    fn from(UntilMoved { newer_than, deadline }: UntilMoved) -> Self {
        Step::AwaitMoveEnd { newer_than, deadline }
    }
}

pub struct Groups {
    request: RequestKind,
    /// Whom ListGroups asks.
    sides: Vec<Side>,
    /// Groups that are being deleted do not move meanwhile.
    deleting: Vec<UnderWay>,
}

impl Groups {
    pub fn new(request: RequestKind) -> Self {
        Self { request, sides: vec![], deleting: vec![] }
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        let ask = |group: &GroupId, request| Ask::coordinator(cx.shared.homes.of(group), group, request);
        let asks: Vec<Ask> = match &self.request {
            RequestKind::DescribeGroups(r) => {
                // Built from parts: a copy of the request for each of its groups would be quadratic.
                let alone = |g: &GroupId| {
                    DescribeGroupsRequest::default()
                        .with_groups(vec![g.clone()])
                        .with_include_authorized_operations(r.include_authorized_operations)
                };
                r.groups.iter().map(|g| ask(g, RequestKind::DescribeGroups(alone(g)))).collect()
            }
            RequestKind::DeleteGroups(r) => {
                let alone = |g: &GroupId| DeleteGroupsRequest::default().with_groups_names(vec![g.clone()]);
                match r.groups_names.iter().map(|g| enter(cx, g)).collect() {
                    Ok(deleting) => self.deleting = deleting,
                    Err(wait) => return wait.into(),
                }
                r.groups_names.iter().map(|g| ask(g, RequestKind::DeleteGroups(alone(g)))).collect()
            }
            _ => {
                let mut asks = vec![];
                for side in Side::BOTH.into_iter().filter(|side| cx.shared.homes.any_on(*side)) {
                    let mut nodes: Vec<_> =
                        cx.topology.side(side).iter().flat_map(|c| c.brokers.keys().copied()).collect();
                    nodes.sort_unstable();
                    self.sides.extend(nodes.iter().map(|_| side));
                    asks.extend(nodes.into_iter().map(|node| Ask::node(side, node, self.request.clone())));
                }
                asks
            }
        };
        if asks.is_empty() { self.answer(cx, vec![]) } else { Step::Ask(asks) }
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> Step {
        Step::Answer(match &self.request {
            RequestKind::DescribeGroups(r) => ResponseKind::DescribeGroups(described(cx, r, answers)),
            RequestKind::DeleteGroups(r) => ResponseKind::DeleteGroups(deleted(cx, r, answers)),
            _ => ResponseKind::ListGroups(listed(cx, &self.sides, answers)),
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
    cx.partitions.topics.values().any(|states| states.iter().any(|s| s.map.has_seam()))
}

/// The first error stands: a list without one broker's groups must not pass for a whole one.
fn listed(cx: &Context<'_>, sides: &[Side], answers: Answers) -> ListGroupsResponse {
    let mut merged = ListGroupsResponse::default();
    let mut seen: HashSet<GroupId> = HashSet::new();
    if answers.is_empty() {
        merged.error_code = code::COORDINATOR_NOT_AVAILABLE;
    }
    for (side, answer) in sides.iter().zip(answers) {
        let error = match answer {
            Ok(ResponseKind::ListGroups(a)) => {
                merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                let at_home = a.groups.into_iter().filter(|g| cx.shared.homes.of(&g.group_id) == *side);
                merged.groups.extend(at_home.filter(|g| seen.insert(g.group_id.clone())));
                a.error_code
            }
            _ => {
                // Perhaps a broker that is no more.
                cx.shared.refresh(*side);
                code::COORDINATOR_NOT_AVAILABLE
            }
        };
        if merged.error_code == code::NONE {
            merged.error_code = error;
        }
    }
    merged
}
