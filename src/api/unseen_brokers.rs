//! What is about brokers, which clients do not see, answered without asking any of them:
//!
//! * ElectLeaders (43), v0 to v2, AlterPartitionReassignments (45), v0 and v1, AlterReplicaLogDirs (34), v1 and v2: refused,
//!   partition by partition, with a text where the API has room for one. A null list of ElectLeaders, which means every
//!   partition, is answered for every partition that clients see.
//! * ListPartitionReassignments (46), v0: an empty list. `kafka-topics --describe` asks with each topic that it prints.

use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    ElectLeadersRequest, ListPartitionReassignmentsResponse, RequestKind, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::error::code;
use crate::ids::Side;
use crate::store::identity::is_marker_topic;
use crate::wire::refusal;

const WHY: &str = "kafka-cutover does not show brokers: run this against the cluster itself";

/// `None`: the answer has no place for a refusal.
pub fn answer(cx: &Context<'_>, request: RequestKind) -> Option<ResponseKind> {
    let request = match request {
        RequestKind::ListPartitionReassignments(_) => {
            let none = ListPartitionReassignmentsResponse::default().with_error_message(None);
            return Some(ResponseKind::ListPartitionReassignments(none));
        }
        RequestKind::ElectLeaders(r) if r.topic_partitions.is_none() => RequestKind::ElectLeaders(every(cx, r)),
        named => named,
    };
    refusal(&request, cx.version, code::POLICY_VIOLATION, Some(WHY))
}

fn every(cx: &Context<'_>, request: ElectLeadersRequest) -> ElectLeadersRequest {
    let topics = cx.topology.side(Side::Source).into_iter().flat_map(|c| &c.topics);
    let seen = topics.filter(|(name, _)| !is_marker_topic(name)).map(|(name, topic)| {
        TopicPartitions::default()
            .with_topic(TopicName(StrBytes::from_string(name.to_string())))
            .with_partitions((0..).take(topic.partitions.len()).collect())
    });
    let mut seen: Vec<TopicPartitions> = seen.collect();
    seen.sort_by(|a, b| a.topic.cmp(&b.topic));
    request.with_topic_partitions(Some(seen))
}
