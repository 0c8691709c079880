//! ListOffsets through the splice map: whom to ask, and how the answers combine. Which end is meant (HW or LSO, by isolation level) is
//! the broker's answer to the same request; waiting while an end is frozen is the caller's.

use super::ends::PerSide;
use super::map::{Piece, SpliceMap};
use crate::ids::{EARLIEST, LATEST, MAX_TIMESTAMP, NOffset, Side, VOffset, Virtual};

/// What a ListOffsets timestamp asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    Earliest,
    Latest,
    MaxTimestamp,
    /// The first record that is not older.
    Since(i64),
}

impl Wanted {
    /// `None`: a question about tiered storage (-4 and below), which has no meaning for a spliced log.
    pub fn of(timestamp: i64) -> Option<Wanted> {
        match timestamp {
            EARLIEST => Some(Wanted::Earliest),
            LATEST => Some(Wanted::Latest),
            MAX_TIMESTAMP => Some(Wanted::MaxTimestamp),
            0.. => Some(Wanted::Since(timestamp)),
            _ => None,
        }
    }

    /// The sides to ask with the same timestamp: those that hold a part that matters.
    pub fn sides(self, map: &SpliceMap) -> impl Iterator<Item = Side> {
        self.sides_below(map, None)
    }

    /// The same of a log that ends at `end`, a seam.
    pub fn sides_below(self, map: &SpliceMap, end: Option<VOffset>) -> impl Iterator<Item = Side> {
        let holds = |side, end: Option<VOffset>| {
            let inside = |p: &Piece| p.side == side && end.is_none_or(|end| p.virtual_start < end);
            map.pieces().any(|p| inside(&p) && p.is_read())
        };
        let asked = Side::BOTH.map(|side| match self {
            Wanted::Latest => end.is_none() && side == map.tail_side(),
            // If nothing is left below it, where the log goes on says where it begins.
            Wanted::Earliest => holds(side, None),
            _ => holds(side, end),
        });
        Side::BOTH.into_iter().filter(move |side| asked[side.index()])
    }

    /// The virtual answer. An asked side that found nothing (offset -1) is `None`. An error of an asked side is the caller's to
    /// answer: half of the answers prove nothing.
    pub fn combine(self, map: &SpliceMap, found: [Option<Found>; 2]) -> Option<Answer> {
        self.combine_below(map, found, None)
    }

    /// The same of a log that ends at `end`, a seam. (Of a side that goes on behind it only the newest record is known to
    /// `MaxTimestamp`, and that one is not in the log.)
    pub fn combine_below(self, map: &SpliceMap, found: [Option<Found>; 2], end: Option<VOffset>) -> Option<Answer> {
        let ends: PerSide = found.map(|f| f.map(|f| f.offset));
        let last = end.unwrap_or(Virtual(i64::MAX));
        let plain = |offset: VOffset| Some(Answer { offset: offset.min(last), timestamp: crate::ids::NONE });
        // (offset, timestamp) of each side's hit in virtual terms
        let hits = Side::BOTH.into_iter().filter_map(|side| {
            let hit = found[side.index()]?;
            let offset = next_mapped(map, side, hit.offset).filter(|offset| *offset < last)?;
            Some(Answer { offset, timestamp: hit.timestamp })
        });
        match self {
            Wanted::Earliest => plain(map.virtual_log_start(ends)),
            Wanted::Latest => plain(map.high_watermark(ends)),
            // The same timestamp on both sides: the first of the log, as one broker would have it.
            Wanted::MaxTimestamp => hits.max_by_key(|a| (a.timestamp, std::cmp::Reverse(a.offset))),
            // A side names its first hit only. What it has in later segments cannot come before that.
            Wanted::Since(_) => hits.min_by_key(|a| a.offset),
        }
    }
}

/// What a side answered, in its own terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub offset: NOffset,
    /// -1 for the ends of the log.
    pub timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub offset: VOffset,
    pub timestamp: i64,
}

/// A hit in an unmapped part (a straggler, what lay on the side before its part), or in one that readers skip, counts as the next
/// offset of that side that has a place and is read.
fn next_mapped(map: &SpliceMap, side: Side, native: NOffset) -> Option<VOffset> {
    let piece = map.pieces().find(|p| p.side == side && p.is_read() && p.end.is_none_or(|end| native < end))?;
    Some(piece.to_virtual(native))
}
