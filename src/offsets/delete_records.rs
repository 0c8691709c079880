//! DeleteRecords through the splice map: up to where each side's log goes. A side is deleted up to its first record at or
//! after v and no further (DESIGN.md section 3), and not asked at all where it has nothing below v.

use super::commit::shadow;
use super::ends::PerSide;
use super::map::SpliceMap;
use crate::ids::{NOffset, Native, Side, VOffset, Virtual};

/// Kafka's word for "up to the high watermark", in requests.
pub const TO_HIGH_WATERMARK: i64 = -1;

/// What each side is to be asked for, `None`: nothing. `v`: `None` is the high watermark.
pub fn deletions(map: &SpliceMap, v: Option<VOffset>) -> PerSide {
    let open = map.tail_side();
    let below = |side| match v {
        None if side == open => Some(Native(TO_HIGH_WATERMARK)),
        None => native_below(map, side, Virtual(i64::MAX)),
        Some(v) => native_below(map, side, v),
    };
    let mut asked = Side::BOTH.map(below);
    if let (Some(v), [None, None]) = (v, asked) {
        // Nothing goes, and whoever holds the first record says where the log starts.
        let place = map.locate(v);
        asked[place.side.index()] = Some(place.native);
    }
    asked
}

fn native_below(map: &SpliceMap, side: Side, v: VOffset) -> Option<NOffset> {
    let holds = map.pieces().any(|p| p.side == side && p.is_read() && p.virtual_start < v);
    holds.then(|| shadow(map, side, v))?
}
