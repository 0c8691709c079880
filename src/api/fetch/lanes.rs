//! The upstream connections of one client that carry fetches, and what stands on each: kept from fetch to fetch. What a
//! broker has sent and the client has not asked for yet is parked here, partition by partition.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::error::code;
use crate::ids::{NOffset, NodeId, Side, TopicName, VOffset};
use crate::offsets::Place;
use crate::routing::in_flight::ReadAhead;
use crate::upstream::Lane;
use crate::wire::fetch::{FetchResponse, PartitionFetched};

/// An upstream connection of this client that carries fetches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct LaneKey {
    pub side: Side,
    pub node: NodeId,
    pub kind: LaneKind,
}

/// A broker serves one request of a connection at a time, so what is answered at once does not stand behind a long poll.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum LaneKind {
    /// The long poll.
    Standing,
    /// What lies there already: answered at once.
    Ahead,
    /// One partition alone, answered at once.
    Probe,
}

impl LaneKey {
    pub fn lane(self) -> Lane {
        match self.kind {
            LaneKind::Standing => Lane::Fetch,
            LaneKind::Ahead => Lane::FetchAhead,
            LaneKind::Probe => Lane::Probe,
        }
    }
}

/// Where does this log begin? A broker that answers OFFSET_OUT_OF_RANGE does not say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    pub side: Side,
    pub node: NodeId,
    pub topic: TopicName,
    pub partition: i32,
}

pub(super) type Key = (TopicName, i32);

/// What was asked on a lane: native offsets.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) parts: HashMap<Key, NOffset>,
    /// Topic ids of that side, for answers that carry only those.
    pub(super) names: HashMap<Uuid, TopicName>,
    pub(super) isolation: i8,
    pub(super) sent: Instant,
    /// When the broker answers at the latest, with or without records.
    pub(super) until: Instant,
    /// Bytes of records that it may bring of what lies there already.
    pub(super) reserved: usize,
}

impl Asked {
    /// What of an answer was asked for, with the place that was asked.
    pub(super) fn parts_of(&self, answer: FetchResponse) -> impl Iterator<Item = (Key, NOffset, PartitionFetched)> {
        answer.topics.into_iter().flat_map(move |topic| {
            let name = match topic.id.is_nil() {
                true => Some(TopicName::from(topic.name.as_str())),
                false => self.names.get(&topic.id).cloned(),
            };
            topic.partitions.into_iter().filter_map(move |partition| {
                let key = (name.clone()?, partition.index);
                let native = self.parts.get(&key).copied()?;
                Some((key, native, partition))
            })
        })
    }
}

#[derive(Debug, Default)]
enum LaneState {
    #[default]
    Idle,
    Busy(Asked),
    Ready(Asked, Option<FetchResponse>),
}

/// What a broker has sent of one partition, in one piece with its list of aborted transactions.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) lane: LaneKey,
    pub(super) native: NOffset,
    pub(super) isolation: i8,
    pub(super) answer: PartitionFetched,
    /// Other partitions had records in the same answer, so that none of this one need not mean that there are none.
    pub(super) crowded: bool,
    pub(super) since: Instant,
}

impl Arrived {
    /// It has no records, though there are some: others have used up the answer.
    pub(super) fn crowded_out(&self) -> bool {
        let Self { answer, crowded, .. } = self;
        *crowded && answer.records.is_empty() && self.native.0 < answer.readable(self.isolation)
    }
}

/// What a broker has told this client of a partition.
#[derive(Clone, Copy, Debug)]
struct Known {
    side: Side,
    /// Native position up to which the client has been served.
    next: NOffset,
    /// There is more behind it that the client may see.
    more: bool,
    /// It was read there, and had nothing.
    nothing: bool,
    since: Instant,
}

/// The lanes of one client connection, kept from fetch to fetch.
#[derive(Debug)]
pub struct Lanes {
    states: HashMap<LaneKey, LaneState>,
    /// Before the client has asked for it.
    parked: HashMap<Key, Arrived>,
    /// Bytes of `parked`, and who counts them for all connections.
    parked_bytes: usize,
    read_ahead: Arc<ReadAhead>,
    known: HashMap<Key, Known>,
    /// When each lane's last fetch was sent.
    sent: HashMap<LaneKey, Instant>,
    /// Bytes that a broker has sent of one partition, on average, when its last answer to a read ahead was full.
    full_of: HashMap<LaneKey, usize>,
    /// To be read alone: they came back empty below the end of a closed segment.
    pub(super) probes: HashSet<Key>,
    /// A broker found these places out of range, for a client at these offsets, and is asked where their logs begin.
    pub(super) out_of_range: HashMap<Key, (VOffset, Place)>,
    /// The last ends that were heard, for answers without news: high watermark, last stable offset, log start.
    pub(super) ends: HashMap<Key, (i64, i64, i64)>,
    starts: Vec<(Question, Option<NOffset>)>,
    /// The longest that a broker wanted this client to wait, not told to it yet.
    pub(super) throttle_ms: i32,
}

/// Partitions of which something is remembered per connection.
const MANY: usize = 20_000;
/// A client that was served from a partition this long ago and has not asked for more is not waiting for it.
const RECENT: Duration = Duration::from_secs(2);
/// Records that nobody has asked for in this time are not worth their memory.
const STALE: Duration = Duration::from_secs(10);
/// A fetch names so many times the partitions that have filled the last answer, should they have less this time.
const SPARE: usize = 2;
/// Fewer partitions than this are all named.
const FEW: usize = 16;
/// An error, or that there was nothing, is not true for longer.
const NEWS: Duration = Duration::from_secs(1);

impl Lanes {
    pub fn new(read_ahead: Arc<ReadAhead>) -> Self {
        Self {
            states: HashMap::new(),
            parked: HashMap::new(),
            parked_bytes: 0,
            read_ahead,
            known: HashMap::new(),
            sent: HashMap::new(),
            full_of: HashMap::new(),
            probes: HashSet::new(),
            out_of_range: HashMap::new(),
            ends: HashMap::new(),
            starts: Vec::new(),
            throttle_ms: 0,
        }
    }

    /// Keeps what the client has not asked for, or cannot take yet, if there is room. `tells`: also without records it says
    /// something that the client's next fetch must hear.
    pub(super) fn keep(&mut self, key: Key, arrived: Arrived, tells: bool) {
        let bytes = arrived.answer.records.len();
        if bytes == 0 && !tells && arrived.answer.error_code == code::NONE {
            // What is known of another place may be newer.
            let (side, at) = (arrived.lane.side, arrived.native);
            if self.known.get(&key).is_none_or(|k| (k.side, k.next) == (side, at)) {
                self.read_empty(&key, side, at, arrived.crowded_out(), arrived.since);
            }
            return;
        }
        self.unpark(&key);
        if self.parked_bytes + bytes > self.read_ahead.per_connection {
            self.forget_stale(arrived.since);
        }
        if self.parked_bytes + bytes <= self.read_ahead.per_connection && self.read_ahead.take(bytes) {
            self.parked_bytes += bytes;
            self.parked.insert(key, arrived);
        } else {
            // To be read again, and waited for.
            self.served(&key, arrived.lane.side, arrived.native, true, arrived.since);
        }
    }

    /// What nobody has asked for in time is not true any more, or not worth its memory.
    pub(super) fn forget_stale(&mut self, now: Instant) {
        let stale = |p: &Arrived| {
            let most = if p.answer.records.is_empty() { NEWS } else { STALE };
            now.saturating_duration_since(p.since) > most
        };
        let old: Vec<Key> = self.parked.iter().filter(|(_, p)| stale(p)).map(|(key, _)| key.clone()).collect();
        for key in old {
            self.unpark(&key);
        }
    }

    pub(super) fn unpark(&mut self, key: &Key) -> Option<Arrived> {
        let parked = self.parked.remove(key)?;
        let bytes = parked.answer.records.len();
        self.parked_bytes -= bytes;
        self.read_ahead.give_back(bytes);
        Some(parked)
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    pub(super) fn is_parked(&self, key: &Key) -> bool {
        self.parked.contains_key(key)
    }

    /// Bytes of records that are parked for a partition; `None`: nothing is.
    pub(super) fn parked_bytes(&self, key: &Key) -> Option<usize> {
        self.parked.get(key).map(|p| p.answer.records.len())
    }

    /// Bytes that may still be read ahead of this client, besides what is on its way from brokers that are not slow.
    pub(super) fn room(&self, now: Instant) -> usize {
        let reserved = |state: &LaneState| match state {
            LaneState::Busy(asked) | LaneState::Ready(asked, _)
                if now.saturating_duration_since(asked.sent) < RECENT =>
            {
                asked.reserved
            }
            _ => 0,
        };
        let coming: usize = self.states.values().map(reserved).sum();
        let ours = self.read_ahead.per_connection.saturating_sub(self.parked_bytes);
        ours.min(self.read_ahead.room()).saturating_sub(coming)
    }

    /// What may be read ahead of this client at the most; 0: nothing ever.
    pub(super) fn most_ahead(&self) -> usize {
        self.read_ahead.per_connection.min(self.read_ahead.limit())
    }

    /// The last that was heard of a partition that no migration has.
    pub(super) fn told_ends(&mut self, key: &Key, ends: (i64, i64, i64)) {
        if self.ends.len() > MANY {
            self.ends.clear();
        }
        self.ends.insert(key.clone(), ends);
    }

    /// The client has been served up to `next`, and there is more behind it or not.
    pub(super) fn served(&mut self, key: &Key, side: Side, next: NOffset, more: bool, since: Instant) {
        self.know(key, Known { side, next, more, nothing: false, since });
    }

    /// A broker was asked for this place and sent nothing, though there is `more` or not.
    pub(super) fn read_empty(&mut self, key: &Key, side: Side, at: NOffset, more: bool, since: Instant) {
        self.know(key, Known { side, next: at, more, nothing: !more, since });
    }

    fn know(&mut self, key: &Key, known: Known) {
        if self.known.len() > MANY {
            self.known.clear();
        }
        self.known.insert(key.clone(), known);
    }

    /// Since when there is nothing at this place as far as is known: a broker was asked for it, or `at_end`: has also said
    /// so with what is before it.
    pub(super) fn nothing_since(&self, key: &Key, side: Side, at: NOffset, at_end: bool) -> Option<Instant> {
        let nothing = |k: &&Known| k.nothing || at_end && !k.more;
        self.known.get(key).filter(nothing).filter(|k| (k.side, k.next) == (side, at)).map(|k| k.since)
    }

    /// Is more than the client has known to lie at this place?
    pub(super) fn is_behind(&self, key: &Key, side: Side, at: NOffset) -> bool {
        self.known.get(key).is_some_and(|k| (k.side, k.next) == (side, at) && k.more)
    }

    /// Was this place its partition's end when a broker was asked last?
    pub(super) fn is_at_end(&self, key: &Key, side: Side, at: NOffset) -> bool {
        self.known.get(key).is_some_and(|k| (k.side, k.next) == (side, at) && !k.more)
    }

    /// Has the client records of other partitions in hand, of which there are more? It cannot ask for those before it
    /// has the answer to this fetch.
    pub(super) fn works_on_others(&self, mine: &HashMap<Key, usize>, now: Instant) -> bool {
        let waits = |(key, k): (&Key, &Known)| {
            k.more && now.saturating_duration_since(k.since) < RECENT && !mine.contains_key(key)
        };
        self.known.iter().any(waits)
    }

    /// A fetch was sent.
    pub(super) fn busy(&mut self, key: LaneKey, asked: Asked) {
        self.sent.insert(key, asked.sent);
        self.states.insert(key, LaneState::Busy(asked));
    }

    /// The outcome of a lane's fetch; `None`: lost.
    pub fn arrived(&mut self, key: LaneKey, answer: Option<FetchResponse>) {
        let state = self.states.entry(key).or_default();
        if let LaneState::Busy(asked) = std::mem::take(state) {
            match answer.as_ref().and_then(|answer| answer.fills(asked.reserved)) {
                Some(each) => drop(self.full_of.insert(key, each)),
                None => drop(self.full_of.remove(&key)),
            }
            *state = LaneState::Ready(asked, answer);
        }
    }

    /// How many partitions to name in a fetch for so many bytes: a broker looks at each, also at those for which there is
    /// no room left behind others.
    pub(super) fn worth_naming(&self, key: &LaneKey, bytes: usize) -> usize {
        let likely = |each: &usize| (bytes / (*each).max(1)).saturating_mul(SPARE).max(FEW);
        self.full_of.get(key).map_or(usize::MAX, likely)
    }

    /// The answer to a question; `None`: lost.
    pub fn told(&mut self, question: Question, log_start: Option<NOffset>) {
        self.starts.push((question, log_start));
    }

    pub(super) fn take_starts(&mut self) -> Vec<(Question, Option<NOffset>)> {
        std::mem::take(&mut self.starts)
    }

    pub(super) fn is_idle(&self, key: &LaneKey) -> bool {
        matches!(self.states.get(key), None | Some(LaneState::Idle))
    }

    /// When a lane's last fetch was sent.
    pub(super) fn sent(&self, key: &LaneKey) -> Option<Instant> {
        self.sent.get(key).copied()
    }

    /// When a partition was served or read last.
    pub(super) fn known_since(&self, key: &Key) -> Option<Instant> {
        self.known.get(key).map(|k| k.since)
    }

    /// What is on its way on a lane, if it asks for this place.
    pub(super) fn asked(&self, lane: &LaneKey, key: &Key, at: NOffset) -> Option<&Asked> {
        match self.states.get(lane) {
            Some(LaneState::Busy(asked) | LaneState::Ready(asked, _)) if asked.parts.get(key) == Some(&at) => {
                Some(asked)
            }
            _ => None,
        }
    }

    /// Is a broker reading what lies there already of one of these, and for no longer than `most`?
    pub(super) fn reads_any(&self, of: &HashMap<Key, usize>, now: Instant, most: Duration) -> bool {
        self.states.iter().any(|(lane, state)| match state {
            LaneState::Busy(asked) if lane.kind == LaneKind::Ahead && now < asked.sent + most => {
                asked.parts.keys().any(|key| of.contains_key(key))
            }
            _ => false,
        })
    }

    pub(super) fn take_ready(&mut self, of: impl Fn(&LaneKey) -> bool) -> Vec<(LaneKey, Asked, Option<FetchResponse>)> {
        let mut ready = Vec::new();
        for (key, state) in &mut self.states {
            if matches!(state, LaneState::Ready(..))
                && of(key)
                && let LaneState::Ready(asked, answer) = std::mem::take(state)
            {
                ready.push((*key, asked, answer));
            }
        }
        ready
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.read_ahead.give_back(self.parked_bytes);
    }
}
