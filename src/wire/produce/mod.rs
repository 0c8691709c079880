//! Produce (key 0), versions 3 to 13. Our own codec: the generated one allocates from counts it has not checked and copies
//! records. Left out: what would let clients bypass us (KIP-951: current leader, node endpoints), unknown tagged fields.

mod request;
mod response;

pub use request::{ProducePartition, ProduceRequest, ProduceTopic};
pub use response::{PartitionProduced, ProduceResponse, TopicProduced};

use super::error::WireError;

pub const API_KEY: i16 = 0;
pub const MIN_VERSION: i16 = 3;
pub const MAX_VERSION: i16 = 13;

fn spoken(version: i16) -> Result<(), WireError> {
    match version {
        MIN_VERSION..=MAX_VERSION => Ok(()),
        _ => Err(WireError::Unsupported { api_key: API_KEY, version }),
    }
}

/// Compact lengths and tagged fields.
fn flexible(version: i16) -> bool {
    version >= 9
}

/// Topics by id instead of by name (KIP-516).
fn by_id(version: i16) -> bool {
    version >= 13
}

/// The least that an array element with this name or id, an array and tags takes.
fn least_topic(version: i16) -> usize {
    match (flexible(version), by_id(version)) {
        (_, true) => 16 + 1 + 1,
        (true, _) => 1 + 1 + 1,
        _ => 2 + 4,
    }
}
