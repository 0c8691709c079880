//! The demo, the canary and their traffic: a clean run is judged clean, a run that was interfered with is not.
#![cfg(feature = "librdkafka")]

use std::time::Duration;

use kafka_cutover::audit::admin::Admin;
use kafka_cutover::audit::canary::{CanaryArgs, canary};
use kafka_cutover::audit::traffic::{Plan, Traffic};
use kafka_cutover::audit::{Class, Verdict};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::ids::Side;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const RECORDS: u64 = 3000;

fn plan(bootstrap: String, records: u64) -> Plan {
    Plan {
        bootstrap,
        topic: "orders".into(),
        partitions: 6,
        producers: vec!["lz4", "none"],
        members: 3,
        group: "readers".into(),
        rate: 5000.0,
        records,
        properties: Vec::new(),
        shared_topic: false,
        patience: Duration::from_secs(60),
    }
}

fn embedded(nodes: usize) -> (Cluster, String) {
    let cluster = Cluster::start(ClusterSpec { nodes, ..ClusterSpec::default() }).expect("an embedded cluster");
    let bootstrap = cluster.bootstrap().join(",");
    (cluster, bootstrap)
}

fn assert_clean(verdict: &Verdict, records: u64) {
    assert!(verdict.ok(), "{verdict:#?}");
    let counts = (verdict.records_sent, verdict.records_acked, verdict.records_received);
    assert_eq!(counts, (records, records, records));
}

/// librdkafka's own mock cluster: traffic and judge against somebody else's broker.
#[test]
fn traffic_on_librdkafkas_mock_cluster_is_clean() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("orders", 6, 3).expect("a topic");
    let traffic = Traffic::start(plan(cluster.bootstrap_servers(), RECORDS)).expect("traffic starts");
    assert_clean(&traffic.finish(|_| Ok(())).expect("traffic ends"), RECORDS);
}

#[test]
fn a_refused_record_is_a_client_error() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("orders", 6, 1).expect("a topic");
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    cluster.request_errors(RDKafkaApiKey::Produce, &[refusal]);
    let mut plan = plan(cluster.bootstrap_servers(), 200);
    // An idempotent producer would find its next batches out of sequence: more errors, no more to learn.
    plan.properties = vec![("enable.idempotence".into(), "false".into())];
    let traffic = Traffic::start(plan).expect("traffic starts");
    let verdict = traffic.finish(|_| Ok(())).expect("traffic ends");
    assert!(verdict.client_errors > 0, "{verdict:#?}");
    assert_eq!(verdict.counts.keys().copied().collect::<Vec<_>>(), [Class::ClientError]);
}

#[test]
fn traffic_on_an_embedded_cluster_is_clean_and_the_log_agrees() {
    let (cluster, bootstrap) = embedded(3);
    cluster.create_topic("orders", 6, &[]).expect("a topic");
    let traffic = Traffic::start(plan(bootstrap.clone(), RECORDS)).expect("traffic starts");
    let verdict = traffic
        .finish(|checker| {
            let admin = Admin::new(&bootstrap, &[])?;
            assert_eq!(admin.records("orders")?, RECORDS);
            admin.read("orders", |p, offset, value| checker.dump(Side::Source, &p.to_string(), offset, value))
        })
        .expect("traffic ends");
    assert_clean(&verdict, RECORDS);
}

/// Half of the log is gone when it is read back: the judge says so, record by record.
#[test]
fn records_that_vanish_behind_the_readers_are_found() {
    let (cluster, bootstrap) = embedded(1);
    cluster.create_topic("orders", 6, &[]).expect("a topic");
    let traffic = Traffic::start(plan(bootstrap.clone(), 600)).expect("traffic starts");
    let mut gone = 0;
    let verdict = traffic
        .finish(|checker| {
            let end = cluster.log_end("orders", 0).unwrap_or_default();
            gone = end as u64;
            cluster.set_log_start("orders", 0, end);
            Admin::new(&bootstrap, &[])?.read("orders", |p, offset, value| {
                checker.dump(Side::Source, &p.to_string(), offset, value);
            })
        })
        .expect("traffic ends");
    assert!(gone > 0);
    assert_eq!((verdict.lost, verdict.count(Class::LostWrite)), (gone, gone));
}

fn canary_args(bootstrap: String, topic: Option<&str>) -> CanaryArgs {
    CanaryArgs {
        bootstrap,
        topic: topic.map(str::to_owned),
        rate: 2000.0,
        duration: Duration::from_millis(500),
        properties: vec![("linger.ms".into(), "1".into())],
        json: true,
        keep: false,
    }
}

#[test]
fn a_canary_makes_its_topic_and_leaves_nothing() {
    let (cluster, bootstrap) = embedded(1);
    let outcome = canary(canary_args(bootstrap, None)).expect("a canary");
    assert!(outcome.ok(), "{outcome:?}");
    let line: serde_json::Value = serde_json::from_str(&outcome.json()).expect("one line of JSON");
    assert_eq!((&line["records_sent"], &line["records_received"]), (&1000.into(), &1000.into()));
    let keys: Vec<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut agreed = vec![
        "records_sent",
        "records_received",
        "lost",
        "duplicated",
        "reordered",
        "client_errors",
        "produce_pause_ms",
        "result",
    ];
    agreed.sort_unstable();
    assert_eq!(keys, agreed);
    assert!(line["produce_pause_ms"]["max"].as_f64().is_some_and(|ms| ms > 0.0));
    assert_eq!(cluster.topics().iter().filter(|t| t.starts_with("kafka-cutover-demo-")).count(), 0);
    assert_eq!(cluster.groups().iter().filter(|g| g.starts_with("kafka-cutover-demo-")).count(), 0);
}

/// On a topic that is there already the canary passes over what others wrote, and leaves the topic.
#[test]
fn a_canary_shares_a_topic() {
    let (cluster, bootstrap) = embedded(1);
    cluster.create_topic("orders", 2, &[]).expect("a topic");
    for _ in 0..2 {
        let outcome = canary(canary_args(bootstrap.clone(), Some("orders"))).expect("a canary");
        assert!(outcome.ok(), "{outcome:?}");
        assert_eq!((outcome.records_sent, outcome.records_received), (1000, 1000));
    }
    assert!(cluster.topics().contains(&"orders".to_owned()));
}
