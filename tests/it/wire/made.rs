//! Record batches as a client makes them, with a checksum computed bit by bit: an opinion independent of the library's.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) base_offset: i64,
    pub(crate) epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) count: i32,
    pub(crate) producer: (i64, i16, i32),
    pub(crate) body: Vec<u8>,
}

impl Default for Made {
    fn default() -> Self {
        Self { base_offset: 0, epoch: 7, attributes: 0, count: 3, producer: (-1, -1, -1), body: b"records".to_vec() }
    }
}

impl Made {
    pub(crate) fn v2(&self) -> Vec<u8> {
        let mut covered = BytesMut::new();
        covered.put_i16(self.attributes);
        covered.put_i32(self.count - 1);
        covered.put_i64(1_700_000_000_000);
        covered.put_i64(1_700_000_000_009);
        covered.put_i64(self.producer.0);
        covered.put_i16(self.producer.1);
        covered.put_i32(self.producer.2);
        covered.put_i32(self.count);
        covered.put_slice(&self.body);
        let mut batch = BytesMut::new();
        batch.put_i64(self.base_offset);
        batch.put_i32(4 + 1 + 4 + covered.len() as i32);
        batch.put_i32(self.epoch);
        batch.put_i8(2);
        batch.put_u32(crc32c(&covered));
        batch.put_slice(&covered);
        batch.to_vec()
    }

    /// An entry of an older message set.
    pub(crate) fn old(&self, magic: i8) -> Vec<u8> {
        let mut entry = BytesMut::new();
        entry.put_u32(0xdead_beef);
        entry.put_i8(magic);
        entry.put_i8(self.attributes as i8);
        if magic == 1 {
            entry.put_i64(1_600_000_000_000);
        }
        entry.put_i32(-1);
        entry.put_i32(self.body.len() as i32);
        entry.put_slice(&self.body);
        let mut all = BytesMut::new();
        all.put_i64(self.base_offset);
        all.put_i32(entry.len() as i32);
        all.put_slice(&entry);
        all.to_vec()
    }
}

/// One behind the other.
pub(crate) fn set(batches: &[Vec<u8>]) -> Bytes {
    Bytes::from(batches.concat())
}
