//! 9. Who reads: where a group is at home, how its positions stand there, and their shadow on the other side.

pub mod home;
pub mod position;
pub mod shadow;
pub mod shadow_writer;

pub use home::home;
