//! One offset in everybody's terms: for readers that keep their offsets outside Kafka, and come to the proxy or leave it with them
//! (DESIGN.md sections 9 and 12).
//!
//! The map alone decides: it knows where the open segment begins and not how far it has grown, nor what retention has deleted.

use thiserror::Error;

use super::commit::{restore, shadow};
use super::map::{Piece, SpliceMap};
use crate::ids::{NOffset, Side, VOffset};

/// An offset, and in whose terms it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    Virtual(VOffset),
    Native(Side, NOffset),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translated {
    pub at: VOffset,
    /// The same record on the owner's side.
    pub native: NOffset,
    pub owner: Owner,
    /// By `Side::index`. `None`: the side has no part of the log.
    pub sides: [Option<There>; 2],
    /// Up to where a reader has read who stands at the native offset that was asked for and has met this side alone. Less than
    /// `at` only where a segment begins: what lies between is on the other side.
    pub read_up_to: VOffset,
}

/// The segment that holds the record, or will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Counted from 0, the first that the log ever had.
    pub number: usize,
    pub side: Side,
    pub virtual_start: VOffset,
    pub native_start: NOffset,
    /// `None`: open.
    pub length: Option<i64>,
}

/// Where a reader of one side alone goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct There {
    /// Its first record at or after the position, else the end of its part.
    pub native: NOffset,
    /// It is the very record.
    pub exact: bool,
}

/// Why an offset has no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoPlace {
    #[error("{0} is no record's offset: -1 and -2 stand for the ends of a log, and are the same everywhere")]
    Negative(i64),
    #[error("virtual offset {at} lies below {start}, where the log begins now")]
    Below { at: VOffset, start: VOffset },
    #[error("the {0} has no part of the log")]
    NoPart(Side),
    /// The end of the side's part before it, and the start of the one behind it.
    #[error("{side} offset {native} is not in the log that clients see: {}", around(*.side, *.before, *.after))]
    Unmapped { side: Side, native: NOffset, before: Option<NOffset>, after: Option<NOffset> },
    #[error("{0} is beyond what the log can hold")]
    TooLarge(i64),
}

fn around(side: Side, before: Option<NOffset>, after: Option<NOffset>) -> String {
    match (before, after) {
        (Some(end), None) => format!("the {side}'s part of it ended at {end}, what came later is a straggler"),
        (Some(end), Some(start)) => {
            format!("the {side}'s part of it ended at {end} and goes on at {start}, what lies between are stragglers")
        }
        (None, Some(start)) => format!("the {side}'s part of it begins at {start}"),
        (None, None) => format!("the {side}'s part of it is deleted"),
    }
}

pub fn translate(map: &SpliceMap, asked: Position) -> Result<Translated, NoPlace> {
    let (at, read_up_to) = match asked {
        Position::Virtual(at) if at.0 < 0 => return Err(NoPlace::Negative(at.0)),
        Position::Virtual(at) => (at, at),
        Position::Native(side, native) => (to_virtual(map, side, native)?, restore(map, side, native, None)),
    };
    if at < map.start() {
        return Err(NoPlace::Below { at, start: map.start() });
    }
    let owner = map.piece_at(at);
    let native = owner.native(at);
    if owner.to_virtual(native) != at {
        return Err(NoPlace::TooLarge(at.0));
    }
    let sides = Side::BOTH.map(|side| {
        let native = shadow(map, side, at)?;
        Some(There { native, exact: side == owner.side })
    });
    Ok(Translated { at, native, owner: owner.into(), sides, read_up_to })
}

fn to_virtual(map: &SpliceMap, side: Side, native: NOffset) -> Result<VOffset, NoPlace> {
    if native.0 < 0 {
        return Err(NoPlace::Negative(native.0));
    }
    if let Some(at) = map.to_virtual(side, native) {
        // Saturated, it is another record's.
        return if map.piece_at(at).native(at) == native { Ok(at) } else { Err(NoPlace::TooLarge(native.0)) };
    }
    if !map.has_part(side) {
        return Err(NoPlace::NoPart(side));
    }
    // Who has read all of a closed part stands at its end: no record of the log, but a position in it.
    if map.pieces_of(side).any(|p| p.end == Some(native)) {
        return Ok(restore(map, side, native, None));
    }
    let before = map.pieces_of(side).filter_map(|p| p.end).filter(|end| *end <= native).last();
    let after = map.pieces_of(side).map(|p| p.start).find(|start| *start > native);
    Err(NoPlace::Unmapped { side, native, before, after })
}

impl From<Piece> for Owner {
    fn from(piece: Piece) -> Self {
        let Piece { side, start, end, virtual_start, number, .. } = piece;
        Owner { number, side, virtual_start, native_start: start, length: end.map(|end| end.0 - start.0) }
    }
}
