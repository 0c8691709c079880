//! 10. Who writes: what a produced batch says of its producer, the order of one client's batches, the gate behind a seal.

pub mod gate;
pub mod homes;
pub mod order;
pub mod stamp;
pub mod transactions;
pub mod unknown;

pub use gate::{Gate, Outcome, Sealed, Verdict};
pub use homes::TransactionalHomes;
pub use order::Order;
pub use stamp::Stamp;
