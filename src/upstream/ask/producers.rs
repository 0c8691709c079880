//! DescribeProducers (KIP-664, Kafka 2.8): the producers that a leader remembers, with the last sequence of each.

use futures_util::future::join_all;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{DescribeProducersRequest, RequestKind, ResponseKind};

use super::{Answers, ByTopic, another_answer, by_leader, text};
use crate::ids::TopicPartition;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerState {
    /// Native.
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1: no batch yet, a marker only.
    pub last_sequence: i32,
    pub last_timestamp: i64,
    /// -1: no open transaction.
    pub current_txn_start_offset: i64,
}

/// Of each partition's leader. An unreachable broker fails the whole question.
pub async fn describe_producers(
    admin: &Admin,
    view: &ClusterView,
    partitions: &[TopicPartition],
) -> Result<Answers<Vec<ProducerState>>, AdminError> {
    let (led, mut answers) = by_leader(view, partitions);
    for answer in join_all(led.iter().map(|(address, topics)| one_broker(admin, address, topics))).await {
        answers.extend(answer?);
    }
    Ok(answers)
}

async fn one_broker(
    admin: &Admin,
    address: &str,
    topics: &ByTopic<'_>,
) -> Result<Answers<Vec<ProducerState>>, AdminError> {
    let topics = topics.iter().map(|(name, partitions)| {
        let indexes = partitions.iter().map(|(index, _)| *index).collect();
        TopicRequest::default().with_name(text(name).into()).with_partition_indexes(indexes)
    });
    let request = DescribeProducersRequest::default().with_topics(topics.collect());
    let request = RequestKind::DescribeProducers(request);
    let ResponseKind::DescribeProducers(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let mut answers = Answers::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let states = p.active_producers.iter().map(|s| ProducerState {
                producer_id: s.producer_id.0,
                // The schema has 32 bits for what is 16 everywhere else.
                producer_epoch: i16::try_from(s.producer_epoch).unwrap_or(-1),
                last_sequence: s.last_sequence,
                last_timestamp: s.last_timestamp,
                current_txn_start_offset: s.current_txn_start_offset,
            });
            let found = if p.error_code == 0 { Ok(states.collect()) } else { Err(p.error_code) };
            answers.insert(TopicPartition::new(topic.name.as_str(), p.partition_index), found);
        }
    }
    Ok(answers)
}
