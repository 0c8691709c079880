//! Every test of the project, in one binary. Module by module:

mod audit;
mod config;
mod demo;
mod embedded;
mod guards;
mod offsets;
mod store;
mod wire;
