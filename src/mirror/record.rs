//! Records of opened batches: those of v2, and messages of the formats before it (magic 0 and 1), as one kind; and batches made of
//! them. What a record says is carried over byte by byte; only its place in a batch is written anew.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::codec::{self, Codec, CodecError};
use crate::wire::batch::{self, BatchError, BatchHead, COVERED_FROM, HEAD, crc32c};

/// The timestamps of a batch are its maximum: the broker has set them (attributes of v2, and of magic 1).
const LOG_APPEND_TIME: i16 = 0x08;
/// Where the CRC of an older message begins to cover.
const OLD_COVERED_FROM: usize = 16;
const NO_TIMESTAMP: i64 = -1;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// On its own side.
    pub offset: i64,
    /// -1: none, as in magic 0.
    pub timestamp: i64,
    /// Key, value and headers, as v2 has them, and no attributes: no format has any.
    pub content: Cow<'a, [u8]>,
}

#[derive(Debug, Error)]
pub enum RecordError {
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Codec(#[from] CodecError),
    #[error("a record ends early")]
    Truncated,
    #[error("a record is longer than a batch can be")]
    TooLong,
    #[error("a compressed message set is empty, or ends early")]
    InnerSet,
}

/// Who writes the copy. Each batch excludes another of the same records (DESIGN.md section 8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writer {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Records written before.
    pub records: i64,
}

impl Writer {
    /// Modulo 2^31, as Kafka's sequences go.
    pub fn sequence(&self) -> i32 {
        (self.records & i64::from(i32::MAX)) as i32
    }
}

/// The timestamp that all records of a batch have, if its broker has set it.
pub fn appended_at(head: &BatchHead) -> Option<i64> {
    (head.magic > 0 && head.attributes & LOG_APPEND_TIME != 0).then_some(head.max_timestamp)
}

/// What lies behind the head of a v2 batch, decompressed: no more than `limit` bytes.
pub fn opened(batch: &[u8], head: &BatchHead, limit: usize) -> Result<Vec<u8>, RecordError> {
    let body = batch.get(HEAD..head.size()).ok_or(RecordError::Truncated)?;
    Ok(Codec::of(head.attributes)?.decompress(body, limit)?)
}

/// Whether a fetched batch is what was stored: brokers do not look, and what it says of itself is believed.
pub fn verify(batch: &[u8], head: &BatchHead) -> Result<(), RecordError> {
    if head.magic >= 2 {
        return Ok(batch::verify_crc(batch)?);
    }
    let covered = batch.get(OLD_COVERED_FROM..head.size()).ok_or(RecordError::Truncated)?;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, covered);
    if crc == u64::from(head.crc) { Ok(()) } else { Err(BatchError::Crc.into()) }
}

/// The records of a v2 batch, whose body was `opened`.
pub fn records<'a>(head: &BatchHead, body: &'a [u8]) -> Result<Vec<Record<'a>>, RecordError> {
    let mut rest = body;
    let mut all = vec![];
    for _ in 0..head.count {
        let length = usize::try_from(zigzag(&mut rest)?).map_err(|_| RecordError::Truncated)?;
        let (mut record, behind) = rest.split_at_checked(length).ok_or(RecordError::Truncated)?;
        rest = behind;
        let (_attributes, inner) = record.split_first().ok_or(RecordError::Truncated)?;
        record = inner;
        let timestamp = head.base_timestamp.saturating_add(zigzag(&mut record)?);
        let offset = head.base_offset.saturating_add(zigzag(&mut record)?);
        let timestamp = appended_at(head).unwrap_or(timestamp);
        all.push(Record { offset, timestamp, content: Cow::Borrowed(record) });
    }
    Ok(all)
}

/// The records of one entry of an older message set, which was verified: one message, or a compressed set of them.
pub fn older(entry: &[u8], head: &BatchHead, limit: usize) -> Result<Vec<Record<'static>>, RecordError> {
    let codec = Codec::of(head.attributes)?;
    let (key, value) = message(entry, head)?;
    if codec == Codec::None {
        return Ok(vec![Record {
            offset: head.base_offset,
            timestamp: head.max_timestamp,
            content: Cow::Owned(content(key, value)),
        }]);
    }
    let value = value.ok_or(RecordError::InnerSet)?;
    let inner = match (head.magic, codec) {
        (0, Codec::Lz4) => codec::lz4_of_format_0(value, limit)?,
        _ => codec.decompress(value, limit)?,
    };
    let (mut all, mut read) = (vec![], 0);
    for entry in batch::batches(&inner) {
        let (place, inside) = entry?;
        let message_bytes = inner.get(place.clone()).ok_or(RecordError::Truncated)?;
        verify(message_bytes, &inside)?;
        read = place.end;
        let (key, value) = message(message_bytes, &inside)?;
        let timestamp = appended_at(head).unwrap_or(inside.max_timestamp);
        all.push(Record { offset: inside.base_offset, timestamp, content: Cow::Owned(content(key, value)) });
    }
    if all.is_empty() || read != inner.len() {
        return Err(RecordError::InnerSet);
    }
    // Magic 1 counts inside from 0, and the entry has the offset of its last message.
    if head.magic == 1
        && let Some(last) = all.last().map(|record: &Record<'_>| record.offset)
    {
        let base = head.base_offset.saturating_sub(last);
        all.iter_mut().for_each(|record| record.offset = record.offset.saturating_add(base));
    }
    Ok(all)
}

/// `None`: null.
type Field<'a> = Option<&'a [u8]>;

/// Key and value of a message of magic 0 or 1.
fn message<'a>(entry: &'a [u8], head: &BatchHead) -> Result<(Field<'a>, Field<'a>), RecordError> {
    let from = if head.magic == 0 { 18 } else { 26 };
    let mut rest = entry.get(from..head.size()).ok_or(RecordError::Truncated)?;
    let mut field = || -> Result<Field<'a>, RecordError> {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(RecordError::Truncated)?;
        rest = behind;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else { return Ok(None) };
        let (field, behind) = rest.split_at_checked(length).ok_or(RecordError::Truncated)?;
        rest = behind;
        Ok(Some(field))
    };
    Ok((field()?, field()?))
}

/// As v2 has it, without headers.
fn content(key: Field<'_>, value: Field<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
    for field in [key, value] {
        put_zigzag(&mut out, field.map_or(-1, |field| field.len() as i64));
        out.extend_from_slice(field.unwrap_or_default());
    }
    put_zigzag(&mut out, 0);
    out
}

/// A batch of these records, which follow one another, for a producer to send: its offsets begin at 0.
pub fn batch_of(records: &[Record<'_>], codec: Codec, writer: &Writer) -> Result<Bytes, RecordError> {
    let base_timestamp = records.first().map_or(NO_TIMESTAMP, |record| record.timestamp);
    let mut body = vec![];
    let mut one = vec![];
    for (place, record) in (0i64..).zip(records) {
        one.clear();
        one.push(0);
        put_zigzag(&mut one, record.timestamp.saturating_sub(base_timestamp));
        put_zigzag(&mut one, place);
        put_zigzag(&mut body, (one.len() + record.content.len()) as i64);
        body.extend_from_slice(&one);
        body.extend_from_slice(&record.content);
    }
    let body = codec.compress(&body)?;
    let size = i32::try_from(HEAD - batch::PREFIX + body.len()).map_err(|_| RecordError::TooLong)?;
    let count = i32::try_from(records.len()).map_err(|_| RecordError::TooLong)?;
    let mut out = BytesMut::with_capacity(HEAD + body.len());
    out.put_i64(0);
    out.put_i32(size);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(codec.bits());
    out.put_i32(count - 1);
    out.put_i64(base_timestamp);
    out.put_i64(records.iter().map(|record| record.timestamp).max().unwrap_or(NO_TIMESTAMP));
    out.put_i64(writer.producer_id);
    out.put_i16(writer.producer_epoch);
    out.put_i32(writer.sequence());
    out.put_i32(count);
    out.extend_from_slice(&body);
    let crc = crc32c([&out[COVERED_FROM..], &[]]);
    out[COVERED_FROM - 4..COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
    Ok(out.freeze())
}

/// Signed numbers, seven bits a byte, those near zero short (Kafka's `ByteUtils`).
fn zigzag(bytes: &mut &[u8]) -> Result<i64, RecordError> {
    let mut number: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(RecordError::Truncated)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    Err(RecordError::Truncated)
}

fn put_zigzag(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
