//! Groups and their offsets: which there are, who coordinates one, who is in it, what it has committed; a simple commit, and
//! leaving for others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::future::join_all;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, LeaveGroupRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse, RequestKind, ResponseKind,
};

use super::{Answers, another_answer, spoken, text};
use crate::error::code;
use crate::groups::heard::Seat;
use crate::ids::TopicPartition;
use crate::upstream::admin::{Admin, AdminError, which_versions};
use crate::upstream::topology::{Broker, ClusterView};
use crate::virtual_cluster::versions;
use crate::wire::{Cursor, WireError};

const FIND_COORDINATOR: i16 = 10;
const OFFSET_FETCH: i16 = 9;
const LEAVE_GROUP: i16 = 13;
/// From these versions on a request names many keys, many groups.
const MANY_KEYS: i16 = 4;
const MANY_GROUPS: i16 = 8;
const LEAVE_MANY: i16 = 3;

/// The state of a group that is not there.
pub const NOT_THERE: &str = "Dead";
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
    Ok(listed(admin, view).await?.into_iter().map(|(group, listed)| (group, listed.state)).collect())
}

/// A group as ListGroups has it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listed {
    /// Empty: not told (older than Kafka 2.6).
    pub state: String,
    /// It speaks the protocol of KIP-848.
    pub is_new: bool,
}

/// The same, with their types.
pub async fn listed(admin: &Admin, view: &ClusterView) -> Result<BTreeMap<String, Listed>, AdminError> {
    let asked = view.brokers.values().map(|broker| async { coordinated_by(admin, &broker.address()).await });
    let mut groups = BTreeMap::new();
    for answer in join_all(asked).await {
        groups.extend(answer?);
    }
    Ok(groups)
}

/// The groups that one broker coordinates.
pub async fn coordinated_by(admin: &Admin, address: &str) -> Result<BTreeMap<String, Listed>, AdminError> {
    /// The type of a group of KIP-848; a classic one's is `classic`, or empty.
    const NEW: &str = "consumer";
    let request = RequestKind::ListGroups(ListGroupsRequest::default());
    let ResponseKind::ListGroups(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    if answer.error_code != code::NONE {
        let what = "which groups there are".to_owned();
        return Err(AdminError::Refused { side: admin.side, what, code: answer.error_code });
    }
    let with_positions = answer.groups.iter().filter(|g| g.group_type.as_str() != SHARE);
    Ok(with_positions
        .map(|g| {
            let listed = Listed { state: g.group_state.to_string(), is_new: g.group_type.as_str() == NEW };
            (g.group_id.to_string(), listed)
        })
        .collect())
}

/// A group as its coordinator describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Described {
    pub state: String,
    pub members: BTreeMap<String, Member>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    pub instance_id: Option<String>,
    pub client_id: String,
    /// The topics of its assignment; of KIP-848 those that it subscribes to by name, too.
    pub topics: BTreeSet<String>,
    pub has_partitions: bool,
    /// It speaks the classic protocol.
    pub is_classic: bool,
    /// Of KIP-848: 0 for others.
    pub epoch: i32,
}

impl Described {
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }
}

/// Who is in a classic group. One that is not there has the state `Dead` and no members.
pub async fn describe(admin: &Admin, address: &str, group: &str) -> Result<Described, AdminError> {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    let request = RequestKind::DescribeGroups(request);
    let ResponseKind::DescribeGroups(answer) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let what = || format!("who is in group {group}");
    let missing = || AdminError::Refused { side: admin.side, what: what(), code: code::UNKNOWN_SERVER_ERROR };
    let described = answer.groups.into_iter().next().ok_or_else(missing)?;
    match described.error_code {
        code::NONE => {}
        code::GROUP_ID_NOT_FOUND => return Ok(Described { state: NOT_THERE.to_owned(), members: BTreeMap::new() }),
        code => return Err(AdminError::Refused { side: admin.side, what: what(), code }),
    }
    let members = described.members.into_iter().map(|m| {
        let topics = assigned_topics(m.member_assignment);
        let instance_id = m.group_instance_id.map(|id| id.to_string());
        let (client_id, has_partitions) = (m.client_id.to_string(), !topics.is_empty());
        let member = Member { instance_id, client_id, topics, has_partitions, is_classic: true, epoch: 0 };
        (m.member_id.to_string(), member)
    });
    Ok(Described { state: described.group_state.to_string(), members: members.collect() })
}

/// The topics of a member's assignment, as the consumer protocol has it (Kafka's `ConsumerProtocolAssignment`). Another
/// protocol's bytes give none.
fn assigned_topics(assignment: Bytes) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    let mut cursor = Cursor::new(assignment);
    let mut read = || -> Result<(), WireError> {
        cursor.i16()?; // version
        for _ in 0..cursor.i32()? {
            // The count is not trusted: a topic takes at least six bytes, so this ends with the bytes.
            let name = usize::try_from(cursor.i16()?).unwrap_or(0);
            let name = cursor.take(name)?;
            let partitions = usize::try_from(cursor.i32()?).unwrap_or(0);
            cursor.skip(partitions.saturating_mul(4))?;
            topics.extend(std::str::from_utf8(&name).map(str::to_owned));
        }
        Ok(())
    };
    match read() {
        Ok(()) => topics,
        Err(_) => BTreeSet::new(),
    }
}

/// Takes members out of a classic group, at its coordinator: member id, and `group.instance.id` of a static one. Who is not
/// there has left.
pub async fn leave(
    admin: &Admin,
    address: &str,
    group: &str,
    members: &[(String, Option<String>)],
) -> Result<(), AdminError> {
    if admin.versions().is_empty() {
        admin.ask(address, &which_versions()).await?;
    }
    let version = spoken(admin, address, LEAVE_GROUP, "LeaveGroup", ours(admin, LEAVE_GROUP, "LeaveGroup")?).await?.max;
    let base = || LeaveGroupRequest::default().with_group_id(GroupId(text(group)));
    let requests: Vec<LeaveGroupRequest> = match version {
        LEAVE_MANY.. => {
            let one = |(id, instance): &(String, Option<String>)| {
                let instance = instance.as_deref().map(text);
                MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance)
            };
            vec![base().with_members(members.iter().map(one).collect())]
        }
        _ => members.iter().map(|(id, _)| base().with_member_id(text(id))).collect(),
    };
    for request in requests {
        let request = RequestKind::LeaveGroup(request);
        let ResponseKind::LeaveGroup(answer) = admin.ask(address, &request).await? else {
            return Err(another_answer(admin, &request));
        };
        if !matches!(answer.error_code, code::NONE | code::UNKNOWN_MEMBER_ID) {
            let what = format!("that members leave group {group}");
            return Err(AdminError::Refused { side: admin.side, what, code: answer.error_code });
        }
    }
    Ok(())
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
    commit(admin, address, group, None, positions).await
}

/// The same in a member's name: what a group that has members takes.
pub async fn commit(
    admin: &Admin,
    address: &str,
    group: &str,
    seat: Option<&Seat>,
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
    let mut request =
        OffsetCommitRequest::default().with_group_id(GroupId(text(group))).with_topics(topics.collect::<Vec<_>>());
    if let Some(Seat { member_id, generation }) = seat {
        request = request.with_member_id(text(member_id)).with_generation_id_or_member_epoch(*generation);
    }
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
