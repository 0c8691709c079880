//! Reading: Fetch, ListOffsets, OffsetForLeaderEpoch, DeleteRecords; and topics with their configs.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    FetchRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use uuid::Uuid;

use super::raw::{ONE, Plan, Raw, encode, text};
use super::{cluster, leader_of};

fn fetch(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partition = |&(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20)
            .with_current_leader_epoch(-1)
    };
    FetchRequest::default().with_max_wait_ms(0).with_min_bytes(1).with_max_bytes(1 << 20).with_topics(vec![
        FetchTopic::default()
            .with_topic(text(topic).into())
            .with_partitions(partitions.iter().map(partition).collect()),
    ])
}

fn size(part: &PartitionData) -> usize {
    part.records.as_ref().expect("never null").len()
}

async fn one(raw: &mut Raw, request: &FetchRequest) -> PartitionData {
    raw.ask(request, 12).await.responses.remove(0).partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_returns_whole_batches_within_its_budget() {
    let cluster = cluster(1);
    cluster.create_topic("t", 3, &[]).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    let batch = encode(Plan { records: 5, ..ONE });
    for partition in [1, 2] {
        for _ in 0..3 {
            raw.produce("t", partition, batch.clone()).await;
        }
    }
    let len = batch.len();

    let part = one(&mut raw, &fetch("t", &[(1, 0)])).await;
    assert_eq!(
        (size(&part), part.high_watermark, part.last_stable_offset, part.log_start_offset),
        (3 * len, 15, 15, 0)
    );
    assert_eq!(part.aborted_transactions, None);
    let part = one(&mut raw, &fetch("t", &[(1, 0)]).with_isolation_level(1)).await;
    assert_eq!(part.aborted_transactions, Some(vec![]));
    assert_eq!(size(&one(&mut raw, &fetch("t", &[(1, 7)])).await), 2 * len, "from the batch that holds the offset");
    assert_eq!(size(&one(&mut raw, &fetch("t", &[(1, 15)])).await), 0);
    for offset in [-1, 16] {
        let part = one(&mut raw, &fetch("t", &[(1, offset)])).await;
        assert_eq!((part.error_code, part.high_watermark), (E::OffsetOutOfRange.code(), -1));
    }

    // One batch at least, of the first partition that has any; the rest is a matter of bytes.
    let sizes = async |raw: &mut Raw, max: usize, partition_max: usize| -> Vec<usize> {
        let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0)]).with_max_bytes(max as i32);
        request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = partition_max as i32);
        raw.ask(&request, 12).await.responses[0].partitions.iter().map(size).collect()
    };
    assert_eq!(sizes(&mut raw, 1, 1 << 20).await, [0, len, 0]);
    assert_eq!(sizes(&mut raw, 4 * len, 1 << 20).await, [0, 3 * len, len]);
    assert_eq!(sizes(&mut raw, 1 << 20, len + 1).await, [0, len, len]);
    assert_eq!(sizes(&mut raw, 1 << 20, 1).await, [0, len, 0]);
    cluster.faults().deny_partition("t", 1, true);
    assert_eq!(sizes(&mut raw, 1 << 20, 1 << 20).await, [0, 0, 3 * len]);

    cluster.hold_high_watermark("t", 2, Some(5));
    let part = one(&mut raw, &fetch("t", &[(2, 0)])).await;
    assert_eq!((size(&part), part.high_watermark), (len, 5));
    assert_eq!(one(&mut raw, &fetch("t", &[(2, 12)])).await.error_code, 0, "above the watermark, not above the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_with_the_data_it_waits_for() {
    let cluster = cluster(1);
    cluster.create_topic("t", 2, &[]).unwrap();
    let mut reader = leader_of(&cluster, "t", 0).await;
    let mut writer = leader_of(&cluster, "t", 0).await;
    let len = encode(ONE).len();
    // An hour: only data can end it.
    let request = fetch("t", &[(0, 0), (1, 0)]).with_max_wait_ms(3_600_000).with_min_bytes(len as i32 + 1);
    reader.send(&request, 12).await;
    cluster.faults().wait_until_seen(kafka_protocol::messages::ApiKey::Fetch, 1).await;
    writer.produce("t", 0, encode(ONE)).await;
    writer.produce("t", 1, encode(ONE)).await;
    let answer = reader.receive::<FetchRequest>(12).await.unwrap();
    let sizes: Vec<_> = answer.responses[0].partitions.iter().map(size).collect();
    assert_eq!((answer.session_id, sizes), (0, vec![len, len]));
    // An error does not wait, and neither does its partition's company.
    let request = fetch("t", &[(0, 1), (9, 0)]).with_max_wait_ms(3_600_000);
    let answer = reader.ask(&request, 12).await;
    assert_eq!(answer.responses[0].partitions[1].error_code, E::UnknownTopicOrPartition.code());
    // A poll that finds nothing ends by its own time, with nothing.
    let request = fetch("t", &[(0, 1)]).with_max_wait_ms(1);
    assert_eq!(size(&one(&mut reader, &request).await), 0);
    // Sessions are never given, so none is known.
    let request = fetch("t", &[]).with_session_id(5).with_session_epoch(1);
    assert_eq!(reader.ask(&request, 12).await.error_code, E::FetchSessionIdNotFound.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_leader_is_noticed() {
    let cluster = cluster(2);
    let id = cluster.create_topic("t", 1, &[]).unwrap();
    let (old, _) = cluster.leader("t", 0).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    raw.produce("t", 0, encode(ONE)).await;
    let epoch = |e: i32| {
        let mut request = fetch("t", &[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = e;
        request
    };
    cluster.move_leader("t", 0, 1 - old);
    assert_eq!(one(&mut raw, &epoch(-1)).await.error_code, E::NotLeaderOrFollower.code());
    let mut raw = leader_of(&cluster, "t", 0).await;
    assert_eq!(one(&mut raw, &epoch(0)).await.error_code, E::FencedLeaderEpoch.code());
    assert_eq!(one(&mut raw, &epoch(2)).await.error_code, E::UnknownLeaderEpoch.code());
    assert_eq!(size(&one(&mut raw, &epoch(1)).await), encode(ONE).len());
    raw.produce("t", 0, encode(ONE)).await;

    // A consumer that says which epoch it read last (kafka-python does) is told where that ended.
    let last_fetched = |e: i32, offset: i64| {
        let mut request = fetch("t", &[(0, offset)]);
        request.topics[0].partitions[0].last_fetched_epoch = e;
        request
    };
    let part = one(&mut raw, &last_fetched(0, 2)).await;
    assert_eq!((part.diverging_epoch.epoch, part.diverging_epoch.end_offset), (0, 1));
    assert_eq!(one(&mut raw, &last_fetched(1, 2)).await.diverging_epoch.end_offset, -1);
    assert_eq!(one(&mut raw, &last_fetched(9, 2)).await.error_code, E::OffsetOutOfRange.code());

    let mut ends = Vec::new();
    for wanted in [-1, 0, 1, 2] {
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![
            OffsetForLeaderTopic::default().with_topic(text("t").into()).with_partitions(vec![
                OffsetForLeaderPartition::default().with_leader_epoch(wanted).with_current_leader_epoch(-1),
            ]),
        ]);
        let answer = raw.ask(&request, 4).await;
        ends.push((answer.topics[0].partitions[0].leader_epoch, answer.topics[0].partitions[0].end_offset));
    }
    assert_eq!(ends, [(-1, -1), (0, 1), (1, 2), (-1, -1)]);

    // By topic id, and where the leader is (KIP-951).
    let mut old = Raw::connect(&cluster.bootstrap()[old]).await;
    let mut by_id = fetch("", &[(0, 0)]);
    by_id.topics[0].topic_id = id;
    let answer = old.ask(&by_id, 17).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, E::NotLeaderOrFollower.code());
    assert_eq!(answer.responses[0].partitions[0].current_leader.leader_epoch, 1);
    assert_eq!(answer.node_endpoints.len(), 1);
    by_id.topics[0].topic_id = Uuid::from_u128(1);
    assert_eq!(raw.ask(&by_id, 17).await.responses[0].partitions[0].error_code, E::UnknownTopicId.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_by_time_and_place() {
    let cluster = cluster(1);
    cluster.create_topic("t", 2, &[]).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    for timestamp in [100, 300, 200] {
        raw.produce("t", 0, encode(Plan { records: 10, timestamp, ..ONE })).await;
    }
    let list = async |raw: &mut Raw, replica: i32, partition: i32, timestamp: i64| {
        let request = ListOffsetsRequest::default().with_replica_id(replica.into()).with_topics(vec![
            ListOffsetsTopic::default().with_name(text("t").into()).with_partitions(vec![
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_timestamp(timestamp)
                    .with_current_leader_epoch(-1),
            ]),
        ]);
        let part = raw.ask(&request, 9).await.topics.remove(0).partitions.remove(0);
        assert_eq!(part.error_code, 0);
        (part.offset, part.timestamp)
    };
    cluster.hold_high_watermark("t", 0, Some(20));
    assert_eq!(list(&mut raw, -1, 0, -1).await, (20, -1), "a consumer's latest is the watermark");
    assert_eq!(list(&mut raw, -2, 0, -1).await, (30, -1), "a debugging consumer's is the end");
    cluster.hold_high_watermark("t", 0, None);
    assert_eq!(list(&mut raw, -1, 0, -1).await, (30, -1));
    assert_eq!(list(&mut raw, -1, 0, -2).await, (0, -1));
    assert_eq!(list(&mut raw, -1, 0, -3).await, (19, 309));
    assert_eq!(list(&mut raw, -1, 0, 0).await, (0, 100));
    assert_eq!(list(&mut raw, -1, 0, 105).await, (5, 105));
    assert_eq!(list(&mut raw, -1, 0, 205).await, (10, 300), "the first batch that reaches it, not the nearest");
    assert_eq!(list(&mut raw, -1, 0, 310).await, (-1, -1));
    assert_eq!(list(&mut raw, -1, 1, 0).await, (-1, -1));
    assert_eq!(list(&mut raw, -1, 1, -3).await, (-1, -1));

    let delete = async |raw: &mut Raw, offset: i64| {
        let request = DeleteRecordsRequest::default().with_topics(vec![
            DeleteRecordsTopic::default()
                .with_name(text("t").into())
                .with_partitions(vec![DeleteRecordsPartition::default().with_offset(offset)]),
        ]);
        let part = raw.ask(&request, 2).await.topics.remove(0).partitions.remove(0);
        (part.error_code, part.low_watermark)
    };
    assert_eq!(delete(&mut raw, 15).await, (0, 15));
    assert_eq!(delete(&mut raw, 3).await, (0, 15));
    assert_eq!(delete(&mut raw, 31).await, (E::OffsetOutOfRange.code(), -1));
    assert_eq!(list(&mut raw, -1, 0, -2).await, (15, -1));
    assert_eq!(cluster.log("t", 0).len(), 2, "batches go whole");
    assert_eq!(one(&mut raw, &fetch("t", &[(0, 14)])).await.error_code, E::OffsetOutOfRange.code());
    assert_eq!(one(&mut raw, &fetch("t", &[(0, 15)])).await.log_start_offset, 15);
    assert_eq!(delete(&mut raw, -1).await, (0, 30));
    assert_eq!(list(&mut raw, -1, 0, -2).await, (30, -1));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_their_configs() {
    let cluster = cluster(2);
    let mut raw = Raw::connect(&cluster.bootstrap()[0]).await;
    let topic = |name: &str, partitions: i32, replication: i16| {
        CreatableTopic::default()
            .with_name(text(name).into())
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
    };
    let config =
        |name: &str, value: &str| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let request = CreateTopicsRequest::default().with_topics(vec![
        topic("a", 3, 1).with_configs(vec![config("cleanup.policy", "compact")]),
        topic("b", -1, -1),
        topic("c", 0, 1),
        topic("d", 1, 3),
        topic("e", 1, 1).with_configs(vec![config("no.such", "1")]),
        topic("no/such", 1, 1),
        topic("x.y", 1, 1),
        topic("x_y", 1, 1),
    ]);
    let made = raw.ask(&request, 7).await;
    let codes: Vec<_> = made.topics.iter().map(|t| t.error_code).collect();
    let (invalid, replicas) = (E::InvalidPartitions.code(), E::InvalidReplicationFactor.code());
    let bad_name = E::InvalidTopicException.code();
    assert_eq!(codes, [0, 0, invalid, replicas, E::InvalidConfig.code(), bad_name, 0, bad_name]);
    assert_eq!(Some(made.topics[0].topic_id), cluster.topic_id("a"));
    assert_eq!((made.topics[1].num_partitions, made.topics[1].replication_factor), (1, 2));
    let again = raw.ask(&CreateTopicsRequest::default().with_topics(vec![topic("a", 1, 1)]), 7).await;
    assert_eq!(again.topics[0].error_code, E::TopicAlreadyExists.code());

    let grow = |count: i32| {
        CreatePartitionsRequest::default().with_topics(vec![
            CreatePartitionsTopic::default().with_name(text("a").into()).with_count(count).with_assignments(None),
        ])
    };
    assert_eq!(raw.ask(&grow(3), 3).await.results[0].error_code, E::InvalidPartitions.code());
    assert_eq!(raw.ask(&grow(5), 3).await.results[0].error_code, 0);
    assert_eq!(cluster.partition_count("a"), Some(5));

    let alter = |name: &str, operation: i8, value: Option<&str>| {
        IncrementalAlterConfigsRequest::default().with_resources(vec![
            AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("a")).with_configs(vec![
                AlterableConfig::default()
                    .with_name(text(name))
                    .with_config_operation(operation)
                    .with_value(value.map(text)),
            ]),
        ])
    };
    let describe = async |raw: &mut Raw, name: &str| {
        let request = DescribeConfigsRequest::default().with_include_synonyms(true).with_resources(vec![
            DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("a"))
                .with_configuration_keys(Some(vec![text(name)])),
        ]);
        let config = raw.ask(&request, 4).await.results.remove(0).configs.remove(0);
        (config.value.unwrap().to_string(), config.config_source, config.synonyms.len())
    };
    let everything = DescribeConfigsRequest::default()
        .with_resources(vec![DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("a"))]);
    assert!(raw.ask(&everything, 4).await.results[0].configs.len() > 25, "an empty list of keys is all of them");
    assert_eq!(describe(&mut raw, "cleanup.policy").await, ("compact".into(), 1, 2));
    assert_eq!(describe(&mut raw, "max.message.bytes").await, ("1048588".into(), 5, 1));
    assert_eq!(raw.ask(&alter("cleanup.policy", 2, Some("delete")), 1).await.responses[0].error_code, 0);
    assert_eq!(describe(&mut raw, "cleanup.policy").await.0, "compact,delete");
    assert_eq!(raw.ask(&alter("cleanup.policy", 3, Some("compact")), 1).await.responses[0].error_code, 0);
    assert_eq!(describe(&mut raw, "cleanup.policy").await.0, "delete");
    assert_eq!(raw.ask(&alter("cleanup.policy", 1, None), 1).await.responses[0].error_code, 0);
    assert_eq!(describe(&mut raw, "cleanup.policy").await, ("delete".into(), 5, 1));
    let refused = raw.ask(&alter("max.message.bytes", 0, Some("many")), 1).await;
    assert_eq!(refused.responses[0].error_code, E::InvalidConfig.code());

    let id = cluster.topic_id("a").unwrap();
    let delete = |id: Uuid| {
        DeleteTopicsRequest::default().with_topics(vec![DeleteTopicState::default().with_name(None).with_topic_id(id)])
    };
    assert_eq!(raw.ask(&delete(id), 6).await.responses[0].name.as_ref().unwrap().as_str(), "a");
    assert_eq!(raw.ask(&delete(id), 6).await.responses[0].error_code, E::UnknownTopicId.code());
    assert_eq!(cluster.topics(), ["b", "x.y"]);
}
