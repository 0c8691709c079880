//! The second layer: what a seal or an extension changes, per partition of the migrations. A partition that is not here
//! lies on the default side, unchanged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::ids::{NOffset, Native, Side, TopicName, VOffset, Virtual};
use crate::offsets::{SpliceMap, Verdicts};
use crate::producers::Gate;
use crate::producers::unknown::Unknowns;

/// One partition in a snapshot.
#[derive(Clone, Debug)]
pub struct PartitionState {
    pub map: SpliceMap,
    /// Produce waits, and the visible end stays where it is (DESIGN.md section 4, step 1).
    pub held: bool,
    /// Readers stay at the seam until consumers are switched (DESIGN.md section 5), if the open segment is the target's.
    pub consumers_held: bool,
    pub live: Arc<Live>,
}

impl PartitionState {
    /// The seam at which readers are held.
    pub fn kept_at(&self) -> Option<VOffset> {
        let is_sealed = self.map.has_seam() && self.map.open_side() == Side::Target;
        (self.consumers_held && is_sealed).then(|| self.map.tail_start())
    }

    /// Nothing from here on may be shown to a reader now: the end is frozen, or readers are held at the seam.
    pub fn hidden_from(&self) -> Option<VOffset> {
        let frozen = self.held.then(|| self.live.visible());
        [frozen, self.kept_at()].into_iter().flatten().min()
    }
}

/// What all snapshots of one partition share: counters and what was seen.
#[derive(Debug)]
pub struct Live {
    /// The highest virtual end that any worker has delivered, reported or acknowledged.
    visible: AtomicI64,
    /// Produce on its way to a broker, without an outcome yet.
    outstanding: AtomicU32,
    /// Told when `outstanding` falls to 0.
    pub settled: Notify,
    /// Milliseconds (wall clock) before which the partition is not sealed: something may still land.
    unsettled_until_ms: AtomicI64,
    high_watermark: [AtomicI64; 2],
    last_stable: [AtomicI64; 2],
    log_start: [AtomicI64; 2],
    gate: Mutex<Gate>,
    verdicts: Mutex<Verdicts>,
    unknowns: Mutex<Unknowns>,
}

impl Default for Live {
    fn default() -> Self {
        let unknown = || [AtomicI64::new(-1), AtomicI64::new(-1)];
        Self {
            visible: AtomicI64::new(0),
            outstanding: AtomicU32::new(0),
            settled: Notify::new(),
            unsettled_until_ms: AtomicI64::new(0),
            high_watermark: unknown(),
            last_stable: unknown(),
            log_start: unknown(),
            gate: Mutex::default(),
            verdicts: Mutex::default(),
            unknowns: Mutex::default(),
        }
    }
}

/// A native position per side; `None`: nothing was heard of it yet.
fn per_side(values: &[AtomicI64; 2]) -> [Option<NOffset>; 2] {
    [0, 1].map(|i| Some(values[i].load(Ordering::Relaxed)).filter(|v| *v >= 0).map(Native))
}

impl Live {
    pub fn visible(&self) -> VOffset {
        Virtual(self.visible.load(Ordering::Acquire))
    }

    /// Something up to `end` was shown to a client.
    pub fn show(&self, end: VOffset) {
        self.visible.fetch_max(end.0, Ordering::AcqRel);
    }

    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Acquire)
    }

    pub fn sent(&self) {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
    }

    pub fn outcome(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_waiters();
        }
    }

    pub fn unsettle(&self, now_ms: i64, time: Duration) {
        let until = now_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        self.unsettled_until_ms.fetch_max(until, Ordering::AcqRel);
    }

    pub fn unsettled_until(&self, until_ms: i64) {
        self.unsettled_until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    pub fn unsettled_until_ms(&self) -> i64 {
        self.unsettled_until_ms.load(Ordering::Acquire)
    }

    /// What a fetch answer of a side said of its ends.
    pub fn heard(&self, side: Side, high_watermark: i64, last_stable: i64, log_start: i64) {
        let i = side.index();
        self.high_watermark[i].fetch_max(high_watermark, Ordering::Relaxed);
        self.last_stable[i].fetch_max(last_stable, Ordering::Relaxed);
        self.log_start[i].fetch_max(log_start, Ordering::Relaxed);
    }

    pub fn high_watermarks(&self) -> [Option<NOffset>; 2] {
        per_side(&self.high_watermark)
    }

    pub fn last_stables(&self) -> [Option<NOffset>; 2] {
        per_side(&self.last_stable)
    }

    pub fn log_starts(&self) -> [Option<NOffset>; 2] {
        per_side(&self.log_start)
    }

    pub fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn unknowns(&self) -> MutexGuard<'_, Unknowns> {
        self.unknowns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Partitions {
    /// Grows with every snapshot.
    pub version: u64,
    pub topics: HashMap<TopicName, Arc<Vec<PartitionState>>>,
    /// The source's id of each topic, as its states were begun for.
    pub ids: HashMap<TopicName, Uuid>,
}

impl Partitions {
    pub fn get(&self, topic: &str, partition: i32) -> Option<&PartitionState> {
        self.topics.get(topic)?.get(usize::try_from(partition).ok()?)
    }

    /// Lost batches that can no longer land are forgotten.
    pub fn forget_lost(&self, now_ms: i64, settle: Duration) {
        for state in self.topics.values().flat_map(|states| states.iter()) {
            state.live.unknowns().expire(now_ms, settle);
        }
    }

    /// The same snapshot with some partitions of a topic replaced.
    pub fn alter(&mut self, topic: &str, change: impl FnMut(usize, &mut PartitionState)) {
        let mut change = change;
        if let Some(states) = self.topics.get_mut(topic) {
            let mut altered = states.as_ref().clone();
            for (i, state) in altered.iter_mut().enumerate() {
                change(i, state);
            }
            *states = Arc::new(altered);
        }
    }
}
