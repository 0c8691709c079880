//! OffsetCommit (8), v2 to v9: one commit on the group's home, each offset in the home's terms, with a trailer where
//! the native offset does not map back (DESIGN.md section 6). A commit needs no look at the map that holds when it
//! arrives: what is stored keeps its meaning through any growth.

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::groups::{COORDINATOR_LOST, note_error};
use super::{Ask, Context, Input, Machine, Step};
use crate::groups::{home, position};
use crate::ids::NO_EPOCH;

pub struct OffsetCommit {
    request: OffsetCommitRequest,
}

impl OffsetCommit {
    pub fn new(request: OffsetCommitRequest) -> Self {
        Self { request }
    }

    /// The same commit in the home's terms.
    fn at_home(&self, cx: &Context<'_>) -> OffsetCommitRequest {
        let mut request = self.request.clone();
        for topic in &mut request.topics {
            for partition in &mut topic.partitions {
                translate(cx, &self.request.group_id, &topic.name, partition);
            }
        }
        request
    }

    fn lost(&self) -> OffsetCommitResponse {
        let topics = self.request.topics.iter().map(|t| {
            let failed = |p: &OffsetCommitRequestPartition| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(p.partition_index)
                    .with_error_code(COORDINATOR_LOST)
            };
            let partitions = t.partitions.iter().map(failed).collect();
            OffsetCommitResponseTopic::default().with_name(t.name.clone()).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }
}

impl Machine for OffsetCommit {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let group = &self.request.group_id;
        let Input::Answers(answers) = input else {
            let request = RequestKind::OffsetCommit(self.at_home(cx));
            return Step::Ask(vec![Ask::coordinator(home(group), group, request)]);
        };
        let answer = match answers.into_iter().next() {
            Some(Ok(ResponseKind::OffsetCommit(answer))) => answer,
            _ => self.lost(),
        };
        for partition in answer.topics.iter().flat_map(|t| &t.partitions) {
            note_error(cx, group, partition.error_code);
        }
        Step::Answer(ResponseKind::OffsetCommit(answer))
    }
}

fn translate(cx: &Context<'_>, group: &str, topic: &str, partition: &mut OffsetCommitRequestPartition) {
    let map = cx.partitions.get(topic, partition.partition_index).map(|state| &state.map);
    let metadata = partition.committed_metadata.as_deref();
    let (stored, dropped) = position::stored(map, home(group), partition.committed_offset, metadata);
    if dropped {
        cx.shared.metrics.trailer_metadata_dropped.increment(1);
        let index = partition.partition_index;
        tracing::warn!(
            group,
            topic,
            partition = index,
            "the commit's metadata leaves no room for its position: dropped"
        );
    }
    partition.committed_offset = stored.offset;
    partition.committed_metadata = stored.metadata.map(StrBytes::from_string);
    // Clients are epochless; a real one would mean another cluster's log.
    partition.committed_leader_epoch = NO_EPOCH;
}
