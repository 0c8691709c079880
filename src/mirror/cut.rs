//! What is copied of fetched batches, and as what: batches of one delta each. Pure.
//!
//! A batch that has all its offsets goes as it is, with another producer in its head. One with gaps (compaction has been at it), one
//! that a reader begins in the midst of, one with times that a broker has set, and one of an older format are opened: their
//! records go into batches that end at every gap. Markers and what was aborted do not go.
//!
//! Small batches that follow one another are packed into one: a leader takes few requests of one producer at a time, each with one
//! batch of a partition, and what many producers write together would come through there one after the other.
//!
//! Every batch is verified before anything that it says is believed. One that was opened may come out a little longer than it was
//! (a message of format 0 or 1 by some forty bytes, others by what their codec does at its default level): the copy's limits
//! need that much room. Where a rebuilt batch ends also depends on where a fetch did: what excludes two batches of the same
//! record is the sequence, not their ends.

use std::collections::HashSet;

use bytes::Bytes;
use thiserror::Error;

use super::codec::{Codec, CodecError};
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

impl Copy {
    /// Bytes.
    pub fn size(&self) -> usize {
        self.batch.iter().map(Bytes::len).sum()
    }
}

#[derive(Debug)]
pub struct Cut {
    pub copies: Vec<Copy>,
    /// Up to here, exclusive, all is in `copies` or is not to be copied.
    pub covered: NOffset,
    /// Why it ends here.
    pub failed: Option<CutError>,
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

/// Records of the older formats in one batch, and their bytes: alone each would be a request.
const GATHERED: usize = 1_000;
const GATHERED_BYTES: usize = 256 * 1024;
/// A batch of less is packed together with its neighbours, up to so many bytes, as they are stored.
const SMALL: usize = 4 * 1024;
const PACKED_BYTES: usize = 64 * 1024;

/// `fetched`: with an isolation of read_committed, from `from` on. `writer`: as of the records before. `limit`: bytes of one batch,
/// decompressed.
pub fn cut(fetched: &Bytes, from: NOffset, aborted: &[Aborted], writer: Writer, limit: usize) -> Cut {
    let aborts = Aborts::new(aborted);
    let mut cutter = Cutter {
        aborts,
        writer,
        limit,
        from,
        copies: vec![],
        small: vec![],
        small_bytes: 0,
        old: vec![],
        old_bytes: 0,
        codec: Codec::None,
    };
    let mut covered = from;
    let mut failed = None;
    for found in batch::batches(fetched) {
        let at = |offset: i64| move |why: RecordError| CutError { offset, why };
        let done = found.map_err(|why| at(covered.0)(why.into())).and_then(|(place, head)| {
            cutter.take(&fetched.slice(place), &head).map_err(at(head.base_offset))?;
            Ok(head.next_offset())
        });
        match done {
            Ok(next) => covered = covered.max(Native(next)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if let Err(why) = cutter.flush() {
        let old = cutter.old.first().map(|record| record.offset);
        let small = cutter.small.first().map(|(_, head)| head.base_offset);
        let offset = old.or(small).unwrap_or(covered.0);
        covered = Native(offset);
        failed = Some(CutError { offset, why });
    }
    Cut { copies: cutter.copies, covered, failed }
}

struct Cutter {
    aborts: Aborts,
    writer: Writer,
    limit: usize,
    from: NOffset,
    copies: Vec<Copy>,
    /// Small batches: they go together.
    small: Vec<(Bytes, BatchHead)>,
    small_bytes: usize,
    /// Of the older formats, and of one codec: they go together.
    old: Vec<Record<'static>>,
    old_bytes: usize,
    codec: Codec,
}

impl Cutter {
    fn take(&mut self, bytes: &Bytes, head: &BatchHead) -> Result<(), RecordError> {
        record::verify(bytes, head)?;
        let is_aborted = self.aborts.concern(head, bytes, self.limit)?;
        if head.next_offset() <= self.from.0 || head.is_control() || is_aborted || head.count == 0 {
            return Ok(());
        }
        let codec = Codec::of(head.attributes)?;
        if head.magic < 2 {
            self.pack()?;
            if self.codec != codec {
                self.flush_old()?;
                self.codec = codec;
            }
            return self.gather(bytes, head);
        }
        self.flush_old()?;
        if self.small_bytes + bytes.len() > PACKED_BYTES {
            self.pack()?;
        }
        if bytes.len() >= SMALL {
            self.pack()?;
            return self.alone(bytes, head);
        }
        self.small_bytes += bytes.len();
        self.small.push((bytes.clone(), *head));
        Ok(())
    }

    /// An entry of an older format.
    fn gather(&mut self, bytes: &Bytes, head: &BatchHead) -> Result<(), RecordError> {
        let records = record::older(bytes, head, self.limit)?;
        let bytes = records.iter().map(|record| record.content.len()).sum::<usize>();
        if self.old.len() + records.len() > GATHERED || self.old_bytes + bytes > GATHERED_BYTES {
            self.flush_old()?;
        }
        self.old_bytes += bytes;
        self.old.extend(records.into_iter().filter(|record| record.offset >= self.from.0));
        Ok(())
    }

    fn alone(&mut self, bytes: &Bytes, head: &BatchHead) -> Result<(), RecordError> {
        let is_whole = i64::from(head.count) == i64::from(head.last_offset_delta) + 1;
        let is_plain = record::appended_at(head).is_none() && head.attributes & DELETE_HORIZON == 0;
        if is_whole && is_plain && head.base_offset >= self.from.0 {
            let count = i64::from(head.count);
            let batch = renamed(bytes, head, &self.writer)?;
            self.writer.records += count;
            self.copies.push(Copy { origin: Native(head.base_offset), count, batch });
            return Ok(());
        }
        let body = record::opened(bytes, head, self.limit)?;
        let records = record::records(head, &body)?;
        let first = records.partition_point(|record| record.offset < self.from.0);
        let made = runs(records.get(first..).unwrap_or_default(), Codec::of(head.attributes)?, &mut self.writer)?;
        self.copies.extend(made);
        Ok(())
    }

    /// Small batches into one for each stretch without a gap; one that has no neighbour goes as it is.
    fn pack(&mut self) -> Result<(), RecordError> {
        if let [(bytes, head)] = self.small.as_slice() {
            let (bytes, head) = (bytes.clone(), *head);
            self.alone(&bytes, &head)?;
        } else {
            let (mut bodies, mut left) = (vec![], self.limit);
            for (bytes, head) in &self.small {
                // Together no more than one alone.
                let body: Vec<u8> = record::opened(bytes, head, left)?;
                left -= body.len();
                bodies.push(body);
            }
            let mut records = vec![];
            for ((_, head), body) in self.small.iter().zip(&bodies) {
                records.extend(record::records(head, body)?);
            }
            records.retain(|record| record.offset >= self.from.0);
            let codecs = self.small.iter().map(|(_, head)| Codec::of(head.attributes));
            let codecs: Vec<Codec> = codecs.collect::<Result<_, CodecError>>()?;
            let made = runs(&records, common(&codecs), &mut self.writer)?;
            self.copies.extend(made);
        }
        self.small.clear();
        self.small_bytes = 0;
        Ok(())
    }

    fn flush_old(&mut self) -> Result<(), RecordError> {
        let made = runs(&self.old, self.codec, &mut self.writer)?;
        self.copies.extend(made);
        self.old.clear();
        self.old_bytes = 0;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        self.pack()?;
        self.flush_old()
    }
}

/// Of batches that are packed into one: compressed if any of them was, and as the one of which most clients know how.
fn common(codecs: &[Codec]) -> Codec {
    codecs.iter().copied().filter(|codec| *codec != Codec::None).min().unwrap_or(Codec::None)
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

/// One batch for each stretch without a gap. After an error the writer is where it was.
fn runs(records: &[Record<'_>], codec: Codec, writer: &mut Writer) -> Result<Vec<Copy>, RecordError> {
    let mut copies = vec![];
    let mut next = *writer;
    for run in records.chunk_by(|a, b| a.offset.checked_add(1) == Some(b.offset)) {
        let Some(begins) = run.first() else { continue };
        let batch = record::batch_of(run, codec, &next)?;
        let count = i64::try_from(run.len()).unwrap_or(i64::MAX);
        next.records += count;
        copies.push(Copy { origin: Native(begins.offset), count, batch: vec![batch] });
    }
    *writer = next;
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
    fn concern(&mut self, head: &BatchHead, bytes: &[u8], limit: usize) -> Result<bool, RecordError> {
        while let Some((producer, _)) = self.to_come.pop_if(|(_, first)| *first <= head.last_offset()) {
            self.open.insert(producer);
        }
        if head.is_control() {
            if is_abort(head, bytes, limit)? {
                self.open.remove(&head.producer_id);
            }
            return Ok(false);
        }
        Ok(head.is_transactional() && self.open.contains(&head.producer_id))
    }
}

/// Whether a control batch says that its producer's transaction was aborted: its key has a version and then a type, 0 for abort.
fn is_abort(head: &BatchHead, bytes: &[u8], limit: usize) -> Result<bool, RecordError> {
    let body = record::opened(bytes, head, limit)?;
    let records = record::records(head, &body)?;
    // Compaction leaves a marker's batch without the marker, once nothing of its transaction is left.
    let Some(marker) = records.first() else { return Ok(false) };
    Ok(marker.content.get(3..5).ok_or(RecordError::Truncated)? == [0, 0])
}
