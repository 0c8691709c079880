//! What to ask of which broker: long polls for what is caught up with, reads for what lies there already, also before the
//! client asks for it.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::lanes::{Asked, LaneKey, LaneKind, Lanes};
use super::{Gather, Got, Route, Send};
use crate::api::Context;
use crate::ids::NO_EPOCH;
use crate::offsets::Place;
use crate::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};

/// A standing fetch comes back after this at the latest, so that a seek or a new assignment need not wait long.
const LONGEST_POLL: Duration = Duration::from_millis(500);
/// A partition that had nothing, and is in no long poll, is not asked again before this for what lies there already.
const AGAIN: Duration = Duration::from_millis(50);
/// The same while the client catches up with others: a broker looks at each partition that is named.
const AGAIN_BEHIND_OTHERS: Duration = Duration::from_millis(200);
/// Whatever the limits are, a broker is asked for so much, in bytes.
const LEAST: i32 = 64 * 1024;
/// Reading ahead for less is not worth a request, in bytes, if there can be as much.
const LEAST_AHEAD: i32 = 1024 * 1024;
/// A long poll brings no more than this, in bytes, unless it waits for a certain amount: whoever has more is read ahead.
const NEWS: i32 = 1024 * 1024;
/// One answer of a broker holds no more than this: it goes on to the client only when all of it is here, and meanwhile the
/// broker could be sending the next. (Unless the client wants more at once.)
const LARGEST: i32 = 8 * 1024 * 1024;
/// A partition without a leader is looked at again after this, also in a long poll.
const ELECTION: Duration = Duration::from_millis(250);

impl Gather {
    /// What to send for that which has not come yet. `ahead`: for the client's next fetch, of which nobody knows yet.
    pub(super) fn plan(&mut self, cx: &Context<'_>, lanes: &mut Lanes, ahead: bool) -> Vec<Send> {
        let mut by_lane: Vec<(LaneKey, Vec<(usize, Place)>)> = Vec::new();
        let over = !ahead && cx.now >= self.deadline;
        let catches_up = lanes.works_on_others(&HashMap::new(), cx.now);
        let again = if catches_up { AGAIN_BEHIND_OTHERS } else { AGAIN };
        for i in 0..self.wanted.len() {
            let Some(wanted) = self.wanted.get(i).filter(|w| w.got.is_none() && !(over && w.answered)) else {
                continue;
            };
            let waits = wanted.not_before.is_some_and(|at| at > cx.now) || lanes.out_of_range.contains_key(&wanted.key);
            if waits || lanes.is_parked(&wanted.key) {
                continue;
            }
            match self.route(cx, lanes, wanted) {
                Route::To(mut key, place) => {
                    if key.kind == LaneKind::Standing {
                        let stands = lanes.asked(&key, &wanted.key, place.native).is_some();
                        let blocked = !lanes.is_idle(&key);
                        let nothing_since = lanes.nothing_since(
                            &wanted.key,
                            place.side,
                            place.native,
                            catches_up && place.end.is_none(),
                        );
                        let until = nothing_since.map(|since| since + again).filter(|until| cx.now < *until);
                        let caught_up = until.is_some();
                        // What lies there already need not wait behind a long poll for something else.
                        if !stands && !caught_up && (blocked || lanes.is_behind(&wanted.key, place.side, place.native))
                        {
                            key.kind = LaneKind::Ahead;
                        } else if blocked {
                            if let Some(wanted) = self.wanted.get_mut(i) {
                                wanted.caught_up_until = until;
                            }
                            continue;
                        }
                    }
                    match by_lane.iter_mut().find(|(k, _)| *k == key) {
                        // One partition alone in a probe; the others have their turn after it.
                        Some(_) if key.kind == LaneKind::Probe => {}
                        Some((_, parts)) => parts.push((i, place)),
                        None => by_lane.push((key, vec![(i, place)])),
                    }
                }
                Route::Frozen => {}
                Route::Kept => {
                    if let Some(wanted) = self.wanted.get_mut(i) {
                        wanted.answered = true;
                    }
                }
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
        // One that comes back with less than the client wants would stand in its way.
        let useless = |key: &LaneKey| ahead && key.kind == LaneKind::Standing && self.request.min_bytes > 1;
        by_lane.retain(|(key, _)| lanes.is_idle(key) && !useless(key));
        let spread = by_lane.iter().filter(|(key, _)| key.kind == LaneKind::Ahead).count();
        // When room is short, who was not asked for longest goes first.
        by_lane.sort_by_key(|(key, _)| lanes.sent(key));
        let waits = !ahead && !self.has_enough();
        let (mut how_many, mut share) = self.share(cx, lanes, spread, !waits);
        let poll = match !ahead && self.request.min_bytes > 1 {
            // A broker that comes back with less than the client wants would be asked no more.
            true => Duration::MAX,
            false => LONGEST_POLL,
        };
        let remaining = if ahead { poll } else { self.deadline.saturating_duration_since(cx.now).min(poll) };
        let mut sends = Vec::new();
        for (key, mut parts) in by_lane {
            if key.kind == LaneKind::Ahead {
                let overdue = !ahead && lanes.sent(&key).is_none_or(|at| cx.now >= at + LONGEST_POLL);
                share = match how_many.checked_sub(1) {
                    Some(left) => {
                        how_many = left;
                        share
                    }
                    // However little room there is: nobody waits longer than behind a long poll.
                    None if overdue => worth_it(lanes).min(self.request.max_bytes).max(1),
                    None => continue,
                };
                self.name_few(lanes, &mut parts, lanes.worth_naming(&key, usize::try_from(share).unwrap_or(0)));
            }
            let (mut request, mut asked) = self.request_for(cx, key, &parts);
            match key.kind {
                LaneKind::Standing => {
                    asked.until = cx.now + remaining;
                    request.max_wait_ms = i32::try_from(remaining.as_millis()).unwrap_or(0);
                    request.min_bytes = self.request.min_bytes.max(1);
                    // A broker drops the batch that it must cut, so it needs more than what is waited for.
                    let most = match self.request.min_bytes > 1 {
                        true => self.enough().max(LARGEST),
                        // Beyond the room for what the client cannot take yet, it would be read twice.
                        false if lanes.most_ahead() > 0 => NEWS.min(worth_it(lanes)),
                        false => NEWS,
                    };
                    request.max_bytes = self.request.max_bytes.min(most);
                }
                LaneKind::Ahead => {
                    request.max_bytes = share;
                    let each =
                        |(i, _): &(usize, Place)| self.wanted.get(*i).map_or(0, |w| i64::from(w.max_bytes.max(0)));
                    let all = parts.iter().map(each).fold(0, i64::saturating_add).min(i64::from(share));
                    asked.reserved = usize::try_from(all).unwrap_or(0);
                }
                LaneKind::Probe => {}
            }
            lanes.busy(key, asked);
            sends.push(Send { key, request });
        }
        sends
    }

    /// Of how many brokers to ask for what lies there already, and for how many bytes each: the room that is left for
    /// what the client has not asked for, or does not wait for, is divided. What it waits for is asked of everyone.
    fn share(&self, cx: &Context<'_>, lanes: &Lanes, spread: usize, ahead: bool) -> (usize, i32) {
        let room = lanes.room(cx.now);
        let most = LARGEST.max(self.enough()).min(self.request.max_bytes).max(1);
        if ahead {
            let least = worth_it(lanes).min(most);
            let how_many = spread.min(room / usize::try_from(least).unwrap_or(1));
            return (how_many, small(room / how_many.max(1)).min(most));
        }
        let least = match lanes.most_ahead() {
            0 => self.request.max_bytes / small(spread).max(1),
            _ => worth_it(lanes).max(self.enough()),
        };
        (spread, small(room / spread.max(1)).max(least).clamp(1, most))
    }

    /// There is an answer already.
    pub(super) fn has_enough(&self) -> bool {
        self.bytes > 0 && self.bytes >= usize::try_from(self.request.min_bytes).unwrap_or(0)
    }

    /// Leaves `most` partitions of those that have more, those that were read longest ago, and all others.
    fn name_few(&self, lanes: &Lanes, parts: &mut Vec<(usize, Place)>, most: usize) {
        if parts.len() <= most {
            return;
        }
        let key = |i: usize| self.wanted.get(i).map(|w| &w.key);
        parts.sort_by_key(|(i, _)| key(*i).and_then(|key| lanes.known_since(key)));
        let mut left = most;
        parts.retain(|(i, place)| {
            let behind = key(*i).is_some_and(|key| lanes.is_behind(key, place.side, place.native));
            let named = !behind || left > 0;
            left = left.saturating_sub(usize::from(behind));
            named
        });
        // Partitions of a topic stand together.
        parts.sort_by_key(|(i, _)| *i);
    }

    /// Bytes that surely hold what the client waits for.
    fn enough(&self) -> i32 {
        self.request.min_bytes.saturating_mul(2)
    }

    /// One that is answered at once, without a limit of its own.
    fn request_for(&self, cx: &Context<'_>, key: LaneKey, parts: &[(usize, Place)]) -> (FetchRequest, Asked) {
        let mut topics: Vec<FetchTopic> = Vec::new();
        let (parts_asked, names) = (HashMap::with_capacity(parts.len()), HashMap::new());
        let isolation = if key.kind == LaneKind::Probe { 0 } else { self.request.isolation_level };
        let mut asked = Asked { parts: parts_asked, names, isolation, sent: cx.now, until: cx.now, reserved: 0 };
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
        let request = FetchRequest {
            replica_id: crate::ids::CONSUMER,
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: self.request.max_bytes,
            isolation_level: isolation,
            session_id: 0,
            session_epoch: -1,
            topics,
            forgotten: vec![],
            rack_id: Default::default(),
        };
        (request, asked)
    }
}

/// Reading ahead for less is not worth a request, in bytes.
fn worth_it(lanes: &Lanes) -> i32 {
    LEAST_AHEAD.min(small(lanes.most_ahead() / 4)).max(LEAST)
}

fn small(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
