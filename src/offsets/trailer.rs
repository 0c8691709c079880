//! The trailer of a commit: a virtual offset at the end of the metadata string, hidden again by OffsetFetch.
//!
//! `<client's metadata> U+0001 "kc1:" <decimal>`: U+0001 stands in no metadata that a client writes as text or base64, 1 is the
//! version, and it is read from the end, so the client's part may hold anything.

use crate::ids::{VOffset, Virtual};

const MARK: &str = "\u{1}kc1:";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    pub metadata: String,
    /// Both did not fit the broker's `offset.metadata.max.bytes`: the client's part went (and is to be counted).
    pub client_part_dropped: bool,
}

/// The client's metadata with a trailer. `max_bytes`: the home's `offset.metadata.max.bytes`, which brokers hold against UTF-16 units:
/// what fits in bytes fits in those.
pub fn attach(metadata: &str, v: VOffset, max_bytes: usize) -> Attached {
    let trailer = format!("{MARK}{v}");
    let metadata = clean(metadata);
    if metadata.len() + trailer.len() > max_bytes && !metadata.is_empty() {
        return Attached { metadata: trailer, client_part_dropped: true };
    }
    Attached { metadata: format!("{metadata}{trailer}"), client_part_dropped: false }
}

/// The client's part, and the position if the commit carries one.
pub fn detach(metadata: &str) -> (&str, Option<VOffset>) {
    let Some((client, digits)) = metadata.rsplit_once(MARK) else { return (metadata, None) };
    match digits.parse::<i64>() {
        // Only what `attach` writes: "+5", "007" are somebody else's.
        Ok(v) if v.to_string() == digits => (client, Some(Virtual(v))),
        _ => (metadata, None),
    }
}

/// Metadata as it comes from a client, without trailers: a tool that copied them from a cluster must not bring a stale position.
pub fn clean(metadata: &str) -> &str {
    let mut metadata = metadata;
    while let (client, Some(_)) = detach(metadata) {
        metadata = client;
    }
    metadata
}
