//! ProduceResponse. Current leader and node endpoints (KIP-951) are dropped on reading and never written.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::chain::ChainWriter;
use super::super::cursor::Cursor;
use super::super::error::WireError;
use super::{by_id, flexible, least_topic, spoken};
use crate::ids::NONE;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProduceResponse {
    pub topics: Vec<TopicProduced>,
    pub throttle_time_ms: i32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicProduced {
    /// Empty from version 13 on.
    pub name: StrBytes,
    /// Nil before version 13.
    pub id: Uuid,
    pub partitions: Vec<PartitionProduced>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionProduced {
    pub index: i32,
    pub error_code: i16,
    pub base_offset: i64,
    /// -1 unless the topic's timestamps are the broker's.
    pub log_append_time_ms: i64,
    /// -1 before version 5.
    pub log_start_offset: i64,
    /// Records that made the broker refuse the batch, by index; from version 8 on.
    pub record_errors: Vec<(i32, Option<StrBytes>)>,
    /// From version 8 on.
    pub error_message: Option<StrBytes>,
}

impl PartitionProduced {
    /// An error for a whole partition.
    pub fn refused(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            base_offset: NONE,
            log_append_time_ms: NONE,
            log_start_offset: NONE,
            record_errors: Vec::new(),
            error_message: None,
        }
    }
}

impl ProduceResponse {
    pub fn decode(body: Bytes, version: i16) -> Result<Self, WireError> {
        spoken(version)?;
        let compact = flexible(version);
        let mut cursor = Cursor::of_answer(body);
        let topics = cursor.array(compact, least_topic(version), |cursor| {
            let topic = TopicProduced {
                name: if by_id(version) { StrBytes::new() } else { cursor.text(compact)? },
                id: if by_id(version) { cursor.uuid()? } else { Uuid::nil() },
                partitions: cursor.array(compact, 4 + 2 + 8 + 8, |cursor| partition(cursor, version))?,
            };
            cursor.skip_tags(compact)?;
            Ok(topic)
        })?;
        let response = Self { topics, throttle_time_ms: cursor.i32()? };
        cursor.skip_tags(compact)?;
        cursor.finish()?;
        Ok(response)
    }

    pub fn encode(&self, version: i16, out: &mut ChainWriter) {
        if let Err(unsupported) = spoken(version) {
            return out.fail(unsupported);
        }
        let compact = flexible(version);
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
        out.put_i32(self.throttle_time_ms);
        out.put_no_tags(compact);
    }
}

fn partition(cursor: &mut Cursor, version: i16) -> Result<PartitionProduced, WireError> {
    let compact = flexible(version);
    let mut partition = PartitionProduced {
        index: cursor.i32()?,
        error_code: cursor.i16()?,
        base_offset: cursor.i64()?,
        log_append_time_ms: cursor.i64()?,
        log_start_offset: if version >= 5 { cursor.i64()? } else { NONE },
        record_errors: Vec::new(),
        error_message: None,
    };
    if version >= 8 {
        partition.record_errors = cursor.array(compact, 4 + 1, |cursor| {
            let error = (cursor.i32()?, cursor.opt_text(compact)?);
            cursor.skip_tags(compact)?;
            Ok(error)
        })?;
        partition.error_message = cursor.opt_text(compact)?;
    }
    cursor.skip_tags(compact)?;
    Ok(partition)
}

fn put_partition(partition: &PartitionProduced, version: i16, out: &mut ChainWriter) {
    let compact = flexible(version);
    out.put_i32(partition.index);
    out.put_i16(partition.error_code);
    out.put_i64(partition.base_offset);
    out.put_i64(partition.log_append_time_ms);
    if version >= 5 {
        out.put_i64(partition.log_start_offset);
    }
    if version >= 8 {
        out.put_count(partition.record_errors.len(), compact);
        for (index, message) in &partition.record_errors {
            out.put_i32(*index);
            out.put_opt_str(message.as_deref(), compact);
            out.put_no_tags(compact);
        }
        out.put_opt_str(partition.error_message.as_deref(), compact);
    }
    out.put_no_tags(compact);
}
