//! One cutover in mid-stream while every client library writes, reads and administers: nothing lost, copied, reordered,
//! no error seen by a client, every administrator told what one cluster would tell. The whole of it: all at once at full speed, and then each of them alone.

use std::time::Instant;

use kafka_cutover::ids::Side;

use crate::support::admins::Admins;
use crate::support::crowd::{Crowd, IN_FLIGHT, LINGER};
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::unique;

const PARTITIONS: i32 = 12;
/// Name, library, flags.
type Producer = (&'static str, &'static str, &'static [&'static str]);
pub const PRODUCERS: [Producer; 8] = [
    ("java-idempotent", "java", &["--compression", "lz4"]),
    ("java-all", "java-3.9", &["--acks", "all", "--idempotent", "false", "--compression", "zstd"]),
    // Its defaults are acks=1, and not idempotent.
    ("java-one", "java-2.8", &["--compression", "gzip"]),
    ("confluent", "confluent", &["--compression", "snappy", "-X", LINGER, "-X", IN_FLIGHT]),
    ("confluent-2.0", "confluent-2.0", &["--idempotent", "true", "-X", LINGER]),
    ("kcat", "kcat", &["-X", LINGER, "-X", IN_FLIGHT]),
    ("franz-go", "franz-go", &["--compression", "zstd"]),
    ("kafka-python", "kafka-python", &["--compression", "gzip"]),
];
/// The whole version has these, too.
pub const MORE: [Producer; 4] = [
    ("java-3.9", "java-3.9", &["--compression", "snappy"]),
    ("java-2.8", "java-2.8", &["--acks", "all", "--idempotent", "true", "--compression", "lz4"]),
    ("java-4-all", "java", &["--acks", "all", "--idempotent", "false", "--compression", "zstd"]),
    ("java-4-one", "java", &["--acks", "1", "--idempotent", "false", "--compression", "gzip"]),
];
/// Library, members of its group.
pub const GROUPS: [(&str, usize); 8] = [
    ("java", 2),
    ("java-3.9", 1),
    ("java-2.8", 1),
    ("confluent", 2),
    ("confluent-2.0", 1),
    ("kcat", 1),
    ("franz-go", 2),
    ("kafka-python", 1),
];

/// How much of it.
pub struct Stream {
    /// Of one producer, records a second.
    pub rate: &'static str,
    /// Of one producer, records before the switch and after it.
    pub part: u64,
}

/// What two cores can do beside a build: a score of runtimes and six brokers need them, too.
/// Each record is read by eight groups.
const SMALL: Stream = Stream { rate: "50", part: 300 };
/// Twelve of these make 1,800 records a second, each of which eight groups read: what two cores can do.
const FULL: Stream = Stream { rate: "150", part: 10_000 };
const ALONE: Stream = Stream { rate: "1000", part: 10_000 };

#[test]
fn one_cutover_under_every_client() {
    let rig = Rig::connect();
    if Rig::full() {
        let producers = [&PRODUCERS[..], &MORE].concat();
        cut_over(&rig, &producers, &GROUPS, &FULL);
        for producer in producers {
            let group = GROUPS.iter().find(|(lib, _)| *lib == producer.1).expect("a group of each library");
            cut_over(&rig, &[producer], &[*group], &ALONE);
        }
    } else {
        cut_over(&rig, &PRODUCERS, &GROUPS, &SMALL);
    }
}

pub fn cut_over(rig: &Rig, producers: &[Producer], groups: &[(&str, usize)], stream: &Stream) {
    let topic = unique("every-client");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(rig, &[&topic]);
    proxy.start();

    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    for (lib, members) in groups {
        let group = format!("{topic}-{lib}");
        for number in 0..*members {
            crowd.member(lib, &format!("{lib}-member-{number}"), &group, &[]);
        }
    }
    let mut admins = Admins::new(&proxy.bootstrap(), &topic, PARTITIONS, groups);
    crowd.wait_for_groups(PARTITIONS as usize);
    for (name, lib, flags) in producers {
        crowd.producer(lib, name, &[*flags, &["--rate", stream.rate]].concat());
    }

    // A producer's records before, between the steps, and after: the stream has no end until all of them are through.
    crowd.wait_for_producers(stream.part);
    let (since, so_far) = (Instant::now(), crowd.produced());
    admins.begin();
    proxy.prepare();
    crowd.wait_for_producers(stream.part / 4);
    admins.told(None);
    admins.begin();
    let switched = proxy.switch();
    crowd.wait_for_producers(stream.part);
    admins.told(None);
    let rate = (crowd.produced() - so_far) as f64 / since.elapsed().as_secs_f64();
    crowd.stop_producers();
    crowd.wait_for_readers();
    admins.begin();
    admins.told(Some(crowd.produced()));
    admins.stop();

    let (verdict, log) = crowd.judge(rig);
    let names: Vec<&str> = producers.iter().map(|(name, ..)| *name).collect();
    let (sent, hold) = (verdict.records_sent, switched.hold_ms);
    println!("{names:?}: {sent} records, {rate:.0} a second, produce held for {hold:?} ms");
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    assert_eq!(verdict.records_sent, verdict.records_acked);
    assert_eq!(verdict.records_sent, (log.records(Side::Source) + log.records(Side::Target)) as u64);
    for (number, partition) in log.0.iter().enumerate() {
        for name in &names {
            let begin = format!("kc1 {name} ");
            let on = |side| partition.entries.iter().any(|e| e.side == side && e.value.starts_with(begin.as_bytes()));
            // 16 keys on 12 partitions: not every producer writes to every partition, but who does writes to both
            // sides.
            assert_eq!(on(Side::Source), on(Side::Target), "{name} in partition {number}");
        }
    }
    // Each of them was looked at for who the brokers are: more than one for each producer and group that there is.
    assert!(proxy.answers() > 10 * (producers.len() + groups.len()), "{} answers", proxy.answers());
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}
