//! Through a whole proxy: commits before and after the seal, in either part.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kafka_cutover::config::{Cluster as At, Config, Listener, Migration, Pattern, Scheme};
use kafka_cutover::demo::operator::Operator;
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const WAIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "orders";
const SOURCE_RECORDS: i64 = 10;

struct Rig {
    source: Cluster,
    target: Cluster,
    operator: Operator,
    bootstrap: String,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let cluster = |name: &str, node_id_base| {
            Cluster::start(ClusterSpec { name: name.to_owned(), node_id_base, ..ClusterSpec::default() }).unwrap()
        };
        let (source, target) = (cluster("source", 1_600_000_001), cluster("target", 1_600_000_101));
        source.create_topic(TOPIC, 1, &[]).unwrap();
        // The target's part will not begin at 0.
        target.create_topic(TOPIC, 1, &[]).unwrap();
        produce(&target.bootstrap().join(","), 5);
        target.set_log_start(TOPIC, 0, 5);
        let at = |c: &Cluster| At::at(c.bootstrap().iter().map(|a| a.parse().unwrap()).collect::<Vec<_>>());
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            name: "shadows".to_owned(),
            source: at(&source),
            target: at(&target),
            listeners: vec![Listener::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))],
            migrations: vec![Migration {
                name: "shop".to_owned(),
                topics: vec![Pattern::new(TOPIC).unwrap()],
                scheme: Scheme::ProducersFirst,
                ..Migration::default()
            }],
            ..Config::default()
        };
        config.control.socket = dir.path().join("control.sock");
        config.state.dir = dir.path().join("state");
        config.monitor.bind = None;
        let operator = Operator::start(config).unwrap();
        let bootstrap = operator.listeners()[0].to_string();
        Self { source, target, operator, bootstrap, _dir: dir }
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap);
        client
    }

    fn commit(&self, group: &str, offset: i64, metadata: &str) {
        let consumer: BaseConsumer =
            self.client().set("group.id", group).set("enable.auto.commit", "false").create().unwrap();
        let mut positions = TopicPartitionList::new();
        positions.add_partition_offset(TOPIC, 0, Offset::Offset(offset)).unwrap();
        positions.find_partition(TOPIC, 0).unwrap().set_metadata(metadata);
        consumer.commit(&positions, CommitMode::Sync).unwrap();
        let back = consumer.committed_offsets(positions, WAIT).unwrap();
        let back = back.find_partition(TOPIC, 0).unwrap();
        assert_eq!((back.offset(), back.metadata()), (Offset::Offset(offset), metadata));
    }

    fn shadow_is(&self, group: &str, offset: i64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let written = self.target.wait_until(|c| c.committed(group, TOPIC, 0) == Some(offset));
            let written = tokio::time::timeout(WAIT, written).await;
            assert!(written.is_ok(), "{group}: {:?}, not {offset}", self.target.committed(group, TOPIC, 0));
        });
    }
}

fn produce(bootstrap: &str, records: i64) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    for n in 0..records {
        let value = n.to_string();
        producer.send(BaseRecord::<(), str>::to(TOPIC).partition(0).payload(value.as_str())).unwrap();
    }
    producer.flush(WAIT).unwrap();
}

#[test]
fn a_deleted_groups_shadow_goes_with_it() {
    let rig = Rig::new();
    produce(&rig.bootstrap, SOURCE_RECORDS);
    rig.commit("gone", 3, "");
    rig.commit("stays", 3, "");
    rig.operator.prepare("shop").unwrap();
    rig.operator.switch_producers("shop").unwrap();
    let start = rig.target.log_end(TOPIC, 0).unwrap();
    rig.shadow_is("gone", start);
    rig.shadow_is("stays", start);
    let admin: AdminClient<_> = rig.client().create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let deleted = admin.delete_groups(&["gone"], &AdminOptions::new()).await.unwrap();
        assert_eq!(deleted, [Ok("gone".to_owned())]);
        let away = rig.target.wait_until(|c| c.committed("gone", TOPIC, 0).is_none());
        assert!(tokio::time::timeout(WAIT, away).await.is_ok(), "its shadow is still there");
    });
    assert_eq!(rig.target.committed("stays", TOPIC, 0), Some(start));
    rig.commit("gone", SOURCE_RECORDS, "a new one of this name");
    rig.shadow_is("gone", start);
    rig.operator.stop().unwrap();
}

#[test]
fn shadows_follow_the_commits() {
    let rig = Rig::new();
    produce(&rig.bootstrap, SOURCE_RECORDS);
    rig.commit("early", SOURCE_RECORDS, "at the end");
    rig.commit("behind", 3, "");
    rig.operator.prepare("shop").unwrap();
    rig.commit("prepared", SOURCE_RECORDS - 1, "");
    assert_eq!(rig.target.groups(), Vec::<String>::new(), "before a seal there is no shadow");
    rig.operator.switch_producers("shop").unwrap();
    let start = rig.target.log_end(TOPIC, 0).unwrap();
    assert!(start >= 5);
    for group in ["early", "behind", "prepared"] {
        rig.shadow_is(group, start);
    }
    produce(&rig.bootstrap, 6);
    assert_eq!(rig.target.log_end(TOPIC, 0), Some(start + 6));
    assert_eq!(rig.source.log_end(TOPIC, 0), Some(SOURCE_RECORDS));
    rig.commit("late", 4, "in the source's part");
    rig.shadow_is("late", start);
    rig.commit("late", SOURCE_RECORDS + 4, "in the target's part");
    rig.shadow_is("late", start + 4);
    rig.commit("late", 4, "a rewind");
    rig.shadow_is("late", start);

    rig.target.stop_node(0);
    for v in [1, 2, 5] {
        rig.commit("late", SOURCE_RECORDS + v, "while the target is away");
    }
    rig.target.start_node(0).unwrap();
    rig.shadow_is("late", start + 5);
    rig.operator.stop().unwrap();
}
