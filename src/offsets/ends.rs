//! A partition's ends in virtual terms, from what the brokers of both sides say.

use super::map::{Piece, Place, SpliceMap};
use crate::ids::{NOffset, Native, VOffset, Virtual};

/// One native offset per side (`Side::index`); `None`: not known now.
pub type PerSide = [Option<NOffset>; 2];

impl SpliceMap {
    /// The virtual offset of a high watermark, last stable offset or log end offset of the tail's side. One that lags behind the
    /// tail's start (a new side that has said nothing yet) is the start.
    pub fn virtual_end(&self, tail_native: NOffset) -> VOffset {
        let into = tail_native.0.saturating_sub(self.native_tail_start().0).max(0);
        Virtual(self.tail_start().0.saturating_add(into))
    }

    /// The high watermark, or the log end: closed segments are complete by their seal, so the tail's side alone decides. Unknown:
    /// the last seam. (With a late seam: as far as its place in the log is known.)
    pub fn high_watermark(&self, native: PerSide) -> VOffset {
        self.virtual_end(native[self.tail_side().index()].unwrap_or(Native(0)))
    }

    /// The last stable offset: a transaction that is still open in a closed segment stops read_committed readers there. An unknown
    /// one of a closed segment does not.
    pub fn last_stable(&self, native: PerSide) -> VOffset {
        let open_in = |s: &&super::Segment| native[s.side.index()].is_some_and(|lso| lso < s.native_end());
        match self.segments().iter().filter(|s| s.length > 0 && !s.skipped).find(open_in) {
            Some(s) => {
                let lso = native[s.side.index()].unwrap_or(s.native_start).max(s.native_start);
                Virtual(s.virtual_start.0.saturating_add(lso.0 - s.native_start.0))
            }
            None => self.high_watermark(native),
        }
    }

    /// The first offset that still lies somewhere: segments wholly below their side's log start are passed over, and those that
    /// readers skip. An unknown log start counts as the segment's start, so that a dead side takes nothing away.
    pub fn virtual_log_start(&self, log_start: PerSide) -> VOffset {
        let read = self.pieces().filter(|p| !p.skipped);
        let first = read.filter_map(|p| Some(p.to_virtual(left_from(&p, log_start)?))).next();
        first.unwrap_or(self.tail_start())
    }

    /// Where a reader goes on whose place may have been deleted (DESIGN.md section 3, "Holes"): in a segment that is not the first,
    /// below its side's log start it goes on at that log start, or in the next segment if nothing is left of this one. The
    /// difference of the two places' `at()` is what it misses. In the first segment that has something left the broker's own
    /// answer is the right one: what lies below is below the virtual log start. A segment that readers skip counts as one
    /// that has: they go on behind it without an error.
    pub fn resume_at(&self, place: Place, log_start: PerSide) -> Place {
        let first = self.pieces().find(|p| p.skipped || left_from(p, log_start).is_some()).map_or(0, |p| p.number);
        let mut place = place;
        loop {
            let start = log_start[place.side.index()].unwrap_or(place.native);
            if place.segment <= first || place.native >= start {
                return place;
            }
            match place.end {
                Some(end) if start >= end => place = self.locate_in(place.segment + 1),
                _ => return Place { native: start, ..place },
            }
        }
    }
}

/// The first native offset of a piece that its side still has. `None`: nothing of it is left.
fn left_from(piece: &Piece, log_start: PerSide) -> Option<NOffset> {
    let start = log_start[piece.side.index()].unwrap_or(piece.start).max(piece.start);
    piece.end.is_none_or(|end| start < end).then_some(start)
}
