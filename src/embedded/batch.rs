//! The fixed part of a v2 record batch (KIP-98): what a broker reads of it, and the fields that it overwrites.
//! Records stay closed, except those of uncompressed batches when somebody asks for an offset by timestamp.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub const HEADER: usize = 61;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

const COMPRESSION: i16 = 0b0000_0111;
const LOG_APPEND_TIME: i16 = 0b0000_1000;
const TRANSACTIONAL: i16 = 0b0001_0000;
const CONTROL: i16 = 0b0010_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base_offset: i64,
    /// Bytes of the whole batch, from `base_offset` to the last record.
    pub size: usize,
    pub leader_epoch: i32,
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

impl Header {
    /// `None`: shorter than a header, shorter than it says, or not of magic 2.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut b = bytes.get(..HEADER)?;
        let base_offset = b.get_i64();
        let length = b.get_i32();
        let leader_epoch = b.get_i32();
        let magic = b.get_i8();
        let size = usize::try_from(length).ok()?.checked_add(12)?;
        if magic != 2 || size < HEADER || size > bytes.len() {
            return None;
        }
        Some(Self {
            base_offset,
            size,
            leader_epoch,
            crc: b.get_u32(),
            attributes: b.get_i16(),
            last_offset_delta: b.get_i32(),
            base_timestamp: b.get_i64(),
            max_timestamp: b.get_i64(),
            producer_id: b.get_i64(),
            producer_epoch: b.get_i16(),
            base_sequence: b.get_i32(),
            count: b.get_i32(),
        })
    }

    pub fn compression(&self) -> i16 {
        self.attributes & COMPRESSION
    }
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }
    /// Sequences wrap from 2^31 - 1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }
}

pub fn crc_of(batch: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, batch.get(CRC_FROM..).unwrap_or_default()) as u32
}

/// What an append writes over the batch; both fields lie outside the CRC.
pub fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// `message.timestamp.type=LogAppendTime`: the broker's time, the attribute that says so, and a new CRC.
pub fn stamp(batch: &mut [u8], attributes: i16, now_ms: i64) {
    batch[21..23].copy_from_slice(&(attributes | LOG_APPEND_TIME).to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc_of(batch);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// A control batch that ends a transaction: one record, its key the marker's version and type, its value the version and the
/// coordinator's epoch (KIP-98).
pub fn marker(producer: (i64, i16), commit: bool, now_ms: i64) -> Bytes {
    let record = [&[0, 0, 0, 8, 0, 0, 0, u8::from(commit), 12][..], &[0; 6], &[0]].concat();
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32((HEADER - 12 + 1 + record.len()) as i32);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(TRANSACTIONAL | CONTROL);
    batch.put_i32(0);
    batch.put_i64(now_ms);
    batch.put_i64(now_ms);
    batch.put_i64(producer.0);
    batch.put_i16(producer.1);
    batch.put_i32(-1);
    batch.put_i32(1);
    // The length of a record, zigzag.
    batch.put_u8((record.len() * 2) as u8);
    batch.put_slice(&record);
    let crc = crc_of(&batch);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// `(offset, timestamp)` of the first record that `wanted` takes; `None` too if the batch is compressed or garbled.
pub fn find_record(header: &Header, batch: &Bytes, wanted: impl Fn(i64) -> bool) -> Option<(i64, i64)> {
    if header.compression() != 0 {
        return None;
    }
    let mut rest = batch.get(HEADER..header.size)?;
    for _ in 0..header.count {
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let mut record = rest.get(..length)?;
        rest = rest.get(length..)?;
        record = record.get(1..)?;
        let timestamp = header.base_timestamp.saturating_add(varint(&mut record)?);
        let offset = header.base_offset.saturating_add(varint(&mut record)?);
        if wanted(timestamp) {
            return Some((offset, timestamp));
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}
