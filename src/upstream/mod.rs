//! 11. Out to the brokers: connections, topology, discovery, and the thin client of the control plane.

pub mod admin;
pub mod ask;
pub mod connection;
pub mod discovery;
pub mod memory;
pub mod pool;
pub mod pulse;
pub mod topology;

pub use connection::{Completion, Connection, Lost, Outgoing};
pub use pool::{Lane, Node, Pool};
pub use topology::{ClusterView, PartitionView, TopicView, Topology};
