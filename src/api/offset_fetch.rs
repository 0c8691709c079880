//! OffsetFetch (9), v1 to v9: each group's positions from its home, as they were committed (DESIGN.md section 6).
//! Many groups (v8) are split, one request to each coordinator, and merged in their order. No topics means all.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::groups::{lost_code, note_error};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::groups::{home, position};
use crate::ids::{NO_EPOCH, Side};

/// From here on a request names many groups.
const MANY_GROUPS: i16 = 8;
/// Of a reader that is no member.
const NO_MEMBER_EPOCH: i32 = -1;

pub struct OffsetFetch {
    request: OffsetFetchRequest,
    /// Who was asked, group by group: a group may move before its answer comes, which is in the terms of the home of before.
    asked: Vec<Side>,
}

impl OffsetFetch {
    pub fn new(request: OffsetFetchRequest) -> Self {
        Self { request, asked: vec![] }
    }

    fn asks(&mut self, cx: &Context<'_>) -> Vec<Ask> {
        let mut asked = Vec::new();
        let asks = self.asks_of(cx.version, |group, mut request| {
            let home = cx.shared.homes.of(group);
            asked.push(home);
            if cx.shared.homes.has_moved_as_consumer(group, cx.now_ms) {
                // It may be one of before the move, who keeps its id: it reads what everybody may read.
                for group in &mut request.groups {
                    (group.member_id, group.member_epoch) = (None, NO_MEMBER_EPOCH);
                }
            }
            Ask::coordinator(home, group, RequestKind::OffsetFetch(request))
        });
        self.asked = asked;
        asks
    }

    fn asks_of(&self, version: i16, mut ask: impl FnMut(&GroupId, OffsetFetchRequest) -> Ask) -> Vec<Ask> {
        if version < MANY_GROUPS {
            return vec![ask(&self.request.group_id, self.request.clone())];
        }
        let alone =
            |g| OffsetFetchRequest::default().with_require_stable(self.request.require_stable).with_groups(vec![g]);
        self.request.groups.iter().map(|g| ask(&g.group_id, alone(g.clone()))).collect()
    }

    fn one(&self, cx: &Context<'_>, answers: Answers) -> OffsetFetchResponse {
        let group = &self.request.group_id;
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let mut answer = match answer {
            Some(Ok(ResponseKind::OffsetFetch(answer))) => answer,
            _ => self.lost(cx.version, error),
        };
        note_error(cx, group, answer.error_code);
        let home = self.home(0);
        for topic in &mut answer.topics {
            for p in &mut topic.partitions {
                note_error(cx, group, p.error_code);
                p.committed_leader_epoch = NO_EPOCH;
                if p.error_code == code::NONE {
                    let at = (topic.name.as_str(), p.partition_index);
                    (p.committed_offset, p.metadata) = show(cx, home, at, p.committed_offset, p.metadata.take());
                }
            }
        }
        answer
    }

    fn many(&self, cx: &Context<'_>, answers: Answers) -> OffsetFetchResponse {
        let mut merged = OffsetFetchResponse::default();
        for (number, (asked, answer)) in self.request.groups.iter().zip(answers).enumerate() {
            let home = self.home(number);
            let error = lost_code(Some(&answer));
            let found = match answer {
                Ok(ResponseKind::OffsetFetch(a)) => {
                    merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                    a.groups.into_iter().find(|g| g.group_id == asked.group_id)
                }
                _ => None,
            };
            let lost = || OffsetFetchResponseGroup::default().with_error_code(error);
            let mut group = found.unwrap_or_else(lost).with_group_id(asked.group_id.clone());
            note_error(cx, &asked.group_id, group.error_code);
            for topic in &mut group.topics {
                for p in &mut topic.partitions {
                    p.committed_leader_epoch = NO_EPOCH;
                    if p.error_code == code::NONE {
                        let at = (topic.name.as_str(), p.partition_index);
                        (p.committed_offset, p.metadata) = show(cx, home, at, p.committed_offset, p.metadata.take());
                    }
                }
            }
            merged.groups.push(group);
        }
        merged
    }

    fn home(&self, number: usize) -> Side {
        self.asked.get(number).copied().unwrap_or(home::DEFAULT)
    }

    /// v1 has errors for partitions only.
    fn lost(&self, version: i16, error: i16) -> OffsetFetchResponse {
        if version >= 2 {
            return OffsetFetchResponse::default().with_error_code(error);
        }
        let failed = |index: &i32| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(*index)
                .with_committed_offset(-1)
                .with_error_code(error)
        };
        let topics = self.request.topics.iter().flatten().map(|t| {
            let partitions = t.partition_indexes.iter().map(failed).collect();
            OffsetFetchResponseTopic::default().with_name(t.name.clone()).with_partitions(partitions)
        });
        OffsetFetchResponse::default().with_topics(topics.collect())
    }
}

impl Machine for OffsetFetch {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            Input::Answers(answers) => answers,
            Input::Start | Input::Woken => match self.asks(cx) {
                asks if asks.is_empty() => vec![],
                asks => return Step::Ask(asks),
            },
        };
        let answer = if cx.version < MANY_GROUPS { self.one(cx, answers) } else { self.many(cx, answers) };
        Step::Answer(ResponseKind::OffsetFetch(answer))
    }
}

/// A stored position as its client committed it.
fn show(
    cx: &Context<'_>,
    home: Side,
    (topic, partition): (&str, i32),
    offset: i64,
    metadata: Option<StrBytes>,
) -> (i64, Option<StrBytes>) {
    let map = cx.partitions.get(topic, partition).map(|state| &state.map);
    let shown = position::shown(map, home, offset, metadata.as_deref());
    (shown.offset, shown.metadata.map(StrBytes::from_string))
}
