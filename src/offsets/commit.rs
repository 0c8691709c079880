//! A committed offset on the group's home and back (DESIGN.md section 6).
//!
//! On the home stands the native offset of the first record at or after v. Without a trailer it means: behind the last record before
//! it on its side. So at the boundary between two segments of its side it means the end of the earlier one, and keeps that meaning
//! when the map grows: a commit of n made before any seal is n for ever. Whatever does not map back by that rule carries v itself.

use super::map::{Piece, SpliceMap};
use crate::ids::{NOffset, Native, Side, VOffset, Virtual};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    pub native: NOffset,
    /// The native offset alone does not map back to v: the commit carries v in its metadata.
    pub trailer: bool,
}

/// What a commit of `v` is on the group's home.
pub fn commit(map: &SpliceMap, home: Side, v: VOffset) -> Committed {
    match shadow(map, home, v) {
        Some(native) => Committed { native, trailer: restore(map, home, native, None) != v },
        // The home has no part of this log yet: whatever it will get must not give the number another meaning.
        None => Committed { native: Native(0), trailer: true },
    }
}

/// The virtual offset of what OffsetFetch found on the home.
pub fn restore(map: &SpliceMap, home: Side, native: NOffset, trailer: Option<VOffset>) -> VOffset {
    if let Some(v) = trailer {
        return v;
    }
    let before = map.pieces_of(home).filter(|p| p.start < native && !p.is_empty()).last();
    match before.or_else(|| map.pieces_of(home).next()) {
        Some(piece) => piece.to_virtual(native),
        // Not a commit of ours. It proves that nothing was read.
        None => Virtual(0),
    }
}

/// The same position in a side's own terms: the native offset of its first record at or after v, else the end of its part.
/// `None`: the side has no part of this log.
pub fn shadow(map: &SpliceMap, side: Side, v: VOffset) -> Option<NOffset> {
    let mut last: Option<Piece> = None;
    for piece in map.pieces_of(side) {
        if !piece.is_empty() && piece.virtual_end().is_none_or(|end| v < end) {
            return Some(piece.native(v));
        }
        last = Some(piece);
    }
    last.and_then(|p| p.end)
}
