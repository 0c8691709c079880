//! Transactional producers of three libraries cut over in mid-stream: readers of committed records get each transaction whole
//! and once, and nothing of an aborted one; no client sees an error.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kafka_cutover::audit::What;
use kafka_cutover::control::protocol::Outcome;
use kafka_cutover::ids::Side;

use crate::support::crowd::Crowd;
use crate::support::proxy::{MIGRATION, Proxy};
use crate::support::rig::Rig;
use crate::support::whole_log::WholeLog;
use crate::support::{eventually, unique};

const LIBRARIES: [&str; 3] = ["java", "confluent", "franz-go"];
const PARTITIONS: i32 = 3;
/// Of a transaction, and so of a batch at most.
const RECORDS_OF_ONE: i64 = 20;

/// The ids that write: some in transactions of a fifth of a second, some in longer ones.
struct Writers {
    short: usize,
    long: usize,
    /// Records a second of a long one, twenty of which are a transaction.
    slow: &'static str,
}

impl Writers {
    fn begin(&self, crowd: &mut Crowd, topic: &str) {
        for lib in LIBRARIES {
            let mut one = |name: String, rate: &str| {
                let id = format!("{topic}-{name}");
                crowd.producer(lib, &name, &["--rate", rate, "--transactional-id", &id]);
            };
            (0..self.short).for_each(|n| one(format!("{lib}-short-{n}"), "100"));
            (0..self.long).for_each(|n| one(format!("{lib}-long-{n}"), self.slow));
        }
    }
}

/// Every reader got all that was committed, once, where its producer says that it is; and nothing else.
fn are_whole(crowd: &Crowd, readers: &[String]) -> u64 {
    let (mut committed, mut sent): (BTreeMap<u64, (String, Option<i64>)>, u64) = (BTreeMap::new(), 0);
    let events = crowd.events();
    for event in &events {
        match &event.what {
            What::Ack { id, partition, offset, .. } => {
                // Without a base offset librdkafka numbers the records of a batch from -1 on.
                let is_counted = event.client.starts_with("confluent") && offset.is_some_and(|at| at < RECORDS_OF_ONE);
                let before = committed.insert(*id, (partition.clone(), offset.filter(|_| !is_counted)));
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
    // Every fourth was aborted.
    let committed = committed.len() as u64;
    assert!(sent > committed + committed / 5, "{sent} sent, {committed} committed");
    committed
}

fn switch(proxy: &Proxy, flags: &[&str]) -> Outcome {
    let output = proxy.command(&[&["switch", MIGRATION, "producers", "--json"], flags].concat());
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), proxy.tail());
    serde_json::from_slice(&output.stdout).expect("an outcome")
}

#[test]
fn transactions_are_whole_over_the_seam() {
    let rig = Rig::connect();
    let writers = match Rig::full() {
        false => Writers { short: 1, long: 1, slow: "10" },
        true => Writers { short: 7, long: 10, slow: "4" },
    };
    let topic = unique("transactions");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let names = LIBRARIES.map(|lib| format!("{lib}-reads")).to_vec();
    for (lib, name) in LIBRARIES.iter().zip(&names) {
        crowd.member(lib, name, &format!("{topic}-{lib}"), &["--isolation", "read_committed"]);
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    writers.begin(&mut crowd, &topic);
    let part = if Rig::full() { 400 } else { 60 };
    crowd.wait_for_producers(part / 3);
    proxy.prepare();
    let outcome = switch(&proxy, &[]);
    println!("{outcome:#?}");
    eventually("the seam has its place", || proxy.migration().late_seam.is_none());
    crowd.wait_for_producers(part);
    crowd.stop_producers();
    crowd.wait_for_readers();
    crowd.stop(&names);
    println!("{} records were committed", are_whole(&crowd, &names));
    assert_eq!(crowd.complaints(), Vec::<String>::new());

    for partition in WholeLog::read(&rig, &topic).0 {
        let sides: HashSet<Side> = partition.entries.iter().map(|e| e.side).collect();
        assert_eq!(sides.len(), 2, "both sides have a part of it");
    }
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}
