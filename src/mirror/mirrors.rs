//! The mirrors of all partitions, as everybody sees them: who seals, who shows, and the mirror's own thread.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::checkpoint::Key;
use super::lane::{Lane, Route};
use super::stop::Stop;
use crate::ids::{NOffset, TopicPartition};

/// A lane that was at its origin's end no longer ago keeps up.
const KEEPS_UP: Duration = Duration::from_secs(2);

pub struct Mirrors {
    all: Mutex<BTreeMap<TopicPartition, Arc<Mirrored>>>,
    /// Bumped when other partitions are to be mirrored than before; and up to where that was looked at.
    wanted: watch::Sender<u64>,
    looked: watch::Sender<u64>,
    /// Somebody waits in a hold for these, and for nothing else.
    hurry: watch::Sender<Option<Arc<HashSet<TopicPartition>>>>,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            wanted: watch::Sender::new(0),
            looked: watch::Sender::new(0),
            hurry: watch::Sender::new(None),
        }
    }
}

/// One partition.
pub struct Mirrored {
    pub migration: String,
    pub route: Route,
    /// Of the topic, on each side.
    pub topic_ids: [Uuid; 2],
    lane: Mutex<Lane>,
    /// Its lane was told something.
    pub(super) told: Notify,
    records: AtomicU64,
    bytes: AtomicU64,
}

/// How a mirror stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Up to here, exclusive, the origin is copied.
    pub mirrored: NOffset,
    /// Where the copy ends; `None`: not known, or something is on its way.
    pub copy_end: Option<NOffset>,
    /// Offsets that it is behind; `None`: not known yet.
    pub lag: Option<i64>,
    /// For how long it has been behind.
    pub behind: Option<Duration>,
    pub stopped: Option<Stop>,
    pub is_halted: bool,
    pub records: u64,
    pub bytes: u64,
}

impl Standing {
    /// What is missing can be copied in a hold.
    pub fn keeps_up(&self) -> bool {
        self.stopped.is_none() && self.lag.is_some() && self.behind.is_none_or(|behind| behind < KEEPS_UP)
    }
}

impl Mirrored {
    pub(super) fn new(migration: String, topic_ids: [Uuid; 2], lane: Lane) -> Self {
        Self {
            migration,
            route: lane.route().clone(),
            topic_ids,
            lane: Mutex::new(lane),
            told: Notify::new(),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub fn key(&self) -> Key {
        Key { partition: self.route.partition.clone(), writer: self.route.writer }
    }

    pub(super) fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, records: i64, bytes: usize) {
        self.records.fetch_add(u64::try_from(records).unwrap_or(0), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn standing(&self, now: Instant) -> Standing {
        let lane = self.lane();
        Standing {
            mirrored: lane.mirrored(),
            copy_end: lane.copy_end(),
            lag: lane.lag(),
            behind: lane.behind_since().map(|since| now.duration_since(since)),
            stopped: lane.stopped().cloned(),
            is_halted: lane.is_halted(),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// It is to stay where it is, or to go on.
    pub fn halt(&self, halt: bool) {
        self.lane().halt(halt);
        self.told.notify_one();
    }
}

impl Mirrors {
    pub fn of(&self, partition: &TopicPartition) -> Option<Arc<Mirrored>> {
        self.all().get(partition).cloned()
    }

    /// Those of a migration, in their order.
    pub fn of_migration(&self, migration: &str) -> Vec<Arc<Mirrored>> {
        self.all().values().filter(|mirrored| mirrored.migration == migration).cloned().collect()
    }

    pub(super) fn every(&self) -> Vec<Arc<Mirrored>> {
        self.all().values().cloned().collect()
    }

    pub(super) fn put(&self, mirrored: Arc<Mirrored>) {
        self.all().insert(mirrored.route.partition.clone(), mirrored);
    }

    pub(super) fn keep(&self, keep: impl Fn(&Mirrored) -> bool) {
        self.all().retain(|_, mirrored| keep(mirrored));
    }

    /// The journal says otherwise than before what is to be mirrored. The number of this wish.
    pub fn look_again(&self) -> u64 {
        self.wanted.send_modify(|n| *n += 1);
        *self.wanted.borrow()
    }

    /// The number of the last wish that was looked at.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.looked.subscribe()
    }

    pub(super) fn looked(&self, wish: u64) {
        self.looked.send_replace(wish);
    }

    pub(super) fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// Until this is dropped nobody waits for anything but brokers, and none but these partitions are read.
    pub fn hurry(&self, of: HashSet<TopicPartition>) -> Hurry<'_> {
        let of = (!of.is_empty()).then(|| Arc::new(of));
        drop(self.hurry.send_replace(of));
        Hurry(self)
    }

    pub(super) fn hurried(&self) -> watch::Receiver<Option<Arc<HashSet<TopicPartition>>>> {
        self.hurry.subscribe()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Arc<Mirrored>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits in a hold.
pub struct Hurry<'a>(&'a Mirrors);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        drop(self.0.hurry.send_replace(None));
    }
}
