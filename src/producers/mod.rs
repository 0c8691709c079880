//! 10. Who writes: what a produced batch says of its producer, and the sequence gate behind every seal.

pub mod gate;
pub mod stamp;
pub mod unknown;

pub use gate::{Gate, Outcome, Sealed, Verdict};
pub use stamp::Stamp;
