//! The admin APIs over the wire, before and after a seal.

use kafka_cutover::ids::Side;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    CreatePartitionsRequest, DeleteRecordsRequest, DescribeConfigsRequest, DescribeLogDirsRequest, ElectLeadersRequest,
    GroupId, IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, OffsetCommitRequest,
    OffsetDeleteRequest,
};

use super::world::*;

const POLICY_VIOLATION: i16 = 44;
const INVALID_CONFIG: i16 = 40;

/// Error and text.
async fn grow(raw: &mut Raw, topic: &str, count: i32) -> (i16, String) {
    let topic = CreatePartitionsTopic::default().with_name(text(topic).into()).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    let result = soon("partitions", raw.ask(&request, 3)).await.results.remove(0);
    (result.error_code, result.error_message.map(|m| m.to_string()).unwrap_or_default())
}

async fn set(raw: &mut Raw, topic: &str, name: &str, value: &str) -> (i16, String) {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let result = soon("configs", raw.ask(&request, 1)).await.responses.remove(0);
    (result.error_code, result.error_message.map(|m| m.to_string()).unwrap_or_default())
}

/// A topic's config, as one node has it.
async fn config(raw: &mut Raw, topic: &str, name: &str) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(name)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let mut result = soon("configs", raw.ask(&request, 4)).await.results.remove(0);
    result.configs.remove(0).value.unwrap().to_string()
}

async fn delete(raw: &mut Raw, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(text("moved").into()).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    let result = soon("deleted", raw.ask(&request, 2)).await.topics.remove(0).partitions.remove(0);
    (result.error_code, result.low_watermark)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_topic_is_the_same_on_both_sides_whatever_is_altered() {
    let world = World::new(1);
    world.source.create_topic("plain", 1, &[]).unwrap();
    let mut raw = world.client().await;
    assert_eq!(grow(&mut raw, "moved", 2).await, (0, String::new()), "nothing is prepared yet");
    assert_eq!(set(&mut raw, "moved", "retention.ms", "7000").await, (0, String::new()));
    eventually("both partitions are seen", async || list_offset(&mut raw, 1, -1).await.0 == 0).await;
    world.prepare().await;
    assert_eq!(world.target.partition_count("moved"), Some(2));

    let (error, why) = grow(&mut raw, "moved", 3).await;
    assert_eq!((error, why.contains(MIGRATION)), (POLICY_VIOLATION, true), "{why}");
    assert_eq!(grow(&mut raw, "plain", 3).await, (0, String::new()));
    assert_eq!((world.source.partition_count("moved"), world.source.partition_count("plain")), (Some(2), Some(3)));

    assert_eq!(set(&mut raw, "moved", "retention.ms", "9000").await, (0, String::new()));
    assert_eq!(set(&mut raw, "plain", "retention.ms", "9000").await, (0, String::new()));
    let (error, why) = set(&mut raw, "moved", "retention.ms", "soon").await;
    assert_eq!((error, why.starts_with("source: ")), (INVALID_CONFIG, true), "{why}");
    for side in Side::BOTH {
        let mut broker = Raw::connect(&world.cluster(side).bootstrap()[0]).await;
        assert_eq!(config(&mut broker, "moved", "retention.ms").await, "9000", "{side}");
    }
    assert_eq!(config(&mut raw, "moved", "retention.ms").await, "9000");
    world.switch().await.expect("the sides agree");
    assert_eq!(grow(&mut raw, "moved", 3).await.0, POLICY_VIOLATION);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_on_both_sides_of_the_seam_and_no_further() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for i in 0..6 {
        append(&mut raw, 0, 1_000 * (i + 1), i).await;
    }
    world.cut_over().await;
    for i in 6..10 {
        append(&mut raw, 0, 1_000 * (i + 1), i).await;
    }
    let start = world.target.log_end("moved", 0).unwrap() - 4;
    let starts = |w: &World| (w.source.log_start("moved", 0).unwrap(), w.target.log_start("moved", 0).unwrap());
    let untouched = starts(&world).1;
    assert_eq!(delete(&mut raw, 3).await, (0, 3));
    assert_eq!(starts(&world), (3, untouched));
    assert_eq!(delete(&mut raw, 11).await, (1, -1), "beyond the end");
    assert_eq!(starts(&world), (3, untouched), "nothing is deleted for that");
    assert_eq!(delete(&mut raw, 8).await, (0, 8));
    assert_eq!(starts(&world), (6, start + 2));
    assert_eq!(list_offset(&mut raw, 0, -2).await, (0, -1, 8));
    assert_eq!(read(&mut raw, 0, 8, 10, 1 << 20).await.len(), 2, "what is left is read");
    assert_eq!(fetch_one(&mut raw, 0, 2, PATIENT).await.error_code, 1, "the rest is out of range");
    assert_eq!(delete(&mut raw, 4).await, (0, 8), "a start that only grows");
    assert_eq!(delete(&mut raw, -1).await, (0, 10));
    assert_eq!(starts(&world), (6, start + 4));
    append(&mut raw, 0, 11_000, 10).await;
    assert_eq!(read(&mut raw, 0, 10, 11, 1 << 20).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_position_is_gone_on_both_sides() {
    let world = World::new(2);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.cut_over().await;
    let position = |i| OffsetCommitRequestPartition::default().with_partition_index(i).with_committed_offset(0);
    let topic = OffsetCommitRequestTopic::default().with_name(text("moved").into());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(vec![topic.with_partitions(vec![position(0), position(1)])]);
    let done = soon("committed", raw.ask(&request, 8)).await;
    assert!(done.topics[0].partitions.iter().all(|p| p.error_code == 0));
    let has = |c: &kafka_cutover::embedded::Cluster, i| c.committed("g", "moved", i).is_some();
    soon("the shadow", world.target.wait_until(|c| has(c, 0) && has(c, 1))).await;

    let topic = OffsetDeleteRequestTopic::default()
        .with_name(text("moved").into())
        .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(0)]);
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
    let done = soon("deleted", raw.ask(&request, 0)).await;
    assert_eq!((done.error_code, done.topics[0].partitions[0].error_code), (0, 0));
    assert!(!has(&world.source, 0) && has(&world.source, 1));
    soon("its shadow goes too", world.target.wait_until(|c| !has(c, 0))).await;
    assert!(has(&world.target, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_both_sides_are_one_nodes() {
    let world = World::new(1);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.cut_over().await;
    append(&mut raw, 0, 2_000, 1).await;
    for version in 1..=4 {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let answer = soon("directories", raw.ask(&request, version)).await;
        let dirs: Vec<_> = answer.results.iter().map(|d| (d.log_dir.as_str(), &d.topics)).collect();
        assert_eq!((answer.error_code, dirs.len()), (0, 2));
        for (side, (path, topics)) in ["/source/", "/target/"].into_iter().zip(dirs) {
            assert!(path.starts_with(side) && !path.contains("00000"), "{path}");
            let [moved] = &topics[..] else { panic!("no topic of our own: {topics:?}") };
            assert_eq!(moved.name.as_str(), "moved");
            assert!(moved.partitions[0].partition_size > 0);
        }
        assert_eq!(answer.results[0].total_bytes > 0, version >= 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_brokers_is_refused_in_words() {
    let world = World::new(1);
    let mut raw = world.client().await;
    let topic = TopicPartitions::default().with_topic(text("moved").into()).with_partitions(vec![0]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
    let answer = soon("an election", raw.ask(&request, 2)).await;
    let told = &answer.replica_election_results[0].partition_result[0];
    assert_eq!((answer.error_code, told.error_code), (0, POLICY_VIOLATION));
    assert!(told.error_message.as_ref().unwrap().contains("the cluster itself"));
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let answer = soon("reassignments", raw.ask(&request, 0)).await;
    assert_eq!((answer.error_code, answer.topics.len()), (0, 0));
}
