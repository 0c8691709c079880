//! ConsumerGroupHeartbeat (68) and ConsumerGroupDescribe (69), v0 to v1: KIP-848 groups, at their coordinator on the
//! group's home. Every heartbeat carries what the member has and wants, so those of a connection go out in their order,
//! on the connection that commits take, too. Clients know topics by the source's ids: a group that is at home on the target
//! is told, and tells, its own. An expression that a broker
//! evaluates (v1) may match a topic of our own: no member gets it, since none could find out what it is. A topic that our
//! snapshot does not have yet may be such a one, so a newer snapshot is waited for first.
//!
//! Not offered: share groups, streams groups.

use std::time::Duration;

use kafka_protocol::messages::consumer_group_describe_response::{Assignment, DescribedGroup};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, RequestKind, ResponseKind,
};

use super::groups::{enter, lost_code, note_error};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::groups::commits::UnderWay;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;

/// Whose topic ids clients see.
const IDS: Side = Side::Source;

/// How long our own snapshot may take to show a topic that a member has been given.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Heartbeat {
    request: ConsumerGroupHeartbeatRequest,
    /// The group does not move before this has its answer, which is in the terms of who was asked.
    under_way: Option<(UnderWay, Side)>,
    /// Waits for a snapshot that has all topics of it.
    answer: Option<ConsumerGroupHeartbeatResponse>,
}

impl Heartbeat {
    pub fn new(request: ConsumerGroupHeartbeatRequest) -> Self {
        Self { request, under_way: None, answer: None }
    }

    /// To the group's home, in its own terms. While the group is on its way to another home it waits.
    fn ask(&mut self, cx: &Context<'_>) -> Step {
        /// Between two looks; a group moves by this protocol only while it has no members.
        const HELD_MOST: Duration = Duration::from_secs(20);
        let group = &self.request.group_id;
        let ended = cx.shared.moves.ended();
        if cx.shared.moves.is_moving(group) {
            return Step::AwaitMoveEnd { newer_than: ended, deadline: cx.now + HELD_MOST };
        }
        let entered = match enter(cx, group) {
            Ok(entered) => entered,
            Err(wait) => return wait.into(),
        };
        let home = cx.shared.homes.of(group);
        self.under_way = Some((entered, home));
        let mut request = self.request.clone();
        for topic in request.topic_partitions.iter_mut().flatten() {
            // What it has and the home does not know is not the home's to take.
            topic.topic_id = cx.topology.same_topic(IDS, topic.topic_id, home).unwrap_or(topic.topic_id);
        }
        Step::Ask(vec![Ask::coordinator(home, &self.request.group_id, RequestKind::ConsumerGroupHeartbeat(request))])
    }

    fn asked(&self, cx: &Context<'_>) -> Side {
        self.under_way.as_ref().map_or_else(|| cx.shared.homes.of(&self.request.group_id), |(_, side)| *side)
    }

    fn hear(&mut self, cx: &Context<'_>, answers: Answers) -> Step {
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let answer = match answer {
            Some(Ok(ResponseKind::ConsumerGroupHeartbeat(answer))) => answer,
            // Its epoch stands: the coordinator takes a heartbeat again that it has seen.
            _ => ConsumerGroupHeartbeatResponse::default().with_error_code(error),
        };
        note_error(cx, &self.request.group_id, answer.error_code);
        let home = self.asked(cx);
        let Some(side) = strange_to(cx, home, &answer) else { return told(cx, home, answer) };
        cx.shared.refresh(side);
        self.answer = Some(answer);
        Step::AwaitTopology { side, newer_than: cx.topology.generation(side), deadline: cx.now + PATIENCE }
    }
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
fn show(cx: &Context<'_>, home: Side, assignment: &mut Assignment) {
    assignment.topic_partitions.retain(|t| !is_marker_topic(&t.topic_name));
    for topic in &mut assignment.topic_partitions {
        topic.topic_id = cx.topology.same_topic(home, topic.topic_id, IDS).unwrap_or(topic.topic_id);
    }
}
