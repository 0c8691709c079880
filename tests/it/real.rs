//! Against real Kafka and real clients. tests/run starts the clusters; without them nothing here can run.
#![cfg(feature = "librdkafka")]

mod api_versions;
mod conformance;
mod consumer_protocol;
mod crashes;
mod demo;
mod every_client;
mod groups;
mod herd;
mod leaving;
mod long_transactions;
mod lost_answer;
mod mirroring;
mod one_by_one;
mod outage;
mod pipelines;
mod places;
mod readers;
mod tools;
mod tools_held;
mod transactions;
mod versions;
mod zombies;
