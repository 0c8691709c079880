//! Transactional producers of three libraries cut over in mid-stream: readers of committed records get each transaction whole
//! and once, and nothing of an aborted one; no client sees an error.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kafka_cutover::audit::What;
#[cfg(feature = "crash-points")]
use kafka_cutover::crash::CROSSING;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::{DescribeTransactionsRequest, FindCoordinatorRequest};
use kafka_protocol::protocol::Request;
use tokio::runtime::Runtime;

use crate::embedded::raw::{Raw, text};
use crate::support::crowd::Crowd;
use crate::support::own::Own;
#[cfg(feature = "crash-points")]
use crate::support::proxy::MIGRATION;
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::whole_log::WholeLog;
use crate::support::{PATIENCE, eventually, unique};

const LIBRARIES: [&str; 3] = ["java", "confluent", "franz-go"];
/// The whole version has one id each of these, too.
const OLD: [&str; 3] = ["java-3.9", "java-2.8", "confluent-2.0"];
const PARTITIONS: i32 = 3;
/// Of a transaction, and so of a batch at most.
const RECORDS_OF_ONE: i64 = 20;

/// The ids that write: some in transactions of a fifth of a second, some in longer ones.
struct Writers {
    libraries: &'static [&'static str],
    short: usize,
    long: usize,
    /// Records a second of a long one, twenty of which are a transaction.
    slow: &'static str,
    /// Older libraries, with one id each.
    old: &'static [&'static str],
}

impl Writers {
    fn begin(&self, crowd: &mut Crowd, topic: &str) {
        for lib in self.libraries {
            let mut one = |name: String, rate: &str| {
                let id = format!("{topic}-{name}");
                crowd.producer(lib, &name, &["--rate", rate, "--transactional-id", &id]);
            };
            (0..self.short).for_each(|n| one(format!("{lib}-short-{n}"), "100"));
            (0..self.long).for_each(|n| one(format!("{lib}-long-{n}"), self.slow));
        }
        for lib in self.old {
            let id = format!("{topic}-{lib}");
            crowd.producer(lib, lib, &["--rate", "20", "--transactional-id", &id]);
        }
    }
}

/// Every reader got all that was committed, once, where its producer says that it is; and nothing else. `topic`: of those
/// that its readers take for one, by the name of who writes to it.
pub(super) fn are_whole(crowd: &Crowd, readers: &[String], topic: impl Fn(&str) -> Option<usize>) -> u64 {
    let (mut committed, mut sent): (BTreeMap<u64, (String, Option<i64>)>, u64) = (BTreeMap::new(), 0);
    let events = crowd.events();
    for event in &events {
        match &event.what {
            What::Ack { id, partition, offset, .. } => {
                // Without a base offset librdkafka numbers the records of a batch from -1 on.
                let is_counted = event.client.starts_with("confluent") && offset.is_some_and(|at| at < RECORDS_OF_ONE);
                let place = topic(&event.client).map_or_else(|| partition.clone(), |number| number.to_string());
                let before = committed.insert(*id, (place, offset.filter(|_| !is_counted)));
                assert_eq!(before, None, "committed twice: {event:?}");
            }
            What::Fail { .. } => panic!("{event:?}"),
            What::Done(tally) => sent += tally.sent.unwrap_or(0),
            _ => {}
        }
    }
    for name in readers {
        let mut received: BTreeSet<u64> = BTreeSet::new();
        for event in events.iter().filter(|e| e.client == *name) {
            if let What::Recv { partition, offset, value, .. } = &event.what {
                let id = value.split(' ').nth(4).and_then(|id| u64::from_str_radix(id, 16).ok());
                let id = id.expect("a record of ours");
                assert!(received.insert(id), "{name} received twice: {event:?}");
                let Some((to, at)) = committed.get(&id) else { panic!("{name} received what was aborted: {event:?}") };
                assert!(to == partition && at.is_none_or(|at| at == *offset), "{name}: {event:?}, not at {at:?}");
            }
        }
        let lost: Vec<_> = committed.iter().filter(|(id, _)| !received.contains(id)).take(5).collect();
        assert!(lost.is_empty(), "{name} lost {lost:?}");
    }
    // Every fourth transaction was aborted.
    let committed = committed.len() as u64;
    assert!(sent > committed, "{sent} sent, {committed} committed");
    committed
}

/// The clusters of a suite's two runs: one with the first protocol of transactions, one with the second, which only brokers of
/// 4.0 and newer have.
pub(super) struct Pair {
    pub(super) rig: Rig,
    /// The source of the second, which ends with this.
    second: Option<Own>,
}

impl Pair {
    /// 3.9 to 4.3.
    pub(super) fn first() -> Self {
        Self { rig: Rig::connect(), second: None }
    }

    /// 4.3 to 4.3.
    pub(super) fn second() -> Self {
        let rig = Rig::connect();
        let source = Own::start(&rig, Side::Target, 1, &[]);
        Self { rig: rig.with(Side::Source, &source.bootstrap()), second: Some(source) }
    }

    /// Where the second is meant: that the producer of this id, of a library that can, has spoken it. Then every transaction ends an
    /// epoch. (librdkafka speaks the first everywhere.)
    pub(super) fn was_spoken(&self, proxy: &Proxy, id: &str) {
        if self.second.is_some() {
            let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(id).into()]);
            let epoch = ask(&proxy.bootstrap(), &request, 0).transaction_states[0].producer_epoch;
            assert!(epoch > 2, "{id} has epoch {epoch}");
        }
    }
}

/// What is answered there.
fn ask<R: Request>(address: &str, request: &R, version: i16) -> R::Response {
    let answer = Runtime::new().expect("a runtime").block_on(async {
        tokio::time::timeout(PATIENCE, async { Raw::connect(address).await.ask(request, version).await }).await
    });
    answer.expect("an answer in time")
}

/// A topic, a proxy, readers of committed records and writers of transactions.
struct Scene {
    topic: String,
    proxy: Proxy,
    crowd: Crowd,
    readers: Vec<String>,
}

impl Scene {
    fn begin(rig: &Rig, writers: &Writers, allowed: &[&str], start: impl FnOnce(&mut Proxy)) -> Self {
        let topic = unique("transactions");
        rig.create(&topic, PARTITIONS);
        let mut proxy = Proxy::new(rig, &[&topic]);
        start(&mut proxy);
        let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, allowed);
        let readers: Vec<String> = writers.libraries.iter().map(|lib| format!("{lib}-reads")).collect();
        for (lib, name) in writers.libraries.iter().zip(&readers) {
            crowd.member(lib, name, &format!("{topic}-{lib}"), &["--isolation", "read_committed"]);
        }
        crowd.wait_for_groups(PARTITIONS as usize);
        writers.begin(&mut crowd, &topic);
        Self { topic, proxy, crowd, readers }
    }

    /// Everybody ends, and everything is whole.
    fn end(mut self, rig: &Rig) {
        eventually("the seam has its place", || self.proxy.migration().late_seam.is_none());
        self.crowd.stop_producers();
        self.crowd.wait_for_readers();
        self.crowd.stop(&self.readers);
        println!("{} records were committed", are_whole(&self.crowd, &self.readers, |_| None));
        assert_eq!(self.crowd.complaints(), Vec::<String>::new());
        for partition in WholeLog::read(rig, &self.topic).0 {
            let sides: HashSet<Side> = partition.entries.iter().map(|e| e.side).collect();
            assert_eq!(sides.len(), 2, "both sides have a part of it");
        }
        self.proxy.stop();
    }
}

#[test]
fn transactions_are_whole_over_the_seam() {
    for pair in [Pair::first, Pair::second].map(|begin| begin()) {
        let rig = &pair.rig;
        let writers = match Rig::full() {
            false => Writers { libraries: &LIBRARIES, short: 1, long: 1, slow: "4", old: &[] },
            true => Writers { libraries: &LIBRARIES, short: 7, long: 9, slow: "4", old: &OLD },
        };
        let scene = Scene::begin(rig, &writers, &["allow.txt"], Proxy::start);
        let part = if Rig::full() { 400 } else { 40 };
        scene.crowd.wait_for_producers(part / 2);
        scene.proxy.prepare();
        println!("{:#?}", scene.proxy.switch());
        scene.crowd.wait_for_producers(part);
        let proxy_says = scene.proxy.complaints();
        pair.was_spoken(&scene.proxy, &format!("{}-java-short-0", scene.topic));
        scene.end(rig);
        assert_eq!(proxy_says, Vec::<String>::new());
    }
}

/// In the switch, and at each point of the way of an id to the other side: one process after the other ends.
#[cfg(feature = "crash-points")]
#[test]
fn a_proxy_that_ends_tears_no_transaction() {
    let pairs: &[fn() -> Pair] = if Rig::full() { &[Pair::first, Pair::second] } else { &[Pair::first] };
    for begin in pairs {
        one_process_after_the_other(&begin().rig);
    }
}

#[cfg(feature = "crash-points")]
fn one_process_after_the_other(rig: &Rig) {
    // franz-go gives a producer up whose new connection ends before its first answer (`ErrFirstReadEOF`), on any cluster.
    let writers = Writers { libraries: &["java", "confluent"], short: 2, long: 0, slow: "4", old: &[] };
    let mut scene =
        Scene::begin(rig, &writers, &["allow.txt", "allow-restart.txt"], |p| p.start_to_crash_at("seal.committed"));
    scene.crowd.wait_for_producers(60);
    scene.proxy.prepare();
    let output = scene.proxy.command(&["switch", MIGRATION, "producers"]);
    assert!(!output.status.success(), "the process should have ended");
    scene.proxy.wait_for_end();
    for point in CROSSING {
        scene.proxy.start_to_crash_at(point);
        let status = scene.proxy.wait_for_end();
        assert!(status.code().is_none(), "{point}: ended by {status}\n{}", scene.proxy.tail());
    }
    scene.proxy.start();
    scene.crowd.wait_for_producers(100);
    scene.end(rig);
}

/// The node of the source that coordinates some of the ids ends in the midst of their transactions, while the seam is late; it comes
/// back later.
#[test]
fn a_coordinator_that_ends_tears_no_transaction() {
    let sides: &[Side] = if Rig::full() { &Side::BOTH } else { &[Side::Target] };
    for side in sides {
        let rig = Rig::connect();
        // By the version of this side: a source with the first protocol, or the second.
        let source = Own::start(&rig, *side, 3, &[]);
        let rig = rig.with(Side::Source, &source.bootstrap());
        let writers = Writers { libraries: &LIBRARIES, short: 2, long: 1, slow: "4", old: &[] };
        let scene =
            Scene::begin(&rig, &writers, &["allow.txt", "allow-outage.txt", "allow-coordinator.txt"], Proxy::start);
        scene.crowd.wait_for_producers(40);
        scene.proxy.prepare();
        let id = format!("{}-java-long-0", scene.topic);
        let coordinator = source.index(coordinator(&source, &id));
        let switch = scene.proxy.begin_switch();
        eventually("it is switched", || scene.proxy.migration().step == "producers-switched");
        source.kill_node(coordinator);
        let output = switch.join().expect("the command ends");
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        source.start_node_again(coordinator);
        scene.crowd.wait_for_producers(60);
        scene.end(&rig);
    }
}

/// The id of the node that coordinates a transactional id.
fn coordinator(cluster: &Own, id: &str) -> i32 {
    let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text(id)]);
    let first = cluster.bootstrap().split(',').next().expect("an address").to_owned();
    ask(&first, &request, 4).coordinators[0].node_id.0
}
