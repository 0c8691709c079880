//! OffsetForLeaderEpoch (KIP-101): where a leader's log has an epoch end. One that ends below what was read under it
//! has lost records.

use futures_util::future::join_all;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest, RequestKind, ResponseKind};

use super::{Answers, another_answer, by_leader, text};
use crate::ids::{CONSUMER, NO_EPOCH, TopicPartition};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;

/// Of each partition's leader: the end of the last epoch up to this one. `None`: the leader does not know such an
/// epoch.
pub async fn epoch_ends(
    admin: &Admin,
    view: &ClusterView,
    epochs: &[(TopicPartition, i32)],
) -> Result<Answers<Option<i64>>, AdminError> {
    let partitions: Vec<TopicPartition> = epochs.iter().map(|(tp, _)| tp.clone()).collect();
    let epoch_of = |topic: &str, index: i32| {
        let found = epochs.iter().find(|(tp, _)| *tp.topic == *topic && tp.partition == index);
        found.map_or(NO_EPOCH, |(_, epoch)| *epoch)
    };
    let (led, mut answers) = by_leader(view, &partitions);
    let requests = led.iter().map(|(address, topics)| {
        let topics = topics.iter().map(|(name, partitions)| {
            let partitions = partitions.iter().map(|(index, at)| {
                OffsetForLeaderPartition::default()
                    .with_partition(*index)
                    .with_current_leader_epoch(at.epoch)
                    .with_leader_epoch(epoch_of(name, *index))
            });
            OffsetForLeaderTopic::default().with_topic(text(name).into()).with_partitions(partitions.collect())
        });
        let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(CONSUMER));
        (address, RequestKind::OffsetForLeaderEpoch(request.with_topics(topics.collect())))
    });
    let asked = requests.map(async |(address, request)| match admin.ask(address, &request).await? {
        ResponseKind::OffsetForLeaderEpoch(answer) => Ok(answer),
        _ => Err(another_answer(admin, &request)),
    });
    for answer in join_all(asked).await {
        for topic in &answer?.topics {
            for p in &topic.partitions {
                let end = Some(p.end_offset).filter(|end| *end >= 0);
                let found = if p.error_code == 0 { Ok(end) } else { Err(p.error_code) };
                answers.insert(TopicPartition::new(topic.topic.as_str(), p.partition), found);
            }
        }
    }
    Ok(answers)
}
