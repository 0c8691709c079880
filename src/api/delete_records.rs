//! DeleteRecords (21), v0 to v2, in virtual offsets: each side's leader is asked to delete up to its first record at or after
//! the offset (DESIGN.md section 3). The side with the open segment goes first: it alone can say that an offset is beyond the
//! end, and then nothing is deleted anywhere. "Up to the end" is beyond no end, and means what is there when the open side
//! is asked: that side goes last then, so that a try that fails at the other side has deleted nothing, and its repetition
//! deletes no record that came meanwhile. A side that is known to start there already is not asked. The low watermark of the
//! answer is the virtual log start. A held partition waits for its release.
//!
//! An error of one partition, or of one side of it, is that partition's alone. What is deleted stays deleted: the request
//! may be sent again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, RequestKind, ResponseKind, TopicName};
use tokio::time::Instant;

use super::list_offsets::{told, why_no_leader};
use super::{Answers, Ask, Context, Input, Machine, Step};
use crate::error::{code, is_stale_topology};
use crate::ids::{NONE, NOffset, Native, NodeId, Side, Virtual};
use crate::offsets::delete_records::{TO_HIGH_WATERMARK, deletions};
use crate::routing::PartitionState;
use crate::store::identity::is_marker_topic;

/// How long the release of a held partition is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct DeleteRecords {
    request: DeleteRecordsRequest,
    /// The partitions of the request, in its order.
    parts: Vec<Part>,
    /// Whom the requests on their way went to, and which parts each one is about.
    sent: Vec<(Side, Vec<usize>)>,
    throttle_time_ms: i32,
    deadline: Option<Instant>,
}

/// By side and leader: the parts, and up to where each is to be deleted.
type Plan = BTreeMap<(Side, NodeId), Vec<(usize, NOffset)>>;

struct Part {
    topic: TopicName,
    partition: i32,
    offset: i64,
    progress: Progress,
    /// The sides' log starts, as far as they were heard.
    starts: [Option<NOffset>; 2],
}

enum Progress {
    New,
    /// The sides still to ask, the next one last.
    Planned(Vec<(Side, NOffset)>),
    Failed(i16),
}

impl DeleteRecords {
    pub fn new(request: DeleteRecordsRequest) -> Self {
        let part = |topic: &DeleteRecordsTopic, p: &DeleteRecordsPartition| Part {
            topic: topic.name.clone(),
            partition: p.partition_index,
            offset: p.offset,
            progress: match () {
                () if is_marker_topic(&topic.name) => Progress::Failed(code::UNKNOWN_TOPIC_OR_PARTITION),
                () if p.offset < TO_HIGH_WATERMARK => Progress::Failed(code::OFFSET_OUT_OF_RANGE),
                () => Progress::New,
            },
            starts: [None, None],
        };
        let parts = request.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| part(t, p))).collect();
        Self { request, parts, sent: vec![], throttle_time_ms: 0, deadline: None }
    }

    fn hear(&mut self, cx: &Context<'_>, answers: Answers) {
        for ((side, asked), answer) in std::mem::take(&mut self.sent).into_iter().zip(answers) {
            let mut said: HashMap<(TopicName, i32), (i16, i64)> = HashMap::new();
            if let Ok(ResponseKind::DeleteRecords(a)) = answer {
                self.throttle_time_ms = self.throttle_time_ms.max(a.throttle_time_ms);
                for topic in a.topics {
                    let results = topic.partitions.into_iter();
                    let name = topic.name;
                    said.extend(results.map(|p| ((name.clone(), p.partition_index), (p.error_code, p.low_watermark))));
                }
            }
            for i in asked {
                let Some(part) = self.parts.get_mut(i) else { continue };
                // Nobody answered: it may be done, and doing it again does no harm.
                let lost = (code::NOT_LEADER_OR_FOLLOWER, NONE);
                let (error, low) = said.get(&(part.topic.clone(), part.partition)).copied().unwrap_or(lost);
                if is_stale_topology(error) {
                    cx.shared.leaders_are_old(side);
                }
                part.hear(cx, side, error, low);
            }
        }
    }

    /// What is to be asked now. The flag: something waits for a release.
    fn plan(&mut self, cx: &Context<'_>, late: bool) -> (Plan, bool) {
        let mut plan = Plan::new();
        let mut waiting = false;
        for (i, part) in self.parts.iter_mut().enumerate() {
            if matches!(part.progress, Progress::New) {
                if part.is_held(cx) && !late {
                    waiting = true;
                    continue;
                }
                part.progress = match part.is_held(cx) {
                    true => Progress::Failed(code::REQUEST_TIMED_OUT),
                    false if part.is_beyond_seam(cx) => Progress::Failed(code::OFFSET_OUT_OF_RANGE),
                    false => Progress::Planned(part.sides(cx)),
                };
            }
            if let Some((side, leader, native)) = part.next(cx) {
                plan.entry((side, leader)).or_default().push((i, native));
            }
        }
        (plan, waiting)
    }

    fn request(&self, asked: &[(usize, NOffset)]) -> RequestKind {
        let mut topics: Vec<DeleteRecordsTopic> = vec![];
        for (i, native) in asked {
            let Some(part) = self.parts.get(*i) else { continue };
            let partition =
                DeleteRecordsPartition::default().with_partition_index(part.partition).with_offset(native.0);
            match topics.last_mut().filter(|t| t.name == part.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics
                    .push(DeleteRecordsTopic::default().with_name(part.topic.clone()).with_partitions(vec![partition])),
            }
        }
        DeleteRecordsRequest::default().with_timeout_ms(self.request.timeout_ms).with_topics(topics).into()
    }

    fn answer(&self, cx: &Context<'_>) -> DeleteRecordsResponse {
        let mut parts = self.parts.iter();
        let topics = self.request.topics.iter().map(|topic| {
            let partitions = parts.by_ref().take(topic.partitions.len()).map(|part| {
                let (error, low) = part.result(cx);
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(part.partition)
                    .with_low_watermark(low)
                    .with_error_code(error)
            });
            DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        DeleteRecordsResponse::default().with_throttle_time_ms(self.throttle_time_ms).with_topics(topics)
    }
}

impl Machine for DeleteRecords {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let deadline = *self.deadline.get_or_insert(cx.now + PATIENCE);
        if let Input::Answers(answers) = input {
            self.hear(cx, answers);
        }
        let (plan, waiting) = self.plan(cx, cx.now >= deadline);
        if !plan.is_empty() {
            let asks = plan.iter().map(|((side, node), asked)| Ask::node(*side, *node, self.request(asked))).collect();
            let parts = |asked: Vec<(usize, NOffset)>| asked.into_iter().map(|(i, _)| i).collect();
            self.sent = plan.into_iter().map(|((side, _), asked)| (side, parts(asked))).collect();
            return Step::Ask(asks);
        }
        if waiting {
            return Step::AwaitRoutes { newer_than: cx.partitions.version, deadline };
        }
        Step::Answer(ResponseKind::DeleteRecords(self.answer(cx)))
    }
}

impl Part {
    fn is_held(&self, cx: &Context<'_>) -> bool {
        cx.partitions.get(&self.topic, self.partition).is_some_and(|s| s.held)
    }

    /// Consumers are held at the seam, so there the log ends.
    fn is_beyond_seam(&self, cx: &Context<'_>) -> bool {
        let seam = cx.partitions.get(&self.topic, self.partition).and_then(PartitionState::kept_at);
        seam.is_some_and(|seam| Virtual(self.offset) > seam)
    }

    /// By the map that holds now. What it says of an offset never changes, so a seal that comes later changes nothing here.
    fn sides(&mut self, cx: &Context<'_>) -> Vec<(Side, NOffset)> {
        let Some(state) = cx.partitions.get(&self.topic, self.partition) else {
            return vec![(Side::Source, Native(self.offset))];
        };
        let v = Some(Virtual(self.offset)).filter(|v| v.0 >= 0).or(state.kept_at());
        let (asked, open) = (deletions(&state.map, v), state.map.tail_side());
        // A start that was seen only grows.
        self.starts = state.live.log_starts();
        let last_first = if v.is_some() { [open.other(), open] } else { [open, open.other()] };
        let todo = last_first.into_iter().filter_map(|side| {
            let native = asked[side.index()]?;
            let done = native.0 >= 0 && self.starts[side.index()].is_some_and(|start| start >= native);
            (!done).then_some((side, native))
        });
        todo.collect()
    }

    /// The next side to ask, and its leader.
    fn next(&mut self, cx: &Context<'_>) -> Option<(Side, NodeId, NOffset)> {
        let Progress::Planned(todo) = &self.progress else { return None };
        let (side, native) = *todo.last()?;
        match cx.topology.leader(side, &self.topic, self.partition) {
            Some(leader) => Some((side, leader.leader, native)),
            None => {
                cx.shared.refresh(side);
                self.progress = Progress::Failed(why_no_leader(cx, side, &self.topic, self.partition));
                None
            }
        }
    }

    fn hear(&mut self, cx: &Context<'_>, side: Side, error: i16, low: i64) {
        let state = cx.partitions.get(&self.topic, self.partition);
        if error != code::NONE {
            let unknown = error == code::UNKNOWN_TOPIC_OR_PARTITION && state.is_none();
            self.progress = Progress::Failed(if unknown { error } else { told(error) });
            return;
        }
        if let Progress::Planned(todo) = &mut self.progress {
            todo.pop();
        }
        self.starts[side.index()] = Some(Native(low));
        if let Some(state) = state {
            // Readers pass the hole without having to find it.
            state.live.heard(side, NONE, NONE, low);
        }
    }

    /// Error and low watermark.
    fn result(&self, cx: &Context<'_>) -> (i16, i64) {
        if let Progress::Failed(error) = self.progress {
            return (error, NONE);
        }
        match cx.partitions.get(&self.topic, self.partition) {
            Some(state) => (code::NONE, state.map.virtual_log_start(self.starts).0),
            None => (code::NONE, self.starts[Side::Source.index()].map_or(NONE, |start| start.0)),
        }
    }
}
