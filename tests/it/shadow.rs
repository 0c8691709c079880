//! Shadows of committed positions: what is owed, the writer against two clusters, and a whole cutover.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod cutover;
mod pending;
mod writer;
