//! What can be watched: metrics, health, a page. All read only.

pub mod health;
pub mod metrics;
pub mod observe;
pub mod page;
pub mod registry;
pub mod seats;
pub mod server;
pub mod table;

pub use health::{ClusterHealth, Readiness};
pub use metrics::Metrics;
pub use server::{Monitor, serve};
