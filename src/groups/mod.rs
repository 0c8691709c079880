//! 9. Who reads: where a group is at home, how its positions stand there and on the other side, how far it is from the seam.

pub mod drained;
pub mod home;
pub mod position;
pub mod shadow;
pub mod shadow_writer;

pub use home::home;
