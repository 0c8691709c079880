//! OffsetDelete (47), v0: done by the coordinator on the group's home, by names, so nothing is translated. The shadows of the
//! positions that went go with them.

use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, RequestKind, ResponseKind};

use super::groups::{enter, lost_code, note_error};
use super::{Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::groups::commits::UnderWay;
use crate::groups::shadow::{self, Told};
use crate::ids::TopicPartition;

pub struct OffsetDelete {
    request: OffsetDeleteRequest,
    /// The group does not move before this has its answer.
    under_way: Option<UnderWay>,
}

impl OffsetDelete {
    pub fn new(request: OffsetDeleteRequest) -> Self {
        Self { request, under_way: None }
    }

    fn tell_shadows(&self, cx: &Context<'_>, answer: &OffsetDeleteResponse) {
        let group = self.request.group_id.as_str();
        let home = cx.shared.homes.of(group);
        let gone = answer.topics.iter().flat_map(|topic| {
            let gone = topic.partitions.iter().filter(|p| p.error_code == code::NONE);
            gone.map(|p| TopicPartition::new(topic.name.as_str(), p.partition_index))
        });
        let has_shadow = |tp: &TopicPartition| {
            shadow::is_owed(cx.partitions.get(&tp.topic, tp.partition).map(|state| &state.map), home)
        };
        let partitions: Vec<TopicPartition> = gone.filter(has_shadow).collect();
        if !partitions.is_empty() {
            // Nobody writes any more when the proxy is stopping.
            drop(cx.shared.shadows.send(Told::Forgotten { group: group.to_owned(), partitions }));
        }
    }
}

impl Machine for OffsetDelete {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let group = &self.request.group_id;
        let Input::Answers(answers) = input else {
            match enter(cx, group) {
                Ok(entered) => self.under_way = Some(entered),
                Err(wait) => return wait.into(),
            }
            let request = RequestKind::OffsetDelete(self.request.clone());
            return Step::Ask(vec![Ask::coordinator(cx.shared.homes.of(group), group, request)]);
        };
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let answer = match answer {
            Some(Ok(ResponseKind::OffsetDelete(answer))) => answer,
            _ => OffsetDeleteResponse::default().with_error_code(error),
        };
        note_error(cx, group, answer.error_code);
        if answer.error_code == code::NONE {
            self.tell_shadows(cx, &answer);
        }
        Step::Answer(ResponseKind::OffsetDelete(answer))
    }
}
