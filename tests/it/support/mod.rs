//! What suites against real Kafka are made of: the clusters, a proxy as a process of its own, real clients, and what
//! all of them said.
//!
//! Nothing here waits by the clock: readiness, counts and ends are events, and a deadline only says that something is
//! wrong.

#![cfg(feature = "librdkafka")]

pub mod board; // what clients have said so far
pub mod crowd; // the clients of a test
pub mod log; // what a process says
pub mod own; // a cluster of a test's own, which it may take down
pub mod proxy; // the proxy under test
pub mod rig; // the two clusters
pub mod whole_log; // what lies on them

use std::time::{Duration, Instant};

/// Nothing takes this long, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks at what no event tells.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A name that no other test, and no other run against these clusters, has.
pub fn unique(what: &str) -> String {
    format!("{what}-{:08x}", rand::random::<u32>())
}
