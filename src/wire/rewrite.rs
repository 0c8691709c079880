//! Batches to other offsets and other producer ids. Records are never decompressed; bodies are never copied if they are
//! worth sharing.
//!
//! Base offset and leader epoch lie outside a v2 batch's checksum, so offsets cost nothing; a producer id lies inside,
//! so its checksum is computed anew.

use bytes::{Bytes, BytesMut};

use super::batch::{BatchError, BatchHead, COVERED_FROM, HEAD, batches, crc32c};
use super::chain::ChainWriter;
use crate::ids::NO_EPOCH;

/// A partition's records at other offsets.
#[derive(Clone, Default, Debug)]
pub struct Rebased {
    pub pieces: Vec<Bytes>,
    /// The native offset after the last batch kept; `None` if none was.
    pub next: Option<i64>,
    /// Batches kept, and whether some at or above the end were dropped.
    pub batches: usize,
    pub cut: bool,
}

impl Rebased {
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }
}

/// Moves fetched batches by `delta` and takes the leader epoch out of them (DESIGN.md section 2, epochless); drops
/// everything from the first batch whose native base offset is at or above `end`, and a last batch that is not whole.
///
/// Entries of magic 0 and 1 move by their outer offset: what is inside a compressed entry of magic 1 is relative to it.
/// Inside one of magic 0 offsets are absolute and compressed: such an entry cannot move, which is an error.
pub fn rebase(records: Bytes, delta: i64, end: Option<i64>) -> Result<Rebased, BatchError> {
    let mut kept = Rebased::default();
    let mut len = 0;
    let mut untouched = true;
    for batch in batches(&records) {
        let (place, head) = batch?;
        if end.is_some_and(|end| head.base_offset >= end) {
            kept.cut = true;
            break;
        }
        if delta != 0 {
            if head.magic == 0 && head.compression() != 0 {
                return Err(BatchError::CompressedMagic0);
            }
            moved(&head, delta)?;
        }
        untouched &= delta == 0 && head.partition_leader_epoch == NO_EPOCH;
        len = place.end;
        kept.batches += 1;
        kept.next = Some(head.next_offset());
    }
    if kept.batches == 0 {
        return Ok(kept);
    }
    if untouched {
        kept.pieces.push(records.slice(..len));
        return Ok(kept);
    }
    match records.try_into_mut() {
        Ok(mut owned) => {
            owned.truncate(len);
            rebase_in_place(&mut owned, delta)?;
            kept.pieces.push(owned.freeze());
        }
        Err(shared) => kept.pieces = rebase_shared(&shared.slice(..len), delta)?,
    }
    Ok(kept)
}

/// The base offset `delta` further on; offsets stay between 0 and 2^63 - 1, the offset after the batch too.
fn moved(head: &BatchHead, delta: i64) -> Result<i64, BatchError> {
    let base = head.base_offset.checked_add(delta).filter(|base| *base >= 0).ok_or(BatchError::Offset)?;
    base.checked_add(i64::from(head.last_offset_delta) + 1).ok_or(BatchError::Offset)?;
    Ok(base)
}

/// What stands before the magic byte, rewritten: for v2 with the epoch taken out, before that with the entry's own CRC.
fn first_bytes(head: &BatchHead, delta: i64) -> Result<[u8; 16], BatchError> {
    let mut first = [0; 16];
    let (offset, rest) = first.split_at_mut(8);
    let (length, epoch_or_crc) = rest.split_at_mut(4);
    let base = if delta == 0 { head.base_offset } else { moved(head, delta)? };
    offset.copy_from_slice(&base.to_be_bytes());
    length.copy_from_slice(&head.batch_length.to_be_bytes());
    epoch_or_crc.copy_from_slice(&if head.magic >= 2 { NO_EPOCH.to_be_bytes() } else { head.crc.to_be_bytes() });
    Ok(first)
}

fn rebase_in_place(records: &mut BytesMut, delta: i64) -> Result<(), BatchError> {
    let mut at = 0;
    while let Some(batch) = records.get(at..).and_then(|rest| batches(rest).next()) {
        let (place, head) = batch?;
        let first = first_bytes(&head, delta)?;
        records.get_mut(at..at + first.len()).ok_or(BatchError::Truncated)?.copy_from_slice(&first);
        at += place.end;
    }
    Ok(())
}

fn rebase_shared(records: &Bytes, delta: i64) -> Result<Vec<Bytes>, BatchError> {
    let mut out = ChainWriter::new();
    for batch in batches(records) {
        let (place, head) = batch?;
        let first = first_bytes(&head, delta)?;
        out.put_slice(&first);
        out.put_shared(records.slice(place.start + first.len()..place.end));
    }
    // Nothing that was put can fail: no texts and no lengths.
    out.finish().map(|chain| chain.into_pieces().into()).map_err(|_| BatchError::Truncated)
}

/// One whole v2 batch of another producer id and epoch: a new head, and the body as it was.
pub fn with_producer(records: &Bytes, producer_id: i64, epoch: i16) -> Result<[Bytes; 2], BatchError> {
    let head = batches(records).next().ok_or(BatchError::Truncated)??.1;
    if head.magic != 2 {
        return Err(BatchError::Magic(head.magic));
    }
    if let Some(more @ 1..) = records.len().checked_sub(head.size()) {
        return Err(BatchError::MoreThanOne(more));
    }
    let mut first: [u8; HEAD] = *records.first_chunk().ok_or(BatchError::Truncated)?;
    let body = records.slice(HEAD..head.size());
    first[43..51].copy_from_slice(&producer_id.to_be_bytes());
    first[51..53].copy_from_slice(&epoch.to_be_bytes());
    let crc = crc32c([&first[COVERED_FROM..], &body]);
    first[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok([Bytes::copy_from_slice(&first), body])
}
