//! The whole proxy between two embedded clusters: real sockets, real state directory, faults on demand. What is waited for is
//! an event; a deadline only ends a test that has failed already.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod admin;
mod brokers;
#[cfg(feature = "librdkafka")]
mod crossing;
#[cfg(feature = "librdkafka")]
mod completing;
mod drained;
mod gate;
mod hold_consumers;
mod holding;
mod hostile;
mod identity;
mod lagging;
#[cfg(feature = "librdkafka")]
mod mirroring;
mod moving;
mod order;
mod outage;
mod read_ahead;
mod reading;
mod seam;
mod sealed;
mod second_protocol;
mod settling;
mod skip;
mod tools;
pub mod transactions;
mod wayout;
#[cfg(feature = "librdkafka")]
mod real_client;
mod watched;
mod world;
