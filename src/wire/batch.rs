//! Heads of record batches: v2 (KIP-98) and the older message sets (magic 0 and 1), of which a Fetch may still return
//! some. Records themselves are never opened.
//!
//! ```text
//! v2   0 baseOffset 8 | 8 batchLength 4 | 12 partitionLeaderEpoch 4 | 16 magic 1 | 17 crc 4 | 21 attributes 2
//!      23 lastOffsetDelta 4 | 27 baseTimestamp 8 | 35 maxTimestamp 8 | 43 producerId 8 | 51 producerEpoch 2
//!      53 baseSequence 4 | 57 count 4 | 61 records            the CRC32C covers 21 to the end
//! v0/1 0 offset 8 | 8 size 4 | 12 crc 4 | 16 magic 1 | 17 attributes 1 | v1: 18 timestamp 8 | key, value
//! ```

use std::ops::Range;

use super::error::WireError;

/// Bytes of a v2 head.
pub const HEAD: usize = 61;
/// Offset and length: what `batch_length` does not count.
pub const PREFIX: usize = 12;
/// Where the CRC of a v2 batch begins to cover.
pub const COVERED_FROM: usize = 21;

const CODEC: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What is wrong with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    #[error("no record batch")]
    Empty,
    #[error("a record batch ends early")]
    Truncated,
    #[error("a record batch of {0} bytes cannot be")]
    Length(i32),
    #[error("record batch format {0} is not accepted here")]
    Magic(i8),
    #[error("{0} bytes follow the one batch that is allowed")]
    MoreThanOne(usize),
    #[error("the checksum of a record batch is wrong")]
    Crc,
    #[error("a record batch counts {count} records over {span} offsets")]
    Count { count: i32, span: i64 },
    #[error("a client sent a control batch")]
    Control,
    #[error("a record batch has a producer id and no sequence")]
    Sequence,
    #[error("an offset of a record batch cannot be moved")]
    Offset,
    #[error("a compressed message set of format 0 cannot be moved to other offsets")]
    CompressedMagic0,
}

impl BatchError {
    /// What a broker answers: CORRUPT_MESSAGE (2) for what arrived broken, INVALID_RECORD (87) for what is not allowed
    /// (`ProduceRequest.validateRecords`, `LogValidator.validateBatch`).
    pub fn kafka_code(self) -> i16 {
        match self {
            Self::Truncated | Self::Length(_) | Self::Crc => 2,
            _ => 87,
        }
    }
}

/// The head of a v2 batch, or of one entry of an older message set: there `base_offset` of a compressed entry is the
/// offset of its last record, and what the format lacks is -1 (timestamps, producer) or one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHead {
    pub base_offset: i64,
    /// Bytes after the first 12.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

fn at<const N: usize>(bytes: &[u8], from: usize) -> Result<[u8; N], BatchError> {
    bytes.get(from..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(BatchError::Truncated)
}

fn i32_at(bytes: &[u8], from: usize) -> Result<i32, BatchError> {
    at(bytes, from).map(i32::from_be_bytes)
}

fn i64_at(bytes: &[u8], from: usize) -> Result<i64, BatchError> {
    at(bytes, from).map(i64::from_be_bytes)
}

impl BatchHead {
    /// Reads the head at the start of `bytes`; the rest of the batch need not be there.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Self::read(bytes)?)
    }

    fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let magic = at(bytes, 16).map(i8::from_be_bytes)?;
        let batch_length = i32_at(bytes, 8)?;
        let least = match magic {
            0 => 14,
            1 => 22,
            2 => (HEAD - PREFIX) as i32,
            _ => return Err(BatchError::Magic(magic)),
        };
        if batch_length < least {
            return Err(BatchError::Length(batch_length));
        }
        let base_offset = i64_at(bytes, 0)?;
        if magic < 2 {
            let timestamp = if magic == 1 { i64_at(bytes, 18)? } else { -1 };
            return Ok(Self {
                base_offset,
                batch_length,
                partition_leader_epoch: -1,
                magic,
                crc: at(bytes, 12).map(u32::from_be_bytes)?,
                attributes: at(bytes, 17).map(i8::from_be_bytes)?.into(),
                last_offset_delta: 0,
                base_timestamp: timestamp,
                max_timestamp: timestamp,
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                count: 1,
            });
        }
        let head = Self {
            base_offset,
            batch_length,
            partition_leader_epoch: i32_at(bytes, 12)?,
            magic,
            crc: at(bytes, 17).map(u32::from_be_bytes)?,
            attributes: at(bytes, 21).map(i16::from_be_bytes)?,
            last_offset_delta: i32_at(bytes, 23)?,
            base_timestamp: i64_at(bytes, 27)?,
            max_timestamp: i64_at(bytes, 35)?,
            producer_id: i64_at(bytes, 43)?,
            producer_epoch: at(bytes, 51).map(i16::from_be_bytes)?,
            base_sequence: i32_at(bytes, 53)?,
            count: i32_at(bytes, 57)?,
        };
        // Compaction may leave fewer records than offsets (even none), never an end before the start.
        if head.last_offset_delta < 0 || head.count < 0 {
            return Err(BatchError::Count { count: head.count, span: i64::from(head.last_offset_delta) + 1 });
        }
        if head.base_offset.checked_add(i64::from(head.last_offset_delta) + 1).is_none() {
            return Err(BatchError::Offset);
        }
        Ok(head)
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        PREFIX + usize::try_from(self.batch_length).unwrap_or(0)
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> i16 {
        self.attributes & CODEC
    }

    pub fn is_control(&self) -> bool {
        self.magic >= 2 && self.attributes & CONTROL != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.magic >= 2 && self.attributes & TRANSACTIONAL != 0
    }

    /// Has a producer id.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// The sequence of the last record; -1 if there are none. Sequences wrap from 2^31 - 1 to 0, as in Kafka's
    /// `DefaultRecordBatch.incrementSequence`.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }
}

/// The whole batches of a partition's records with their places. A batch that is cut off at the end of `records` ends
/// the walk silently, since brokers cut at a byte limit; one that cannot be ends it with an error.
pub fn batches(records: &[u8]) -> Batches<'_> {
    Batches { records, at: 0 }
}

#[derive(Clone, Debug)]
pub struct Batches<'a> {
    records: &'a [u8],
    at: usize,
}

impl Iterator for Batches<'_> {
    type Item = Result<(Range<usize>, BatchHead), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.records.get(self.at..)?;
        let from = self.at;
        match BatchHead::read(rest) {
            Ok(head) if head.size() <= rest.len() => {
                self.at += head.size();
                Some(Ok((from..self.at, head)))
            }
            Ok(_) | Err(BatchError::Truncated) => {
                self.at = self.records.len();
                None
            }
            Err(error) => {
                self.at = self.records.len();
                Some(Err(error))
            }
        }
    }
}

/// CRC32C of two parts, such as what a v2 batch's checksum covers.
pub(crate) fn crc32c(parts: [&[u8]; 2]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.into_iter().for_each(|part| digest.update(part));
    digest.finalize() as u32
}

/// The checksum of the v2 batch at the start of `bytes`.
pub fn verify_crc(bytes: &[u8]) -> Result<(), BatchError> {
    let head = BatchHead::read(bytes)?;
    if head.magic < 2 {
        return Err(BatchError::Magic(head.magic));
    }
    let covered = bytes.get(COVERED_FROM..head.size()).ok_or(BatchError::Truncated)?;
    if crc32c([covered, &[]]) == head.crc { Ok(()) } else { Err(BatchError::Crc) }
}

/// What a broker demands of a produced partition: exactly one v2 batch, whole, its count and checksum right, no control
/// batch, a sequence if there is a producer id.
pub fn produce_batch(records: &[u8]) -> Result<BatchHead, BatchError> {
    if records.is_empty() {
        return Err(BatchError::Empty);
    }
    let head = BatchHead::read(records)?;
    if head.magic != 2 {
        return Err(BatchError::Magic(head.magic));
    }
    match records.len().checked_sub(head.size()) {
        None => return Err(BatchError::Truncated),
        Some(0) => {}
        Some(more) => return Err(BatchError::MoreThanOne(more)),
    }
    let span = i64::from(head.last_offset_delta) + 1;
    if i64::from(head.count) != span {
        return Err(BatchError::Count { count: head.count, span });
    }
    if head.is_control() {
        return Err(BatchError::Control);
    }
    if head.is_idempotent() && head.base_sequence < 0 {
        return Err(BatchError::Sequence);
    }
    verify_crc(records)?;
    Ok(head)
}
