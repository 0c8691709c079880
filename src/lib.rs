//! kafka-cutover: moves live producers and consumers from one Kafka cluster to another behind one address.

pub mod ids;

pub mod api;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod control;
pub mod demo;
pub mod embedded;
pub mod error;
pub mod groups;
pub mod listener;
pub mod migration;
pub mod monitor;
pub mod offsets;
pub mod preflight;
pub mod producers;
pub mod proxy;
pub mod routing;
pub mod seal;
pub mod store;
pub mod upstream;
pub mod virtual_cluster;
pub mod wire;
