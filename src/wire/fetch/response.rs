//! FetchResponse. Diverging epoch, current leader, snapshot id and node endpoints are dropped on reading; they and a
//! preferred replica are never written. Records are slices of the frame and never null.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::chain::ChainWriter;
use super::super::cursor::Cursor;
use super::super::error::WireError;
use super::super::records::Records;
use super::{READ_COMMITTED, by_id, flexible, least_topic, spoken};
use crate::ids::NONE;

/// "Read from the leader" (KIP-392).
const NO_REPLICA: i32 = -1;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// 0 before version 7.
    pub error_code: i16,
    /// 0 (no session) before version 7.
    pub session_id: i32,
    pub topics: Vec<TopicFetched>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicFetched {
    /// Empty from version 13 on.
    pub name: StrBytes,
    /// Nil before version 13.
    pub id: Uuid,
    pub partitions: Vec<PartitionFetched>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionFetched {
    pub index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// -1 before version 5.
    pub log_start_offset: i64,
    /// Producer id and first offset; null to a reader that does not read committed.
    pub aborted: Option<Vec<(i64, i64)>>,
    /// Read, never written. -1 before version 11.
    pub preferred_read_replica: i32,
    pub records: Records,
}

impl PartitionFetched {
    /// The end of what a reader of this isolation may see.
    pub fn readable(&self, isolation: i8) -> i64 {
        if isolation == READ_COMMITTED { self.last_stable_offset } else { self.high_watermark }
    }

    /// No records, and an error or none.
    pub fn empty(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            high_watermark: NONE,
            last_stable_offset: NONE,
            log_start_offset: NONE,
            aborted: None,
            preferred_read_replica: NO_REPLICA,
            records: Records::One(Bytes::new()),
        }
    }
}

impl FetchResponse {
    /// Bytes of records in it.
    pub fn record_bytes(&self) -> usize {
        self.topics.iter().flat_map(|t| &t.partitions).map(|p| p.records.len()).sum()
    }

    /// Bytes of records of one partition, on average of those that have any, if together they nearly fill `room` bytes.
    pub fn fills(&self, room: usize) -> Option<usize> {
        let records =
            self.topics.iter().flat_map(|t| &t.partitions).map(|p| p.records.len()).filter(|bytes| *bytes > 0);
        let (bytes, count) = records.fold((0, 0), |(sum, count), bytes| (sum + bytes, count + 1));
        (count > 0 && bytes >= room / 4 * 3).then(|| bytes / count)
    }

    pub fn decode(body: Bytes, version: i16) -> Result<Self, WireError> {
        spoken(version)?;
        let compact = flexible(version);
        let mut cursor = Cursor::of_answer(body);
        let response = Self {
            throttle_time_ms: cursor.i32()?,
            error_code: if version >= 7 { cursor.i16()? } else { 0 },
            session_id: if version >= 7 { cursor.i32()? } else { 0 },
            topics: cursor.array(compact, least_topic(version), |cursor| {
                let topic = TopicFetched {
                    name: if by_id(version) { StrBytes::new() } else { cursor.text(compact)? },
                    id: if by_id(version) { cursor.uuid()? } else { Uuid::nil() },
                    partitions: cursor.array(compact, 4 + 2 + 8 + 8, |cursor| partition(cursor, version))?,
                };
                cursor.skip_tags(compact)?;
                Ok(topic)
            })?,
        };
        cursor.skip_tags(compact)?;
        cursor.finish()?;
        Ok(response)
    }

    pub fn encode(&self, version: i16, out: &mut ChainWriter) {
        if let Err(unsupported) = spoken(version) {
            return out.fail(unsupported);
        }
        let compact = flexible(version);
        out.put_i32(self.throttle_time_ms);
        if version >= 7 {
            out.put_i16(self.error_code);
            out.put_i32(self.session_id);
        }
        out.put_count(self.topics.len(), compact);
        for topic in &self.topics {
            if by_id(version) {
                out.put_uuid(topic.id);
            } else {
                out.put_str(&topic.name, compact);
            }
            out.put_count(topic.partitions.len(), compact);
            topic.partitions.iter().for_each(|partition| put_partition(partition, version, out));
            out.put_no_tags(compact);
        }
        out.put_no_tags(compact);
    }
}

fn partition(cursor: &mut Cursor, version: i16) -> Result<PartitionFetched, WireError> {
    let compact = flexible(version);
    let mut partition = PartitionFetched::empty(cursor.i32()?, cursor.i16()?);
    partition.high_watermark = cursor.i64()?;
    partition.last_stable_offset = cursor.i64()?;
    if version >= 5 {
        partition.log_start_offset = cursor.i64()?;
    }
    if let Some(count) = cursor.opt_count(compact, 8 + 8)? {
        let mut aborted = Vec::with_capacity(count);
        for _ in 0..count {
            aborted.push((cursor.i64()?, cursor.i64()?));
            cursor.skip_tags(compact)?;
        }
        partition.aborted = Some(aborted);
    }
    if version >= 11 {
        partition.preferred_read_replica = cursor.i32()?;
    }
    partition.records = Records::One(cursor.opt_bytes(compact)?.unwrap_or_default());
    cursor.skip_tags(compact)?;
    Ok(partition)
}

fn put_partition(partition: &PartitionFetched, version: i16, out: &mut ChainWriter) {
    let compact = flexible(version);
    out.put_i32(partition.index);
    out.put_i16(partition.error_code);
    out.put_i64(partition.high_watermark);
    out.put_i64(partition.last_stable_offset);
    if version >= 5 {
        out.put_i64(partition.log_start_offset);
    }
    match &partition.aborted {
        None => out.put_null(compact),
        Some(aborted) => {
            out.put_count(aborted.len(), compact);
            for &(producer_id, first_offset) in aborted {
                out.put_i64(producer_id);
                out.put_i64(first_offset);
                out.put_no_tags(compact);
            }
        }
    }
    if version >= 11 {
        out.put_i32(NO_REPLICA);
    }
    partition.records.put_never_null(out, compact);
    out.put_no_tags(compact);
}
