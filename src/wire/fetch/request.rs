//! FetchRequest. Upstream we are always a consumer without a rack: replica id -1, rack "".

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::chain::ChainWriter;
use super::super::cursor::Cursor;
use super::super::error::WireError;
use super::{FetchResponse, PartitionFetched, TopicFetched, by_id, flexible, least_topic, spoken};
use crate::ids::{CONSUMER, NO_EPOCH, NONE};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// From version 15 on a tagged field. Not written: we are a consumer.
    pub replica_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    /// 0 read_uncommitted, 1 read_committed.
    pub isolation_level: i8,
    /// 0 before version 7.
    pub session_id: i32,
    /// -1 (no session) before version 7.
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    pub forgotten: Vec<ForgottenTopic>,
    /// Not written: a broker would answer with a preferred replica and no records (KIP-392).
    pub rack_id: StrBytes,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            replica_id: CONSUMER,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten: Vec::new(),
            rack_id: StrBytes::new(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchTopic {
    /// Empty from version 13 on.
    pub name: StrBytes,
    /// Nil before version 13.
    pub id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchPartition {
    pub index: i32,
    /// -1 before version 9.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// -1 before version 12.
    pub last_fetched_epoch: i32,
    /// -1 from a consumer.
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            index: 0,
            current_leader_epoch: NO_EPOCH,
            fetch_offset: 0,
            last_fetched_epoch: NO_EPOCH,
            log_start_offset: NONE,
            max_bytes: 0,
        }
    }
}

/// Partitions that leave a fetch session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ForgottenTopic {
    pub name: StrBytes,
    pub id: Uuid,
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    pub fn decode(body: Bytes, version: i16) -> Result<Self, WireError> {
        spoken(version)?;
        let compact = flexible(version);
        let mut cursor = Cursor::new(body);
        let mut request = Self {
            replica_id: if version < 15 { cursor.i32()? } else { CONSUMER },
            max_wait_ms: cursor.i32()?,
            min_bytes: cursor.i32()?,
            max_bytes: cursor.i32()?,
            isolation_level: cursor.i8()?,
            ..Self::default()
        };
        if version >= 7 {
            request.session_id = cursor.i32()?;
            request.session_epoch = cursor.i32()?;
        }
        request.topics = cursor.array(compact, least_topic(version), |cursor| {
            let (name, id) = topic(cursor, version)?;
            let partitions = cursor.array(compact, 4 + 8 + 4, |cursor| partition(cursor, version))?;
            cursor.skip_tags(compact)?;
            Ok(FetchTopic { name, id, partitions })
        })?;
        if version >= 7 {
            request.forgotten = cursor.array(compact, least_topic(version), |cursor| {
                let (name, id) = topic(cursor, version)?;
                let partitions = cursor.array(compact, 4, Cursor::i32)?;
                cursor.skip_tags(compact)?;
                Ok(ForgottenTopic { name, id, partitions })
            })?;
        }
        if version >= 11 {
            request.rack_id = cursor.text(compact)?;
        }
        let mut replica_id = request.replica_id;
        cursor.tags(compact, |tag, content| {
            let is_replica_state = tag == 1 && version >= 15;
            if is_replica_state {
                replica_id = content.i32()?;
                content.i64()?;
                content.skip_tags(true)?;
            }
            Ok(is_replica_state)
        })?;
        request.replica_id = replica_id;
        cursor.finish()?;
        Ok(request)
    }

    pub fn encode(&self, version: i16, out: &mut ChainWriter) {
        if let Err(unsupported) = spoken(version) {
            return out.fail(unsupported);
        }
        let compact = flexible(version);
        if version < 15 {
            out.put_i32(CONSUMER);
        }
        out.put_i32(self.max_wait_ms);
        out.put_i32(self.min_bytes);
        out.put_i32(self.max_bytes);
        out.put_i8(self.isolation_level);
        if version >= 7 {
            out.put_i32(self.session_id);
            out.put_i32(self.session_epoch);
        }
        out.put_count(self.topics.len(), compact);
        for topic in &self.topics {
            put_topic(&topic.name, topic.id, version, out);
            out.put_count(topic.partitions.len(), compact);
            topic.partitions.iter().for_each(|partition| put_partition(partition, version, out));
            out.put_no_tags(compact);
        }
        if version >= 7 {
            out.put_count(self.forgotten.len(), compact);
            for topic in &self.forgotten {
                put_topic(&topic.name, topic.id, version, out);
                out.put_count(topic.partitions.len(), compact);
                topic.partitions.iter().for_each(|&index| out.put_i32(index));
                out.put_no_tags(compact);
            }
        }
        if version >= 11 {
            out.put_str("", compact);
        }
        out.put_no_tags(compact);
    }

    /// The answer that gives every partition asked for this error (or 0) and no records. Without a session a client
    /// throws an answer away that lacks one of them.
    pub fn refused(&self, error_code: i16) -> FetchResponse {
        let topics = self.topics.iter().map(|topic| TopicFetched {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| PartitionFetched::empty(partition.index, error_code))
                .collect(),
        });
        FetchResponse { topics: topics.collect(), ..FetchResponse::default() }
    }
}

fn topic(cursor: &mut Cursor, version: i16) -> Result<(StrBytes, Uuid), WireError> {
    if by_id(version) {
        Ok((StrBytes::new(), cursor.uuid()?))
    } else {
        Ok((cursor.text(flexible(version))?, Uuid::nil()))
    }
}

fn put_topic(name: &str, id: Uuid, version: i16, out: &mut ChainWriter) {
    if by_id(version) { out.put_uuid(id) } else { out.put_str(name, flexible(version)) }
}

fn partition(cursor: &mut Cursor, version: i16) -> Result<FetchPartition, WireError> {
    let partition = FetchPartition {
        index: cursor.i32()?,
        current_leader_epoch: if version >= 9 { cursor.i32()? } else { NO_EPOCH },
        fetch_offset: cursor.i64()?,
        last_fetched_epoch: if version >= 12 { cursor.i32()? } else { NO_EPOCH },
        log_start_offset: if version >= 5 { cursor.i64()? } else { NONE },
        max_bytes: cursor.i32()?,
    };
    cursor.skip_tags(flexible(version))?;
    Ok(partition)
}

fn put_partition(partition: &FetchPartition, version: i16, out: &mut ChainWriter) {
    out.put_i32(partition.index);
    if version >= 9 {
        out.put_i32(partition.current_leader_epoch);
    }
    out.put_i64(partition.fetch_offset);
    if version >= 12 {
        out.put_i32(partition.last_fetched_epoch);
    }
    if version >= 5 {
        out.put_i64(partition.log_start_offset);
    }
    out.put_i32(partition.max_bytes);
    out.put_no_tags(flexible(version));
}
