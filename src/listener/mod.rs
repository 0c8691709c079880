//! 1. A client arrives: sockets shared by all workers, limits, then its connection.

pub mod accept;
pub mod limits;
pub mod socket;

pub use accept::accept;
pub use limits::Limits;
