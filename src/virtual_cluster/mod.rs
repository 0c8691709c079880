//! 5. What clients believe: one cluster that never changes (DESIGN.md section 2).

pub mod nodes;
pub mod versions;

pub use nodes::{Node, Nodes};
pub use versions::{Range, Versions};

/// The identity that every client sees, from first contact to the end.
#[derive(Clone, Debug)]
pub struct VirtualCluster {
    /// The source's cluster id, for ever.
    pub cluster_id: String,
    /// What ApiVersions answers.
    pub versions: Versions,
}
