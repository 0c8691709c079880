//! Exhausted is proven, never inferred (DESIGN.md section 3, PROTOCOL.md rule 12): a broker returns an empty partition for many
//! reasons, so a reader passes the end of a closed segment only by a read of this one partition that found nothing.

use std::collections::BTreeMap;

use super::map::Place;
use crate::ids::NOffset;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Exhausted,
    NotYet,
}

/// Judges a probe: a read_uncommitted fetch of this one partition from `place` on. `end` is the segment's native end, `hw` and
/// `lso` are what the answer says, `first_record_below_end` the first thing that it holds (base offset of its first batch).
pub fn judge_probe(
    place: &Place,
    end: NOffset,
    hw: NOffset,
    lso: NOffset,
    read_committed: bool,
    first_record_below_end: Option<NOffset>,
) -> Verdict {
    // A place at the end or behind it has nothing left to read, whatever the broker says of its watermarks.
    if place.native >= end {
        return Verdict::Exhausted;
    }
    let empty = first_record_below_end.is_none_or(|first| first >= end);
    if empty && hw >= end && (!read_committed || lso >= end) { Verdict::Exhausted } else { Verdict::NotYet }
}

/// What was proven, per segment number: nothing lies from this native offset to the segment's end. Kept apart by isolation level:
/// a proof for read_committed holds for all, the other way it does not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdicts {
    uncommitted: BTreeMap<usize, NOffset>,
    committed: BTreeMap<usize, NOffset>,
}

impl Verdicts {
    pub fn prove(&mut self, segment: usize, from: NOffset, read_committed: bool) {
        let lower = |proven: &mut BTreeMap<usize, NOffset>| {
            let lowest = proven.entry(segment).or_insert(from);
            *lowest = from.min(*lowest);
        };
        lower(&mut self.uncommitted);
        if read_committed {
            lower(&mut self.committed);
        }
    }

    pub fn is_exhausted(&self, segment: usize, at: NOffset, read_committed: bool) -> bool {
        let proven = if read_committed { &self.committed } else { &self.uncommitted };
        proven.get(&segment).is_some_and(|from| at >= *from)
    }
}
