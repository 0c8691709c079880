//! The virtual nodes of one listener: all of them this proxy, each under an advertised address of its own
//! (PROTOCOL.md rule 1: never two on one host:port).

use std::hash::{Hash, Hasher};

/// Ids count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    list: Vec<Node>,
}

impl Nodes {
    /// At least one address.
    pub fn new(advertised: impl IntoIterator<Item = (String, u16)>) -> Self {
        let list = advertised.into_iter().zip(1..).map(|((host, port), id)| Node { id, host, port }).collect();
        Self { list }
    }

    pub fn all(&self) -> &[Node] {
        &self.list
    }

    /// The controller, and whoever answers what clients ask of every node.
    pub fn first(&self) -> &Node {
        self.list.first().expect("a listener advertises at least one address")
    }

    /// The leader of a partition: the same on every proxy, whatever its process.
    pub fn leader(&self, topic: &str, partition: i32) -> &Node {
        // Consecutive partitions go to consecutive nodes, so that a topic spreads evenly.
        let start = stable_hash(topic) as usize;
        let at = start.wrapping_add(usize::try_from(partition).unwrap_or(0)) % self.list.len().max(1);
        self.list.get(at).unwrap_or_else(|| self.first())
    }

    /// The coordinator of a group or transactional id.
    pub fn coordinator(&self, key: &str) -> &Node {
        let at = stable_hash(key) as usize % self.list.len().max(1);
        self.list.get(at).unwrap_or_else(|| self.first())
    }
}

/// The same in every process and build.
pub fn stable_hash(text: &str) -> u32 {
    let mut fnv = Fnv(0x811c_9dc5);
    text.hash(&mut fnv);
    fnv.finish() as u32
}

/// FNV-1a: the standard library's hasher is not promised to stay the same between builds.
struct Fnv(u32);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn finish(&self) -> u64 {
        u64::from(self.0)
    }
}
