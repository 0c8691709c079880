//! Questions to clusters, preflight's findings, `prepare`'s topics, seeds and markers, against embedded clusters.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod asks;
mod components;
mod findings;
mod markers;
mod prepare;

use std::net::{Ipv4Addr, SocketAddr};

use kafka_cutover::config::{Cluster as At, Config, Listener, Migration, Pattern};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::ids::Side;
use kafka_cutover::migration::record::{self, Record};
use kafka_cutover::upstream::admin::Admin;

/// Runs on a runtime and a LocalSet of its own, as the control plane does.
fn local<T>(work: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work())
}

fn admin(side: Side, cluster: &Cluster) -> Admin {
    Admin::new(side, cluster.bootstrap(), 64 << 20)
}

/// Two clusters and a config that leads to them.
struct Pair {
    source: Cluster,
    target: Cluster,
    config: Config,
}

fn pair_of(source: ClusterSpec, target: ClusterSpec, migrations: &[(&str, &[&str])]) -> Pair {
    let [source, target] = [source, target].map(|spec| Cluster::start(spec).unwrap());
    let at = |c: &Cluster| At::at(c.bootstrap().iter().map(|a| a.parse().unwrap()));
    let config = Config {
        source: at(&source),
        target: at(&target),
        listeners: vec![Listener::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
        migrations: migrations.iter().map(|(name, topics)| migration(name, topics)).collect(),
        ..Config::default()
    };
    Pair { source, target, config }
}

fn pair(migrations: &[(&str, &[&str])]) -> Pair {
    pair_of(ClusterSpec::default(), ClusterSpec::default(), migrations)
}

fn migration(name: &str, topics: &[&str]) -> Migration {
    let topics = topics.iter().map(|t| Pattern::new(t).unwrap()).collect();
    Migration { name: name.to_owned(), topics, ..Migration::default() }
}

/// A record that bypasses everybody.
fn write(cluster: &Cluster, topic: &str, partition: i32) {
    let record = Record { key: None, value: Some("x".into()) };
    cluster.append_directly(topic, partition, record::batch(&record, 1_000, None)).unwrap();
}
