//! The judge: one record format, one event log, one checker for the demo, the canary and every suite.
//! Clients in other languages only print events; what they mean is decided here.
//!
//! A record says who it is (`record`), clients say what happened to it (`event`), the caller says what may happen
//! (`expect`, `allow`), the history is kept (`check`, `history`) and judged (`judge`), and the sentence is a `verdict`.

pub mod allow;
pub mod check;
pub mod event;
pub mod expect;
pub mod history;
mod judge;
pub mod record;
pub mod verdict;

pub use allow::AllowList;
pub use check::Checker;
pub use event::{Event, What};
pub use expect::{Expectations, Producing, Reading, Segment};
pub use record::Record;
pub use verdict::{Anomaly, Class, Verdict};
