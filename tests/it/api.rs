//! The machines of groups, commits, positions, topics, configs and security, step by step, without a connection.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod alter_configs;
mod configs;
mod create_partitions;
mod delete_records;
mod consumer_groups;
mod describe_producers;
mod fetch;
mod groups;
mod list_config_resources;
mod list_offsets;
mod log_dirs;
mod metadata;
mod offset_delete;
mod positions;
mod table;
mod security;
mod topics;
mod unseen_brokers;
mod transactional;
mod transactions;
pub(crate) mod world;
