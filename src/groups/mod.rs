//! 9. Who reads: where a group is at home, how its positions stand there and on the other side, the way to another home, how
//!    far it is from the seam.

pub mod called;
pub mod commits;
pub mod drained;
pub mod heard;
pub mod home;
pub mod moves;
pub mod position;
pub mod shadow;
pub mod shadow_writer;

pub use called::Called;
pub use commits::Commits;
pub use heard::Heard;
pub use home::Homes;
pub use moves::Moves;
