//! OffsetCommit v2-9, OffsetFetch v1-9, OffsetDelete v0.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::group::{Committed, Group, GroupState};
use super::membership::coordinated;
use super::state::State;

/// `offset.metadata.max.bytes`
pub const MAX_METADATA: usize = 4096;

pub fn offset_commit(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut state = call.shared.lock();
    let member = Member {
        group: &request.group_id,
        generation: request.generation_id_or_member_epoch,
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        unknown: if call.version >= 9 { E::GroupIdNotFound } else { E::IllegalGeneration },
    };
    let allowed = coordinated(call, &state, &request.group_id).and_then(|()| may_commit(call, &mut state, &member));
    let mut response = OffsetCommitResponse::default();
    for topic in request.topics {
        let known = state.topics.contains_key(topic.name.as_str());
        let mut answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
            let done = match allowed {
                Err(error) => Err(error),
                Ok(()) if !known => Err(E::UnknownTopicOrPartition),
                Ok(()) if metadata.len() > MAX_METADATA => Err(E::OffsetMetadataTooLarge),
                Ok(()) => Ok(Committed {
                    offset: wanted.committed_offset,
                    leader_epoch: wanted.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                }),
            };
            let code = match done {
                Ok(committed) => {
                    let group = state.groups.entry(request.group_id.to_string()).or_default();
                    group.offsets.insert((topic.name.to_string(), wanted.partition_index), committed);
                    0
                }
                Err(error) => error.code(),
            };
            answer.partitions.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(wanted.partition_index)
                    .with_error_code(code),
            );
        }
        response.topics.push(answer);
    }
    response
}

/// Who commits.
pub(super) struct Member<'a> {
    pub group: &'a str,
    pub generation: i32,
    pub member: &'a str,
    pub instance: Option<&'a str>,
    /// What a member of a group that is not there is told.
    pub unknown: E,
}

/// `OffsetMetadataManager.validateOffsetCommit` and `ClassicGroup.validateOffsetCommit`.
pub(super) fn may_commit(call: &Call, state: &mut State, by: &Member) -> Result<(), E> {
    let &Member { generation, member, instance, .. } = by;
    let Some(group) = state.groups.get_mut(by.group) else {
        return if generation < 0 { Ok(()) } else { Err(by.unknown) };
    };
    if generation < 0 && group.state == GroupState::Empty {
        return Ok(());
    }
    if generation < 0 && member.is_empty() && instance.is_none() {
        return Err(E::UnknownMemberId);
    }
    group.check(member, instance, generation)?;
    group.touch(member, call.now);
    if group.state == GroupState::CompletingRebalance { Err(E::RebalanceInProgress) } else { Ok(()) }
}

type Found = (String, Vec<(i32, i64, i32, String, i16)>);

/// Per topic: `(partition, offset, leader epoch, metadata, error)`; -1 and "" where nothing was committed, or where a
/// transaction is about to and `stable` positions are asked for.
fn find(group: Option<&Group>, wanted: Option<Vec<(String, Vec<i32>)>>, stable: bool) -> Vec<Found> {
    let one = |topic: &str, partition: i32| {
        let key = (topic.to_owned(), partition);
        let none = |error: i16| (partition, -1, -1, String::new(), error);
        if stable && group.is_some_and(|g| g.in_transactions.values().flatten().any(|(k, _)| *k == key)) {
            return none(E::UnstableOffsetCommit.code());
        }
        let committed = group.and_then(|g| g.offsets.get(&key));
        committed.map_or(none(0), |c| (partition, c.offset, c.leader_epoch, c.metadata.clone(), 0))
    };
    let wanted = wanted.unwrap_or_else(|| {
        let mut all: Vec<(String, Vec<i32>)> = Vec::new();
        // Positions of which the first is not committed yet are there too.
        let begun = group.iter().flat_map(|g| g.in_transactions.values().flatten().map(|(key, _)| key));
        let known: BTreeSet<&(String, i32)> = group.iter().flat_map(|g| g.offsets.keys()).chain(begun).collect();
        for (topic, partition) in known {
            match all.last_mut() {
                Some((last, partitions)) if last == topic => partitions.push(*partition),
                _ => all.push((topic.clone(), vec![*partition])),
            }
        }
        all
    });
    let topic = |(topic, partitions): (String, Vec<i32>)| {
        let found = partitions.into_iter().map(|p| one(&topic, p)).collect();
        (topic, found)
    };
    wanted.into_iter().map(topic).collect()
}

fn name(topic: String) -> TopicName {
    TopicName(StrBytes::from_string(topic))
}

pub fn offset_fetch(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let state = call.shared.lock();
    let mut response = OffsetFetchResponse::default();
    if call.version >= 8 {
        for wanted in request.groups {
            let mut answer = OffsetFetchResponseGroup::default().with_group_id(wanted.group_id.clone());
            if let Err(error) = coordinated(call, &state, &wanted.group_id) {
                response.groups.push(answer.with_error_code(error.code()));
                continue;
            }
            let topics =
                wanted.topics.map(|t| t.into_iter().map(|t| (t.name.to_string(), t.partition_indexes)).collect());
            let part = |(partition, offset, epoch, metadata, error)| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition)
                    .with_error_code(error)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(Some(StrBytes::from_string(metadata)))
            };
            for (topic, found) in find(state.groups.get(wanted.group_id.as_str()), topics, request.require_stable) {
                let topic = OffsetFetchResponseTopics::default().with_name(name(topic));
                answer.topics.push(topic.with_partitions(found.into_iter().map(part).collect()));
            }
            response.groups.push(answer);
        }
        return response;
    }
    let refused = coordinated(call, &state, &request.group_id).err().map_or(0, |e| e.code());
    let topics = request.topics.map(|t| t.into_iter().map(|t| (t.name.to_string(), t.partition_indexes)).collect());
    let group = state.groups.get(request.group_id.as_str()).filter(|_| refused == 0);
    let part = |(partition, offset, epoch, metadata, error)| {
        let part = OffsetFetchResponsePartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_metadata(Some(StrBytes::from_string(metadata)))
            // v0-1 have no place for the error but here.
            .with_error_code(if call.version < 2 { refused } else { error });
        if call.version >= 5 { part.with_committed_leader_epoch(epoch) } else { part }
    };
    for (topic, found) in find(group, topics, request.require_stable) {
        let topic = OffsetFetchResponseTopic::default().with_name(name(topic));
        response.topics.push(topic.with_partitions(found.into_iter().map(part).collect()));
    }
    if call.version >= 2 {
        response.error_code = refused;
        if refused != 0 {
            response.topics.clear();
        }
    }
    response
}

pub fn offset_delete(call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut state = call.shared.lock();
    let mut response = OffsetDeleteResponse::default();
    if let Err(error) = coordinated(call, &state, &request.group_id) {
        return response.with_error_code(error.code());
    }
    let State { topics, groups, .. } = &mut *state;
    let group = groups.get_mut(request.group_id.as_str());
    let refused = match &group {
        None => Some(E::GroupIdNotFound),
        Some(g) if g.state != GroupState::Empty && g.protocol_type.as_deref() != Some("consumer") => {
            Some(E::NonEmptyGroup)
        }
        Some(_) => None,
    };
    let (Some(group), None) = (group, refused) else {
        return response.with_error_code(refused.unwrap_or(E::GroupIdNotFound).code());
    };
    let subscribed: Vec<String> =
        group.members.values().filter_map(|m| subscription(m.metadata(group.protocol.as_deref()?))).flatten().collect();
    for topic in request.topics {
        let mut answer = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
        for wanted in topic.partitions {
            let code = if !topics.contains_key(topic.name.as_str()) {
                E::UnknownTopicOrPartition.code()
            } else if subscribed.iter().any(|s| s == topic.name.as_str()) {
                E::GroupSubscribedToTopic.code()
            } else {
                group.offsets.remove(&(topic.name.to_string(), wanted.partition_index));
                0
            };
            let part = OffsetDeleteResponsePartition::default().with_partition_index(wanted.partition_index);
            answer.partitions.push(part.with_error_code(code));
        }
        response.topics.push(answer);
    }
    response
}

/// The topics of a consumer's subscription: version, then strings with their count in front.
fn subscription(mut metadata: Bytes) -> Option<Vec<String>> {
    metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if metadata.len() < length {
            return None;
        }
        topics.push(String::from_utf8(metadata.split_to(length).to_vec()).ok()?);
    }
    Some(topics)
}
