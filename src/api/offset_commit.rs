//! OffsetCommit (8), v2 to v9: one commit on the group's home, each offset in the home's terms, with a trailer where
//! the native offset does not map back (DESIGN.md section 6). A commit needs no look at the map that holds when it
//! arrives: what is stored keeps its meaning through any growth. After a seal the other side gets a shadow, written
//! behind. While the group's positions are taken to another home a commit waits; one of a member of before the move is
//! answered REBALANCE_IN_PROGRESS, or STALE_MEMBER_EPOCH if it speaks KIP-848 (PROTOCOL.md rule 30).

use std::collections::HashSet;

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::consumer_groups::is_of_before;
use super::groups::{enter, lost_code, note_error};
use super::{Ask, Context, Input, Machine, Step};
use crate::error::code;
use crate::groups::commits::UnderWay;
use crate::groups::position::{self, Position};
use crate::groups::shadow::{self, Shadow, Told};
use crate::ids::{NO_EPOCH, TopicPartition, Virtual};

/// From this version on it may come from a member of KIP-848.
const MEMBER_EPOCHS: i16 = 9;

pub struct OffsetCommit {
    request: OffsetCommitRequest,
    /// The group does not move before this has its answer.
    under_way: Option<UnderWay>,
}

impl OffsetCommit {
    pub fn new(request: OffsetCommitRequest) -> Self {
        Self { request, under_way: None }
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

    /// Tells the writer of shadows what the home has taken.
    fn shadow(&self, cx: &Context<'_>, answer: &OffsetCommitResponse) {
        let group = self.request.group_id.as_str();
        let home = cx.shared.homes.of(group);
        let mut taken: Option<HashSet<(&str, i32)>> = None;
        for topic in &self.request.topics {
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let map = cx.partitions.get(&topic.name, index).map(|state| &state.map);
                if !shadow::is_owed(map, home) || partition.committed_offset < 0 {
                    continue;
                }
                let taken = taken.get_or_insert_with(|| taken_of(answer));
                if taken.contains(&(topic.name.as_str(), index)) {
                    let told = Shadow {
                        group: group.to_owned(),
                        partition: TopicPartition::new(topic.name.as_str(), index),
                        v: Virtual(partition.committed_offset),
                        metadata: partition.committed_metadata.as_ref().map(ToString::to_string),
                    };
                    // Nobody writes any more when the proxy is stopping.
                    drop(cx.shared.shadows.send(Told::Committed(told)));
                }
            }
        }
    }

    fn lost(&self, error: i16) -> OffsetCommitResponse {
        let topics = self.request.topics.iter().map(|t| {
            let failed = |p: &OffsetCommitRequestPartition| {
                OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(error)
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
            match enter(cx, group) {
                Ok(entered) => self.under_way = Some(entered),
                Err(wait) => return wait.into(),
            }
            // Looked at only now: from here on the group does not move.
            if cx.shared.homes.was_member(group, &self.request.member_id) {
                return Step::Answer(self.lost(code::REBALANCE_IN_PROGRESS).into());
            }
            let request = RequestKind::OffsetCommit(self.at_home(cx));
            return Step::Ask(vec![Ask::coordinator(cx.shared.homes.of(group), group, request)]);
        };
        let answer = answers.into_iter().next();
        let error = lost_code(answer.as_ref());
        let mut answer = match answer {
            Some(Ok(ResponseKind::OffsetCommit(answer))) => answer,
            _ => self.lost(error),
        };
        if !self.request.member_id.is_empty() && cx.version >= MEMBER_EPOCHS {
            let parts = answer.topics.iter_mut().flat_map(|t| &mut t.partitions);
            let of_before = parts.filter(|p| is_of_before(cx, group, p.error_code));
            of_before.for_each(|p| p.error_code = code::STALE_MEMBER_EPOCH);
        }
        for partition in answer.topics.iter().flat_map(|t| &t.partitions) {
            note_error(cx, group, partition.error_code);
        }
        self.shadow(cx, &answer);
        Step::Answer(ResponseKind::OffsetCommit(answer))
    }
}

/// The partitions whose commit succeeded.
fn taken_of(answer: &OffsetCommitResponse) -> HashSet<(&str, i32)> {
    let mut taken = HashSet::new();
    for topic in &answer.topics {
        let done = topic.partitions.iter().filter(|p| p.error_code == code::NONE);
        taken.extend(done.map(|p| (topic.name.as_str(), p.partition_index)));
    }
    taken
}

fn translate(cx: &Context<'_>, group: &str, topic: &str, partition: &mut OffsetCommitRequestPartition) {
    let metadata = partition.committed_metadata.as_deref();
    let stored = at_home(cx, group, (topic, partition.partition_index), partition.committed_offset, metadata);
    partition.committed_offset = stored.offset;
    partition.committed_metadata = stored.metadata.map(StrBytes::from_string);
    // Clients are epochless; a real one would mean another cluster's log.
    partition.committed_leader_epoch = NO_EPOCH;
}

/// A position that a client commits, in the terms of the group's home.
pub(super) fn at_home(
    cx: &Context<'_>,
    group: &str,
    (topic, index): (&str, i32),
    offset: i64,
    metadata: Option<&str>,
) -> Position {
    let map = cx.partitions.get(topic, index).map(|state| &state.map);
    let home = cx.shared.homes.of(group);
    let most = cx.topology.side(home).and_then(|c| c.commit_metadata).unwrap_or(position::METADATA_MAX_BYTES);
    let (stored, dropped) = position::stored(map, home, offset, metadata, most);
    if dropped {
        cx.shared.metrics.trailer_metadata_dropped.increment(1);
        // Once: it will be so with every commit.
        if cx.shared.alarms.is_first(format!("metadata of {group} at {topic}-{index}")) {
            tracing::warn!(
                group,
                topic,
                partition = index,
                "the commits' metadata leaves no room for their position: dropped"
            );
        }
    }
    stored
}
