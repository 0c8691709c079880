//! Every test of the project, in one binary. Module by module:

mod api;
mod audit;
mod config;
mod control;
mod demo;
mod embedded;
mod guards;
mod monitor;
mod offsets;
mod store;
mod system;
mod wire;
