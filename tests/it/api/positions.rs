//! OffsetCommit and OffsetFetch: what stands on the home, and that every commit comes back as it was made.

use kafka_cutover::api::To;
use kafka_cutover::error::code;
use kafka_cutover::ids::{Native, Side};
use kafka_cutover::offsets::SpliceMap;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, RequestKind,
    ResponseKind,
};
use kafka_protocol::protocol::StrBytes;

use super::world::{EPOCHS, SEAM, SOURCE, TARGET_START, World, lost, sealed, text, topic};

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn commit_of(topic_name: &str, offset: i64, metadata: Option<&str>) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(EPOCHS[1])
        .with_committed_metadata(metadata.map(text));
    let topic = OffsetCommitRequestTopic::default().with_name(topic(topic_name)).with_partitions(vec![partition]);
    OffsetCommitRequest::default().with_group_id(group("g")).with_topics(vec![topic])
}

/// The offset and metadata that reach the coordinator.
fn stored(world: &World, topic: &str, offset: i64, metadata: Option<&str>) -> (i64, Option<String>) {
    let asks = world.machine(9, commit_of(topic, offset, metadata)).asks();
    assert_eq!(asks.len(), 1);
    assert_eq!((asks[0].side, &asks[0].to), (Side::Source, &To::Coordinator("g".to_owned())));
    let RequestKind::OffsetCommit(sent) = &asks[0].request else { panic!("another API") };
    let partition = &sent.topics[0].partitions[0];
    assert_eq!(partition.committed_leader_epoch, -1);
    (partition.committed_offset, partition.committed_metadata.as_ref().map(|m| m.to_string()))
}

/// What the client is shown of a stored position, in a version before or after v8.
fn shown(world: &World, version: i16, topic_name: &str, stored: &(i64, Option<String>)) -> (i64, Option<String>) {
    let metadata = stored.1.clone().map(StrBytes::from_string);
    if version < 8 {
        let mut machine = world.machine(version, OffsetFetchRequest::default().with_group_id(group("g")));
        machine.asks();
        let mut partition = OffsetFetchResponsePartition::default()
            .with_partition_index(1)
            .with_committed_offset(stored.0)
            .with_metadata(metadata);
        partition.committed_leader_epoch = if version >= 5 { EPOCHS[0] } else { -1 };
        let topics =
            vec![OffsetFetchResponseTopic::default().with_name(topic(topic_name)).with_partitions(vec![partition])];
        let answer = machine.answer(vec![Ok(OffsetFetchResponse::default().with_topics(topics).into())]);
        let ResponseKind::OffsetFetch(answer) = answer else { panic!("another API") };
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.committed_leader_epoch, -1);
        return (partition.committed_offset, partition.metadata.as_ref().map(|m| m.to_string()));
    }
    let asked = OffsetFetchRequestGroup::default().with_group_id(group("g")).with_topics(None);
    let mut machine = world.machine(version, OffsetFetchRequest::default().with_groups(vec![asked]));
    machine.asks();
    let partition = OffsetFetchResponsePartitions::default()
        .with_partition_index(1)
        .with_committed_offset(stored.0)
        .with_committed_leader_epoch(EPOCHS[0])
        .with_metadata(metadata);
    let topics =
        vec![OffsetFetchResponseTopics::default().with_name(topic(topic_name)).with_partitions(vec![partition])];
    let found = OffsetFetchResponseGroup::default().with_group_id(group("g")).with_topics(topics);
    let answer = machine.answer(vec![Ok(OffsetFetchResponse::default().with_groups(vec![found]).into())]);
    let ResponseKind::OffsetFetch(answer) = answer else { panic!("another API") };
    let partition = &answer.groups[0].topics[0].partitions[0];
    assert_eq!(partition.committed_leader_epoch, -1);
    (partition.committed_offset, partition.metadata.as_ref().map(|m| m.to_string()))
}

#[test]
fn a_commit_on_either_side_of_the_seam_is_its_homes_own_offset() {
    let world = World::sealed();
    assert_eq!(stored(&world, "orders", 42, Some("m")), (42, Some("m".to_owned())));
    // The seam itself is the source's end, and what lies behind it has a trailer.
    assert_eq!(stored(&world, "orders", SEAM, Some("m")), (SEAM, Some("m".to_owned())));
    assert_eq!(stored(&world, "orders", SEAM + 5, Some("m")), (SEAM, Some("m\u{1}kc1:105".to_owned())));
    assert_eq!(stored(&world, "orders", SEAM + 5, None), (SEAM, Some("\u{1}kc1:105".to_owned())));
}

#[test]
fn untouched_and_unknown_partitions_commit_what_they_say() {
    let world = World::sealed();
    for name in ["plain", "nobody-knows"] {
        assert_eq!(stored(&world, name, 105, Some("m")), (105, Some("m".to_owned())));
        assert_eq!(stored(&world, name, 105, None), (105, None));
    }
    assert_eq!(stored(&world, "orders", -1, None), (-1, None), "a commit of nothing stays one");
}

#[test]
fn a_position_that_a_tool_copied_is_not_believed() {
    let world = World::sealed();
    let copied = "m\u{1}kc1:7\u{1}kc1:9";
    assert_eq!(stored(&world, "orders", 42, Some(copied)), (42, Some("m".to_owned())));
    assert_eq!(stored(&world, "plain", 42, Some(copied)), (42, Some("m".to_owned())));
    assert_eq!(stored(&world, "orders", 120, Some(copied)).1.unwrap(), "m\u{1}kc1:120");
}

#[test]
fn metadata_that_leaves_no_room_for_the_position_goes() {
    let world = World::sealed();
    let long = "m".repeat(4096);
    let counted = |n| world.shared.metrics.render().contains(&format!("trailer_metadata_dropped_total {n}\n"));
    assert_eq!(stored(&world, "orders", 42, Some(&long)).1, Some(long.clone()));
    assert!(counted(0));
    assert_eq!(stored(&world, "orders", 120, Some(&long)), (SEAM, Some("\u{1}kc1:120".to_owned())));
    assert!(counted(1));
}

#[test]
fn the_room_is_what_the_home_says() {
    let world = World::sealed();
    world.take_metadata(64);
    let beyond = SEAM + 10;
    assert!(stored(&world, "orders", beyond, Some(&"m".repeat(30))).1.unwrap().starts_with("mmm"));
    let (_, metadata) = stored(&world, "orders", beyond, Some(&"m".repeat(60)));
    assert!(metadata.unwrap().len() <= 64, "the client's part went, the commit is taken");
}

#[test]
fn every_commit_comes_back_as_it_was_made_in_every_version() {
    let rolled_back = sealed().sealed(Native(TARGET_START + 50), -1, (Side::Source, Native(SEAM + 3))).unwrap();
    for map in [SpliceMap::whole(Side::Source), sealed(), rolled_back] {
        let world = World::new();
        world.alter(|state| state.map = map.clone());
        for v in [0, 1, 42, SEAM - 1, SEAM, SEAM + 1, SEAM + 49, SEAM + 50, SEAM + 51, SEAM + 1000] {
            for metadata in [Some("m".to_owned()), Some(String::new())] {
                for version in 1..=9 {
                    let home = stored(&world, "orders", v, metadata.as_deref());
                    assert_eq!(shown(&world, version, "orders", &home), (v, metadata.clone()), "v{version} {map:?}");
                    let home = stored(&world, "plain", v, metadata.as_deref());
                    assert_eq!(shown(&world, version, "plain", &home), (v, metadata.clone()), "v{version}");
                }
            }
        }
    }
}

#[test]
fn a_commit_keeps_its_meaning_through_a_seal() {
    for v in [0, 42, SEAM - 1, SEAM] {
        let world = World::new();
        let home = stored(&world, "orders", v, Some("m"));
        assert_eq!(home, (v, Some("m".to_owned())));
        world.seal();
        assert_eq!(shown(&world, 9, "orders", &home), (v, Some("m".to_owned())));
    }
}

#[test]
fn no_position_stays_none_and_an_unstable_one_untouched() {
    let world = World::sealed();
    for version in [1, 7, 9] {
        assert_eq!(shown(&world, version, "orders", &(-1, Some(String::new()))), (-1, Some(String::new())));
    }
}

#[test]
fn a_lost_commit_is_asked_for_again_by_its_client() {
    let world = World::sealed();
    for version in 2..=9 {
        world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
        let mut request = commit_of("orders", 5, None);
        request.topics[0].partitions[0].committed_leader_epoch = -1;
        let mut machine = world.machine(version, request);
        machine.asks();
        let ResponseKind::OffsetCommit(answer) = machine.answer(vec![lost()]) else { panic!("another API") };
        assert_eq!(answer.topics[0].name.as_str(), "orders");
        assert_eq!(answer.topics[0].partitions[0].partition_index, 1);
        assert_eq!(answer.topics[0].partitions[0].error_code, code::NOT_COORDINATOR);
        assert_eq!(world.shared.coordinators.get(Side::Source, "g"), None);
    }
}

#[test]
fn a_commits_answer_passes_and_a_moved_coordinator_is_forgotten() {
    let world = World::sealed();
    world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
    let mut machine = world.machine(9, commit_of("orders", 5, None));
    machine.asks();
    let said = |error: i16| {
        let partition = OffsetCommitResponsePartition::default().with_partition_index(1).with_error_code(error);
        let topic = OffsetCommitResponseTopic::default().with_name(topic("orders")).with_partitions(vec![partition]);
        ResponseKind::from(OffsetCommitResponse::default().with_topics(vec![topic]).with_throttle_time_ms(4))
    };
    assert_eq!(machine.answer(vec![Ok(said(22))]), said(22));
    assert_eq!(world.shared.coordinators.get(Side::Source, "g"), Some(SOURCE + 1));
    assert_eq!(machine.answer(vec![Ok(said(16))]), said(16));
    assert_eq!(world.shared.coordinators.get(Side::Source, "g"), None);
}

#[test]
fn many_groups_are_fetched_each_from_its_coordinator_and_merged_in_order() {
    let world = World::sealed();
    let asked = |name: &str| {
        let topics =
            vec![OffsetFetchRequestTopics::default().with_name(topic("orders")).with_partition_indexes(vec![1])];
        OffsetFetchRequestGroup::default().with_group_id(group(name)).with_member_epoch(3).with_topics(Some(topics))
    };
    let names = ["a", "b", "c"];
    let groups: Vec<_> = names.iter().map(|n| asked(n)).collect();
    let mut machine = world.machine(9, OffsetFetchRequest::default().with_groups(groups).with_require_stable(true));
    let asks = machine.asks();
    for (ask, name) in asks.iter().zip(names) {
        assert_eq!(ask.to, To::Coordinator(name.to_owned()));
        let RequestKind::OffsetFetch(part) = &ask.request else { panic!("another API") };
        assert_eq!((part.groups.as_slice(), part.require_stable), (&[asked(name)][..], true));
    }
    let one = |name: &str, offset: i64, error: i16| {
        let partition = OffsetFetchResponsePartitions::default()
            .with_partition_index(1)
            .with_committed_offset(offset)
            .with_error_code(error)
            .with_metadata(Some(text("m\u{1}kc1:150")));
        let topics =
            vec![OffsetFetchResponseTopics::default().with_name(topic("orders")).with_partitions(vec![partition])];
        let found = OffsetFetchResponseGroup::default().with_group_id(group(name)).with_topics(topics);
        Ok(OffsetFetchResponse::default().with_groups(vec![found]).with_throttle_time_ms(6).into())
    };
    let answers = vec![one("a", SEAM, 0), lost(), one("c", -1, code::UNSTABLE_OFFSET_COMMIT)];
    let ResponseKind::OffsetFetch(answer) = machine.answer(answers) else { panic!("another API") };
    let told: Vec<_> = answer.groups.iter().map(|g| (g.group_id.as_str(), g.error_code)).collect();
    assert_eq!(told, [("a", 0), ("b", code::NOT_COORDINATOR), ("c", 0)]);
    assert_eq!(answer.throttle_time_ms, 6);
    let found = |i: usize| &answer.groups[i].topics[0].partitions[0];
    assert_eq!((found(0).committed_offset, found(0).metadata.as_deref()), (150, Some("m")));
    assert_eq!((found(2).committed_offset, found(2).error_code), (-1, code::UNSTABLE_OFFSET_COMMIT));
}

#[test]
fn a_lost_fetch_of_positions_is_told_where_the_version_has_room_for_it() {
    let world = World::new();
    for version in 1..=7 {
        let topics =
            vec![OffsetFetchRequestTopic::default().with_name(topic("orders")).with_partition_indexes(vec![1])];
        let request = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(Some(topics));
        let mut machine = world.machine(version, request);
        machine.asks();
        let ResponseKind::OffsetFetch(answer) = machine.answer(vec![lost()]) else { panic!("another API") };
        match version {
            1 => {
                let partition = &answer.topics[0].partitions[0];
                assert_eq!((partition.error_code, partition.committed_offset), (code::NOT_COORDINATOR, -1));
            }
            _ => assert_eq!(answer.error_code, code::NOT_COORDINATOR),
        }
    }
}
