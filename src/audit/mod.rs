//! The judge: one record format, one event log, one checker for the demo, the canary and every suite.
//! Clients in other languages only print events; what they mean is decided here.
//!
//! A record says who it is (`record`), clients say what happened to it (`event`), the caller says what may happen
//! (`expect`, `allow`), the history is kept (`check`, `history`) and judged (`judge`), and the sentence is a `verdict`.
//! `traffic` drives librdkafka under audit (`client`, `admin`), for the `canary` and the demo; `outcome` prints what came of it.

#[cfg(feature = "librdkafka")]
pub mod admin;
pub mod allow;
pub mod canary;
pub mod check;
#[cfg(feature = "librdkafka")]
pub mod client;
pub mod event;
pub mod expect;
pub mod history;
mod judge;
pub mod outcome;
pub mod record;
#[cfg(feature = "librdkafka")]
pub mod traffic;
pub mod verdict;

pub use allow::AllowList;
pub use check::Checker;
pub use event::{Event, What};
pub use expect::{Expectations, Producing, Reading, Segment};
pub use outcome::Outcome;
pub use record::Record;
pub use verdict::{Anomaly, Class, Verdict};

/// Why demo and canary do nothing in a build without the feature `librdkafka`.
pub const NO_CLIENT: &str =
    "this build has no Kafka client (feature `librdkafka`): build with default features to run the demo or the canary";
