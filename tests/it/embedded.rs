//! The embedded cluster against what Apache Kafka does: a raw client for the rules, librdkafka as a client that is not ours.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod groups;
#[cfg(feature = "librdkafka")]
mod librdkafka;
mod log_apis;
pub mod raw;

use kafka_cutover::embedded::{Cluster, ClusterSpec, Point};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, DescribeProducersRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest,
    describe_producers_request, metadata_request,
};
use raw::{ONE, Plan, Raw, encode, idempotent, text};

fn cluster(nodes: usize) -> Cluster {
    Cluster::start(ClusterSpec { nodes, ..ClusterSpec::default() }).expect("a cluster starts")
}

async fn leader_of(cluster: &Cluster, topic: &str, partition: i32) -> Raw {
    let (leader, _) = cluster.leader(topic, partition).expect("a leader");
    Raw::connect(&cluster.bootstrap()[leader]).await
}

const OUT_OF_ORDER: i16 = E::OutOfOrderSequenceNumber.code();
const OLD_EPOCH: i16 = E::InvalidProducerEpoch.code();

#[tokio::test(flavor = "multi_thread")]
async fn idempotence_is_that_of_producer_append_info() {
    let cluster = cluster(1);
    cluster.create_topic("t", 1, &[]).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    // (what, pid, epoch, sequence, records) -> (error, base offset)
    let table = [
        ("an unknown producer may begin anywhere", (7, 0, 100, 10), (0, 0)),
        ("the next in order", (7, 0, 110, 1), (0, 10)),
        ("a duplicate of the newest", (7, 0, 110, 1), (0, 10)),
        ("a duplicate of the first", (7, 0, 100, 10), (0, 0)),
        ("no duplicate: another range", (7, 0, 100, 9), (OUT_OF_ORDER, -1)),
        ("a gap", (7, 0, 112, 1), (OUT_OF_ORDER, -1)),
        ("third", (7, 0, 111, 1), (0, 11)),
        ("fourth", (7, 0, 112, 1), (0, 12)),
        ("fifth", (7, 0, 113, 1), (0, 13)),
        ("the first is still in the window of five", (7, 0, 100, 10), (0, 0)),
        ("sixth", (7, 0, 114, 1), (0, 14)),
        ("the first has left the window", (7, 0, 100, 10), (OUT_OF_ORDER, -1)),
        ("another producer id is another producer", (8, 0, 5, 1), (0, 15)),
        ("a new epoch begins at 0", (7, 1, 115, 1), (OUT_OF_ORDER, -1)),
        ("a new epoch at 0", (7, 1, 0, 3), (0, 16)),
        ("its duplicate", (7, 1, 0, 3), (0, 16)),
        ("the epoch before is fenced, duplicates too", (7, 0, 114, 1), (OLD_EPOCH, -1)),
        ("epochs may skip", (7, 5, 0, 1), (0, 19)),
        ("sequences up to 2^31 - 1", (9, 0, i32::MAX - 1, 2), (0, 20)),
        ("and from there to 0", (9, 0, 0, 2), (0, 22)),
        ("a batch across the wrap", (10, 0, i32::MAX, 3), (0, 24)),
        ("ends at 1", (10, 0, 2, 1), (0, 27)),
        ("its duplicate is known", (10, 0, i32::MAX, 3), (0, 24)),
        ("an idempotent batch has a sequence", (11, 0, -1, 1), (E::InvalidRecord.code(), -1)),
    ];
    for (what, (pid, epoch, sequence, records), expected) in table {
        let got = raw.produce("t", 0, encode(idempotent(pid, epoch, sequence, records))).await;
        assert_eq!(got, expected, "{what}");
    }
    assert_eq!(cluster.log_end("t", 0), Some(28));

    let request = DescribeProducersRequest::default().with_topics(vec![
        describe_producers_request::TopicRequest::default().with_name(text("t").into()).with_partition_indexes(vec![0]),
    ]);
    let described = raw.ask(&request, 0).await;
    let producers: Vec<_> = described.topics[0].partitions[0]
        .active_producers
        .iter()
        .map(|p| (p.producer_id.0, p.producer_epoch, p.last_sequence, p.current_txn_start_offset))
        .collect();
    assert_eq!(producers, [(7, 5, 0, -1), (8, 0, 5, -1), (9, 0, 1, -1), (10, 0, 2, -1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_cluster_wants_sequence_0_first() {
    let spec = ClusterSpec { strict_first_sequence: true, ..ClusterSpec::default() };
    let cluster = Cluster::start(spec).unwrap();
    cluster.create_topic("t", 1, &[]).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    assert_eq!(raw.produce("t", 0, encode(idempotent(1, 0, 5, 1))).await, (OUT_OF_ORDER, -1));
    assert_eq!(raw.produce("t", 0, encode(idempotent(1, 0, 0, 1))).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_produce_refuses() {
    let cluster = cluster(2);
    cluster.create_topic("t", 1, &[("max.message.bytes", "200"), ("min.insync.replicas", "2")]).unwrap();
    let (leader, _) = cluster.leader("t", 0).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    let mut other = Raw::connect(&cluster.bootstrap()[1 - leader]).await;
    let good = encode(ONE);
    let mut bad_crc = good.to_vec();
    *bad_crc.last_mut().unwrap() ^= 1;
    let mut two = good.to_vec();
    two.extend_from_slice(&good);
    let future = Plan { timestamp: i64::MAX / 2, ..ONE };

    assert_eq!(raw.produce("t", 0, good.clone()).await, (0, 0));
    assert_eq!(raw.produce("t", 0, bad_crc.into()).await, (E::CorruptMessage.code(), -1));
    assert_eq!(raw.produce("t", 0, two.into()).await, (E::InvalidRecord.code(), -1));
    assert_eq!(raw.produce("t", 0, good.slice(..20)).await, (E::InvalidRecord.code(), -1));
    assert_eq!(raw.produce("t", 0, encode(future)).await, (E::InvalidTimestamp.code(), -1));
    assert_eq!(raw.produce("t", 0, encode(Plan { value_size: 300, ..ONE })).await, (E::MessageTooLarge.code(), -1));
    let transactional = Plan { attributes: 0b1_0000, ..idempotent(1, 0, 0, 1) };
    assert_eq!(raw.produce("t", 0, encode(transactional)).await, (E::InvalidTxnState.code(), -1));
    let control = Plan { attributes: 0b10_0000, ..ONE };
    assert_eq!(raw.produce("t", 0, encode(control)).await, (E::InvalidRecord.code(), -1));
    assert_eq!(raw.produce("t", 1, good.clone()).await, (E::UnknownTopicOrPartition.code(), -1));
    assert_eq!(raw.produce("none", 0, good.clone()).await, (E::UnknownTopicOrPartition.code(), -1));
    assert_eq!(other.produce("t", 0, good.clone()).await, (E::NotLeaderOrFollower.code(), -1));
    // KIP-951: from v10 on the answer says who leads.
    let moved = other.ask(&raw::produce("t", 0, good.clone()), 12).await;
    assert_eq!(moved.responses[0].partition_responses[0].current_leader.leader_id.0, cluster.node_id(leader));
    assert_eq!(moved.node_endpoints[0].node_id.0, cluster.node_id(leader));

    cluster.stop_node(1 - leader);
    assert_eq!(raw.produce("t", 0, good).await, (E::NotEnoughReplicas.code(), -1));
    assert_eq!(cluster.log_end("t", 0), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_by_topic_id_and_without_acks() {
    let cluster = cluster(1);
    let id = cluster.create_topic("t", 1, &[]).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    let mut by_id = raw::produce("t", 0, encode(ONE));
    by_id.topic_data[0].name = Default::default();
    by_id.topic_data[0].topic_id = id;
    let done = raw.ask(&by_id, 13).await;
    assert_eq!((done.responses[0].topic_id, done.responses[0].partition_responses[0].error_code), (id, 0));
    by_id.topic_data[0].topic_id = uuid::Uuid::from_u128(1);
    let done = raw.ask(&by_id, 13).await;
    assert_eq!(done.responses[0].partition_responses[0].error_code, E::UnknownTopicId.code());

    // No answer to acks=0: the next answer on the connection is that of the next request.
    raw.send(&raw::produce("t", 0, encode(ONE)).with_acks(0), 9).await;
    raw.ask(&MetadataRequest::default(), 9).await;
    assert_eq!(cluster.log_end("t", 0), Some(2));
    // An error with acks=0 ends the connection.
    raw.send(&raw::produce("none", 0, encode(ONE)).with_acks(0), 9).await;
    assert!(raw.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn log_append_time_is_the_brokers() {
    let cluster = cluster(1);
    cluster.create_topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
    let mut raw = leader_of(&cluster, "t", 0).await;
    let done = raw.ask(&raw::produce("t", 0, encode(ONE)), 9).await;
    let at = done.responses[0].partition_responses[0].log_append_time_ms;
    let stored = &cluster.log("t", 0)[0];
    assert!(at > 1_000_000 && stored.header.max_timestamp == at && stored.header.is_log_append_time());
    assert_eq!(kafka_cutover::embedded::batch::crc_of(&stored.bytes), stored.header.crc);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_versions() {
    let cluster = Cluster::start(ClusterSpec {
        nodes: 3,
        bind_ip: "127.10.7.1".into(),
        ip_per_node: true,
        auto_create: Some(4),
        api_limits: [(ApiKey::Fetch as i16, (4, 12)), (ApiKey::DescribeProducers as i16, (1, 0))].into(),
        ..ClusterSpec::default()
    })
    .unwrap();
    let id = cluster.create_topic("t", 6, &[]).unwrap();
    let mut raw = Raw::connect(&cluster.bootstrap()[0]).await;

    let versions = raw.ask(&ApiVersionsRequest::default(), 4).await;
    let range = |key: ApiKey| {
        let found = versions.api_keys.iter().find(|k| k.api_key == key as i16);
        found.map(|k| (k.min_version, k.max_version))
    };
    assert_eq!(range(ApiKey::Produce), Some((0, 13)));
    assert_eq!(range(ApiKey::Fetch), Some((4, 12)));
    assert_eq!(range(ApiKey::DescribeProducers), None);

    let all = raw.ask(&MetadataRequest::default().with_topics(None), 12).await;
    assert_eq!(all.cluster_id.as_deref(), Some(cluster.cluster_id()));
    assert_eq!(cluster.cluster_id().len(), 22);
    let hosts: Vec<_> = all.brokers.iter().map(|b| b.host.as_str()).collect();
    assert_eq!(hosts, ["127.10.7.1", "127.10.7.2", "127.10.7.3"]);
    assert!(all.brokers.iter().all(|b| b.node_id.0 > 1_600_000_000));
    assert_eq!(all.topics[0].topic_id, id);
    let mut led: Vec<_> = all.topics[0].partitions.iter().map(|p| p.leader_id.0).collect();
    led.sort_unstable();
    led.dedup();
    assert_eq!(led.len(), 3, "leaders are spread over the nodes");

    let ask = |name: &str, create: bool| {
        MetadataRequest::default().with_allow_auto_topic_creation(create).with_topics(Some(vec![
            metadata_request::MetadataRequestTopic::default().with_name(Some(text(name).into())),
        ]))
    };
    let code = async |raw: &mut Raw, name, create| raw.ask(&ask(name, create), 9).await.topics[0].error_code;
    assert_eq!(code(&mut raw, "new", false).await, E::UnknownTopicOrPartition.code());
    assert_eq!(code(&mut raw, "new", false).await, E::UnknownTopicOrPartition.code());
    assert_eq!(code(&mut raw, "new", true).await, E::UnknownTopicOrPartition.code());
    assert_eq!(code(&mut raw, "new", false).await, 0);
    assert_eq!(cluster.partition_count("new"), Some(4));
    assert_eq!(code(&mut raw, "not/legal", true).await, E::InvalidTopicException.code());
    let unknown = MetadataRequest::default().with_topics(Some(vec![
        metadata_request::MetadataRequestTopic::default().with_name(None).with_topic_id(uuid::Uuid::from_u128(7)),
    ]));
    assert_eq!(raw.ask(&unknown, 12).await.topics[0].error_code, E::UnknownTopicId.code());
    assert_eq!(raw.ask(&MetadataRequest::default().with_topics(Some(vec![])), 0).await.topics.len(), 2);
    assert_eq!(raw.ask(&MetadataRequest::default().with_topics(Some(vec![])), 1).await.topics.len(), 0);

    // KIP-511, then versions and keys that are not spoken: the connection ends.
    raw.send_header(ApiKey::ApiVersions as i16, 9).await;
    let answer = raw.receive::<ApiVersionsRequest>(0).await.unwrap();
    assert_eq!((answer.error_code, answer.api_keys.len()), (E::UnsupportedVersion.code(), 1));
    for (key, version) in [(ApiKey::Fetch as i16, 13), (ApiKey::DescribeProducers as i16, 0), (999, 0), (0, 2)] {
        let mut raw = Raw::connect(&cluster.bootstrap()[0]).await;
        raw.send_header(key, version).await;
        assert!(raw.frame().await.is_none(), "key {key} version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_come_in_order() {
    let cluster = cluster(2);
    let mut raw = Raw::connect(&cluster.bootstrap()[cluster.coordinator("tx").unwrap()]).await;
    let mut other = Raw::connect(&cluster.bootstrap()[1 - cluster.coordinator("tx").unwrap()]).await;
    let idempotent = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000);
    let tx = idempotent.clone().with_transactional_id(Some(text("tx").into()));
    let ask = async |raw: &mut Raw, request: &InitProducerIdRequest| {
        let r = raw.ask(request, 4).await;
        (r.error_code, r.producer_id.0, r.producer_epoch)
    };
    assert_eq!(ask(&mut raw, &idempotent).await, (0, 0, 0));
    assert_eq!(ask(&mut other, &idempotent).await, (0, 1, 0));
    assert_eq!(ask(&mut other, &tx).await, (E::NotCoordinator.code(), -1, -1));
    assert_eq!(ask(&mut raw, &tx).await, (0, 2, 0));
    assert_eq!(ask(&mut raw, &tx).await, (0, 2, 1));
    let fenced = tx.with_producer_id(2.into()).with_producer_epoch(0);
    assert_eq!(ask(&mut raw, &fenced).await, (E::ProducerFenced.code(), -1, -1));
    assert_eq!(raw.ask(&fenced, 3).await.error_code, E::InvalidProducerEpoch.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_happen_where_they_are_asked_for() {
    let cluster = cluster(1);
    for topic in ["t", "u"] {
        cluster.create_topic(topic, 1, &[]).unwrap();
    }
    let node = cluster.bootstrap()[0].clone();
    let faults = cluster.faults();

    faults.drop_after_append(1, Some("t"));
    let mut raw = Raw::connect(&node).await;
    assert_eq!(raw.produce("u", 0, encode(ONE)).await, (0, 0), "another topic passes");
    raw.send(&raw::produce("t", 0, encode(idempotent(3, 0, 4, 2))), 9).await;
    assert!(raw.frame().await.is_none());
    assert_eq!(cluster.log_end("t", 0), Some(2));
    let seen = faults.produced("t", 0);
    assert_eq!((seen[0].producer_id, seen[0].producer_epoch, seen[0].base_sequence), (3, 0, 4));

    faults.drop_before_append(1, None);
    let mut raw = Raw::connect(&node).await;
    raw.send(&raw::produce("t", 0, encode(ONE)), 9).await;
    assert!(raw.frame().await.is_none());
    assert_eq!(cluster.log_end("t", 0), Some(2));

    let mut raw = Raw::connect(&node).await;
    faults.refuse_produce(1, None, E::NotLeaderOrFollower.code());
    assert_eq!(raw.produce("t", 0, encode(ONE)).await, (E::NotLeaderOrFollower.code(), -1));
    assert_eq!(raw.produce("t", 0, encode(ONE)).await, (0, 2));

    // A batch that lands after its client and connection are gone.
    let hold = faults.hold_produce(Some("t"));
    raw.send(&raw::produce("t", 0, encode(ONE)), 9).await;
    hold.wait_until_held(1).await;
    drop(raw);
    assert_eq!(cluster.log_end("t", 0), Some(3));
    hold.release();
    cluster.wait_high_watermark("t", 0, 4).await;

    // A held answer: done, not yet told. (Of another topic: the answer to nobody above may still be on its way.)
    let hold = faults.hold(ApiKey::Produce, Some("u"), Point::Answer);
    let mut raw = Raw::connect(&node).await;
    raw.send(&raw::produce("u", 0, encode(ONE)), 9).await;
    hold.wait_until_held(1).await;
    assert_eq!(cluster.log_end("u", 0), Some(2));
    hold.release();
    assert_eq!(raw.receive::<ProduceRequest>(9).await.unwrap().responses.len(), 1);

    faults.set_throttle_ms(77);
    assert_eq!(raw.ask(&MetadataRequest::default(), 9).await.throttle_time_ms, 77);
    let before = faults.seen(ApiKey::Metadata);
    raw.ask(&MetadataRequest::default(), 9).await;
    assert_eq!(faults.seen(ApiKey::Metadata), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_and_comes_back_on_its_port() {
    let cluster = cluster(3);
    cluster.create_topic("t", 1, &[]).unwrap();
    let (first, epoch) = cluster.leader("t", 0).unwrap();
    let bootstrap = cluster.bootstrap();
    let mut raw = Raw::connect(&bootstrap[first]).await;
    assert_eq!(raw.produce("t", 0, encode(ONE)).await, (0, 0));
    cluster.stop_node(first);
    assert!(raw.frame().await.is_none());
    assert!(tokio::net::TcpStream::connect(&bootstrap[first]).await.is_err());
    let (second, next) = cluster.leader("t", 0).unwrap();
    assert!(second != first && next == epoch + 1);
    let mut raw = leader_of(&cluster, "t", 0).await;
    assert_eq!(raw.produce("t", 0, encode(ONE)).await, (0, 1));
    assert_eq!(raw.ask(&MetadataRequest::default(), 9).await.brokers.len(), 2);
    cluster.start_node(first).unwrap();
    assert_eq!(cluster.bootstrap(), bootstrap);
    cluster.move_leader("t", 0, first);
    let mut raw = Raw::connect(&bootstrap[first]).await;
    assert_eq!(raw.produce("t", 0, encode(ONE)).await, (0, 2));
    let epochs: Vec<_> = cluster.log("t", 0).iter().map(|b| b.header.leader_epoch).collect();
    assert_eq!(epochs, [0, 1, 2]);
}
