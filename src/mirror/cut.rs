//! What is copied of fetched batches, and as what: batches of one delta each. Pure.
//!
//! A batch that has all its offsets goes as it is, with another producer in its head. One with gaps (compaction has been at it), one
//! that a reader begins in the midst of, one with times that a broker has set, and one of an older format are opened: their
//! records go into batches that end at every gap. Markers and what was aborted do not go.
//!
//! The same bytes of the origin are always cut in the same way, so that a mirror that begins anew writes the same batches, and
//! the copy's broker knows them again by their sequences.

use std::collections::HashSet;

use bytes::Bytes;
use thiserror::Error;

use super::codec::Codec;
use super::record::{self, Record, RecordError, Writer};
use crate::ids::{NOffset, Native};
use crate::wire::batch::{self, BatchHead, COVERED_FROM, HEAD, crc32c};

const TRANSACTIONAL: i16 = 0x10;
/// Its first timestamp is when its tombstones may go (KIP-534), and not a record's.
const DELETE_HORIZON: i16 = 0x40;

/// A batch for the copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Its first record.
    pub origin: NOffset,
    pub count: i64,
    /// The head, and the body as it was fetched, or both in one.
    pub batch: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cut {
    pub copies: Vec<Copy>,
    /// Up to here, exclusive, all is in `copies` or is not to be copied.
    pub covered: NOffset,
}

#[derive(Debug, Error)]
#[error("the batch at offset {offset} of the origin cannot be copied: {why}")]
pub struct CutError {
    pub offset: i64,
    #[source]
    pub why: RecordError,
}

/// An aborted transaction, as a Fetch answer lists it: its producer, and where it begins.
pub type Aborted = (i64, i64);

/// `fetched`: with an isolation of read_committed, from `from` on. `writer`: as of the records before.
pub fn cut(fetched: &Bytes, from: NOffset, aborted: &[Aborted], mut writer: Writer) -> Result<Cut, CutError> {
    let mut aborts = Aborts::new(aborted);
    let mut done = Cut { copies: vec![], covered: from };
    for found in batch::batches(fetched) {
        let failed = |offset: i64| move |why: RecordError| CutError { offset, why };
        let (place, head) = found.map_err(|why| failed(done.covered.0)(why.into()))?;
        let last = head.next_offset();
        let is_aborted = aborts.concern(&head, fetched.get(place.clone()).unwrap_or_default());
        if last <= done.covered.0 {
            continue;
        }
        if !head.is_control() && !is_aborted && head.count > 0 {
            let bytes = fetched.slice(place);
            let copies = copies(&bytes, &head, done.covered, &mut writer).map_err(failed(head.base_offset))?;
            done.copies.extend(copies);
        }
        done.covered = Native(last);
    }
    Ok(done)
}

fn copies(bytes: &Bytes, head: &BatchHead, from: NOffset, writer: &mut Writer) -> Result<Vec<Copy>, RecordError> {
    if head.magic < 2 {
        let records = record::older(bytes, head)?;
        return runs(&records, from, Codec::of(head.attributes)?, writer);
    }
    batch::verify_crc(bytes)?;
    let is_whole = i64::from(head.count) == i64::from(head.last_offset_delta) + 1;
    let is_plain = record::appended_at(head).is_none() && head.attributes & DELETE_HORIZON == 0;
    if is_whole && is_plain && head.base_offset >= from.0 {
        let count = i64::from(head.count);
        let batch = renamed(bytes, head, writer)?;
        writer.records += count;
        return Ok(vec![Copy { origin: Native(head.base_offset), count, batch }]);
    }
    let body = record::opened(bytes, head)?;
    runs(&record::records(head, &body)?, from, Codec::of(head.attributes)?, writer)
}

/// The batch as it is, of another producer, outside of any transaction.
fn renamed(bytes: &Bytes, head: &BatchHead, writer: &Writer) -> Result<Vec<Bytes>, RecordError> {
    let mut first: [u8; HEAD] = *bytes.first_chunk().ok_or(RecordError::Truncated)?;
    let body = bytes.slice(HEAD..);
    first[0..8].copy_from_slice(&0i64.to_be_bytes());
    first[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    first[COVERED_FROM..23].copy_from_slice(&(head.attributes & !TRANSACTIONAL).to_be_bytes());
    first[43..51].copy_from_slice(&writer.producer_id.to_be_bytes());
    first[51..53].copy_from_slice(&writer.producer_epoch.to_be_bytes());
    first[53..57].copy_from_slice(&writer.sequence().to_be_bytes());
    let crc = crc32c([&first[COVERED_FROM..], &body]);
    first[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(vec![Bytes::copy_from_slice(&first), body])
}

/// One batch for each stretch without a gap.
fn runs(records: &[Record<'_>], from: NOffset, codec: Codec, writer: &mut Writer) -> Result<Vec<Copy>, RecordError> {
    let first = records.partition_point(|record| record.offset < from.0);
    let mut copies = vec![];
    for run in records.get(first..).unwrap_or_default().chunk_by(|a, b| a.offset.checked_add(1) == Some(b.offset)) {
        let Some(begins) = run.first() else { continue };
        let batch = record::batch_of(run, codec, writer)?;
        let count = i64::try_from(run.len()).unwrap_or(i64::MAX);
        writer.records += count;
        copies.push(Copy { origin: Native(begins.offset), count, batch: vec![batch] });
    }
    Ok(copies)
}

/// Which producers' batches are of aborted transactions now, as a consumer finds out (Kafka's `CompletedFetch`).
struct Aborts {
    /// Behind which offset each begins, the last one first.
    to_come: Vec<Aborted>,
    open: HashSet<i64>,
}

impl Aborts {
    fn new(listed: &[Aborted]) -> Self {
        let mut to_come = listed.to_vec();
        to_come.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        Self { to_come, open: HashSet::new() }
    }

    /// Whether this batch is of one.
    fn concern(&mut self, head: &BatchHead, bytes: &[u8]) -> bool {
        while let Some((producer, _)) = self.to_come.pop_if(|(_, first)| *first <= head.last_offset()) {
            self.open.insert(producer);
        }
        if head.is_control() {
            if is_abort(head, bytes) {
                self.open.remove(&head.producer_id);
            }
            return false;
        }
        head.is_transactional() && self.open.contains(&head.producer_id)
    }
}

/// Whether a control batch says that its producer's transaction was aborted: its key has a version and then a type, 0 for abort.
fn is_abort(head: &BatchHead, bytes: &[u8]) -> bool {
    let Ok(body) = record::opened(bytes, head) else { return false };
    let Ok(records) = record::records(head, &body) else { return false };
    let key = records.first().and_then(|record| record.content.get(1..5).map(<[u8]>::to_vec));
    key.is_some_and(|key| key[2..] == [0, 0])
}
