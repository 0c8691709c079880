//! The wall clock, for what is journalled or shown; intervals use `Instant`, which drivers pass on as `now`.
#![expect(clippy::disallowed_methods, reason = "io: reads the clock")]

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
