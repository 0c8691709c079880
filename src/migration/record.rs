//! One record as a v2 batch of its own, and the records of an uncompressed batch: for what the proxy itself writes (markers, seeds).
//! Nothing of the data path opens records.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{NO_EPOCH, NONE};
use crate::wire::batch::{BatchError, BatchHead, COVERED_FROM, HEAD, PREFIX, verify_crc};
use crate::wire::{Cursor, WireError};

/// Where the checksum stands.
const CRC: usize = 17;
const MAGIC: i8 = 2;

/// The producer of an idempotent batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
}

/// An uncompressed batch of this one record, without headers.
pub fn batch(record: &Record, timestamp_ms: i64, producer: Option<Producer>) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i8(0); // attributes
    put_varint(&mut body, 0); // timestamp delta
    put_varint(&mut body, 0); // offset delta
    put_bytes(&mut body, record.key.as_deref());
    put_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, 0); // headers
    let producer = producer.unwrap_or(Producer { id: NONE, epoch: -1, sequence: -1 });

    let mut covered = BytesMut::with_capacity(HEAD + body.len());
    covered.put_i16(0); // attributes
    covered.put_i32(0); // last offset delta
    covered.put_i64(timestamp_ms);
    covered.put_i64(timestamp_ms);
    covered.put_i64(producer.id);
    covered.put_i16(producer.epoch);
    covered.put_i32(producer.sequence);
    covered.put_i32(1); // records
    put_varint(&mut covered, body.len() as i64);
    covered.put_slice(&body);

    let mut batch = BytesMut::with_capacity(COVERED_FROM + covered.len());
    batch.put_i64(0); // base offset
    batch.put_i32((COVERED_FROM - PREFIX + covered.len()) as i32);
    batch.put_i32(NO_EPOCH);
    batch.put_i8(MAGIC);
    debug_assert_eq!(batch.len(), CRC);
    batch.put_u32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &covered) as u32);
    batch.put_slice(&covered);
    batch.freeze()
}

/// The records of the uncompressed v2 batch at the start of `bytes`.
pub fn records(bytes: Bytes) -> Result<Vec<Record>, WireError> {
    verify_crc(&bytes)?;
    let head = BatchHead::parse(&bytes)?;
    let mut cursor = Cursor::new(bytes.slice(..head.size()));
    cursor.skip(HEAD)?;
    let mut records = Vec::new();
    for _ in 0..head.count {
        // The count is not trusted: a record takes at least a byte, so this ends with the bytes.
        let len = length(&mut cursor)?.ok_or(BatchError::Truncated)?;
        let mut one = Cursor::new(cursor.take(len)?);
        one.i8()?; // attributes
        varint(&mut one)?; // timestamp delta
        varint(&mut one)?; // offset delta
        let key = opt_bytes(&mut one)?;
        let value = opt_bytes(&mut one)?;
        records.push(Record { key, value });
    }
    Ok(records)
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

/// Zigzag, up to 64 bits.
fn varint(cursor: &mut Cursor) -> Result<i64, WireError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = cursor.u8()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Truncated.into())
}

/// `None`: null.
fn length(cursor: &mut Cursor) -> Result<Option<usize>, WireError> {
    let len = varint(cursor)?;
    if len < 0 {
        return Ok(None);
    }
    Ok(Some(usize::try_from(len).map_err(|_| BatchError::Truncated)?))
}

fn opt_bytes(cursor: &mut Cursor) -> Result<Option<Bytes>, WireError> {
    length(cursor)?.map(|len| cursor.take(len)).transpose()
}
