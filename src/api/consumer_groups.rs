//! ConsumerGroupHeartbeat (68) and ConsumerGroupDescribe (69), v0 to v1: KIP-848 groups, at their coordinator on the
//! group's home. Every heartbeat carries what the member has and wants, so those of a connection go out in their order,
//! on the connection that commits take, too. Topic ids are the source's on both legs. An expression that a broker
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

use super::groups::{lost_code, note_error};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::groups::home;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;

/// Whose topic ids clients see.
const IDS: Side = Side::Source;

/// How long our own snapshot may take to show a topic that a member has been given.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Heartbeat {
    request: ConsumerGroupHeartbeatRequest,
    /// Waits for a snapshot that has all topics of it.
    answer: Option<ConsumerGroupHeartbeatResponse>,
}

impl Heartbeat {
    pub fn new(request: ConsumerGroupHeartbeatRequest) -> Self {
        Self { request, answer: None }
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
        if !has_strangers(cx, &answer) {
            return told(cx, answer);
        }
        cx.shared.refresh(IDS);
        self.answer = Some(answer);
        Step::AwaitTopology { side: IDS, newer_than: cx.topology.generation(IDS), deadline: cx.now + PATIENCE }
    }
}

/// Whether it assigns topics that are newer than our snapshot: one of them may be our own.
fn has_strangers(cx: &Context<'_>, answer: &ConsumerGroupHeartbeatResponse) -> bool {
    let (Some(assignment), Some(source)) = (&answer.assignment, cx.topology.side(IDS)) else { return false };
    let known = |id| source.names.contains_key(id) || source.hidden.contains(id);
    !assignment.topic_partitions.iter().all(|t| known(&t.topic_id))
}

fn told(cx: &Context<'_>, mut answer: ConsumerGroupHeartbeatResponse) -> Step {
    if let (Some(assignment), Some(source)) = (&mut answer.assignment, cx.topology.side(IDS)) {
        assignment.topic_partitions.retain(|t| !source.hidden.contains(&t.topic_id));
    }
    Step::Answer(ResponseKind::ConsumerGroupHeartbeat(answer))
}

impl Machine for Heartbeat {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            Input::Answers(answers) => self.hear(cx, answers),
            Input::Start | Input::Woken => match self.answer.take() {
                Some(answer) => told(cx, answer),
                None => {
                    let group = &self.request.group_id;
                    let request = RequestKind::ConsumerGroupHeartbeat(self.request.clone());
                    Step::Ask(vec![Ask::coordinator(home(group), group, request)])
                }
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
            for member in &mut group.members {
                hide(&mut member.assignment);
                hide(&mut member.target_assignment);
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
                        Ask::coordinator(home(id), id, request)
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

fn hide(assignment: &mut Assignment) {
    assignment.topic_partitions.retain(|t| !is_marker_topic(&t.topic_name));
}
