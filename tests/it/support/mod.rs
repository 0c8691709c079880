//! What suites against real Kafka are made of: the clusters, a proxy as a process of its own, real clients, and what
//! all of them said.
//!
//! Nothing here waits by the clock: readiness, counts and ends are events, and a deadline only says that something is
//! wrong.

#[cfg(feature = "librdkafka")]
pub mod admins; // administrators
#[cfg(feature = "librdkafka")]
pub mod board; // what clients have said so far
#[cfg(feature = "librdkafka")]
pub mod crowd;
pub mod dump; // the clients of a test
pub mod identity; // what clients must not be told
pub mod leaves; // every field of a message
#[cfg(feature = "librdkafka")]
pub mod log; // what a process says
#[cfg(feature = "librdkafka")]
pub mod own; // a cluster of a test's own, which it may take down
#[cfg(feature = "librdkafka")]
pub mod proxy; // the proxy under test
pub mod relay; // between clients and the proxy: looks at every answer
#[cfg(feature = "librdkafka")]
pub mod rig; // the two clusters
#[cfg(feature = "librdkafka")]
pub mod tools; // Kafka's command-line tools
#[cfg(feature = "librdkafka")]
pub mod whole_log; // what lies on them
#[cfg(feature = "librdkafka")]
pub mod withheld; // a source that keeps an answer for itself

#[cfg(feature = "librdkafka")]
use std::time::{Duration, Instant};

/// Nothing takes this long, however busy the machine is.
#[cfg(feature = "librdkafka")]
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Between two looks at what no event tells.
#[cfg(feature = "librdkafka")]
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Until it is so.
#[cfg(feature = "librdkafka")]
pub fn eventually(what: &str, so: impl FnMut() -> bool) {
    assert!(soon(so), "never: {what}");
}

/// Whether it comes to be so.
#[cfg(feature = "librdkafka")]
pub fn soon(mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    true
}

/// A name that no other test, and no other run against these clusters, has.
#[cfg(feature = "librdkafka")]
pub fn unique(what: &str) -> String {
    format!("{what}-{:08x}", rand::random::<u32>())
}
