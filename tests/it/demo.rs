//! The demo, the canary and their traffic: a clean run is judged clean, a run that was interfered with is not.
#![cfg(feature = "librdkafka")]

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_cutover::audit::admin::Admin;
use kafka_cutover::audit::canary::canary;
use kafka_cutover::audit::traffic::{Plan, Traffic};
use kafka_cutover::audit::{Class, Verdict};
use kafka_cutover::cli::{CanaryArgs, DemoArgs, DemoScheme, SandboxArgs};
use kafka_cutover::config::Scheme;
use kafka_cutover::demo::sandbox::Sandbox;
use kafka_cutover::demo::stage::{PARTITIONS, Stage};
use kafka_cutover::demo::story::{self, Cutover, stream};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::ids::Side;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
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
        held_back: 0,
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

fn canary_args(bootstrap: &str, topic: &str) -> CanaryArgs {
    CanaryArgs {
        bootstrap: bootstrap.split(',').map(|a| a.parse().expect("an address")).collect(),
        topic: topic.to_owned(),
        rate: 2000,
        duration: Duration::from_millis(500),
        properties: vec![("linger.ms".into(), "1".into())],
        json: true,
        keep: false,
    }
}

#[test]
fn a_canary_makes_its_topic_and_leaves_nothing() {
    let (cluster, bootstrap) = embedded(1);
    let outcome = canary(&canary_args(&bootstrap, "fresh")).expect("a canary");
    assert!(outcome.ok(), "{outcome:?}");
    let line: serde_json::Value = serde_json::from_str(&outcome.json()).expect("one line of JSON");
    assert_eq!((&line["records_sent"], &line["records_received"]), (&1000.into(), &1000.into()));
    let keys: BTreeSet<&str> = line.as_object().expect("an object").keys().map(String::as_str).collect();
    let counts = ["records_sent", "records_received", "lost", "duplicated", "reordered", "client_errors"];
    let agreed: BTreeSet<&str> = counts.into_iter().chain(["produce_pause_ms", "result"]).collect();
    assert_eq!(keys, agreed);
    assert!(line["produce_pause_ms"]["max"].as_f64().is_some_and(|ms| ms > 0.0));
    assert!(!cluster.topics().contains(&"fresh".to_owned()), "{:?}", cluster.topics());
    assert_eq!(cluster.groups(), Vec::<String>::new());
}

/// On a topic that is there already the canary passes over what others wrote, and leaves the topic.
#[test]
fn a_canary_shares_a_topic() {
    let (cluster, bootstrap) = embedded(1);
    cluster.create_topic("orders", 2, &[]).expect("a topic");
    for _ in 0..2 {
        let outcome = canary(&canary_args(&bootstrap, "orders")).expect("a canary");
        assert!(outcome.ok(), "{outcome:?}");
        assert_eq!((outcome.records_sent, outcome.records_received), (1000, 1000));
    }
    assert!(cluster.topics().contains(&"orders".to_owned()));
}

/// An operator that may do anything but move producers.
struct Scripted<'a> {
    acts: std::cell::RefCell<Vec<String>>,
    switch: &'a dyn Fn() -> anyhow::Result<()>,
}

impl Cutover for Scripted<'_> {
    fn prepare(&self, migration: &str) -> anyhow::Result<String> {
        self.acts.borrow_mut().push(format!("prepare {migration}"));
        Ok(String::new())
    }

    fn switch(&self, migration: &str) -> anyhow::Result<String> {
        self.acts.borrow_mut().push(format!("switch {migration}"));
        (self.switch)()?;
        Ok(String::new())
    }
}

fn play(
    switch: &dyn Fn(&Stage) -> anyhow::Result<()>,
) -> (Stage, anyhow::Result<kafka_cutover::audit::Outcome>, Vec<String>) {
    let stage = Stage::set(None, Scheme::ProducersFirst).expect("a stage");
    let scripted = Scripted { acts: Default::default(), switch: &|| switch(&stage) };
    let bootstrap = stage.bootstrap(Side::Source).to_owned();
    let outcome = stream(&stage, &bootstrap, Scheme::ProducersFirst, 4000, &scripted);
    let acts = scripted.acts.take();
    (stage, outcome, acts)
}

/// Straight to the source, where nothing moves: the story, its order and its numbers.
#[test]
fn the_story_without_a_proxy() {
    let (stage, outcome, acts) = play(&|_| Ok(()));
    let outcome = outcome.expect("played");
    assert!(outcome.ok(), "{outcome:?}");
    assert_eq!(acts, ["prepare producers-first", "switch producers-first"]);
    assert_eq!((outcome.source_records, outcome.target_records), (Some(4000), Some(0)));
    let line: serde_json::Value = serde_json::from_str(&outcome.json()).expect("one line of JSON");
    assert_eq!(line["scheme"], "producers-first");
    assert_eq!(line["result"], "ok");
    stage.sweep().expect("swept");
    assert_eq!(stage.admin(Side::Source).partitions(&stage.topic).expect("metadata"), None);
}

/// The first of each partition go when they have long been read: only the clusters' own logs can tell.
#[test]
fn a_switch_that_loses_records_fails_the_story() {
    const GONE: i64 = 10;
    let (_stage, outcome, _) = play(&|stage| {
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            all.add_partition_offset(&stage.topic, partition, Offset::Offset(GONE))?;
        }
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", stage.bootstrap(Side::Source)).create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let deleted = runtime.block_on(admin.delete_records(&all, &AdminOptions::new()))?;
        deleted.elements().iter().try_for_each(|e| Ok(e.error()?))
    });
    let outcome = outcome.expect("played");
    assert_eq!(outcome.result, "failed");
    assert_eq!(outcome.lost, GONE as u64 * PARTITIONS as u64, "{outcome:?}");
}

#[test]
fn a_refused_switch_ends_the_story() {
    let (stage, outcome, _) = play(&|_| anyhow::bail!("the guard says no"));
    assert!(format!("{:#}", outcome.expect_err("refused")).contains("the guard says no"));
    stage.sweep().expect("swept");
}

#[test]
fn the_demo_moves_live_traffic() {
    let args = DemoArgs { scheme: DemoScheme::All, records: 20_000, config: None, json: true, keep: false };
    let outcome = story::play(&args, Scheme::ProducersFirst).expect("played");
    assert!(outcome.ok(), "{outcome:?}");
    assert_eq!((outcome.records_sent, outcome.records_received), (20_000, 20_000));
    let (source, target) = (outcome.source_records.expect("counted"), outcome.target_records.expect("counted"));
    assert!(source > 0 && target > 0 && source + target == 20_000, "{source} + {target}");
}

#[test]
fn the_sandbox_takes_traffic() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = SandboxArgs { listen: "127.0.0.1:0".parse().expect("an address"), nodes: 2 };
    let sandbox = Sandbox::start(&args, Some(&dir.path().join("s.sock"))).expect("a sandbox");
    let bootstrap = sandbox.proxy.listeners[0].to_string();
    assert!(sandbox.guide().contains(&bootstrap));
    let outcome = canary(&canary_args(&bootstrap, "pf-orders")).expect("a canary");
    assert!(outcome.ok(), "{outcome:?}");
    sandbox.stop().expect("the sandbox stops");
}

/// On clusters of the user's: theirs are the clusters and listeners, everything else is the demo's own, and goes.
#[test]
fn a_config_gives_the_clusters_and_nothing_else() {
    let (source, at_source) = embedded(1);
    let (target, at_target) = embedded(1);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    let text = format!(
        "source: {{ bootstrap: ['{at_source}'] }}\ntarget: {{ bootstrap: ['{at_target}'] }}\n\
         listeners: [{{ bind: 127.0.0.1:0 }}]\nname: production\nstate: {{ dir: /var/lib/precious }}\n\
         control: {{ socket: /run/precious.sock }}\nmigrations: [{{ name: orders, topics: [orders], scheme: producers-first }}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let stage = Stage::set(Some(&file), Scheme::ProducersFirst).expect("a stage");
    assert_ne!(stage.config.name, "production");
    assert!(!stage.config.state.dir.starts_with("/var"), "{:?}", stage.config.state.dir);
    assert!(!stage.config.control.socket.starts_with("/run"), "{:?}", stage.config.control.socket);
    assert_eq!(stage.config.migrations.len(), 1);
    assert!(stage.config.migrations[0].matches(&stage.topic) && !stage.config.migrations[0].matches("orders"));
    assert_eq!(source.topics(), std::slice::from_ref(&stage.topic));
    assert!(stage.topic.starts_with("kafka-cutover-demo-"));

    // What the proxy would have left by now.
    for cluster in [&source, &target] {
        cluster.create_topic(&format!("__kafka_cutover.{}", stage.config.name), 1, &[]).expect("a marker topic");
    }
    target.create_topic(&stage.topic, 1, &[]).expect("the prepared topic");
    source.create_topic("orders", 1, &[]).expect("the user's topic");
    stage.sweep().expect("swept");
    assert_eq!((source.topics(), target.topics()), (vec!["orders".to_owned()], vec![]));
    let state = stage.config.state.dir.parent().expect("a directory").to_owned();
    drop(stage);
    assert!(!state.exists());
}
