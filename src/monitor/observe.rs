//! What the data path reports, one call per thing that happens.

use std::time::Duration;

use super::Metrics;
use super::metrics::{Direction, GateOutcome, RejectReason};
use crate::error::code;
use crate::ids::Side;
use crate::producers::Verdict;
use crate::upstream::Lost;

impl Metrics {
    pub fn connection(&self, opened: bool) {
        if opened {
            self.connections.increment(1);
            self.connections_total.increment(1);
        } else {
            self.connections.decrement(1);
        }
    }

    /// A request was read: `size` bytes of frame.
    pub fn request(&self, api_key: i16, size: usize) {
        self.requests.of(api_key).increment(1);
        self.request_bytes(api_key, Direction::In).increment(size as u64);
    }

    /// Its answer is on its way.
    pub fn answer(&self, api_key: i16, size: usize, took: Duration) {
        self.request_bytes(api_key, Direction::Out).increment(size as u64);
        self.request_duration.of(api_key).record(took.as_secs_f64());
    }

    pub fn upstream(&self, api_key: i16, side: Side) {
        self.upstream_requests(api_key, side).increment(1);
    }

    /// A request that got no answer; one that was never sent found no connection.
    pub fn lost(&self, side: Side, lost: &Lost) {
        if matches!(lost, Lost::NotSent(_)) {
            self.upstream_connect_failures.of(side).increment(1);
        }
    }

    /// A produce request begins to wait, or waits no more.
    pub fn held(&self, begins: bool) {
        if begins { self.held_requests.increment(1) } else { self.held_requests.decrement(1) }
    }

    /// A verdict of the sequence gate; only behind a seal is there one.
    pub fn gate(&self, verdict: &Verdict, seals: u32) {
        if seals == 0 {
            return;
        }
        let outcome = match verdict {
            Verdict::Forward => GateOutcome::Passed,
            Verdict::Acknowledge(_) => GateOutcome::Duplicate,
            Verdict::Wait | Verdict::Later => return,
            Verdict::Ask => GateOutcome::Unknown,
            Verdict::Refuse(code::INVALID_PRODUCER_EPOCH) => GateOutcome::Fenced,
            Verdict::Refuse(_) => GateOutcome::Gap,
        };
        self.sequence_gate.of(outcome).increment(1);
    }

    pub fn rejected(&self, reason: RejectReason) {
        self.rejected_frames.of(reason).increment(1);
    }

    /// A batch of a copy was stored.
    pub fn mirrored(&self, records: i64, bytes: usize) {
        self.mirror_records.increment(u64::try_from(records).unwrap_or(0));
        self.mirror_bytes.increment(bytes as u64);
    }

    /// A sealed side has lost records below its end.
    pub fn truncated(&self, side: Side) {
        self.truncations.of(side).increment(1);
    }
}
