//! The writer against two clusters, with maps made by hand.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use kafka_cutover::config::Config;
use kafka_cutover::embedded::{Cluster, ClusterSpec, GroupState, Point};
use kafka_cutover::groups::shadow::{Shadow, Told};
use kafka_cutover::groups::shadow_writer::{self, Mismatch};
use kafka_cutover::ids::{Native, Side, TopicPartition, Virtual};
use kafka_cutover::monitor::Metrics;
use kafka_cutover::offsets::SpliceMap;
use kafka_cutover::routing::{PartitionState, Partitions, Shared};
use kafka_cutover::upstream::admin::Admin;
use kafka_cutover::upstream::ask::groups::{self, Stored};
use kafka_cutover::virtual_cluster::{Versions, VirtualCluster};
use kafka_protocol::messages::ApiKey;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

const SEAM: i64 = 100;
const START: i64 = 7;

struct Rig {
    clusters: [Cluster; 2],
    shared: Arc<Shared>,
    receiver: Option<mpsc::UnboundedReceiver<Told>>,
}

impl Rig {
    /// `orders` has two partitions, tracked and not sealed.
    fn new(nodes: usize) -> Self {
        let clusters = Side::BOTH.map(|side| {
            let cluster =
                Cluster::start(ClusterSpec { name: side.to_string(), nodes, ..ClusterSpec::default() }).unwrap();
            cluster.create_topic("orders", 2, &[]).unwrap();
            cluster
        });
        let cluster = VirtualCluster { cluster_id: "v".to_owned(), versions: Versions::default() };
        let (shadows, receiver) = mpsc::unbounded_channel();
        let (deadlines, topology) = (mpsc::unbounded_channel().0, Arc::new(ArcSwap::default()));
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared::new(
            Config::default(),
            cluster,
            topology,
            deadlines,
            shadows,
            mpsc::unbounded_channel().0,
            metrics,
        ));
        let rig = Self { clusters, shared, receiver: Some(receiver) };
        rig.publish(SpliceMap::whole(Side::Source), false);
        rig
    }

    fn publish(&self, map: SpliceMap, held: bool) {
        let state = || PartitionState { map: map.clone(), held, consumers_held: false, live: Arc::default() };
        let topics = HashMap::from([("orders".into(), Arc::new(vec![state(), state()]))]);
        self.shared.publish_partitions(Partitions { topics, ..Partitions::default() });
    }

    fn seal(&self) {
        let whole = SpliceMap::whole(Side::Source);
        self.publish(whole.sealed(Native(SEAM), 0, (Side::Target, Native(START))).unwrap(), false);
    }

    fn of(&self, side: Side) -> &Cluster {
        &self.clusters[side.index()]
    }

    fn admins(&self) -> [Rc<Admin>; 2] {
        Side::BOTH.map(|side| Rc::new(Admin::new(side, self.of(side).bootstrap(), 1 << 20)))
    }

    async fn commit(&self, side: Side, group: &str, partition: i32, offset: i64, metadata: &str) {
        let [source, target] = self.admins();
        let admin = if side == Side::Source { source } else { target };
        let address = groups::coordinator(&admin, &[], group).await.unwrap();
        let tp = TopicPartition::new("orders", partition);
        let stored = Stored { offset, metadata: Some(metadata.to_owned()) };
        let done = groups::commit_simple(&admin, &address, group, &[(tp.clone(), stored)]).await.unwrap();
        assert_eq!(done[&tp], Ok(()));
    }

    /// As `api::offset_commit` tells it.
    fn tell(&self, group: &str, partition: i32, v: i64) {
        let partition = TopicPartition::new("orders", partition);
        let shadow = Shadow { group: group.to_owned(), partition, v: Virtual(v), metadata: None };
        self.shared.shadows.send(Told::Committed(shadow)).unwrap();
    }

    async fn shadow_is(&self, group: &str, partition: i32, offset: i64) {
        self.of(Side::Target).wait_until(|c| c.committed(group, "orders", partition) == Some(offset)).await;
    }

    /// Plays `story` while the writer runs.
    fn play(&mut self, story: impl AsyncFnOnce(&Rig)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let receiver = self.receiver.take().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let last = CancellationToken::new();
            let writer = shadow_writer::run(self.shared.clone(), self.admins(), receiver, last);
            let played = tokio::time::timeout(Duration::from_secs(60), story(self));
            tokio::select! {
                () = writer => unreachable!("it writes for ever"),
                played = played => played.expect("what the story waits for happens"),
            }
        });
    }

    fn counted(&self, outcome: &str) -> Option<u64> {
        let text = self.shared.metrics.render();
        let line = text.lines().find(|l| l.contains("shadow_commits_total") && l.contains(outcome))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

#[test]
fn what_is_owed_is_written_before_the_end() {
    let mut rig = Rig::new(2);
    rig.seal();
    for v in 0..=SEAM + 1 {
        rig.tell("g", 0, v);
    }
    let (receiver, last) = (rig.receiver.take().unwrap(), CancellationToken::new());
    last.cancel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let writer = shadow_writer::run(rig.shared.clone(), rig.admins(), receiver, last);
        tokio::time::timeout(Duration::from_secs(60), writer).await.expect("it ends");
    });
    assert_eq!(rig.of(Side::Target).committed("g", "orders", 0), Some(START + 1));
}

#[test]
fn a_pass_after_the_seal_brings_what_was_committed_before_it() {
    let mut rig = Rig::new(2);
    rig.play(async |rig| {
        for n in 0..40 {
            rig.commit(Side::Source, &format!("g{n}"), 0, n, "noted").await;
        }
        rig.commit(Side::Source, "g0", 1, SEAM, "noted").await;
        assert_eq!(rig.of(Side::Target).groups(), Vec::<String>::new());
        rig.seal();
        for n in 0..40 {
            rig.shadow_is(&format!("g{n}"), 0, START).await;
        }
        rig.shadow_is("g0", 1, START).await;
        assert_eq!(shadow_writer::verify(&rig.shared, &rig.admins()).await.unwrap(), []);
        // Commits keep it current.
        rig.tell("g0", 1, SEAM + 5);
        rig.shadow_is("g0", 1, START + 5).await;
    });
}

#[test]
fn a_seal_is_not_followed_while_it_is_held() {
    let mut rig = Rig::new(1);
    rig.play(async |rig| {
        rig.commit(Side::Source, "g", 0, 5, "").await;
        let map = SpliceMap::whole(Side::Source).sealed(Native(SEAM), 0, (Side::Target, Native(START))).unwrap();
        rig.publish(map.clone(), true);
        // Another commit is written by then, and nothing was read.
        rig.tell("h", 0, SEAM + 1);
        rig.shadow_is("h", 0, START + 1).await;
        assert_eq!(rig.of(Side::Source).faults().seen(ApiKey::ListGroups), 0);
        rig.publish(map, false);
        rig.shadow_is("g", 0, START).await;
    });
}

/// One commit is on its way; those that come meanwhile are one more.
#[test]
fn what_comes_meanwhile_is_one_commit() {
    let mut rig = Rig::new(1);
    rig.seal();
    rig.play(async |rig| {
        let hold = rig.of(Side::Target).faults().hold(ApiKey::OffsetCommit, None, Point::Process);
        rig.tell("g", 0, SEAM);
        hold.wait_until_held(1).await;
        for v in 1..=500 {
            rig.tell("g", 0, SEAM + v);
            rig.tell("g", 1, SEAM + v);
        }
        hold.release();
        rig.shadow_is("g", 0, START + 500).await;
        rig.shadow_is("g", 1, START + 500).await;
        assert_eq!(rig.of(Side::Target).faults().seen(ApiKey::OffsetCommit), 2);
    });
}

#[test]
fn a_target_that_was_away_gets_the_newest() {
    let mut rig = Rig::new(1);
    rig.seal();
    rig.play(async |rig| {
        rig.tell("g", 0, SEAM + 1);
        rig.shadow_is("g", 0, START + 1).await;
        rig.of(Side::Target).stop_node(0);
        for v in 2..9 {
            rig.tell("g", 0, SEAM + v);
            tokio::task::yield_now().await;
        }
        rig.of(Side::Target).start_node(0).unwrap();
        rig.shadow_is("g", 0, START + 8).await;
    });
}

/// Also while the target is away, and not what was committed since.
#[test]
fn positions_that_are_deleted_take_their_shadows_along() {
    let mut rig = Rig::new(2);
    rig.seal();
    rig.play(async |rig| {
        let forget = |partitions: &[i32]| {
            let partitions = partitions.iter().map(|i| TopicPartition::new("orders", *i)).collect();
            rig.shared.shadows.send(Told::Forgotten { group: "g".to_owned(), partitions }).unwrap();
        };
        let gone = |c: &Cluster, partition| c.committed("g", "orders", partition).is_none();
        rig.tell("g", 0, SEAM + 1);
        rig.tell("g", 1, SEAM + 1);
        rig.shadow_is("g", 0, START + 1).await;
        rig.shadow_is("g", 1, START + 1).await;
        forget(&[0]);
        rig.of(Side::Target).wait_until(|c| gone(c, 0)).await;
        assert_eq!(rig.of(Side::Target).committed("g", "orders", 1), Some(START + 1));

        rig.of(Side::Target).stop_node(0);
        rig.of(Side::Target).stop_node(1);
        forget(&[0, 1]);
        rig.tell("g", 0, SEAM + 5);
        rig.of(Side::Target).start_node(0).unwrap();
        rig.of(Side::Target).start_node(1).unwrap();
        rig.shadow_is("g", 0, START + 5).await;
        rig.of(Side::Target).wait_until(|c| gone(c, 1)).await;
    });
}

/// A pass over the groups waits for a source that is away.
#[test]
fn a_source_that_was_away_is_read_later() {
    let mut rig = Rig::new(1);
    rig.play(async |rig| {
        rig.commit(Side::Source, "g", 0, 5, "").await;
        rig.of(Side::Source).stop_node(0);
        rig.seal();
        rig.tell("h", 0, SEAM + 1);
        rig.shadow_is("h", 0, START + 1).await;
        rig.of(Side::Source).start_node(0).unwrap();
        rig.shadow_is("g", 0, START).await;
    });
}

/// Somebody else's group of the same name on the target keeps its positions; the others get theirs.
#[test]
fn a_group_with_members_on_the_target_is_left_alone() {
    let mut rig = Rig::new(1);
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", rig.of(Side::Target).bootstrap().join(","))
        .set("group.id", "taken")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    member.subscribe(&["orders"]).unwrap();
    let is_stable = |c: &Cluster| c.group("taken").is_some_and(|(state, ..)| state == GroupState::Stable);
    while !is_stable(rig.of(Side::Target)) {
        drop(member.poll(Duration::from_millis(10)));
    }
    rig.seal();
    rig.play(async |rig| {
        rig.commit(Side::Source, "taken", 0, SEAM, "").await;
        rig.tell("taken", 0, SEAM + 3);
        rig.tell("free", 0, SEAM + 1);
        rig.shadow_is("free", 0, START + 1).await;
        // The round before is over when the next one has been written.
        rig.tell("free", 0, SEAM + 2);
        rig.shadow_is("free", 0, START + 2).await;
        assert_eq!(rig.of(Side::Target).committed("taken", "orders", 0), None);
        assert!(rig.counted("failed").is_some_and(|n| n >= 1), "{}", rig.shared.metrics.render());
        let wanted = Stored { offset: START, metadata: Some(String::new()) };
        let partition = TopicPartition::new("orders", 0);
        let mismatch = Mismatch { group: "taken".to_owned(), partition, wanted, found: None };
        assert_eq!(shadow_writer::verify(&rig.shared, &rig.admins()).await.unwrap(), [mismatch]);
    });
}
