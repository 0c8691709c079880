//! What an idempotent batch says of itself, and arithmetic on sequences (Kafka's `DefaultRecordBatch`: modulo 2^31).

use crate::ids::VirtualPid;
use crate::wire::batch::BatchHead;

/// Producer, epoch and sequences of one idempotent batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub pid: VirtualPid,
    pub epoch: i16,
    pub first: i32,
    pub last: i32,
}

impl Stamp {
    /// `None` for a batch without a producer id.
    pub fn of(batch: &BatchHead) -> Option<Self> {
        batch.is_idempotent().then(|| Self {
            pid: VirtualPid(batch.producer_id),
            epoch: batch.producer_epoch,
            first: batch.base_sequence,
            last: batch.last_sequence(),
        })
    }
}

/// The sequence after `last`.
pub fn after(last: i32) -> i32 {
    last.wrapping_add(1) & i32::MAX
}

/// How far `to` lies behind `from`, going forward.
pub fn distance(from: i32, to: i32) -> i32 {
    to.wrapping_sub(from) & i32::MAX
}

/// `a` lies at or before `b`: less than half of the circle away.
pub fn at_or_before(a: i32, b: i32) -> bool {
    distance(a, b) < 1 << 30
}
