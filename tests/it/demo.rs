//! The demo, the canary and their traffic: a clean run is judged clean, and says so in the agreed form.
#![cfg(feature = "librdkafka")]

use std::time::Duration;

use kafka_cutover::audit::traffic::{Plan, Traffic};
use rdkafka::mocking::MockCluster;

fn plan(bootstrap: String, topic: &str) -> Plan {
    Plan {
        bootstrap,
        topic: topic.into(),
        partitions: 6,
        producers: vec!["lz4", "none"],
        members: 3,
        group: "readers".into(),
        rate: 5000.0,
        records: 5000,
        properties: Vec::new(),
        shared_topic: false,
        patience: Duration::from_secs(60),
    }
}

#[test]
fn traffic_on_a_healthy_cluster_is_clean() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("orders", 6, 3).expect("a topic");
    let traffic = Traffic::start(plan(cluster.bootstrap_servers(), "orders")).expect("traffic starts");
    let verdict = traffic.finish(|_| Ok(())).expect("traffic ends");
    assert!(verdict.ok(), "{:#?}", verdict);
    assert_eq!((verdict.records_sent, verdict.records_acked, verdict.records_received), (5000, 5000, 5000));
}
