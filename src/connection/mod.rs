//! 3. One client's ordered pipeline: frames in, answers out in their order.
//!
//! `driver` reads, dispatches and writes; `drive` runs an API's machine; `produce` and `fetch` drive the two that never
//! queue behind another; `session` is what all of them share, `held` what they hold of everybody's memory.

pub mod drive;
pub mod driver;
pub mod fetch;
pub mod held;
pub mod order;
pub mod produce;
pub mod session;

pub use session::Session;
