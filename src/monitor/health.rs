//! Whether the proxy is of use to clients, and why not (DESIGN.md section 12).

use serde::{Deserialize, Serialize};

/// The body of `/readyz`. Published by the composition root through a `watch` channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub source: ClusterHealth,
    pub target: ClusterHealth,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealth {
    pub reachable: bool,
    /// Some partition's log ends there: without it, that partition cannot be written.
    pub needed: bool,
    /// The last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Readiness {
    /// Before the first snapshot.
    pub fn starting() -> Self {
        Self::not_ready("starting: neither cluster has been asked yet", <_>::default(), <_>::default())
    }

    /// After it: ready as long as one cluster with an open tail can be reached.
    pub fn serving(source: ClusterHealth, target: ClusterHealth) -> Self {
        if [&source, &target].iter().any(|c| c.needed && c.reachable) {
            Self { ready: true, reason: None, source, target }
        } else {
            Self::not_ready("no cluster with an open tail is reachable", source, target)
        }
    }

    pub fn winding_down(self) -> Self {
        Self::not_ready("winding down", self.source, self.target)
    }

    fn not_ready(reason: &str, source: ClusterHealth, target: ClusterHealth) -> Self {
        Self { ready: false, reason: Some(reason.to_owned()), source, target }
    }
}
