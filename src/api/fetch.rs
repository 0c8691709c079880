//! Fetch (1), v4 to v18: one client fetch over many brokers and two sides. Pure; the driver is `connection::fetch`.
//!
//! Per broker there is one standing fetch, which may outlive the client's: what it brings is kept for the client's next
//! one. Whatever arrives is cut and translated by the map that holds when it is delivered (DESIGN.md section 3). Always
//! sessionless, every requested partition in every answer, epoch -1 (PROTOCOL.md rules 8, 10 to 15).

mod lanes;

pub use lanes::{LaneKey, Lanes, Question};

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use self::lanes::{Asked, Key, MANY_ENDS};
use super::Context;
use crate::error::{code, is_stale_topology};
use crate::ids::{NO_EPOCH, NOffset, Native, NodeId, Side, TopicName, VOffset, Virtual};
use crate::offsets::{Place, Verdict, judge_probe};
use crate::routing::PartitionState;
use crate::wire::batch;
use crate::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionFetched, TopicFetched};
use crate::wire::records::Records;
use crate::wire::rewrite;

/// A standing fetch comes back after this at the latest, so that a seek or a new assignment need not wait long.
const LONGEST_POLL: Duration = Duration::from_millis(500);
/// After an error a partition is not asked again at once.
const PAUSE: Duration = Duration::from_millis(50);
/// A partition without a leader is looked at again after this, also in a long poll.
const ELECTION: Duration = Duration::from_millis(250);
const READ_COMMITTED: i8 = 1;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;

/// To be sent on a lane now.
pub struct Send {
    pub key: LaneKey,
    pub request: FetchRequest,
}

pub enum Next {
    /// Until a lane has its answer, the routes have changed, or this instant.
    Wait(Instant),
    Answer(FetchResponse),
}

struct Wanted {
    at: (usize, usize),
    key: Key,
    v: VOffset,
    max_bytes: i32,
    got: Option<Got>,
    /// The partition is to be read alone: it came back empty below the end of a closed segment.
    probe: bool,
    not_before: Option<Instant>,
    /// A broker found this place out of range, and is asked where its log begins.
    lost_at: Option<Place>,
}

struct Got {
    answer: PartitionFetched,
    /// Where it came from: still right if the snapshot has changed meanwhile?
    place: Option<Place>,
    next: VOffset,
}

/// One client fetch in progress.
pub struct Gather {
    request: FetchRequest,
    version: i16,
    wanted: Vec<Wanted>,
    places: HashMap<Key, usize>,
    deadline: Instant,
    throttle_ms: i32,
    snapshot: u64,
    refused: Option<i16>,
    questions: Vec<Question>,
}

enum Route {
    To(LaneKey, Place),
    /// The end is frozen: the release wakes whoever waits here.
    Frozen,
    /// Nobody leads it now.
    Leaderless,
    Error(i16),
}

impl Gather {
    pub fn new(cx: &Context<'_>, request: FetchRequest) -> Self {
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let mut wanted = Vec::new();
        for (t, topic) in request.topics.iter().enumerate() {
            let name = resolve_name(cx, topic);
            for (p, partition) in topic.partitions.iter().enumerate() {
                let at = (t, p);
                let got = name.is_none().then(|| {
                    cx.shared.refresh(Side::Source);
                    Got::error(partition.index, unknown_topic(cx.version))
                });
                let key = (name.clone().unwrap_or_else(|| "".into()), partition.index);
                let v = Virtual(partition.fetch_offset);
                let max_bytes = partition.max_bytes;
                wanted.push(Wanted { at, key, v, max_bytes, got, probe: false, not_before: None, lost_at: None });
            }
        }
        // Sessions are never given, so any but a new one is unknown. Replicas are not served.
        let refused = match (request.session_id, request.replica_id) {
            (_, r) if r != crate::ids::CONSUMER => Some(code::INVALID_REQUEST),
            (s, _) if s != 0 => Some(FETCH_SESSION_ID_NOT_FOUND),
            _ => None,
        };
        let (version, snapshot) = (cx.version, cx.partitions.version);
        // A partition that is named twice is answered by its first place.
        let mut places = HashMap::with_capacity(wanted.len());
        for (i, w) in wanted.iter().enumerate() {
            places.entry(w.key.clone()).or_insert(i);
        }
        let deadline = cx.now + wait;
        Self { request, version, wanted, places, deadline, throttle_ms: 0, snapshot, refused, questions: vec![] }
    }

    /// To be asked now, besides what `step` sends.
    pub fn questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// Takes in what has arrived, says what to send, and whether there is an answer yet.
    pub fn step(&mut self, cx: &Context<'_>, lanes: &mut Lanes) -> (Vec<Send>, Next) {
        if let Some(error) = self.refused {
            let answer = FetchResponse { throttle_time_ms: 0, error_code: error, session_id: 0, topics: vec![] };
            return (vec![], Next::Answer(answer));
        }
        if self.snapshot != cx.partitions.version {
            self.snapshot = cx.partitions.version;
            self.check_again(cx);
        }
        for (key, asked, answer) in lanes.take_ready() {
            self.absorb(cx, lanes, key, &asked, answer);
        }
        for (question, log_start) in lanes.take_starts() {
            self.hear(cx, question, log_start);
        }
        if self.is_complete(cx) {
            return (vec![], Next::Answer(self.answer(cx, lanes)));
        }
        let sends = self.plan(cx, lanes);
        let retry = self.wanted.iter().filter(|w| w.got.is_none()).filter_map(|w| w.not_before);
        let until = retry.filter(|at| *at > cx.now).min().map_or(self.deadline, |at| at.min(self.deadline));
        (sends, Next::Wait(until))
    }

    fn is_complete(&self, cx: &Context<'_>) -> bool {
        if cx.now >= self.deadline || self.wanted.is_empty() {
            return true;
        }
        let got = self.wanted.iter().filter_map(|w| w.got.as_ref());
        let mut bytes = 0;
        for got in got {
            if got.answer.error_code != code::NONE {
                return true;
            }
            bytes += got.answer.records.len();
        }
        let least = usize::try_from(self.request.min_bytes).unwrap_or(0);
        bytes > 0 && bytes >= least || least == 0 && self.wanted.iter().all(|w| w.got.is_some())
    }

    /// The snapshot is another one: what was fetched under the old one counts only if it reads the same under this.
    fn check_again(&mut self, cx: &Context<'_>) {
        for wanted in &mut self.wanted {
            let Some(Got { place: Some(was), next, .. }) = &wanted.got else { continue };
            let Some(state) = cx.partitions.get(&wanted.key.0, wanted.key.1) else { continue };
            let now = state.map.locate(was.at());
            let same = (now.side, now.native, now.delta) == (was.side, was.native, was.delta);
            let inside =
                now.virtual_end.is_none_or(|end| *next <= end) && (!state.held || *next <= state.live.visible());
            if !same || !inside {
                wanted.got = None;
            }
        }
    }

    /// Where a partition is to be read now.
    fn route(&self, cx: &Context<'_>, wanted: &Wanted) -> Route {
        let (topic, index) = &wanted.key;
        let (side, place) = match cx.partitions.get(topic, *index) {
            Some(state) => {
                if state.held && wanted.v >= state.live.visible() {
                    return Route::Frozen;
                }
                let place = self.place(state, wanted.v);
                (place.side, place)
            }
            None => {
                let native = Native(wanted.v.0);
                let side = cx.shared.config.default_side;
                (side, Place { side, native, delta: 0, end: None, virtual_end: None, segment: 0 })
            }
        };
        let view = cx.topology.topic(side, topic);
        let exists = view.is_some_and(|t| usize::try_from(*index).is_ok_and(|i| i < t.partitions.len()));
        if !exists && cx.topology.reachable(side) {
            cx.shared.refresh(side);
            return Route::Error(unknown_topic(self.version));
        }
        match cx.topology.leader(side, topic, *index) {
            Some(leader) => Route::To(LaneKey { side, node: leader.leader, probe: wanted.probe }, place),
            None => {
                cx.shared.refresh(side);
                Route::Leaderless
            }
        }
    }

    /// The place of an offset, past closed segments that are proven to hold nothing more, past what retention has taken.
    fn place(&self, state: &PartitionState, v: VOffset) -> Place {
        let committed = self.request.isolation_level == READ_COMMITTED;
        let verdicts = state.live.verdicts();
        let log_starts = state.live.log_starts();
        let mut place = state.map.resume_at(state.map.locate(v), log_starts);
        while place.end.is_some() && verdicts.is_exhausted(place.segment, place.native, committed) {
            place = state.map.resume_at(state.map.locate_in(place.segment + 1), log_starts);
        }
        place
    }

    fn plan(&mut self, cx: &Context<'_>, lanes: &mut Lanes) -> Vec<Send> {
        let mut by_lane: Vec<(LaneKey, Vec<(usize, Place)>)> = Vec::new();
        for i in 0..self.wanted.len() {
            let Some(wanted) = self.wanted.get(i).filter(|w| w.got.is_none() && w.lost_at.is_none()) else { continue };
            if wanted.not_before.is_some_and(|at| at > cx.now) {
                continue;
            }
            match self.route(cx, wanted) {
                Route::To(key, place) => match by_lane.iter_mut().find(|(k, _)| *k == key) {
                    // One partition alone in a probe; the others have their turn after it.
                    Some(_) if key.probe => {}
                    Some((_, parts)) => parts.push((i, place)),
                    None => by_lane.push((key, vec![(i, place)])),
                },
                Route::Frozen => {}
                Route::Leaderless => {
                    if let Some(wanted) = self.wanted.get_mut(i) {
                        wanted.not_before = Some(cx.now + ELECTION);
                    }
                }
                Route::Error(error) => {
                    if let Some(wanted) = self.wanted.get_mut(i) {
                        wanted.got = Some(Got::error(wanted.key.1, error));
                        wanted.not_before = None;
                    }
                }
            }
        }
        let spread = i32::try_from(by_lane.len().max(1)).unwrap_or(i32::MAX);
        let remaining = self.deadline.saturating_duration_since(cx.now).min(LONGEST_POLL);
        let mut sends = Vec::new();
        for (key, parts) in by_lane {
            if !lanes.is_idle(&key) {
                continue;
            }
            let (request, asked) = self.request_for(cx, key, &parts, spread, remaining);
            lanes.busy(key, asked);
            sends.push(Send { key, request });
        }
        sends
    }

    fn request_for(
        &self,
        cx: &Context<'_>,
        key: LaneKey,
        parts: &[(usize, Place)],
        spread: i32,
        remaining: Duration,
    ) -> (FetchRequest, Asked) {
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut asked = Asked { isolation: self.request.isolation_level, ..Asked::default() };
        for (i, place) in parts {
            let Some(wanted) = self.wanted.get(*i) else { continue };
            let (name, index) = &wanted.key;
            let epoch = cx.topology.leader(key.side, name, *index).map_or(NO_EPOCH, |l| l.epoch);
            let partition = FetchPartition {
                index: *index,
                current_leader_epoch: epoch,
                fetch_offset: place.native.0,
                last_fetched_epoch: NO_EPOCH,
                log_start_offset: -1,
                max_bytes: wanted.max_bytes,
            };
            asked.parts.insert(wanted.key.clone(), place.native);
            match topics.last_mut().filter(|t| *t.name == **name) {
                Some(topic) => topic.partitions.push(partition),
                None => {
                    let id = cx.topology.topic(key.side, name).map_or(Uuid::nil(), |t| t.id);
                    asked.names.insert(id, name.clone());
                    let name = kafka_protocol::protocol::StrBytes::from_string(name.to_string());
                    topics.push(FetchTopic { name, id, partitions: vec![partition] });
                }
            }
        }
        let alone = spread == 1;
        let request = FetchRequest {
            replica_id: crate::ids::CONSUMER,
            max_wait_ms: if key.probe { 0 } else { i32::try_from(remaining.as_millis()).unwrap_or(0) },
            min_bytes: if alone { self.request.min_bytes.max(1) } else { 1 },
            max_bytes: (self.request.max_bytes / spread).max(1),
            isolation_level: if key.probe { 0 } else { self.request.isolation_level },
            session_id: 0,
            session_epoch: -1,
            topics,
            forgotten: vec![],
            rack_id: Default::default(),
        };
        (request, asked)
    }

    fn absorb(
        &mut self,
        cx: &Context<'_>,
        lanes: &mut Lanes,
        key: LaneKey,
        asked: &Asked,
        answer: Option<FetchResponse>,
    ) {
        let Some(answer) = answer.filter(|a| a.error_code == code::NONE) else {
            cx.shared.refresh(key.side);
            for wanted in self.wanted.iter_mut().filter(|w| w.got.is_none() && asked.parts.contains_key(&w.key)) {
                wanted.not_before = Some(cx.now + PAUSE);
            }
            return;
        };
        self.throttle_ms = self.throttle_ms.max(answer.throttle_time_ms);
        if lanes.ends.len() > MANY_ENDS {
            lanes.ends.clear();
        }
        for topic in answer.topics {
            let name = match self.version {
                13.. => asked.names.get(&topic.id).cloned(),
                _ => Some(TopicName::from(topic.name.as_str())),
            };
            let Some(name) = name else { continue };
            for partition in topic.partitions {
                let part = (name.clone(), partition.index);
                let Some(native) = asked.parts.get(&part).copied() else { continue };
                // Stale isolation: aborted records may be among them.
                if !key.probe && asked.isolation != self.request.isolation_level {
                    continue;
                }
                let open = |i: &usize| self.wanted.get(*i).is_some_and(|w| w.got.is_none());
                let Some(i) = self.places.get(&part).copied().filter(open) else { continue };
                self.take(cx, lanes, key, i, native, partition);
            }
        }
    }

    /// One partition of a lane's answer.
    fn take(
        &mut self,
        cx: &Context<'_>,
        lanes: &mut Lanes,
        key: LaneKey,
        i: usize,
        native: NOffset,
        mut answer: PartitionFetched,
    ) {
        let Some(wanted) = self.wanted.get(i) else { return };
        let state = cx.partitions.get(&wanted.key.0, wanted.key.1);
        if let Some(state) = state {
            let last_stable = answer.last_stable_offset.max(-1);
            state.live.heard(key.side, answer.high_watermark, last_stable, answer.log_start_offset);
        }
        // Cut and translated by the map that holds now: an answer to another place than today's is dropped.
        let Route::To(now, place) = self.route(cx, wanted) else { return };
        if (now.side, place.native) != (key.side, native) {
            return;
        }
        let committed = self.request.isolation_level == READ_COMMITTED;
        let Some(wanted) = self.wanted.get_mut(i) else { return };
        match answer.error_code {
            code::NONE => {}
            code::OFFSET_OUT_OF_RANGE => {
                self.questions.extend(out_of_range(cx, state, wanted, place, now.node));
                return;
            }
            error if is_stale_topology(error) => {
                cx.shared.refresh(key.side);
                wanted.not_before = Some(cx.now + PAUSE);
                return;
            }
            code::TOPIC_AUTHORIZATION_FAILED => {
                wanted.got = Some(Got::error(wanted.key.1, code::TOPIC_AUTHORIZATION_FAILED));
                return;
            }
            error => {
                tracing::warn!(topic = %wanted.key.0, partition = wanted.key.1, side = %key.side,
                    error = %crate::error::code_name(error), "a broker refused a fetch");
                wanted.not_before = Some(cx.now + PAUSE);
                return;
            }
        }
        let frozen = state.filter(|s| s.held).map(|s| s.live.visible().0.saturating_sub(place.delta));
        let end = match (place.end, frozen) {
            (Some(end), Some(frozen)) => Some(end.0.min(frozen)),
            (Some(end), None) => Some(end.0),
            (None, frozen) => frozen,
        };
        let records = std::mem::take(&mut answer.records).into_bytes();
        if let (true, Some(state), Some(end)) = (key.probe, state, place.end) {
            let first = batch::batches(&records).flatten().map(|(_, head)| head).find(|h| h.next_offset() > native.0);
            let first = first.map(|h| Native(h.base_offset.max(native.0)));
            let (hw, lso) = (Native(answer.high_watermark), Native(answer.last_stable_offset));
            wanted.probe = false;
            match judge_probe(&place, end, hw, lso, committed, first) {
                Verdict::Exhausted => {
                    state.live.verdicts().prove(place.segment, native, committed);
                    return;
                }
                // What a read_committed reader may not see it must not get from here.
                Verdict::NotYet if committed => {
                    wanted.not_before = Some(cx.now + PAUSE);
                    return;
                }
                Verdict::NotYet => {}
            }
        }
        let rebased = match rewrite::rebase(records, place.delta, end) {
            Ok(rebased) => rebased,
            Err(error) => {
                tracing::error!(topic = %wanted.key.0, partition = wanted.key.1, side = %key.side, %error,
                    "fetched batches cannot be read");
                wanted.got = Some(Got::error(wanted.key.1, code::KAFKA_STORAGE_ERROR));
                return;
            }
        };
        let fetched_ends = (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset);
        if state.is_none() {
            lanes.ends.insert(wanted.key.clone(), fetched_ends);
        }
        if rebased.is_empty() {
            let below_end = place.end.is_some_and(|end| place.native < end);
            wanted.probe = below_end && answer.high_watermark >= place.end.map_or(0, |e| e.0);
            if end.is_none() && self.request.min_bytes <= 0 {
                wanted.got = Some(Got {
                    answer: PartitionFetched::empty(wanted.key.1, code::NONE),
                    place: None,
                    next: wanted.v,
                });
            }
            return;
        }
        let next = Virtual(rebased.next.unwrap_or(native.0).saturating_add(place.delta));
        for (_, first_offset) in answer.aborted.iter_mut().flatten() {
            *first_offset = first_offset.saturating_add(place.delta);
        }
        answer.records = Records::Many(rebased.pieces);
        wanted.got = Some(Got { answer, place: state.is_some().then_some(Place { native, ..place }), next });
    }

    /// Where a log begins, of which a broker said that a place is out of its range.
    fn hear(&mut self, cx: &Context<'_>, question: Question, log_start: Option<NOffset>) {
        let Question { side, topic, partition, .. } = question;
        let Some(state) = cx.partitions.get(&topic, partition) else { return };
        if let Some(start) = log_start {
            state.live.heard(side, -1, -1, start.0);
        }
        let key = (topic, partition);
        let lost = |w: &&mut Wanted| w.key == key && w.lost_at.is_some_and(|p| p.side == side);
        let Some(wanted) = self.wanted.iter_mut().find(lost) else { return };
        let Some(place) = wanted.lost_at.take() else { return };
        // By the map that holds now: if it says otherwise, the partition is read anew.
        let now = state.map.locate(place.at());
        match log_start {
            None => wanted.not_before = Some(cx.now + PAUSE),
            Some(start) if (now.segment, now.native, now.end) == (place.segment, place.native, place.end) => {
                explain(cx, state, wanted, &place, start);
            }
            Some(_) => {}
        }
    }

    /// Everything that was asked for, in the order of the request, with the ends of this moment.
    fn answer(&mut self, cx: &Context<'_>, lanes: &Lanes) -> FetchResponse {
        let topics = self.request.topics.iter();
        let empty = |t: &FetchTopic| TopicFetched {
            name: t.name.clone(),
            id: t.id,
            partitions: Vec::with_capacity(t.partitions.len()),
        };
        let mut topics: Vec<TopicFetched> = topics.map(empty).collect();
        for wanted in &mut self.wanted {
            let (name, index) = &wanted.key;
            let state = cx.partitions.get(name, *index);
            let (mut answer, next) = match wanted.got.take() {
                Some(got) => (got.answer, got.next),
                None => (PartitionFetched::empty(*index, code::NONE), wanted.v),
            };
            answer.preferred_read_replica = -1;
            if answer.error_code == code::NONE {
                match state {
                    Some(state) => tracked_ends(state, next, &mut answer),
                    None if answer.records.is_empty() => {
                        let known = lanes.ends.get(&wanted.key).copied();
                        (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset) =
                            known.unwrap_or((-1, -1, -1));
                    }
                    None => {}
                }
            }
            if let Some(topic) = topics.get_mut(wanted.at.0) {
                topic.partitions.push(answer);
            }
        }
        FetchResponse { throttle_time_ms: self.throttle_ms, error_code: code::NONE, session_id: 0, topics }
    }
}

impl Got {
    fn error(index: i32, error: i16) -> Self {
        Self { answer: PartitionFetched::empty(index, error), place: None, next: Virtual(0) }
    }
}

/// The virtual ends; what is shown here counts as shown when a seal freezes the end.
fn tracked_ends(state: &PartitionState, next: VOffset, answer: &mut PartitionFetched) {
    let live = &state.live;
    let mut high_watermark = state.map.high_watermark(live.high_watermarks()).max(next);
    let mut last_stable = state.map.last_stable(live.last_stables()).max(Virtual(0)).min(high_watermark);
    if state.held {
        let visible = live.visible();
        high_watermark = high_watermark.min(visible);
        last_stable = last_stable.min(visible);
    } else {
        live.show(high_watermark);
    }
    answer.high_watermark = high_watermark.0;
    answer.last_stable_offset = last_stable.0;
    answer.log_start_offset = state.map.virtual_log_start(live.log_starts()).0;
}

/// OFFSET_OUT_OF_RANGE of one side is never passed on unexamined (PROTOCOL.md rule 14). What has to be asked about it.
fn out_of_range(
    cx: &Context<'_>,
    state: Option<&PartitionState>,
    wanted: &mut Wanted,
    place: Place,
    node: NodeId,
) -> Option<Question> {
    let (topic, partition) = wanted.key.clone();
    let Some(state) = state.filter(|s| s.map.seals() > 0) else {
        wanted.got = Some(Got::error(partition, code::OFFSET_OUT_OF_RANGE));
        return None;
    };
    if state.held {
        wanted.not_before = Some(cx.now + PAUSE);
        return None;
    }
    wanted.lost_at = Some(place);
    Some(Question { side: place.side, node, topic, partition })
}

/// A broker had nothing at `place`, and its log begins at `start`: below a hole a reader goes on (DESIGN.md section 3).
fn explain(cx: &Context<'_>, state: &PartitionState, wanted: &mut Wanted, place: &Place, start: NOffset) {
    let (topic, partition) = &wanted.key;
    if start <= place.native && place.end.is_some() {
        tracing::error!(%topic, partition, side = %place.side, offset = place.native.0,
            "a sealed side has lost records below its end: readers go on at the next segment");
        cx.shared.metrics.truncated(place.side);
        state.live.verdicts().prove(place.segment, place.native, true);
        return;
    }
    let resumed = state.map.resume_at(*place, state.live.log_starts());
    if (resumed.segment, resumed.native) != (place.segment, place.native) {
        tracing::warn!(%topic, partition, side = %place.side, from = place.at().0, to = resumed.at().0,
            "retention has taken records below the reader: it goes on behind the hole");
        return;
    }
    wanted.got = Some(Got::error(*partition, code::OFFSET_OUT_OF_RANGE));
}

fn unknown_topic(version: i16) -> i16 {
    if version >= 13 { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION }
}

fn resolve_name(cx: &Context<'_>, topic: &FetchTopic) -> Option<TopicName> {
    let source = cx.topology.side(Side::Source)?;
    match cx.version {
        13.. => source.names.get(&topic.id).cloned(),
        _ => source.topics.get_key_value(topic.name.as_str()).map(|(name, _)| name.clone()),
    }
}
