//! Consume, transform, produce, exactly once (`sendOffsetsToTransaction`), over a cutover: what comes out is what went in, once,
//! also while the pipeline lags behind the switch, and while its instances end and begin again.

use std::collections::{BTreeMap, BTreeSet};

use kafka_cutover::audit::What;

use super::transactions::Pair;
use crate::support::crowd::{Crowd, LINGER};
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::{eventually, unique};

const PARTITIONS: i32 = 3;
const INSTANCES: usize = 3;
/// The shortest that brokers allow: an instance that was killed is missed after this.
const SESSION: [&str; 2] = ["-X", "session.timeout.ms=6000"];

/// The id in a record's value.
fn id_of(value: &str) -> u64 {
    value.split(' ').nth(4).and_then(|id| u64::from_str_radix(id, 16).ok()).expect("a record of ours")
}

fn acknowledged(crowd: &Crowd) -> BTreeSet<u64> {
    let id = |what: &What| match what {
        What::Ack { id, .. } => Some(*id),
        _ => None,
    };
    crowd.events().iter().filter_map(|e| id(&e.what)).collect()
}

/// How often each record came out.
fn came_out(crowd: &Crowd) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for event in crowd.events() {
        if let What::Recv { value, .. } = &event.what {
            *times.entry(id_of(value)).or_default() += 1;
        }
    }
    times
}

/// How often each instance has aborted a transaction, and read again.
fn begun_anew(crowd: &Crowd) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for event in crowd.events() {
        if matches!(&event.what, What::Log { text, .. } if text.starts_with("aborted: ")) {
            *times.entry(event.client).or_default() += 1;
        }
    }
    times
}

#[test]
fn what_comes_out_is_what_went_in() {
    for begin in [Pair::first, Pair::second] {
        transform(&begin());
    }
}

fn transform(pair: &Pair) {
    let rig = &pair.rig;
    let (input, output) = (unique("pipe-in"), unique("pipe-out"));
    for topic in [&input, &output] {
        rig.create(topic, PARTITIONS);
    }
    let mut proxy = Proxy::new(rig, &[&input, &output]);
    proxy.start();
    let part = if Rig::full() { 5_000 } else { 300 };
    let mut into = Crowd::new(&proxy.bootstrap(), &input, &["allow.txt", "allow-pipelines.txt"]);
    into.producer("java", "feeds", &["--rate", "200", "-X", LINGER]);
    // So that it lags.
    into.wait_for_producers(3 * part);
    let id = |n: usize| format!("{input}-{n}");
    let instance = |into: &mut Crowd, n: usize, life: usize| {
        into.transformer(&format!("pipe-{n}-{life}"), &format!("{input}-pipeline"), &output, &id(n), &SESSION);
    };
    (0..INSTANCES).for_each(|n| instance(&mut into, n, 0));
    let mut out = Crowd::new(&proxy.bootstrap(), &output, &["allow.txt"]);
    out.member("franz-go", "reads", &format!("{output}-reader"), &["--isolation", "read_committed"]);
    let further = |out: &Crowd, records: usize| {
        let goal = came_out(out).len() + records;
        eventually("the pipeline goes on", || came_out(out).len() >= goal);
    };
    further(&out, 100);

    proxy.prepare();
    // One whose first transaction may begin at any moment of the switch.
    instance(&mut into, INSTANCES, 0);
    println!("{:#?}", proxy.switch());
    eventually("the seam has its place", || proxy.migration().late_seam.is_none());
    further(&out, 100);
    for n in 0..INSTANCES {
        into.kill(&format!("pipe-{n}-0"));
        instance(&mut into, n, 1);
        further(&out, 100);
    }
    // With the reader of what comes out.
    let moved = proxy.command(&FORCED);
    assert!(moved.status.success(), "{}\n{}", String::from_utf8_lossy(&moved.stderr), proxy.tail());
    further(&out, 100);
    pair.was_spoken(&proxy, &id(0));
    into.stop(&["feeds".to_owned()]);
    let went_in = acknowledged(&into);
    eventually("all of it comes out", || came_out(&out).len() >= went_in.len());
    let lives = (0..INSTANCES).map(|n| format!("pipe-{n}-1")).chain([format!("pipe-{INSTANCES}-0")]);
    into.stop(&lives.collect::<Vec<_>>());
    out.stop(&["reads"]);
    let came_out = came_out(&out);
    let again: Vec<_> = came_out.iter().filter(|(_, times)| **times != 1).collect();
    let lost: Vec<_> = went_in.iter().filter(|id| !came_out.contains_key(id)).collect();
    println!("{} records went in", went_in.len());
    assert_eq!((again, lost, came_out.len()), (vec![], vec![], went_in.len()));
    assert_eq!((into.complaints(), out.complaints()), (vec![], vec![]));
    let begun_anew = begun_anew(&into);
    assert!(begun_anew.values().all(|times| *times <= 2), "{begun_anew:?}");
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}
