//! ConsumerGroupHeartbeat (68) and ConsumerGroupDescribe (69), v0 to v1: KIP-848 groups, at their coordinator on the
//! group's home. Every heartbeat carries what the member has and wants, so those of a connection go out in their order,
//! on the connection that commits take, too. Topic ids are the source's on both legs. An expression that a broker
//! evaluates (v1) may match a topic of our own: no member gets it, since none could find out what it is.
//!
//! Not offered: share groups, streams groups.

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

pub struct Heartbeat(pub ConsumerGroupHeartbeatRequest);

impl Machine for Heartbeat {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let group = &self.0.group_id;
        let Input::Answers(answers) = input else {
            let request = RequestKind::ConsumerGroupHeartbeat(self.0.clone());
            return Step::Ask(vec![Ask::coordinator(home(group), group, request)]);
        };
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let mut answer = match answer {
            Some(Ok(ResponseKind::ConsumerGroupHeartbeat(answer))) => answer,
            // Its epoch stands: the coordinator takes a heartbeat again that it has seen.
            _ => ConsumerGroupHeartbeatResponse::default().with_error_code(error),
        };
        note_error(cx, group, answer.error_code);
        if let (Some(assignment), Some(source)) = (&mut answer.assignment, cx.topology.side(Side::Source)) {
            assignment.topic_partitions.retain(|t| !source.hidden.contains(&t.topic_id));
        }
        Step::Answer(ResponseKind::ConsumerGroupHeartbeat(answer))
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
