//! Shadows of committed positions: what is owed, the writer against two clusters, and a whole cutover.

mod cutover;
mod pending;
mod writer;
