//! ListOffsets (2), v1 to v9: ends and positions by time, in virtual offsets (DESIGN.md section 3). Every side that
//! holds a part that matters is asked at its leaders, and the answers are combined by the map that holds when the
//! answer is given: a partition whose map has grown meanwhile is asked for again. The end of a held partition is not
//! named before the release. While consumers are held at the seam, that is where the log ends.
//!
//! Left out: replica ids other than a consumer's. Of tiered storage, -4 (earliest local) is the earliest and -5
//! (latest tiered) is none, as a broker without tiers has it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest, ListOffsetsResponse, RequestKind, ResponseKind, TopicName,
};
use tokio::time::Instant;

use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::{code, is_stale_topology};
use crate::ids::{CONSUMER, EARLIEST, NO_EPOCH, NONE, Native, NodeId, Side, Virtual};
use crate::offsets::SpliceMap;
use crate::offsets::list_offsets::{Found, Wanted};
use crate::routing::PartitionState;
use crate::upstream::TopicView;

/// How long an end is waited for that a seal holds.
const PATIENCE: Duration = Duration::from_secs(10);
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub struct ListOffsets {
    request: ListOffsetsRequest,
    /// The partitions of the request, in its order.
    questions: Vec<Question>,
    /// Whom the requests on their way went to, and which questions each one asks.
    sent: Vec<(Side, Vec<usize>)>,
    throttle_time_ms: i32,
    deadline: Option<Instant>,
}

/// One partition of the request.
struct Question {
    topic: TopicName,
    partition: i32,
    timestamp: i64,
    progress: Progress,
}

enum Progress {
    ToAsk,
    /// Asked when this was its map (`None`: untouched by any migration); what the sides said so far.
    Asked {
        map: Option<SpliceMap>,
        heard: [Heard; 2],
    },
    /// Whatever the map may become.
    Settled(Reply),
}

#[derive(Clone, Copy)]
enum Heard {
    NotAsked,
    /// `None`: no such offset.
    Found(Option<Found>),
    /// A broker's own error.
    Refused(i16),
    /// Nobody answered: what to say of it.
    Unreached(i16),
}

#[derive(Clone, Copy)]
struct Reply {
    error: i16,
    timestamp: i64,
    offset: i64,
}

impl Reply {
    const NO_SUCH_OFFSET: Self = Self::error(code::NONE);

    const fn error(error: i16) -> Self {
        Self { error, timestamp: NONE, offset: NONE }
    }

    /// As of a broker's new leader that does not know its high watermark yet (KIP-207).
    fn no_end(version: i16) -> Self {
        Self::error(if version >= 5 { code::OFFSET_NOT_AVAILABLE } else { code::LEADER_NOT_AVAILABLE })
    }
}

impl ListOffsets {
    pub fn new(request: ListOffsetsRequest) -> Self {
        let allowed = request.replica_id.0 == CONSUMER;
        let question = |topic: &ListOffsetsTopic, p: &ListOffsetsPartition| Question {
            topic: topic.name.clone(),
            partition: p.partition_index,
            timestamp: p.timestamp,
            progress: match allowed {
                true => Progress::ToAsk,
                false => Progress::Settled(Reply::error(code::INVALID_REQUEST)),
            },
        };
        let questions = request.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| question(t, p))).collect();
        Self { request, questions, sent: vec![], throttle_time_ms: 0, deadline: None }
    }

    fn hear(&mut self, cx: &Context<'_>, answers: Answers) {
        for ((side, asked), answer) in std::mem::take(&mut self.sent).into_iter().zip(answers) {
            let mut said: HashMap<(TopicName, i32), ListOffsetsPartitionResponse> = HashMap::new();
            let lost = match answer {
                Ok(ResponseKind::ListOffsets(a)) => {
                    self.throttle_time_ms = self.throttle_time_ms.max(a.throttle_time_ms);
                    for topic in a.topics {
                        said.extend(topic.partitions.into_iter().map(|p| ((topic.name.clone(), p.partition_index), p)));
                    }
                    false
                }
                _ => true,
            };
            for i in asked {
                let Some(question) = self.questions.get_mut(i) else { continue };
                let answer = said.get(&(question.topic.clone(), question.partition));
                let heard = match answer {
                    None => Heard::Unreached(code::NOT_LEADER_OR_FOLLOWER),
                    Some(p) if p.error_code != code::NONE => Heard::Refused(p.error_code),
                    Some(p) => {
                        let found = Found { offset: Native(p.offset), timestamp: p.timestamp };
                        Heard::Found(Some(found).filter(|f| f.offset.0 >= 0))
                    }
                };
                if lost {
                    cx.shared.refresh(side);
                } else if matches!(heard, Heard::Refused(e) if is_stale_topology(e)) {
                    cx.shared.leaders_are_old(side);
                }
                if let Progress::Asked { heard: all, .. } = &mut question.progress {
                    all[side.index()] = heard;
                }
            }
        }
    }

    /// What is to be asked now, by side and leader. The flag: something waits for a release.
    fn plan(&mut self, cx: &Context<'_>, late: bool) -> (BTreeMap<(Side, NodeId), Vec<usize>>, bool) {
        let mut plan: BTreeMap<(Side, NodeId), Vec<usize>> = BTreeMap::new();
        let mut waiting = false;
        for (i, question) in self.questions.iter_mut().enumerate() {
            if question.is_answered(cx) {
                continue;
            }
            if !question.is_held(cx) && question.has_no_end(cx) {
                question.progress = Progress::Settled(Reply::no_end(cx.version));
            } else if late {
                question.progress = Progress::Settled(Reply::error(code::OFFSET_NOT_AVAILABLE));
            } else if question.is_held(cx) {
                question.progress = Progress::ToAsk;
                waiting = true;
            } else {
                question.ask(cx, |side, leader| plan.entry((side, leader)).or_default().push(i));
            }
        }
        (plan, waiting)
    }

    fn request(&self, cx: &Context<'_>, side: Side, asked: &[usize]) -> ListOffsetsRequest {
        let mut topics: Vec<ListOffsetsTopic> = vec![];
        for question in asked.iter().filter_map(|i| self.questions.get(*i)) {
            let leader = cx.topology.leader(side, &question.topic, question.partition);
            let partition = ListOffsetsPartition::default()
                .with_partition_index(question.partition)
                .with_current_leader_epoch(leader.map_or(NO_EPOCH, |l| l.epoch))
                .with_timestamp(question.timestamp_asked(cx));
            match topics.last_mut().filter(|t| t.name == question.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    ListOffsetsTopic::default().with_name(question.topic.clone()).with_partitions(vec![partition]),
                ),
            }
        }
        self.request.clone().with_replica_id(BrokerId(CONSUMER)).with_topics(topics)
    }

    fn answer(&self, cx: &Context<'_>) -> ListOffsetsResponse {
        let mut questions = self.questions.iter();
        let topics = self.request.topics.iter().map(|topic| {
            let partitions = questions.by_ref().take(topic.partitions.len()).map(|question| {
                let reply = question.reply(cx);
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(question.partition)
                    .with_error_code(reply.error)
                    .with_timestamp(reply.timestamp)
                    .with_offset(reply.offset)
                    .with_leader_epoch(NO_EPOCH)
            });
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        ListOffsetsResponse::default().with_throttle_time_ms(self.throttle_time_ms).with_topics(topics)
    }
}

impl Machine for ListOffsets {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let deadline = *self.deadline.get_or_insert(cx.now + PATIENCE);
        if let Input::Answers(answers) = input {
            self.hear(cx, answers);
        }
        let (plan, waiting) = self.plan(cx, cx.now >= deadline);
        if !plan.is_empty() {
            let asks = plan.iter().map(|((side, node), asked)| {
                Ask::node(*side, *node, RequestKind::ListOffsets(self.request(cx, *side, asked)))
            });
            let asks = asks.collect();
            self.sent = plan.into_iter().map(|((side, _), asked)| (side, asked)).collect();
            return Step::Ask(asks);
        }
        if waiting {
            return Step::AwaitRoutes { newer_than: cx.partitions.version, deadline };
        }
        Step::Answer(ResponseKind::ListOffsets(self.answer(cx)))
    }
}

impl Question {
    fn state<'a>(&self, cx: &'a Context<'_>) -> Option<&'a PartitionState> {
        cx.partitions.get(&self.topic, self.partition)
    }

    /// For partitions of migrations.
    fn wanted(&self) -> Option<Wanted> {
        Wanted::of(if self.timestamp == EARLIEST_LOCAL { EARLIEST } else { self.timestamp })
    }

    fn timestamp_asked(&self, cx: &Context<'_>) -> i64 {
        match self.state(cx) {
            Some(_) if self.timestamp == EARLIEST_LOCAL => EARLIEST,
            _ => self.timestamp,
        }
    }

    /// Its end is asked for, or what lies near it, and with a late seam nobody knows it.
    fn has_no_end(&self, cx: &Context<'_>) -> bool {
        let near = matches!(self.wanted(), Some(Wanted::Latest | Wanted::MaxTimestamp));
        near && self.state(cx).is_some_and(|s| s.map.is_late())
    }

    /// Its end is asked for and may not be named now.
    fn is_held(&self, cx: &Context<'_>) -> bool {
        self.wanted() == Some(Wanted::Latest) && self.state(cx).is_some_and(|s| s.held)
    }

    /// What was heard is an answer by the map that holds now.
    fn is_answered(&self, cx: &Context<'_>) -> bool {
        match &self.progress {
            Progress::ToAsk => false,
            Progress::Asked { map, .. } => {
                map.as_ref() == self.state(cx).map(|s| &s.map) && !self.is_held(cx) && !self.has_no_end(cx)
            }
            Progress::Settled(_) => true,
        }
    }

    /// Notes what is asked by which map, and what no leader can be asked for.
    fn ask(&mut self, cx: &Context<'_>, mut at: impl FnMut(Side, NodeId)) {
        let mut heard = [Heard::NotAsked; 2];
        let state = self.state(cx);
        let sides: Vec<Side> = match (state, self.wanted()) {
            (None, _) => vec![Side::Source],
            (Some(state), Some(wanted)) => wanted.sides_below(&state.map, state.kept_at()).collect(),
            (Some(_), None) => {
                let none = self.timestamp == LATEST_TIERED;
                let reply = if none { Reply::NO_SUCH_OFFSET } else { Reply::error(code::UNSUPPORTED_VERSION) };
                self.progress = Progress::Settled(reply);
                return;
            }
        };
        for side in sides {
            match cx.topology.leader(side, &self.topic, self.partition) {
                Some(leader) => at(side, leader.leader),
                None => {
                    cx.shared.refresh(side);
                    heard[side.index()] = Heard::Unreached(why_no_leader(cx, side, &self.topic, self.partition));
                }
            }
        }
        self.progress = Progress::Asked { map: state.map(|s| s.map.clone()), heard };
    }

    fn reply(&self, cx: &Context<'_>) -> Reply {
        match &self.progress {
            Progress::Settled(reply) => *reply,
            Progress::ToAsk => Reply::error(code::OFFSET_NOT_AVAILABLE),
            Progress::Asked { heard, .. } => match (self.state(cx), self.wanted()) {
                (Some(state), Some(wanted)) => spliced(cx, state, wanted, *heard),
                _ => untouched(heard[Side::Source.index()]),
            },
        }
    }
}

/// The source's answer as it is.
fn untouched(heard: Heard) -> Reply {
    match heard {
        Heard::Found(Some(found)) => Reply { error: code::NONE, timestamp: found.timestamp, offset: found.offset.0 },
        Heard::Found(None) | Heard::NotAsked => Reply::NO_SUCH_OFFSET,
        Heard::Refused(code::UNKNOWN_TOPIC_OR_PARTITION) => Reply::error(code::UNKNOWN_TOPIC_OR_PARTITION),
        Heard::Refused(error) => Reply::error(told(error)),
        Heard::Unreached(error) => Reply::error(error),
    }
}

fn spliced(cx: &Context<'_>, state: &PartitionState, wanted: Wanted, heard: [Heard; 2]) -> Reply {
    let mut found: [Option<Found>; 2] = [None, None];
    let answered = heard.iter().any(|h| matches!(h, Heard::Found(_)));
    for side in Side::BOTH {
        found[side.index()] = match heard[side.index()] {
            Heard::NotAsked => None,
            Heard::Found(found) => found,
            Heard::Refused(error) => return Reply::error(told(error)),
            Heard::Unreached(error) => match state.live.log_starts()[side.index()] {
                // A start that was seen is as good as one that is asked for: it only grows.
                Some(offset) if wanted == Wanted::Earliest => Some(Found { offset, timestamp: NONE }),
                // A dead side takes nothing away from the other's part.
                None if wanted == Wanted::Earliest && answered && !cx.topology.reachable(side) => None,
                _ => return Reply::error(error),
            },
        };
    }
    let Some(answer) = wanted.combine_below(&state.map, found, state.kept_at()) else {
        // What is newer may be there already, and has no offset yet.
        return if state.map.is_late() { Reply::no_end(cx.version) } else { Reply::NO_SUCH_OFFSET };
    };
    if wanted == Wanted::Latest {
        // A seal that comes now freezes the end no lower than what this client was told.
        state.live.show(Virtual(answer.offset.0));
    }
    Reply { error: code::NONE, timestamp: answer.timestamp, offset: answer.offset.0 }
}

/// What a client is told of a partition without a leader.
pub(super) fn why_no_leader(cx: &Context<'_>, side: Side, topic: &TopicName, partition: i32) -> i16 {
    let index = usize::try_from(partition).ok();
    let exists = |t: &TopicView| index.is_some_and(|i| i < t.partitions.len());
    let known = cx.topology.topic(side, topic).is_some_and(|t| exists(t));
    match cx.topology.side(side) {
        Some(_) if !known && cx.partitions.get(topic, partition).is_none() => code::UNKNOWN_TOPIC_OR_PARTITION,
        _ => code::LEADER_NOT_AVAILABLE,
    }
}

/// What a client is told of a broker's error: that our view was old is for it to ask again.
pub(super) fn told(error: i16) -> i16 {
    if is_stale_topology(error) { code::NOT_LEADER_OR_FOLLOWER } else { error }
}
