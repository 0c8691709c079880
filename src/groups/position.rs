//! A group's position as its home stores it, and back: the offset and the metadata string together, since the second
//! may carry what the first cannot say (DESIGN.md section 6).

use crate::ids::{Native, Side, Virtual};
use crate::offsets::{SpliceMap, commit, restore, trailer};

/// The brokers' default of `offset.metadata.max.bytes`.
pub const METADATA_MAX_BYTES: usize = 4096;

/// An offset with its metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    pub offset: i64,
    /// Null is a client's to send and a broker's to answer.
    pub metadata: Option<String>,
}

/// The log of a partition that no migration has touched: its offsets are the source's own.
pub fn untouched() -> SpliceMap {
    SpliceMap::whole(Side::Source)
}

/// What a client commits, in its home's terms. The flag: the client's metadata had to go.
/// `map`: none for a partition that no migration has touched. `most`: bytes of metadata that the home takes.
pub fn stored(
    map: Option<&SpliceMap>,
    home: Side,
    offset: i64,
    metadata: Option<&str>,
    most: usize,
) -> (Position, bool) {
    // Cleaned also where nothing is translated: a position that a tool copied must not be believed later.
    let plain = |offset| (Position { offset, metadata: metadata.map(|m| trailer::clean(m).to_owned()) }, false);
    let whole = untouched();
    let map = map.unwrap_or(&whole);
    if offset < 0 {
        return plain(offset);
    }
    let committed = commit(map, home, Virtual(offset));
    if !committed.trailer {
        return plain(committed.native.0);
    }
    let attached = trailer::attach(metadata.unwrap_or_default(), Virtual(offset), most);
    let position = Position { offset: committed.native.0, metadata: Some(attached.metadata) };
    (position, attached.client_part_dropped)
}

/// What the home answers, as the client committed it. -1 (no position) stays -1.
pub fn shown(map: Option<&SpliceMap>, home: Side, offset: i64, metadata: Option<&str>) -> Position {
    let (client, written) = metadata.map_or(("", None), trailer::detach);
    let metadata = metadata.map(|_| client.to_owned());
    let whole = untouched();
    let offset = match written {
        Some(v) => v.0,
        None if offset >= 0 => restore(map.unwrap_or(&whole), home, Native(offset), None).0,
        None => offset,
    };
    Position { offset, metadata }
}
