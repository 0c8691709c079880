//! ListOffsets: where logs begin and end, and what lies at a timestamp.

use futures_util::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, RequestKind, ResponseKind};

use super::{Answers, ByTopic, another_answer, by_leader, text};
use crate::ids::TopicPartition;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;

/// For a timestamp lookup in remote storage (version 10).
const TIMEOUT_MS: i32 = 5_000;

/// What a broker says of one position. -1 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOffset {
    pub offset: i64,
    pub leader_epoch: i32,
    pub timestamp: i64,
}

/// Of each partition's leader, its epoch sent along. `timestamp`: `ids::{LATEST, EARLIEST}` or milliseconds. `replica_id`:
/// `ids::CONSUMER` is answered with the high watermark (or with `isolation` 1 the LSO) for the latest, `ids::DEBUGGING_CONSUMER`
/// with the log end offset. An unreachable broker fails the whole question.
pub async fn list_offsets(
    admin: &Admin,
    view: &ClusterView,
    partitions: &[TopicPartition],
    timestamp: i64,
    replica_id: i32,
    isolation: i8,
) -> Result<Answers<LogOffset>, AdminError> {
    let (led, mut answers) = by_leader(view, partitions);
    let asked =
        led.iter().map(|(address, topics)| one_broker(admin, address, topics, timestamp, replica_id, isolation));
    for answer in join_all(asked).await {
        answers.extend(answer?);
    }
    Ok(answers)
}

async fn one_broker(
    admin: &Admin,
    address: &str,
    topics: &ByTopic<'_>,
    timestamp: i64,
    replica_id: i32,
    isolation: i8,
) -> Result<Answers<LogOffset>, AdminError> {
    let topics = topics.iter().map(|(name, partitions)| {
        let partitions = partitions.iter().map(|(index, at)| {
            ListOffsetsPartition::default()
                .with_partition_index(*index)
                .with_current_leader_epoch(at.epoch)
                .with_timestamp(timestamp)
        });
        ListOffsetsTopic::default().with_name(text(name).into()).with_partitions(partitions.collect())
    });
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(replica_id))
        .with_isolation_level(isolation)
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(topics.collect());
    let request = RequestKind::ListOffsets(request);
    let ResponseKind::ListOffsets(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let mut answers = Answers::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let found = LogOffset { offset: p.offset, leader_epoch: p.leader_epoch, timestamp: p.timestamp };
            let found = if p.error_code == 0 { Ok(found) } else { Err(p.error_code) };
            answers.insert(TopicPartition::new(topic.name.as_str(), p.partition_index), found);
        }
    }
    Ok(answers)
}
