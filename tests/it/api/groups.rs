//! Members and administrators of groups: to the coordinator, split, merged, and what a lost coordinator looks like.

use kafka_cutover::api::{To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_cutover::upstream::Lane;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitRequest, OffsetFetchRequest, RequestKind, ResponseKind, SyncGroupRequest,
};

use super::world::{SOURCE, World, lost, not_sent, text, topic};

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

#[test]
fn members_go_to_their_coordinator_and_joins_wait_apart() {
    let world = World::sealed();
    let requests: Vec<(RequestKind, Lane)> = vec![
        (JoinGroupRequest::default().with_group_id(group("g")).into(), Lane::Rebalance),
        (SyncGroupRequest::default().with_group_id(group("g")).into(), Lane::Rebalance),
        (HeartbeatRequest::default().with_group_id(group("g")).into(), Lane::Ordinary),
        (LeaveGroupRequest::default().with_group_id(group("g")).into(), Lane::Ordinary),
    ];
    for (request, lane) in requests {
        let asks = world.machine(3, request.clone()).asks();
        assert_eq!(asks.len(), 1);
        assert_eq!((asks[0].side, &asks[0].to, asks[0].lane), (Side::Source, &To::Coordinator("g".to_owned()), lane));
        assert_eq!(asks[0].request, request, "nothing in it is ours to change");
    }
}

#[test]
fn a_coordinator_that_is_none_is_forgotten_and_the_client_told() {
    let world = World::new();
    for error in [code::NOT_COORDINATOR, code::COORDINATOR_NOT_AVAILABLE] {
        world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
        let mut machine = world.machine(4, HeartbeatRequest::default().with_group_id(group("g")));
        machine.asks();
        let answer = machine.answer(vec![Ok(HeartbeatResponse::default().with_error_code(error).into())]);
        assert_eq!(answer, HeartbeatResponse::default().with_error_code(error).into());
        assert_eq!(world.shared.coordinators.get(Side::Source, "g"), None);
    }
}

#[test]
fn what_a_member_is_told_otherwise_leaves_the_coordinator_alone() {
    let world = World::new();
    world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
    let mut machine = world.machine(4, HeartbeatRequest::default().with_group_id(group("g")));
    machine.asks();
    machine.answer(vec![Ok(HeartbeatResponse::default().with_error_code(27).with_throttle_time_ms(9).into())]);
    assert_eq!(world.shared.coordinators.get(Side::Source, "g"), Some(SOURCE + 1));
}

#[test]
fn a_lost_coordinator_costs_no_member_its_place_in_any_version() {
    let world = World::new();
    let error = |answer: &ResponseKind| match answer {
        ResponseKind::JoinGroup(a) => a.error_code,
        ResponseKind::SyncGroup(a) => a.error_code,
        ResponseKind::Heartbeat(a) => a.error_code,
        ResponseKind::LeaveGroup(a) => a.error_code,
        other => panic!("{other:?}"),
    };
    let requests: [(RequestKind, i16); 4] = [
        (JoinGroupRequest::default().with_group_id(group("g")).with_member_id(text("me")).into(), 9),
        (SyncGroupRequest::default().with_group_id(group("g")).into(), 5),
        (HeartbeatRequest::default().with_group_id(group("g")).into(), 4),
        (LeaveGroupRequest::default().with_group_id(group("g")).into(), 5),
    ];
    for (request, newest) in requests {
        for version in 0..=newest {
            world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
            let mut machine = world.machine(version, request.clone());
            machine.asks();
            let answer = machine.answer(vec![not_sent()]);
            assert_eq!(error(&answer), code::NOT_COORDINATOR, "v{version} {request:?}");
            assert_eq!(world.shared.coordinators.get(Side::Source, "g"), None);
            if let ResponseKind::JoinGroup(join) = answer {
                assert_eq!((join.member_id.as_str(), join.protocol_name.is_some()), ("me", version < 7));
            }
        }
    }
}

#[test]
fn a_look_up_that_is_refused_for_good_says_so() {
    let world = World::new();
    let g = || group("g");
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic("orders"))
        .with_partitions(vec![OffsetCommitRequestPartition::default()]);
    let one = OffsetFetchRequestGroup::default().with_group_id(g());
    let requests: [(RequestKind, i16); 9] = [
        (JoinGroupRequest::default().with_group_id(g()).into(), 5),
        (SyncGroupRequest::default().with_group_id(g()).into(), 3),
        (HeartbeatRequest::default().with_group_id(g()).into(), 3),
        (LeaveGroupRequest::default().with_group_id(g()).into(), 3),
        (OffsetCommitRequest::default().with_group_id(g()).with_topics(vec![topic]).into(), 8),
        (OffsetFetchRequest::default().with_group_id(g()).into(), 7),
        (OffsetFetchRequest::default().with_groups(vec![one]).into(), 8),
        (DescribeGroupsRequest::default().with_groups(vec![g()]).into(), 5),
        (DeleteGroupsRequest::default().with_groups_names(vec![g()]).into(), 2),
    ];
    let told = |answer: ResponseKind| match answer {
        ResponseKind::JoinGroup(a) => a.error_code,
        ResponseKind::SyncGroup(a) => a.error_code,
        ResponseKind::Heartbeat(a) => a.error_code,
        ResponseKind::LeaveGroup(a) => a.error_code,
        ResponseKind::OffsetCommit(a) => a.topics[0].partitions[0].error_code,
        ResponseKind::OffsetFetch(a) => a.groups.first().map_or(a.error_code, |g| g.error_code),
        ResponseKind::DescribeGroups(a) => a.groups[0].error_code,
        ResponseKind::DeleteGroups(a) => a.results[0].error_code,
        other => panic!("{other:?}"),
    };
    // GROUP_AUTHORIZATION_FAILED ends in the client's hands; a coordinator that loads is asked for again.
    for (said, heard) in [(30, 30), (14, code::NOT_COORDINATOR), (-1, code::NOT_COORDINATOR)] {
        for (request, version) in &requests {
            let mut machine = world.machine(*version, request.clone());
            machine.asks();
            let answer = machine.answer(vec![Err(Unanswered::NoCoordinator(said))]);
            assert_eq!(told(answer), heard, "v{version} {request:?}");
        }
    }
}

#[test]
fn described_groups_keep_their_order_and_one_lost_coordinator_is_one_error() {
    let world = World::new();
    world.shared.coordinators.set(Side::Source, "b", SOURCE + 1);
    world.shared.coordinators.set(Side::Source, "c", SOURCE + 1);
    let names = ["a", "b", "c"];
    let request = DescribeGroupsRequest::default()
        .with_groups(names.map(group).to_vec())
        .with_include_authorized_operations(true);
    let mut machine = world.machine(6, request);
    let asks = machine.asks();
    for (ask, name) in asks.iter().zip(names) {
        assert_eq!(ask.to, To::Coordinator(name.to_owned()));
        let RequestKind::DescribeGroups(part) = &ask.request else { panic!("{ask:?}") };
        assert_eq!((part.groups.as_slice(), part.include_authorized_operations), (&[group(name)][..], true));
    }
    let one = |name: &str, throttle: i32| {
        let described = DescribedGroup::default().with_group_id(group(name)).with_group_state(text("Stable"));
        Ok(DescribeGroupsResponse::default().with_throttle_time_ms(throttle).with_groups(vec![described]).into())
    };
    let ResponseKind::DescribeGroups(answer) = machine.answer(vec![one("a", 3), lost(), one("c", 8)]) else {
        panic!("another API")
    };
    assert_eq!(answer.throttle_time_ms, 8);
    let told: Vec<(&str, i16, &str)> =
        answer.groups.iter().map(|g| (g.group_id.as_str(), g.error_code, g.group_state.as_str())).collect();
    assert_eq!(told, [("a", 0, "Stable"), ("b", code::NOT_COORDINATOR, ""), ("c", 0, "Stable")]);
    assert_eq!(world.shared.coordinators.get(Side::Source, "b"), None);
    assert_eq!(world.shared.coordinators.get(Side::Source, "c"), Some(SOURCE + 1));
}

#[test]
fn deleted_groups_are_split_and_merged_likewise() {
    let world = World::new();
    let mut machine = world.machine(2, DeleteGroupsRequest::default().with_groups_names(vec![group("a"), group("b")]));
    assert_eq!(machine.asks().len(), 2);
    let result = DeletableGroupResult::default().with_group_id(group("b")).with_error_code(68);
    let ok = DeleteGroupsResponse::default().with_results(vec![result]).into();
    let ResponseKind::DeleteGroups(answer) = machine.answer(vec![lost(), Ok(ok)]) else { panic!("another API") };
    let told: Vec<_> = answer.results.iter().map(|r| (r.group_id.as_str(), r.error_code)).collect();
    assert_eq!(told, [("a", code::NOT_COORDINATOR), ("b", 68)]);
}

#[test]
fn no_groups_asked_for_are_no_groups() {
    let world = World::new();
    let answer = world.machine(6, DescribeGroupsRequest::default()).ends(kafka_cutover::api::Input::Start);
    assert_eq!(answer, DescribeGroupsResponse::default().into());
}

#[test]
fn groups_are_listed_by_every_broker_of_the_source_and_named_once() {
    let world = World::sealed();
    let mut machine = world.machine(5, ListGroupsRequest::default().with_states_filter(vec![text("Stable")]));
    let asks = machine.asks();
    let asked: Vec<_> = asks.iter().map(|a| (a.side, a.to.clone())).collect();
    assert_eq!(asked, [1, 2, 3].map(|n| (Side::Source, To::Node(SOURCE + n))));
    let list = |names: &[&str], error: i16| {
        let groups = names.iter().map(|n| ListedGroup::default().with_group_id(group(n))).collect();
        Ok(ListGroupsResponse::default().with_groups(groups).with_error_code(error).into())
    };
    let answers = vec![list(&["a", "b"], 0), list(&[], 14), list(&["b", "c"], 15)];
    let ResponseKind::ListGroups(answer) = machine.answer(answers) else { panic!("another API") };
    let names: Vec<_> = answer.groups.iter().map(|g| g.group_id.as_str()).collect();
    assert_eq!((names, answer.error_code), (vec!["a", "b", "c"], 14));
}

#[test]
fn a_list_without_one_brokers_groups_does_not_pass_for_a_whole_one() {
    let world = World::new();
    let mut machine = world.machine(0, ListGroupsRequest::default());
    machine.asks();
    let none = || Ok(ListGroupsResponse::default().into());
    let ResponseKind::ListGroups(answer) = machine.answer(vec![none(), lost(), none()]) else { panic!("another API") };
    assert_eq!(answer.error_code, code::COORDINATOR_NOT_AVAILABLE);
}
