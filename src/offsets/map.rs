//! The splice map of one partition: closed segments plus a tail (DESIGN.md section 3).
//!
//! It only ever grows at its end (`sealed`) and loses segments at its head (`drop_below`); what it says of an offset that it still
//! covers never changes. Arithmetic saturates: offsets come from peers, and a nonsense one must not wrap into a good one.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{NO_EPOCH, NOffset, Native, Side, VOffset, Virtual};

/// A closed segment: `length` offsets of the virtual log that lie on one side. A length of 0 is a seal without a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment {
    pub virtual_start: VOffset,
    pub side: Side,
    pub native_start: NOffset,
    pub length: i64,
    /// Leader epoch of the segment's last record; -1 when unknown.
    pub end_epoch: i32,
    /// Readers go on behind it: its side was given up (DESIGN.md section 9). Translations keep it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

impl Segment {
    /// Exclusive.
    pub fn native_end(&self) -> NOffset {
        Native(self.native_start.0.saturating_add(self.length))
    }

    /// Exclusive.
    pub fn virtual_end(&self) -> VOffset {
        Virtual(self.virtual_start.0.saturating_add(self.length))
    }
}

/// What lies behind the last closed segment. (`Both` joins with its scheme.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// One open segment.
    One { side: Side, start: NOffset },
    /// A late seam (DESIGN.md section 4): the open segment still takes what transactions that began there write, and all
    /// else goes to the other side, from `next` on. Until the last of them has ended nobody knows where that lies in the log.
    Late { side: Side, start: NOffset, next: NOffset },
}

/// Where a virtual offset lies, with all that a reader needs to know of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub side: Side,
    pub native: NOffset,
    /// Virtual minus native: what is added to every offset that the broker answers.
    pub delta: i64,
    /// Native end of the segment, exclusive; `None`: open.
    pub end: Option<NOffset>,
    pub virtual_end: Option<VOffset>,
    /// The segment's number: counted from the first that the map ever had, so it outlives `drop_below`.
    pub segment: usize,
}

impl Place {
    /// The virtual offset of this place.
    pub fn at(&self) -> VOffset {
        self.to_virtual(self.native)
    }

    /// The virtual offset of a native one of this segment.
    pub fn to_virtual(&self, native: NOffset) -> VOffset {
        Virtual(native.0.saturating_add(self.delta))
    }
}

/// A closed segment or the open tail, in one shape: what every translation walks over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) side: Side,
    pub(super) start: NOffset,
    pub(super) end: Option<NOffset>,
    pub(super) virtual_start: VOffset,
    pub(super) number: usize,
    pub(super) skipped: bool,
}

impl Piece {
    pub(super) fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }

    /// It can hold a record that readers get.
    pub(super) fn is_read(&self) -> bool {
        !self.is_empty() && !self.skipped
    }

    /// Below the piece: its start. Beyond it: as if it went on.
    pub(super) fn native(&self, v: VOffset) -> NOffset {
        let into = v.0.saturating_sub(self.virtual_start.0).max(0);
        Native(self.start.0.saturating_add(into))
    }

    /// Clamped into the piece, its end included.
    pub(super) fn to_virtual(self, native: NOffset) -> VOffset {
        let native = native.max(self.start);
        let native = self.end.map_or(native, |end| native.min(end));
        Virtual(self.virtual_start.0.saturating_add(native.0 - self.start.0))
    }

    pub(super) fn virtual_end(&self) -> Option<VOffset> {
        self.end.map(|end| self.to_virtual(end))
    }

    pub(super) fn place(&self, v: VOffset) -> Place {
        Place {
            side: self.side,
            native: self.native(v),
            delta: self.virtual_start.0.saturating_sub(self.start.0),
            end: self.end,
            virtual_end: self.virtual_end(),
            segment: self.number,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MapError {
    #[error("the end {end} lies below the open segment's start {start}")]
    EndBelowStart { end: NOffset, start: NOffset },
    #[error("the {0} holds the open segment already")]
    SameSide(Side),
    #[error("the {side} would go on at {next}, below {last}, its last mapped end")]
    NextBelowEnd { side: Side, next: NOffset, last: NOffset },
    #[error("the virtual log would end beyond the largest offset")]
    Overflow,
    #[error("a late seam is open already")]
    LateAlready,
    #[error("the log goes on on the {0} at another place than when its late seam was opened")]
    OtherNext(Side),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpliceMap {
    segments: Vec<Segment>,
    tail: Tail,
    /// Virtual start of the tail: known also when every segment before it was dropped.
    tail_start: VOffset,
    /// Number of switches so far: the generation that producers' upstream ids carry.
    seals: u32,
    /// How many segments were dropped at the head.
    dropped: usize,
    /// The last dropped segment of each side: commits made in it keep their meaning, and its end is still the side's.
    last_dropped: [Option<Segment>; 2],
    /// The side whose part was left for good: it has no use any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<Side>,
}

impl SpliceMap {
    /// Before any migration: everything on one side, virtual = native.
    pub fn whole(side: Side) -> Self {
        Self {
            segments: Vec::new(),
            tail: Tail::One { side, start: Native(0) },
            tail_start: Virtual(0),
            seals: 0,
            dropped: 0,
            last_dropped: [None, None],
            left: None,
        }
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Virtual offset where the tail begins: the last seam.
    pub fn tail_start(&self) -> VOffset {
        self.tail_start
    }

    /// Native offset where the tail begins.
    pub fn native_tail_start(&self) -> NOffset {
        let (Tail::One { start, .. } | Tail::Late { start, .. }) = self.tail;
        start
    }

    /// The side that takes new records: with a late seam, all but those of transactions that began on the other one.
    pub fn open_side(&self) -> Side {
        match self.tail {
            Tail::One { side, .. } => side,
            Tail::Late { side, .. } => side.other(),
        }
    }

    /// The side whose end is the log's end, as readers know it.
    pub fn tail_side(&self) -> Side {
        let (Tail::One { side, .. } | Tail::Late { side, .. }) = self.tail;
        side
    }

    /// Where the log will go on, with a late seam.
    pub fn late_next(&self) -> Option<NOffset> {
        match self.tail {
            Tail::Late { next, .. } => Some(next),
            Tail::One { .. } => None,
        }
    }

    /// The last switch has no seam yet.
    pub fn is_late(&self) -> bool {
        matches!(self.tail, Tail::Late { .. })
    }

    /// There has been a switch, and the last one has its seam.
    pub fn has_seam(&self) -> bool {
        self.seals > 0 && !self.is_late()
    }

    /// A transaction that began on this side can go on there.
    pub fn takes_old_transactions(&self, on: Side) -> bool {
        self.tail_side() == on
    }

    pub fn seals(&self) -> u32 {
        self.seals
    }

    /// The first virtual offset that has a place; below it every segment was dropped.
    pub fn start(&self) -> VOffset {
        self.segments.first().map_or(self.tail_start, |s| s.virtual_start)
    }

    /// Closed segments and the tail, in virtual order.
    pub(super) fn pieces(&self) -> impl DoubleEndedIterator<Item = Piece> + '_ {
        let (side, start) = (self.tail_side(), self.native_tail_start());
        let number = self.dropped + self.segments.len();
        let tail = Piece { side, start, end: None, virtual_start: self.tail_start, number, skipped: false };
        let closed = self.segments.iter().enumerate().map(|(i, s)| piece(s, self.dropped + i));
        closed.chain(std::iter::once(tail))
    }

    /// A side's pieces in order, the last dropped one included.
    pub(super) fn pieces_of(&self, side: Side) -> impl Iterator<Item = Piece> + '_ {
        let gone = self.last_dropped[side.index()].as_ref().map(|s| piece(s, 0));
        gone.into_iter().chain(self.pieces().filter(move |p| p.side == side))
    }

    /// The first piece from `number` on that can hold a record for a reader.
    fn piece_from(&self, number: usize) -> Piece {
        self.pieces().find(|p| p.number >= number && p.is_read()).unwrap_or_else(|| self.tail_piece())
    }

    fn tail_piece(&self) -> Piece {
        self.pieces().next_back().expect("a map has a tail")
    }

    /// Where a reader at a virtual offset reads: where that record lies, or will lie; in a skipped segment, the start of the next
    /// one. A seam belongs to the later segment. Below `start()`: the start of the first segment (the caller has answered
    /// OFFSET_OUT_OF_RANGE by then).
    pub fn locate(&self, v: VOffset) -> Place {
        self.piece_from(self.piece_at(v).number).place(v)
    }

    /// Where the record lies, whether or not readers get it.
    pub(super) fn piece_at(&self, v: VOffset) -> Piece {
        let holds = |p: &Piece| !p.is_empty() && p.virtual_end().is_none_or(|end| v < end);
        self.pieces().find(holds).unwrap_or_else(|| self.tail_piece())
    }

    /// The start of a segment by its number, or of the next one that can hold a record: where a reader goes on who has exhausted
    /// the one before.
    pub fn locate_in(&self, segment: usize) -> Place {
        let piece = self.piece_from(segment);
        piece.place(piece.virtual_start)
    }

    /// The virtual offset of a native record. `None`: it has no place (a straggler, a record from before the side's part, one of a
    /// dropped segment).
    pub fn to_virtual(&self, side: Side, native: NOffset) -> Option<VOffset> {
        let holds = |p: &Piece| p.side == side && native >= p.start && p.end.is_none_or(|end| native < end);
        self.pieces().find(holds).map(|p| p.to_virtual(native))
    }

    /// The last journalled native end of a side: where its LEO must stand before it takes records again. `None`: the side never
    /// had a closed part.
    pub fn end_of(&self, side: Side) -> Option<NOffset> {
        let closed = self.segments.iter().rev().find(|s| s.side == side);
        closed.or(self.last_dropped[side.index()].as_ref()).map(Segment::native_end)
    }

    /// Whether a side has, or had, a part of the virtual log.
    pub fn has_part(&self, side: Side) -> bool {
        self.pieces_of(side).next().is_some()
    }

    /// Whether a side has, had or will have a part: what lies there is the log's.
    pub fn is_used(&self, side: Side) -> bool {
        self.has_part(side) || self.is_late() && self.open_side() == side
    }

    /// The map after a seal: the tail is closed at `end`, and the other side goes on at `next`. A late seam is closed by the
    /// same, once its end is known.
    pub fn sealed(&self, end: NOffset, end_epoch: i32, next: (Side, NOffset)) -> Result<SpliceMap, MapError> {
        let (side, start) = (self.tail_side(), self.native_tail_start());
        if end < start {
            return Err(MapError::EndBelowStart { end, start });
        }
        let next_start = self.goes_on(next)?;
        let length = end.0 - start.0;
        let tail_start = Virtual(self.tail_start.0.checked_add(length).ok_or(MapError::Overflow)?);
        let end_epoch = end_epoch.max(NO_EPOCH);
        let virtual_start = self.tail_start;
        let closed = Segment { virtual_start, side, native_start: start, length, end_epoch, skipped: false };
        let mut map = self.clone();
        map.segments.push(closed);
        map.tail = Tail::One { side: next.0, start: next_start };
        map.tail_start = tail_start;
        map.seals += u32::from(!self.is_late());
        Ok(map)
    }

    /// The map after a switch whose seam is known later: `end` is the least that it can be.
    pub fn late(&self, end: NOffset, next: (Side, NOffset)) -> Result<SpliceMap, MapError> {
        let (side, start) = (self.tail_side(), self.native_tail_start());
        if self.is_late() {
            return Err(MapError::LateAlready);
        }
        if end < start {
            return Err(MapError::EndBelowStart { end, start });
        }
        let next = self.goes_on(next)?;
        let mut map = self.clone();
        map.tail = Tail::Late { side, start, next };
        map.seals += 1;
        Ok(map)
    }

    /// Where the log goes on, if it can.
    fn goes_on(&self, (next_side, next): (Side, NOffset)) -> Result<NOffset, MapError> {
        if next_side == self.tail_side() {
            return Err(MapError::SameSide(next_side));
        }
        let last = self.end_of(next_side).unwrap_or(Native(0));
        match self.tail {
            Tail::Late { next: opened, .. } if next != opened => Err(MapError::OtherNext(next_side)),
            _ if next < last => Err(MapError::NextBelowEnd { side: next_side, next, last }),
            _ => Ok(next),
        }
    }

    /// The side that was left.
    pub fn left(&self) -> Option<Side> {
        self.left
    }

    /// The map of a log that begins at its tail from now on, and has nothing on the other side any more.
    pub fn leave(&self) -> SpliceMap {
        let left = Some(self.open_side().other());
        SpliceMap { left, ..self.drop_below(self.tail_start) }
    }

    /// The closed segments with records on the side that is not the open one: what `skip` is for.
    pub fn closed_away(&self) -> impl Iterator<Item = &Segment> {
        let away = self.open_side().other();
        self.segments.iter().filter(move |s| s.side == away && s.length > 0)
    }

    /// The map whose readers skip the closed segment of this side from one virtual offset to the other. `None`: it has none.
    pub fn skipping(&self, side: Side, from: VOffset, to: VOffset) -> Option<SpliceMap> {
        let mut map = self.clone();
        let of = |s: &&mut Segment| (s.side, s.virtual_start, s.virtual_end()) == (side, from, to);
        map.segments.iter_mut().find(of)?.skipped = true;
        Some(map)
    }

    /// The map without the segments that lie wholly below `v`, the virtual log start.
    pub fn drop_below(&self, v: VOffset) -> SpliceMap {
        let mut map = self.clone();
        let gone = map.segments.iter().take_while(|s| s.virtual_end() <= v).count();
        for segment in map.segments.drain(..gone) {
            map.last_dropped[segment.side.index()] = Some(segment);
        }
        map.dropped += gone;
        map
    }
}

fn piece(s: &Segment, number: usize) -> Piece {
    let end = Some(s.native_end());
    let Segment { side, native_start: start, virtual_start, skipped, .. } = *s;
    Piece { side, start, end, virtual_start, number, skipped }
}
