//! ProduceRequest. Records are slices of the frame.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::chain::ChainWriter;
use super::super::cursor::Cursor;
use super::super::error::WireError;
use super::super::records::Records;
use super::{PartitionProduced, ProduceResponse, TopicProduced, by_id, flexible, least_topic, spoken};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProduceRequest {
    pub transactional_id: Option<StrBytes>,
    /// 0 (no answer), 1, or -1 (all).
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<ProduceTopic>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProduceTopic {
    /// Empty from version 13 on.
    pub name: StrBytes,
    /// Nil before version 13.
    pub id: Uuid,
    pub partitions: Vec<ProducePartition>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducePartition {
    pub index: i32,
    pub records: Records,
}

impl ProduceRequest {
    pub fn decode(body: Bytes, version: i16) -> Result<Self, WireError> {
        spoken(version)?;
        let compact = flexible(version);
        let least_partition = if compact { 4 + 1 + 1 } else { 4 + 4 };
        let mut cursor = Cursor::new(body);
        let request = Self {
            transactional_id: cursor.opt_text(compact)?,
            acks: cursor.i16()?,
            timeout_ms: cursor.i32()?,
            topics: cursor.array(compact, least_topic(version), |cursor| {
                let topic = ProduceTopic {
                    name: if by_id(version) { StrBytes::new() } else { cursor.text(compact)? },
                    id: if by_id(version) { cursor.uuid()? } else { Uuid::nil() },
                    partitions: cursor.array(compact, least_partition, |cursor| {
                        let index = cursor.i32()?;
                        let records = cursor.opt_bytes(compact)?.into();
                        cursor.skip_tags(compact)?;
                        Ok(ProducePartition { index, records })
                    })?,
                };
                cursor.skip_tags(compact)?;
                Ok(topic)
            })?,
        };
        cursor.skip_tags(compact)?;
        cursor.finish()?;
        Ok(request)
    }

    pub fn encode(&self, version: i16, out: &mut ChainWriter) {
        if let Err(unsupported) = spoken(version) {
            return out.fail(unsupported);
        }
        let compact = flexible(version);
        out.put_opt_str(self.transactional_id.as_deref(), compact);
        out.put_i16(self.acks);
        out.put_i32(self.timeout_ms);
        out.put_count(self.topics.len(), compact);
        for topic in &self.topics {
            if by_id(version) {
                out.put_uuid(topic.id);
            } else {
                out.put_str(&topic.name, compact);
            }
            out.put_count(topic.partitions.len(), compact);
            for partition in &topic.partitions {
                out.put_i32(partition.index);
                partition.records.put(out, compact);
                out.put_no_tags(compact);
            }
            out.put_no_tags(compact);
        }
        out.put_no_tags(compact);
    }

    /// The answer that refuses every partition asked for.
    pub fn refused(&self, error_code: i16, message: Option<&str>) -> ProduceResponse {
        let message = message.map(|text| StrBytes::from_string(text.to_owned()));
        let topics = self.topics.iter().map(|topic| TopicProduced {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| PartitionProduced {
                    error_message: message.clone(),
                    ..PartitionProduced::refused(partition.index, error_code)
                })
                .collect(),
        });
        ProduceResponse { topics: topics.collect(), throttle_time_ms: 0 }
    }
}
