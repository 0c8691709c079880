//! Every test of the project, in one binary. Module by module:
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests do IO, and fail by panicking")]

mod api;
mod audit;
mod config;
mod connection;
mod control;
mod demo;
mod drained;
mod embedded;
mod golden;
mod guards;
mod leaks;
mod mirror;
mod monitor;
mod offered;
mod offsets;
mod pinned;
mod preflight;
mod producers;
mod real;
mod shadow;
mod store;
mod support;
mod system;
mod topology;
mod translated;
mod wire;
