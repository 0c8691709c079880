//! 6. Where it goes now: immutable snapshots in two layers (topology; per-partition state), each swapped on its own.

pub mod in_flight;
pub mod on_its_way;
pub mod partitions;
pub mod shared;
pub mod track;

pub use in_flight::InFlight;
pub use on_its_way::OnItsWay;
pub use partitions::{Live, PartitionState, Partitions};
pub use shared::Shared;
