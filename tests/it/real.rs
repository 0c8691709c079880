//! Against real Kafka and real clients. tests/run starts the clusters; without them nothing here can run.
#![cfg(feature = "librdkafka")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod every_client;
