//! Groups and their offsets: which there are, who coordinates one, what it has committed; and a simple commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::future::join_all;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetFetchResponse, RequestKind, ResponseKind,
};

use super::{Answers, another_answer, spoken, text};
use crate::error::code;
use crate::ids::TopicPartition;
use crate::upstream::admin::{Admin, AdminError, which_versions};
use crate::upstream::topology::{Broker, ClusterView};
use crate::virtual_cluster::versions;

const FIND_COORDINATOR: i16 = 10;
const OFFSET_FETCH: i16 = 9;
/// From these versions on a request names many keys, many groups.
const MANY_KEYS: i16 = 4;
const MANY_GROUPS: i16 = 8;

/// Share groups (KIP-932) have no committed positions.
const SHARE: &str = "share";

/// A committed position as a cluster stores it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    pub offset: i64,
    pub metadata: Option<String>,
}

/// Positions of one group. Where nothing is committed there is no entry.
pub type Committed = HashMap<TopicPartition, Stored>;

/// The address of a group's coordinator, asked of any of the `known` brokers.
pub async fn coordinator(admin: &Admin, known: &[Broker], group: &str) -> Result<String, AdminError> {
    if admin.versions().is_empty() {
        // Whatever is asked first brings the versions along.
        admin.ask_any(known, &which_versions()).await?;
    }
    let ours = ours(admin, FIND_COORDINATOR, "FindCoordinator")?;
    let theirs = admin.versions().get(&FIND_COORDINATOR).copied();
    let unsupported = AdminError::Unsupported { side: admin.side, api: "FindCoordinator", key: FIND_COORDINATOR };
    let version = theirs.and_then(|r| r.intersect(ours)).ok_or(unsupported)?.max;
    let request = match version {
        MANY_KEYS.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]),
        _ => FindCoordinatorRequest::default().with_key(text(group)),
    };
    let request = RequestKind::FindCoordinator(request);
    let ResponseKind::FindCoordinator(answer) = admin.ask_any(known, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let (error, host, port) = match answer.coordinators.into_iter().next() {
        Some(found) => (found.error_code, found.host, found.port),
        None => (answer.error_code, answer.host, answer.port),
    };
    let refused = |code| AdminError::Refused { side: admin.side, what: format!("who coordinates group {group}"), code };
    if error != code::NONE {
        return Err(refused(error));
    }
    let port = u16::try_from(port).map_err(|_| refused(code::UNKNOWN_SERVER_ERROR))?;
    Ok(Broker { host: host.to_string(), port }.address())
}

/// The groups of all brokers. One broker that does not answer, or is not done loading, fails the whole question.
pub async fn list_groups(admin: &Admin, view: &ClusterView) -> Result<BTreeSet<String>, AdminError> {
    Ok(group_states(admin, view).await?.into_keys().collect())
}

/// The same, each with its state as the broker names it; empty where it does not (older than Kafka 2.6).
pub async fn group_states(admin: &Admin, view: &ClusterView) -> Result<BTreeMap<String, String>, AdminError> {
    let asked = view.brokers.values().map(|broker| async { coordinated_by(admin, &broker.address()).await });
    let mut groups = BTreeMap::new();
    for answer in join_all(asked).await {
        groups.extend(answer?);
    }
    Ok(groups)
}

/// The groups that one broker coordinates, each with its state.
pub async fn coordinated_by(admin: &Admin, address: &str) -> Result<BTreeMap<String, String>, AdminError> {
    let request = RequestKind::ListGroups(ListGroupsRequest::default());
    let ResponseKind::ListGroups(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    if answer.error_code != code::NONE {
        let what = "which groups there are".to_owned();
        return Err(AdminError::Refused { side: admin.side, what, code: answer.error_code });
    }
    let with_positions = answer.groups.iter().filter(|g| g.group_type.as_str() != SHARE);
    Ok(with_positions.map(|g| (g.group_id.to_string(), g.group_state.to_string())).collect())
}

/// From this version on a request can ask for what no transaction is about to change.
const REQUIRE_STABLE: i16 = 7;

/// All that a group has committed, of its coordinator. Partitions that the broker answers with an error are left out.
/// `stable`: UNSTABLE_OFFSET_COMMIT while a transaction that carries a position of it has not ended.
pub async fn committed(admin: &Admin, address: &str, group: &str, stable: bool) -> Result<Committed, AdminError> {
    let ours = ours(admin, OFFSET_FETCH, "OffsetFetch")?;
    let version = spoken(admin, address, OFFSET_FETCH, "OffsetFetch", ours).await?.max;
    let id = GroupId(text(group));
    let request = match version {
        MANY_GROUPS.. => OffsetFetchRequest::default()
            .with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(id).with_topics(None)]),
        _ => OffsetFetchRequest::default().with_group_id(id).with_topics(None),
    };
    let request = RequestKind::OffsetFetch(request.with_require_stable(stable && version >= REQUIRE_STABLE));
    let ResponseKind::OffsetFetch(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let parts = answer.groups.iter().flat_map(|g| &g.topics).flat_map(|t| &t.partitions).map(|p| p.error_code);
    let mut parts = parts.chain(answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code));
    let error = match answer.groups.first().map_or(answer.error_code, |g| g.error_code) {
        code::NONE if parts.any(|p| p == code::UNSTABLE_OFFSET_COMMIT) => code::UNSTABLE_OFFSET_COMMIT,
        error => error,
    };
    if error != code::NONE {
        let what = format!("what group {group} has committed");
        return Err(AdminError::Refused { side: admin.side, what, code: error });
    }
    Ok(stored(answer))
}

fn stored(answer: OffsetFetchResponse) -> Committed {
    let mut found = HashMap::new();
    let mut keep = |topic: &str, index: i32, error: i16, offset: i64, metadata: Option<String>| {
        if error == code::NONE && offset >= 0 {
            found.insert(TopicPartition::new(topic, index), Stored { offset, metadata });
        }
    };
    for topic in &answer.topics {
        for p in &topic.partitions {
            let metadata = p.metadata.as_ref().map(ToString::to_string);
            keep(&topic.name, p.partition_index, p.error_code, p.committed_offset, metadata);
        }
    }
    for topic in answer.groups.iter().flat_map(|g| &g.topics) {
        for p in &topic.partitions {
            let metadata = p.metadata.as_ref().map(ToString::to_string);
            keep(&topic.name, p.partition_index, p.error_code, p.committed_offset, metadata);
        }
    }
    found
}

/// A simple commit (no member, no generation), to the group's coordinator. `Err`: no answer; it may have been done.
pub async fn commit_simple(
    admin: &Admin,
    address: &str,
    group: &str,
    positions: &[(TopicPartition, Stored)],
) -> Result<Answers<()>, AdminError> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (tp, position) in positions {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(tp.partition)
            .with_committed_offset(position.offset)
            .with_committed_metadata(position.metadata.as_deref().map(text));
        topics.entry(&tp.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(text(name).into()).with_partitions(partitions)
    });
    let request =
        OffsetCommitRequest::default().with_group_id(GroupId(text(group))).with_topics(topics.collect::<Vec<_>>());
    let request = RequestKind::OffsetCommit(request);
    let ResponseKind::OffsetCommit(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let mut answers: Answers<()> = HashMap::with_capacity(positions.len());
    for topic in &answer.topics {
        for p in &topic.partitions {
            let done = if p.error_code == code::NONE { Ok(()) } else { Err(p.error_code) };
            answers.insert(TopicPartition::new(topic.name.as_str(), p.partition_index), done);
        }
    }
    for (tp, _) in positions {
        answers.entry(tp.clone()).or_insert(Err(code::UNKNOWN_SERVER_ERROR));
    }
    Ok(answers)
}

/// Deletes a group, at its coordinator. One that is not there is as good as deleted.
pub async fn delete(admin: &Admin, address: &str, group: &str) -> Result<(), AdminError> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
    let request = RequestKind::DeleteGroups(request);
    let ResponseKind::DeleteGroups(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    match answer.results.first().map_or(code::UNKNOWN_SERVER_ERROR, |r| r.error_code) {
        code::NONE | code::GROUP_ID_NOT_FOUND => Ok(()),
        code => Err(AdminError::Refused { side: admin.side, what: format!("the deletion of group {group}"), code }),
    }
}

/// Deletes single positions of a group, at its coordinator. What is not there is as good as deleted.
pub async fn delete_positions(
    admin: &Admin,
    address: &str,
    group: &str,
    positions: &[&TopicPartition],
) -> Result<(), AdminError> {
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for tp in positions {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(tp.partition);
        topics.entry(&tp.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetDeleteRequestTopic::default().with_name(text(name).into()).with_partitions(partitions)
    });
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text(group))).with_topics(topics.collect());
    let request = RequestKind::OffsetDelete(request);
    let ResponseKind::OffsetDelete(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    let is_gone =
        |error: &i16| matches!(*error, code::NONE | code::GROUP_ID_NOT_FOUND | code::UNKNOWN_TOPIC_OR_PARTITION);
    match std::iter::once(answer.error_code).chain(partitions).find(|error| !is_gone(error)) {
        None => Ok(()),
        Some(code) => {
            let what = format!("the deletion of positions of group {group}");
            Err(AdminError::Refused { side: admin.side, what, code })
        }
    }
}

fn ours(admin: &Admin, key: i16, api: &'static str) -> Result<versions::Range, AdminError> {
    versions::codec(key).ok_or(AdminError::Unsupported { side: admin.side, api, key })
}
