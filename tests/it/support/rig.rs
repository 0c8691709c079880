//! The two clusters that tests/run started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kafka_cutover::audit::admin::Admin;
use kafka_cutover::ids::Side;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::PATIENCE;

pub struct Rig {
    /// Where tests/run keeps its clusters, and stops all that it finds there at its end.
    pub dir: PathBuf,
    bootstrap: [String; 2],
    version: [String; 2],
}

impl Rig {
    pub fn connect() -> Self {
        let dir =
            std::env::var("KAFKA_CUTOVER_RIG").expect("KAFKA_CUTOVER_RIG names the clusters: run this by tests/run");
        let dir = PathBuf::from(dir);
        let (bootstrap, version) = Self::clusters(&dir);
        Self { dir, bootstrap, version }
    }

    fn clusters(dir: &Path) -> ([String; 2], [String; 2]) {
        let clusters = Side::BOTH.map(|side| {
            let path = dir.join(side.to_string()).join("cluster.json");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            serde_json::from_str::<serde_json::Value>(&text).expect("cluster.json is JSON")
        });
        let bootstrap = |cluster: &serde_json::Value| {
            let nodes = cluster["bootstrap"].as_array().expect("addresses");
            nodes.iter().map(|n| n.as_str().expect("an address")).collect::<Vec<_>>().join(",")
        };
        let version = |cluster: &serde_json::Value| cluster["version"].as_str().expect("a version").to_owned();
        (clusters.each_ref().map(bootstrap), clusters.each_ref().map(version))
    }

    /// With another cluster on one side.
    pub fn with(mut self, side: Side, bootstrap: &str) -> Self {
        self.bootstrap[side.index()] = bootstrap.to_owned();
        self
    }

    /// What clients must not see: the nodes' addresses and ids, and the target's cluster id.
    pub fn identities(&self) -> Vec<String> {
        let mut found = Vec::new();
        for side in Side::BOTH {
            let path = self.dir.join(side.to_string()).join("cluster.json");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let cluster: serde_json::Value = serde_json::from_str(&text).expect("cluster.json is JSON");
            for node in cluster["nodes"].as_array().expect("nodes") {
                let address = node["addr"].as_str().expect("an address");
                found.extend(address.rsplit_once(':').map(|(host, _)| host.to_owned()));
                found.push(node["id"].to_string());
            }
            if side == Side::Target {
                found.push(cluster["cluster_id"].as_str().expect("an id").to_owned());
            }
        }
        found
    }

    /// `--full`: the long version.
    pub fn full() -> bool {
        std::env::var_os("KAFKA_CUTOVER_FULL").is_some()
    }

    pub fn bootstrap(&self, side: Side) -> &str {
        &self.bootstrap[side.index()]
    }

    pub fn version(&self, side: Side) -> &str {
        &self.version[side.index()]
    }

    /// Straight to one cluster.
    pub fn admin(&self, side: Side) -> Admin {
        Admin::new(self.bootstrap(side), &[]).expect("an admin client")
    }

    /// A group's positions, straight from one cluster.
    pub fn committed(&self, side: Side, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap(side)).set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition(topic, partition);
        }
        let found = consumer.committed_offsets(asked, PATIENCE).expect("an answer");
        let place = |(p, at): (i32, Offset)| if let Offset::Offset(at) = at { Some((p, at)) } else { None };
        found.elements().iter().filter_map(|e| place((e.partition(), e.offset()))).collect()
    }

    /// A topic on the source only, as before any migration.
    pub fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]);
    }

    /// The same, with some of its configs.
    pub fn create_with(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.admin(Side::Source).create_with(topic, partitions, configs).expect("a topic on the source");
        // Each broker hears of it in its own time, and a client that asks one too early is told that there is none.
        let deadline = Instant::now() + PATIENCE;
        for broker in self.bootstrap(Side::Source).split(',') {
            let admin = Admin::new(broker, &[]).expect("an admin client");
            while admin.partitions(topic).expect("metadata") != usize::try_from(partitions).ok() {
                assert!(Instant::now() < deadline, "{broker} never hears of {topic}");
            }
        }
    }
}
