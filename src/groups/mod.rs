//! 9. Who reads: where a group is at home, and how its positions stand there.

pub mod home;
pub mod position;

pub use home::home;
