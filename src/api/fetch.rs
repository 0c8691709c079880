//! Fetch (1), v4 to v18: one client fetch over many brokers and two sides. Pure; the driver is `connection::fetch`.
//!
//! Per broker there is one standing fetch, which may outlive the client's: what it brings is kept for the client's next
//! one. While a partition is known to have more, that is read ahead on a lane of its own, so that a client with one
//! virtual node finds it here when it asks, as it would with a fetch in flight to each of many brokers. Whatever arrives
//! is cut and translated by the map that holds when it is delivered (DESIGN.md section 3). Always sessionless, every
//! requested partition in every answer, epoch -1 (PROTOCOL.md rules 8, 10 to 15).

mod ends;
mod lanes;
mod patience;
mod plan;

pub use lanes::{LaneKey, LaneKind, Lanes, Question};

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::ends::{delivered_ends, hear_ends};
use self::lanes::{Arrived, Asked, Key};
use super::Context;
use crate::error::{code, is_stale_topology};
use crate::ids::{NOffset, Native, NodeId, Side, TopicName, VOffset, Virtual};
use crate::offsets::{Place, Verdict, judge_probe};
use crate::routing::PartitionState;
use crate::wire::batch;
use crate::wire::fetch::{FetchRequest, FetchResponse, FetchTopic, PartitionFetched, READ_COMMITTED, TopicFetched};
use crate::wire::records::Records;
use crate::wire::rewrite;

/// After an error a partition is not asked again at once.
const PAUSE: Duration = Duration::from_millis(50);
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
    /// A broker has answered for this place since this fetch came.
    answered: bool,
    /// It was read and had nothing: what lies there already is not asked again before then.
    caught_up_until: Option<Instant>,
    not_before: Option<Instant>,
}

struct Got {
    answer: PartitionFetched,
    /// Where it came from: still right if the snapshot has changed meanwhile?
    place: Option<Place>,
    next: VOffset,
    /// The broker has more behind it that the client may see.
    more: bool,
}

/// One client fetch in progress.
pub struct Gather {
    request: FetchRequest,
    version: i16,
    wanted: Vec<Wanted>,
    places: HashMap<Key, usize>,
    /// Of records in `wanted`.
    bytes: usize,
    since: Instant,
    deadline: Instant,
    /// Since when there is enough for an answer.
    enough_since: Option<Instant>,
    snapshot: u64,
    refused: Option<i16>,
    questions: Vec<Question>,
}

enum Route {
    To(LaneKey, Place),
    /// The end is frozen: the release wakes whoever waits here.
    Frozen,
    /// Consumers are held at the seam, where this is all that the log has.
    Kept,
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
                wanted.push(Wanted {
                    at,
                    key,
                    v,
                    max_bytes,
                    got,
                    answered: false,
                    caught_up_until: None,
                    not_before: None,
                });
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
        let (deadline, questions) = (cx.now + wait, vec![]);
        Self {
            request,
            version,
            wanted,
            places,
            bytes: 0,
            since: cx.now,
            deadline,
            enough_since: None,
            snapshot,
            refused,
            questions,
        }
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
        lanes.forget_stale(cx.now);
        self.take_parked(cx, lanes);
        for (key, asked, answer) in lanes.take_ready(|_| true) {
            self.absorb(cx, lanes, key, &asked, answer);
        }
        for (question, log_start) in lanes.take_starts() {
            self.hear(cx, lanes, question, log_start);
        }
        let mut sends = self.plan(cx, lanes, false);
        match self.verdict(cx, lanes) {
            Some(until) => (sends, Next::Wait(until)),
            None => {
                let answer = self.answer(cx, lanes);
                if self.bytes > 0 {
                    // What the client will ask for next, unless it says otherwise.
                    sends.extend(self.plan(cx, lanes, true));
                }
                (sends, Next::Answer(answer))
            }
        }
    }

    /// Whether the answer has room for so many bytes more; the first always has its place.
    fn fits(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= usize::try_from(self.request.max_bytes).unwrap_or(0)
    }

    fn is_full(&self) -> bool {
        !self.fits(1)
    }

    /// What was read ahead.
    fn take_parked(&mut self, cx: &Context<'_>, lanes: &mut Lanes) {
        if !lanes.has_parked() {
            return;
        }
        for i in 0..self.wanted.len() {
            let Some(wanted) = self.wanted.get(i).filter(|w| w.got.is_none()) else { continue };
            if !lanes.parked_bytes(&wanted.key).is_some_and(|bytes| self.fits(bytes)) {
                continue;
            }
            let Some(parked) = lanes.unpark(&wanted.key) else { continue };
            // Of another isolation, aborted records may be among them.
            if parked.isolation == self.request.isolation_level {
                self.take(cx, lanes, i, parked);
            }
        }
    }

    /// The snapshot is another one: what was fetched under the old one counts only if it reads the same under this.
    fn check_again(&mut self, cx: &Context<'_>) {
        for wanted in &mut self.wanted {
            let Some(Got { place: Some(was), next, answer, .. }) = &wanted.got else { continue };
            let Some(state) = cx.partitions.get(&wanted.key.0, wanted.key.1) else { continue };
            let now = state.map.locate(was.at());
            let same = (now.side, now.native, now.delta) == (was.side, was.native, was.delta);
            let inside = [now.virtual_end, state.hidden_from()].into_iter().flatten().all(|end| *next <= end);
            if !same || !inside {
                self.bytes -= answer.records.len();
                wanted.got = None;
            }
        }
        if self.bytes == 0 {
            self.enough_since = None;
        }
    }

    /// Where a partition is to be read now.
    fn route(&self, cx: &Context<'_>, lanes: &Lanes, wanted: &Wanted) -> Route {
        let (topic, index) = &wanted.key;
        let (side, place) = match cx.partitions.get(topic, *index) {
            Some(state) => {
                if wanted.v < state.map.start() {
                    return Route::Error(code::OFFSET_OUT_OF_RANGE);
                }
                let place = self.place(state, wanted.v);
                let beyond = |end: VOffset| wanted.v.max(place.at()) >= end;
                if state.kept_at().is_some_and(beyond) {
                    return Route::Kept;
                }
                if state.hidden_from().is_some_and(beyond) {
                    return Route::Frozen;
                }
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
            Some(leader) => {
                let probe = place.end.is_some() && lanes.probes.contains(&wanted.key);
                let kind = if probe { LaneKind::Probe } else { LaneKind::Standing };
                Route::To(LaneKey { side, node: leader.leader, kind }, place)
            }
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
        lanes.throttle_ms = lanes.throttle_ms.max(answer.throttle_time_ms);
        let total = answer.record_bytes();
        let mut later = Vec::new();
        for (part, native, answer) in asked.parts_of(answer) {
            hear_ends(cx, key.side, &part, &answer);
            let (isolation, crowded, since) = (asked.isolation, total > 0, cx.now);
            let arrived = Arrived { lane: key, native, isolation, answer, crowded, since };
            let probe = key.kind == LaneKind::Probe;
            let open = |i: &usize| self.wanted.get(*i).is_some_and(|w| w.got.is_none());
            match self.places.get(&part).copied().filter(open) {
                // Stale isolation: aborted records may be among them.
                Some(_) if !probe && asked.isolation != self.request.isolation_level => {}
                Some(i) if probe || self.fits(arrived.answer.records.len()) => {
                    self.take(cx, lanes, i, arrived);
                }
                _ if !probe => later.push((part, arrived)),
                _ => {}
            }
        }
        // A little of a large answer must not keep all of it in memory.
        let kept: usize = later.iter().map(|(_, arrived)| arrived.answer.records.len()).sum();
        for (part, mut arrived) in later {
            if kept < total / 2 {
                arrived.answer.records = Records::One(Bytes::copy_from_slice(&arrived.answer.records.to_bytes()));
            }
            let tells = is_sealed(cx, &part);
            lanes.keep(part, arrived, tells);
        }
    }

    /// One partition of a lane's answer.
    fn take(&mut self, cx: &Context<'_>, lanes: &mut Lanes, i: usize, arrived: Arrived) {
        let crowded_out = arrived.crowded_out();
        let Arrived { lane: key, native, mut answer, since, .. } = arrived;
        let Some(wanted) = self.wanted.get(i) else { return };
        let state = cx.partitions.get(&wanted.key.0, wanted.key.1);
        // Cut and translated by the map that holds now: an answer to another place than today's is dropped.
        let Route::To(now, place) = self.route(cx, lanes, wanted) else { return };
        if (now.side, place.native) != (key.side, native) {
            return;
        }
        let committed = self.request.isolation_level == READ_COMMITTED;
        let Some(wanted) = self.wanted.get_mut(i) else { return };
        wanted.answered = true;
        match answer.error_code {
            code::NONE => {}
            code::OFFSET_OUT_OF_RANGE => {
                self.questions.extend(out_of_range(cx, lanes, state, wanted, place, now.node));
                return;
            }
            error if is_stale_topology(error) => {
                cx.shared.leaders_are_old(key.side);
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
        let frozen = state.and_then(PartitionState::hidden_from).map(|end| end.0.saturating_sub(place.delta));
        let end = match (place.end, frozen) {
            (Some(end), Some(frozen)) => Some(end.0.min(frozen)),
            (Some(end), None) => Some(end.0),
            (None, frozen) => frozen,
        };
        let records = std::mem::take(&mut answer.records).into_bytes();
        if key.kind == LaneKind::Probe {
            lanes.probes.remove(&wanted.key);
            let (Some(state), Some(end)) = (state, place.end) else { return };
            let first = batch::batches(&records).flatten().map(|(_, head)| head).find(|h| h.next_offset() > native.0);
            let first = first.map(|h| Native(h.base_offset.max(native.0)));
            let (hw, lso) = (Native(answer.high_watermark), Native(answer.last_stable_offset));
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
            lanes.told_ends(&wanted.key, fetched_ends);
        }
        let readable = answer.readable(self.request.isolation_level);
        if rebased.is_empty() {
            lanes.read_empty(&wanted.key, key.side, native, crowded_out, since);
            // Also of one that others may have crowded out: a hole must not wait until nobody else has a backlog.
            if place.end.is_some_and(|end| native < end && end.0 <= answer.high_watermark) {
                lanes.probes.insert(wanted.key.clone());
            }
            return;
        }
        let more = !rebased.cut && rebased.next.is_some_and(|next| next < readable);
        let next = Virtual(rebased.next.unwrap_or(native.0).saturating_add(place.delta));
        for (_, first_offset) in answer.aborted.iter_mut().flatten() {
            *first_offset = first_offset.saturating_add(place.delta);
        }
        answer.records = Records::Many(rebased.pieces);
        self.bytes += answer.records.len();
        wanted.got = Some(Got { answer, place: state.is_some().then_some(Place { native, ..place }), next, more });
    }

    /// Where a log begins, of which a broker said that a place is out of its range.
    fn hear(&mut self, cx: &Context<'_>, lanes: &mut Lanes, question: Question, log_start: Option<NOffset>) {
        let Question { side, topic, partition, .. } = question;
        let Some(state) = cx.partitions.get(&topic, partition) else { return };
        if let Some(start) = log_start {
            state.live.heard(side, -1, -1, start.0);
        }
        let key = (topic, partition);
        let Some((v, place)) = lanes.out_of_range.remove(&key).filter(|(_, place)| place.side == side) else { return };
        // A client that asks for another place by now does not want to know.
        let same = |w: &&mut Wanted| w.v == v && w.got.is_none();
        let Some(wanted) = self.places.get(&key).and_then(|i| self.wanted.get_mut(*i)).filter(same) else { return };
        // By the map that holds now: if it says otherwise, the partition is read anew.
        let now = state.map.locate(place.at());
        match log_start {
            None => wanted.not_before = Some(cx.now + PAUSE),
            Some(start) if (now.segment, now.native, now.end) == (place.segment, place.native, place.end) => {
                explain(state, wanted, &place, start);
            }
            Some(_) => {}
        }
    }

    /// Everything that was asked for, with the ends of this moment. What has records comes last: Java's consumer asks for
    /// no partition, also if it had nothing, before it is done with what is in front of it in the answer (`FetchBuffer`).
    fn answer(&mut self, cx: &Context<'_>, lanes: &mut Lanes) -> FetchResponse {
        let topics = self.request.topics.iter();
        let empty = |t: &FetchTopic| TopicFetched {
            name: t.name.clone(),
            id: t.id,
            partitions: Vec::with_capacity(t.partitions.len()),
        };
        let mut topics: Vec<TopicFetched> = topics.map(empty).collect();
        for i in 0..self.wanted.len() {
            let Some(got) = self.wanted.get_mut(i).map(|w| w.got.take()) else { continue };
            let Some(wanted) = self.wanted.get(i) else { continue };
            let key = wanted.key.clone();
            let state = cx.partitions.get(&key.0, key.1);
            let mut next = None;
            let mut answer = match got {
                None => {
                    let mut answer = PartitionFetched::empty(key.1, code::NONE);
                    match state {
                        Some(state) => self.untouched_ends(state, lanes, wanted, &mut answer),
                        None => {
                            let known = lanes.ends.get(&key).copied();
                            (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset) =
                                known.unwrap_or((-1, -1, -1));
                        }
                    }
                    answer
                }
                Some(got) if got.answer.error_code == code::NONE => {
                    let mut answer = got.answer;
                    let (side, delta) = got.place.map_or((cx.shared.config.default_side, 0), |p| (p.side, p.delta));
                    lanes.served(&key, side, Native(got.next.0.saturating_sub(delta)), got.more, cx.now);
                    if let Some(state) = state {
                        delivered_ends(state, got.next, &mut answer);
                    }
                    next = Some(got.next);
                    answer
                }
                Some(got) => got.answer,
            };
            answer.preferred_read_replica = -1;
            let error = answer.error_code;
            if let Some(wanted) = self.wanted.get_mut(i) {
                wanted.v = next.unwrap_or(wanted.v);
                wanted.answered = false;
                wanted.caught_up_until = None;
                // What has failed is not asked for again before the client does.
                wanted.got = (error != code::NONE).then(|| Got::error(key.1, error));
                if let Some(topic) = topics.get_mut(wanted.at.0) {
                    topic.partitions.push(answer);
                }
            }
        }
        for topic in &mut topics {
            topic.partitions.sort_by_key(|p| !p.records.is_empty());
        }
        topics.sort_by_key(|t| t.partitions.last().is_some_and(|p| !p.records.is_empty()));
        let throttle_time_ms = std::mem::take(&mut lanes.throttle_ms);
        FetchResponse { throttle_time_ms, error_code: code::NONE, session_id: 0, topics }
    }
}

impl Got {
    fn error(index: i32, error: i16) -> Self {
        Self { answer: PartitionFetched::empty(index, error), place: None, next: Virtual(0), more: false }
    }
}

/// What came while nobody waits for it: kept for the client's next fetch, as far as there is room.
pub fn settle(cx: &Context<'_>, lanes: &mut Lanes) {
    // What a probe says waits for who asked.
    for (key, asked, answer) in lanes.take_ready(|lane| lane.kind != LaneKind::Probe) {
        let Some(answer) = answer.filter(|a| a.error_code == code::NONE) else {
            cx.shared.refresh(key.side);
            continue;
        };
        lanes.throttle_ms = lanes.throttle_ms.max(answer.throttle_time_ms);
        let total = answer.record_bytes();
        for (part, native, answer) in asked.parts_of(answer) {
            hear_ends(cx, key.side, &part, &answer);
            if is_stale_topology(answer.error_code) {
                cx.shared.leaders_are_old(key.side);
            }
            let tells = is_sealed(cx, &part);
            let (isolation, crowded, since) = (asked.isolation, total > 0, cx.now);
            lanes.keep(part, Arrived { lane: key, native, isolation, answer, crowded, since }, tells);
        }
    }
}

/// Only there an empty answer says something: a closed segment may end in a hole.
fn is_sealed(cx: &Context<'_>, part: &Key) -> bool {
    cx.partitions.get(&part.0, part.1).is_some_and(|state| state.map.seals() > 0)
}

/// OFFSET_OUT_OF_RANGE of one side is never passed on unexamined (PROTOCOL.md rule 14). What has to be asked about it.
fn out_of_range(
    cx: &Context<'_>,
    lanes: &mut Lanes,
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
    lanes.out_of_range.insert(wanted.key.clone(), (wanted.v, place));
    Some(Question { side: place.side, node, topic, partition })
}

/// A broker had nothing at `place`, and its log begins at `start`: below a hole a reader goes on (DESIGN.md section 3).
fn explain(state: &PartitionState, wanted: &mut Wanted, place: &Place, start: NOffset) {
    let (topic, partition) = &wanted.key;
    if start <= place.native && place.end.is_some() {
        tracing::error!(%topic, partition, side = %place.side, offset = place.native.0,
            "a sealed side has lost records below its end: readers go on at the next segment");
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
