//! Classic groups: the life of a member, and who may commit.

use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::embedded::{Cluster, ClusterSpec, GroupState};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest,
};

use super::cluster;
use super::raw::{Raw, text};

async fn coordinator(cluster: &Cluster) -> Raw {
    Raw::connect(&cluster.bootstrap()[cluster.coordinator("g").unwrap()]).await
}

fn join(member: &str, protocols: &[&str]) -> JoinGroupRequest {
    let protocol = |name: &&str| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255]))
    };
    JoinGroupRequest::default()
        .with_group_id(text("g").into())
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.iter().map(protocol).collect())
}

async fn joined(raw: &mut Raw, request: &JoinGroupRequest) -> JoinGroupResponse {
    raw.ask(request, 9).await
}

fn sync(member: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    let assignment = |&(id, bytes): &(&str, &'static [u8])| {
        SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(Bytes::from_static(bytes))
    };
    SyncGroupRequest::default()
        .with_group_id(text("g").into())
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.iter().map(assignment).collect())
}

async fn heartbeat(raw: &mut Raw, member: &str, generation: i32) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text(member))
        .with_generation_id(generation);
    raw.ask(&request, 4).await.error_code
}

fn commit_request(member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(text("t").into()).with_partitions(vec![
            OffsetCommitRequestPartition::default()
                .with_committed_offset(offset)
                .with_committed_metadata(Some(text("m"))),
        ])])
}

async fn commit(raw: &mut Raw, version: i16, member: &str, generation: i32, offset: i64) -> i16 {
    raw.ask(&commit_request(member, generation, offset), version).await.topics[0].partitions[0].error_code
}

async fn leave(raw: &mut Raw, member: &str, instance: Option<&str>) -> i16 {
    let request = LeaveGroupRequest::default().with_group_id(text("g").into()).with_members(vec![
        MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text)),
    ]);
    raw.ask(&request, 5).await.members[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_group() {
    let cluster = cluster(3);
    cluster.create_topic("t", 1, &[]).unwrap();
    let (mut a, mut b) = (coordinator(&cluster).await, coordinator(&cluster).await);

    let first = joined(&mut a, &join("", &["range", "roundrobin"])).await;
    assert_eq!(first.error_code, E::MemberIdRequired.code());
    let id_a = first.member_id.to_string();
    let first = joined(&mut a, &join(&id_a, &["range", "roundrobin"])).await;
    assert_eq!((first.error_code, first.generation_id, first.leader.as_str()), (0, 1, id_a.as_str()));
    assert_eq!(first.protocol_name.as_deref(), Some("range"));
    assert_eq!(heartbeat(&mut a, &id_a, 1).await, 0, "before the assignment");
    assert_eq!(commit(&mut a, 8, &id_a, 1, 5).await, E::RebalanceInProgress.code());
    assert_eq!(a.ask(&sync(&id_a, 1, &[(&id_a, b"all")]), 5).await.assignment, "all");
    assert_eq!(cluster.group("g").unwrap().0, GroupState::Stable);
    assert_eq!(commit(&mut a, 8, &id_a, 1, 5).await, 0);
    assert_eq!(commit(&mut a, 8, &id_a, 0, 6).await, E::IllegalGeneration.code());
    assert_eq!(commit(&mut a, 8, "who", 1, 6).await, E::UnknownMemberId.code());
    assert_eq!(commit(&mut a, 8, "", -1, 6).await, E::UnknownMemberId.code(), "a group with members is not simple");
    assert_eq!(heartbeat(&mut a, &id_a, 2).await, E::IllegalGeneration.code());
    assert_eq!(heartbeat(&mut a, "who", 1).await, E::UnknownMemberId.code());

    // A second member: the first one hears of it, rejoins, and one of both assigns.
    let id_b = joined(&mut b, &join("", &["range"])).await.member_id.to_string();
    assert_eq!(heartbeat(&mut a, &id_a, 1).await, 0, "an id is not a member yet");
    b.send(&join(&id_b, &["range"]), 9).await;
    while heartbeat(&mut a, &id_a, 1).await != E::RebalanceInProgress.code() {}
    assert_eq!(commit(&mut a, 8, &id_a, 1, 7).await, 0, "a member of the old generation may still commit");
    let refused = a.ask(&sync(&id_a, 1, &[]), 5).await;
    assert_eq!(refused.error_code, E::RebalanceInProgress.code());
    let second = joined(&mut a, &join(&id_a, &["range", "roundrobin"])).await;
    assert_eq!((second.generation_id, second.members.len(), second.leader.as_str()), (2, 2, id_a.as_str()));
    let follower = b.receive::<JoinGroupRequest>(9).await.unwrap();
    assert_eq!((follower.generation_id, follower.members.len()), (2, 0));
    b.send(&sync(&id_b, 2, &[]), 5).await;
    a.ask(&sync(&id_a, 2, &[(&id_a, b"left"), (&id_b, b"right")]), 5).await;
    assert_eq!(b.receive::<SyncGroupRequest>(5).await.unwrap().assignment, "right");
    // A follower with the same protocols is told the generation again; a leader begins a new one.
    assert_eq!(joined(&mut b, &join(&id_b, &["range"])).await.generation_id, 2);
    assert_eq!(cluster.group("g").unwrap().0, GroupState::Stable);

    let other = joined(&mut a, &join("", &["sticky"])).await;
    assert_eq!(other.error_code, E::InconsistentGroupProtocol.code());

    let described = a.ask(&DescribeGroupsRequest::default().with_groups(vec![text("g").into()]), 5).await;
    let group = &described.groups[0];
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str(), group.members.len()), ("Stable", "range", 2));
    assert!(group.members.iter().all(|m| m.client_id.as_str() == "raw" && m.client_host.as_str() == "/127.0.0.1"));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![text("g").into()]);
    assert_eq!(a.ask(&delete, 2).await.results[0].error_code, E::NonEmptyGroup.code());
    let forget = OffsetDeleteRequest::default().with_group_id(text("g").into()).with_topics(vec![
        OffsetDeleteRequestTopic::default()
            .with_name(text("t").into())
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]),
    ]);
    assert_eq!(a.ask(&forget, 0).await.topics[0].partitions[0].error_code, E::GroupSubscribedToTopic.code());

    // One leaves: the other is alone in the next generation. The last one leaves an empty group behind.
    assert_eq!(leave(&mut b, &id_b, None).await, 0);
    assert_eq!(leave(&mut b, &id_b, None).await, E::UnknownMemberId.code());
    assert_eq!(heartbeat(&mut a, &id_a, 2).await, E::RebalanceInProgress.code());
    assert_eq!(joined(&mut a, &join(&id_a, &["range", "roundrobin"])).await.generation_id, 3);
    assert_eq!(leave(&mut a, &id_a, None).await, 0);
    assert_eq!(cluster.group("g").unwrap(), (GroupState::Empty, 4, vec![]));
    assert_eq!(cluster.committed("g", "t", 0), Some(7));
    assert_eq!(commit(&mut a, 8, "", -1, 8).await, 0, "an empty group takes simple commits");
    assert_eq!(commit(&mut a, 8, &id_a, 3, 9).await, E::UnknownMemberId.code());
    assert_eq!(a.ask(&forget, 0).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(cluster.committed("g", "t", 0), None);
    assert_eq!(a.ask(&delete, 2).await.results[0].error_code, 0);
    assert_eq!(a.ask(&delete, 2).await.results[0].error_code, E::GroupIdNotFound.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_without_a_group_and_their_coordinator() {
    let cluster = cluster(3);
    cluster.create_topic("t", 1, &[]).unwrap();
    let mut raw = coordinator(&cluster).await;
    assert_eq!(commit(&mut raw, 8, "m", 3, 1).await, E::IllegalGeneration.code());
    assert_eq!(commit(&mut raw, 9, "m", 3, 1).await, E::GroupIdNotFound.code());
    assert_eq!(heartbeat(&mut raw, "m", 3).await, E::UnknownMemberId.code());
    assert_eq!(joined(&mut raw, &join("m", &["range"])).await.error_code, E::UnknownMemberId.code());
    assert!(cluster.groups().is_empty());
    assert_eq!(commit(&mut raw, 9, "", -1, 42).await, 0);
    let too_long = "x".repeat(4097);
    let mut request = commit_request("", -1, 43);
    request.topics[0].partitions[0].committed_metadata = Some(text(&too_long));
    assert_eq!(raw.ask(&request, 8).await.topics[0].partitions[0].error_code, E::OffsetMetadataTooLarge.code());
    request.topics[0].name = text("none").into();
    assert_eq!(raw.ask(&request, 8).await.topics[0].partitions[0].error_code, E::UnknownTopicOrPartition.code());

    let all = OffsetFetchRequest::default()
        .with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(text("g").into()).with_topics(None)]);
    let found = raw.ask(&all, 9).await;
    let part = &found.groups[0].topics[0].partitions[0];
    assert_eq!((part.committed_offset, part.metadata.as_deref()), (42, Some("m")));
    let old = OffsetFetchRequest::default().with_group_id(text("g").into()).with_topics(None);
    assert_eq!(raw.ask(&old, 7).await.topics[0].partitions[0].committed_offset, 42);

    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    let found = raw.ask(&find, 4).await;
    let at = cluster.coordinator("g").unwrap();
    assert_eq!(found.coordinators[0].node_id.0, cluster.node_id(at));
    let mut other = Raw::connect(&cluster.bootstrap()[(at + 1) % 3]).await;
    assert_eq!(heartbeat(&mut other, "m", 1).await, E::NotCoordinator.code());
    assert_eq!(commit(&mut other, 8, "", -1, 1).await, E::NotCoordinator.code());
    assert_eq!(other.ask(&all, 9).await.groups[0].error_code, E::NotCoordinator.code());
    assert_eq!(other.ask(&ListGroupsRequest::default(), 5).await.groups.len(), 0);
    let listed = raw.ask(&ListGroupsRequest::default(), 5).await;
    assert_eq!((listed.groups[0].group_state.as_str(), listed.groups[0].group_type.as_str()), ("Empty", "classic"));
    let nobody = DescribeGroupsRequest::default().with_groups(vec![text("nobody").into()]);
    let at = cluster.coordinator("nobody").unwrap();
    let mut raw = Raw::connect(&cluster.bootstrap()[at]).await;
    assert_eq!(raw.ask(&nobody, 5).await.groups[0].group_state.as_str(), "Dead");
    assert_eq!(raw.ask(&nobody, 6).await.groups[0].error_code, E::GroupIdNotFound.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn static_members_come_back_without_a_rebalance() {
    let cluster = cluster(1);
    cluster.create_topic("t", 1, &[]).unwrap();
    let mut raw = coordinator(&cluster).await;
    let fixed = |member: &str| join(member, &["range"]).with_group_instance_id(Some(text("i-1")));
    let first = joined(&mut raw, &fixed("")).await;
    assert_eq!((first.error_code, first.generation_id), (0, 1), "no MEMBER_ID_REQUIRED for static members");
    let old = first.member_id.to_string();
    raw.ask(&sync(&old, 1, &[(&old, b"mine")]), 5).await;

    let back = joined(&mut raw, &fixed("")).await;
    let new = back.member_id.to_string();
    assert!(new != old);
    assert_eq!((back.generation_id, back.skip_assignment, back.leader.as_str()), (1, true, new.as_str()));
    assert_eq!(raw.ask(&sync(&new, 1, &[]), 5).await.assignment, "mine");
    let fenced = HeartbeatRequest::default()
        .with_group_id(text("g").into())
        .with_member_id(text(&old))
        .with_group_instance_id(Some(text("i-1")))
        .with_generation_id(1);
    assert_eq!(raw.ask(&fenced, 4).await.error_code, E::FencedInstanceId.code());
    assert_eq!(joined(&mut raw, &fixed(&old)).await.error_code, E::FencedInstanceId.code());
    assert_eq!(leave(&mut raw, "", Some("i-2")).await, E::UnknownMemberId.code());
    assert_eq!(leave(&mut raw, "", Some("i-1")).await, 0);
    assert_eq!(cluster.group("g").unwrap().0, GroupState::Empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_member_is_put_out() {
    let spec = ClusterSpec { group_min_session_timeout_ms: 1, ..ClusterSpec::default() };
    let cluster = Cluster::start(spec).unwrap();
    let mut raw = coordinator(&cluster).await;
    let short = |member: &str| join(member, &["range"]).with_session_timeout_ms(50);
    let id = joined(&mut raw, &short("")).await.member_id;
    assert_eq!(joined(&mut raw, &short(&id)).await.generation_id, 1);
    // Ends by the session's own time; a test that hangs here has found a fault.
    let left = cluster.wait_until(|c| c.group("g").unwrap().0 == GroupState::Empty);
    tokio::time::timeout(Duration::from_secs(30), left).await.expect("the session ends");
    assert_eq!(heartbeat(&mut raw, &id, 1).await, E::UnknownMemberId.code());
    let too_short = join("", &["range"]).with_session_timeout_ms(0);
    assert_eq!(joined(&mut raw, &too_short).await.error_code, E::InvalidSessionTimeout.code());
}
