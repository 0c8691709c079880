//! Fetch (key 1), versions 4 to 18. Our own codec, as for Produce. Left out: what belongs to followers (cluster id, directory
//! ids, KIP-1166 high watermarks), what would let clients bypass us (KIP-951, KIP-392) or make them truncate (diverging
//! epoch, snapshot id), unknown tagged fields.

mod request;
mod response;

pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
pub use response::{FetchResponse, PartitionFetched, TopicFetched};

use super::error::WireError;

pub const API_KEY: i16 = 1;
pub const MIN_VERSION: i16 = 4;
pub const MAX_VERSION: i16 = 18;
/// Isolation level of a reader that sees only what is decided.
pub const READ_COMMITTED: i8 = 1;

fn spoken(version: i16) -> Result<(), WireError> {
    match version {
        MIN_VERSION..=MAX_VERSION => Ok(()),
        _ => Err(WireError::Unsupported { api_key: API_KEY, version }),
    }
}

/// Compact lengths and tagged fields.
fn flexible(version: i16) -> bool {
    version >= 12
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
