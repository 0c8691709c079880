//! ConsumerGroupHeartbeat (68) and ConsumerGroupDescribe (69), v0 to v1: KIP-848 groups, at their coordinator on the
//! group's home. Every heartbeat carries what the member has and wants, so those of a connection go out in their order,
//! on the connection that commits take, too. Clients know topics by the source's ids: a group that is at home on the target
//! is told, and tells, its own. An expression that a broker
//! evaluates (v1) may match a topic of our own: no member gets it, since none could find out what it is. A topic that our
//! snapshot does not have yet may be such a one, so a newer snapshot is waited for first.
//!
//! While a group is on its way to another home (PROTOCOL.md section 6) the old one hears of its members no more than that
//! they are there, and they are told that they have no partitions; when all have said that they have given up theirs, the
//! group moves, and what comes with an epoch of before is answered FENCED_MEMBER_EPOCH (rule 30): its client joins at the
//! new home, with the same id. A move that was undone leaves members that believe to have nothing (`groups::called`).
//!
//! Not offered: share groups, streams groups.

use std::time::Duration;

use kafka_protocol::messages::consumer_group_describe_response::{Assignment as Shown, DescribedGroup};
use kafka_protocol::messages::consumer_group_heartbeat_response::Assignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, RequestKind, ResponseKind,
};

use tokio::time::Instant;

use super::groups::{enter, lost_code, note_error};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::groups::commits::UnderWay;
use crate::groups::moves::{Beat, Protocol};
use crate::ids::Side;
use crate::store::identity::is_marker_topic;

/// What makes a client send all of its state with the next heartbeat, and costs it nothing.
const ASKS_FOR_STATE: i16 = code::NOT_COORDINATOR;

/// Whose topic ids clients see.
const IDS: Side = Side::Source;

/// How long our own snapshot may take to show a topic that a member has been given.
const PATIENCE: Duration = Duration::from_secs(2);

/// No member that joins waits here for longer: librdkafka gives up a heartbeat when the next one is due.
const HELD_MOST: Duration = Duration::from_millis(500);
/// When members of a group on its way are to come again, at the latest. librdkafka gives up a heartbeat, and the connection
/// to its coordinator with it, if that is not answered by then: no less than it is used to from classic groups.
const SOON_MS: i32 = 3_000;
/// The epoch of a member that joins; below it, of one that leaves.
const JOINS: i32 = 0;

pub struct Heartbeat {
    request: ConsumerGroupHeartbeatRequest,
    /// When a member that joins has waited for long enough.
    until: Option<Instant>,
    /// The group does not move before this has its answer, which is in the terms of who was asked.
    under_way: Option<(UnderWay, Side)>,
    /// The group was on its way: the old home was told no more than that the member is there.
    alive_only: bool,
    /// Waits for a snapshot that has all topics of it.
    answer: Option<ConsumerGroupHeartbeatResponse>,
}

impl Heartbeat {
    pub fn new(request: ConsumerGroupHeartbeatRequest) -> Self {
        Self { request, until: None, under_way: None, alive_only: false, answer: None }
    }

    /// To the group's home, in its own terms.
    fn ask(&mut self, cx: &Context<'_>) -> Step {
        let group = self.request.group_id.clone();
        let ended = cx.shared.moves.ended();
        let moving = cx.shared.moves.is_moving(&group);
        if moving && self.request.member_epoch == JOINS {
            let until = *self.until.get_or_insert(cx.now + HELD_MOST);
            if cx.now >= until {
                return self.refused(code::NOT_COORDINATOR);
            }
            return Step::AwaitMoveEnd { newer_than: ended, deadline: until };
        }
        let entered = match enter(cx, &group) {
            Ok(entered) => entered,
            Err(wait) => return wait.into(),
        };
        // Looked at only now: from here on the group does not move.
        let home = cx.shared.homes.of(&group);
        let is_member = self.request.member_epoch > JOINS;
        self.alive_only = is_member && cx.shared.moves.protocol(&group) == Some(Protocol::Consumer);
        if is_member && !self.alive_only && cx.shared.called.must_ask(&group, &self.request.member_id, self.tells()) {
            return self.refused(ASKS_FOR_STATE);
        }
        self.under_way = Some((entered, home));
        let mut request = self.request.clone();
        if self.alive_only {
            request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(request.group_id)
                .with_member_id(request.member_id)
                .with_member_epoch(request.member_epoch)
                .with_instance_id(request.instance_id);
        }
        for topic in request.topic_partitions.iter_mut().flatten() {
            // What it has and the home does not know is not the home's to take.
            topic.topic_id = cx.topology.same_topic(IDS, topic.topic_id, home).unwrap_or(topic.topic_id);
        }
        Step::Ask(vec![Ask::coordinator(home, &group, RequestKind::ConsumerGroupHeartbeat(request))])
    }

    /// Whether it holds all of its member's state, so that the coordinator answers with all that it has for it.
    fn tells(&self) -> bool {
        let Self { request, .. } = self;
        let subscribed = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        request.rebalance_timeout_ms >= 0 && subscribed && request.topic_partitions.is_some()
    }

    fn refused(&self, error: i16) -> Step {
        Step::Answer(ConsumerGroupHeartbeatResponse::default().with_error_code(error).into())
    }

    fn asked(&self, cx: &Context<'_>) -> Side {
        self.under_way.as_ref().map_or_else(|| cx.shared.homes.of(&self.request.group_id), |(_, side)| *side)
    }

    fn hear(&mut self, cx: &Context<'_>, answers: Answers) -> Step {
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let mut answer = match answer {
            Some(Ok(ResponseKind::ConsumerGroupHeartbeat(answer))) => answer,
            // Its epoch stands: the coordinator takes a heartbeat again that it has seen.
            _ => ConsumerGroupHeartbeatResponse::default().with_error_code(error),
        };
        let group = self.request.group_id.as_str();
        note_error(cx, group, answer.error_code);
        if self.alive_only {
            answer = self.on_the_way(cx, answer);
        } else if self.request.member_epoch < JOINS {
            if answer.error_code == code::NONE {
                let instance = self.request.instance_id.as_ref().map(ToString::to_string);
                cx.shared.moves.left(group, &[(self.request.member_id.to_string(), instance)]);
            } else if self.is_of_before(cx, answer.error_code) {
                // It has left with the others.
                answer = ConsumerGroupHeartbeatResponse::default()
                    .with_member_id(Some(self.request.member_id.clone()))
                    .with_member_epoch(self.request.member_epoch);
            }
        } else if self.is_of_before(cx, answer.error_code) {
            answer.error_code = code::FENCED_MEMBER_EPOCH;
        }
        let home = self.asked(cx);
        let Some(side) = strange_to(cx, home, &answer) else { return told(cx, home, answer) };
        cx.shared.refresh(side);
        self.answer = Some(answer);
        Step::AwaitTopology { side, newer_than: cx.topology.generation(side), deadline: cx.now + PATIENCE }
    }

    /// What a member is told while its group is on its way.
    fn on_the_way(&self, cx: &Context<'_>, answer: ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatResponse {
        let (group, member) = (self.request.group_id.as_str(), self.request.member_id.as_str());
        let epoch = self.request.member_epoch;
        if cx.shared.moves.protocol(group) != Some(Protocol::Consumer) {
            // It was undone meanwhile: the member was not heard with all that it said.
            return ConsumerGroupHeartbeatResponse::default().with_error_code(ASKS_FOR_STATE);
        }
        match answer.error_code {
            code::NONE if answer.member_epoch == epoch && answer.assignment.is_none() => {
                let has_none =
                    self.request.topic_partitions.as_ref().is_some_and(|t| t.iter().all(|t| t.partitions.is_empty()));
                let nothing = match cx.shared.moves.beat(group, member, has_none) {
                    Beat::Told => Some(Assignment::default()),
                    Beat::GaveUp => None,
                    Beat::Asked => return ConsumerGroupHeartbeatResponse::default().with_error_code(ASKS_FOR_STATE),
                };
                let next_ms = answer.heartbeat_interval_ms.min(SOON_MS);
                return answer.with_assignment(nothing).with_heartbeat_interval_ms(next_ms);
            }
            code::NONE => {
                cx.shared.moves.disturb(group, "the old home has begun a rebalance of its own");
            }
            code::UNKNOWN_MEMBER_ID | code::FENCED_MEMBER_EPOCH | code::GROUP_ID_NOT_FOUND => {
                cx.shared.moves.disturb(group, format!("the old home has dropped member {member}"));
            }
            _ => {}
        }
        answer
    }

    /// The home does not know the member because it is of before the group's move.
    fn is_of_before(&self, cx: &Context<'_>, error: i16) -> bool {
        self.request.member_epoch != JOINS && is_of_before(cx, &self.request.group_id, error)
    }
}

/// What a new home says of a member of before the move of a group of KIP-848, whose members keep their ids.
pub(super) fn is_of_before(cx: &Context<'_>, group: &str, error: i16) -> bool {
    matches!(error, code::UNKNOWN_MEMBER_ID | code::GROUP_ID_NOT_FOUND)
        && cx.shared.homes.has_moved_as_consumer(group, cx.now_ms)
}

/// The side whose snapshot is older than topics that it assigns: one of them may be our own.
fn strange_to(cx: &Context<'_>, home: Side, answer: &ConsumerGroupHeartbeatResponse) -> Option<Side> {
    let assignment = answer.assignment.as_ref()?;
    let at_home = cx.topology.side(home)?;
    let ids = || assignment.topic_partitions.iter().map(|t| t.topic_id);
    let known = |id| at_home.names.contains_key(&id) || at_home.hidden.contains(&id);
    if !ids().all(known) {
        return Some(home);
    }
    let shown = |id| at_home.hidden.contains(&id) || cx.topology.same_topic(home, id, IDS).is_some();
    (!ids().all(shown)).then_some(IDS)
}

/// In the ids that clients know; what they cannot know they are not told.
fn told(cx: &Context<'_>, home: Side, mut answer: ConsumerGroupHeartbeatResponse) -> Step {
    if let (Some(assignment), Some(at_home)) = (&mut answer.assignment, cx.topology.side(home)) {
        assignment.topic_partitions.retain(|t| !at_home.hidden.contains(&t.topic_id));
        assignment.topic_partitions.retain_mut(|t| {
            let id = cx.topology.same_topic(home, t.topic_id, IDS);
            t.topic_id = id.unwrap_or(t.topic_id);
            id.is_some()
        });
    }
    Step::Answer(ResponseKind::ConsumerGroupHeartbeat(answer))
}

impl Machine for Heartbeat {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => self.hear(cx, answers),
            Input::Start | Input::Woken => match self.answer.take() {
                Some(answer) => told(cx, self.asked(cx), answer),
                None => self.ask(cx),
            },
        }
    }
}

pub struct Describe(pub ConsumerGroupDescribeRequest);

impl Describe {
    fn answer(&self, cx: &Context<'_>, answers: Answers) -> ConsumerGroupDescribeResponse {
        let mut merged = ConsumerGroupDescribeResponse::default();
        for (id, answer) in self.0.group_ids.iter().zip(answers) {
            let error = lost_code(Some(&answer));
            let found = match answer {
                Ok(ResponseKind::ConsumerGroupDescribe(a)) => {
                    merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                    a.groups.into_iter().find(|g| g.group_id == *id)
                }
                _ => None,
            };
            let nobody = || DescribedGroup::default().with_group_id(id.clone()).with_error_code(error);
            let mut group = found.unwrap_or_else(nobody);
            note_error(cx, id, group.error_code);
            let home = cx.shared.homes.of(id);
            for member in &mut group.members {
                show(cx, home, &mut member.assignment);
                show(cx, home, &mut member.target_assignment);
            }
            merged.groups.push(group);
        }
        merged
    }
}

impl Machine for Describe {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            Input::Answers(answers) => answers,
            Input::Start | Input::Woken => {
                let alone = |id| {
                    ConsumerGroupDescribeRequest::default()
                        .with_group_ids(vec![id])
                        .with_include_authorized_operations(self.0.include_authorized_operations)
                };
                let ids = self.0.group_ids.iter();
                let asks: Vec<Ask> = ids
                    .map(|id| {
                        let request = RequestKind::ConsumerGroupDescribe(alone(id.clone()));
                        Ask::coordinator(cx.shared.homes.of(id), id, request)
                    })
                    .collect();
                if !asks.is_empty() {
                    return Step::Ask(asks);
                }
                vec![]
            }
        };
        Step::Answer(ResponseKind::ConsumerGroupDescribe(self.answer(cx, answers)))
    }
}

/// In the ids that clients know, without our own topics.
fn show(cx: &Context<'_>, home: Side, assignment: &mut Shown) {
    assignment.topic_partitions.retain(|t| !is_marker_topic(&t.topic_name));
    for topic in &mut assignment.topic_partitions {
        topic.topic_id = cx.topology.same_topic(home, topic.topic_id, IDS).unwrap_or(topic.topic_id);
    }
}
