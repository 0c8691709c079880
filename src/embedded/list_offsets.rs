//! ListOffsets v1-10 and OffsetForLeaderEpoch v2-4. A consumer's latest is the high watermark, a debugging consumer's the log end.
//! No tiered storage: earliest-local (-4) is the log start, latest-tiered (-5) is nowhere.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::Call;
use super::state::{Partition, State};
use crate::ids::{CONSUMER, DEBUGGING_CONSUMER, EARLIEST, LATEST, MAX_TIMESTAMP};

const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub fn list_offsets(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut state = call.shared.lock();
    let mut response = ListOffsetsResponse::default();
    let consumer = request.replica_id.0 == CONSUMER;
    for topic in request.topics {
        let mut answer = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let mut part = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            let found =
                reachable(&mut state, call.node, &topic.name, &wanted, request.replica_id.0 == DEBUGGING_CONSUMER)
                    .and_then(|p| find(p, wanted.timestamp, (consumer, request.isolation_level == 1), call.version));
            match found {
                Ok((offset, timestamp, epoch)) => {
                    part.offset = offset;
                    part.timestamp = timestamp;
                    if call.version >= 4 {
                        part.leader_epoch = epoch;
                    }
                }
                Err(error) => part.error_code = error.code(),
            }
            answer.partitions.push(part);
        }
        response.topics.push(answer);
    }
    response
}

/// A debugging consumer may ask any replica.
fn reachable<'s>(
    state: &'s mut State,
    node: usize,
    topic: &str,
    wanted: &kafka_protocol::messages::list_offsets_request::ListOffsetsPartition,
    any_replica: bool,
) -> Result<&'s mut Partition, E> {
    let (index, epoch) = (wanted.partition_index, wanted.current_leader_epoch);
    match state.led(node, topic, index, epoch).map(|_| ()) {
        Err(E::NotLeaderOrFollower) if any_replica => {
            state.partition_mut(topic, index).filter(|p| p.replicas.contains(&node)).ok_or(E::NotLeaderOrFollower)
        }
        Err(error) => Err(error),
        Ok(()) => state.partition_mut(topic, index).ok_or(E::UnknownTopicOrPartition),
    }
}

/// `(offset, timestamp, leader epoch)`; -1 where there is none.
fn find(
    partition: &Partition,
    timestamp: i64,
    (consumer, committed): (bool, bool),
    version: i16,
) -> Result<(i64, i64, i32), E> {
    let log = &partition.log;
    let upper = match (consumer, committed) {
        (true, true) => log.last_stable(),
        (true, false) => log.high_watermark(),
        (false, _) => log.end,
    };
    let record = match timestamp {
        LATEST => return Ok((upper, -1, partition.epoch)),
        EARLIEST => return Ok((log.start, -1, log.epoch_of(log.start))),
        EARLIEST_LOCAL if version >= 8 => return Ok((log.start, -1, log.epoch_of(log.start))),
        LATEST_TIERED if version >= 9 => None,
        MAX_TIMESTAMP if version >= 7 => log.max_timestamp(),
        at if at >= 0 => log.by_timestamp(at),
        _ => return Err(E::UnsupportedVersion),
    };
    Ok(match record.filter(|&(offset, _)| offset < upper) {
        Some((offset, at)) => (offset, at, log.epoch_of(offset)),
        None => (-1, -1, -1),
    })
}

pub fn offset_for_leader_epoch(call: &Call, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let mut state = call.shared.lock();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let mut answer = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone());
        for wanted in topic.partitions {
            let mut part = EpochEndOffset::default().with_partition(wanted.partition);
            match state.led(call.node, &topic.topic, wanted.partition, wanted.current_leader_epoch) {
                Ok(found) => (part.leader_epoch, part.end_offset) = found.log.end_of_epoch(wanted.leader_epoch),
                Err(error) => part.error_code = error.code(),
            }
            answer.partitions.push(part);
        }
        response.topics.push(answer);
    }
    response
}
