//! One cutover in mid-stream while every client library writes and reads: nothing lost, copied, reordered, no error seen by a client.

use kafka_cutover::ids::Side;

use crate::support::crowd::Crowd;
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::unique;

const PARTITIONS: i32 = 12;
/// Of one producer, a second: seven of them make about 5,000.
const RATE: &str = "700";
/// librdkafka's own 5 ms make hundreds of requests a second, each for one record of one partition. A broker works through one of a
/// connection at a time; on a busy machine it falls behind until the client's own timeouts, with the proxy and without.
const LINGER: &str = "linger.ms=100";
const PRODUCERS: [(&str, &str, &[&str]); 7] = [
    ("java", "java-idempotent", &["--compression", "lz4"]),
    ("java", "java-all", &["--acks", "all", "--idempotent", "false", "--compression", "zstd"]),
    ("java", "java-one", &["--acks", "1", "--idempotent", "false", "--compression", "gzip"]),
    ("confluent", "confluent", &["--compression", "snappy", "-X", LINGER]),
    ("kcat", "kcat", &["-X", LINGER]),
    ("franz-go", "franz-go", &["--compression", "zstd"]),
    ("kafka-python", "kafka-python", &["--compression", "gzip"]),
];

#[test]
#[ignore = "minutes long: tests/run --full"]
fn one_cutover_under_every_client() {
    let rig = Rig::connect();
    let topic = unique("every-client");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();

    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let groups = [("java", 3), ("confluent", 2), ("kcat", 1), ("franz-go", 2), ("kafka-python", 1)];
    for (lib, members) in groups {
        let group = format!("{topic}-{lib}");
        for number in 0..members {
            crowd.member(lib, &format!("{lib}-member-{number}"), &group, &[]);
        }
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    for (lib, name, flags) in PRODUCERS {
        crowd.producer(lib, name, &[flags, &["--rate", RATE]].concat());
    }

    // A producer's records before, between the steps, and after: the stream has no end until all of them are through.
    let part = if Rig::full() { 20_000 } else { 2_000 };
    crowd.wait_for_producers(part);
    proxy.prepare();
    crowd.wait_for_producers(part / 4);
    let switched = proxy.switch();
    crowd.wait_for_producers(part);
    crowd.stop_producers();
    crowd.wait_for_readers();

    let (verdict, log) = crowd.judge(&rig);
    println!("{switched:?}: {} records", verdict.records_sent);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    assert_eq!(verdict.records_sent, verdict.records_acked);
    assert_eq!(verdict.records_sent, (log.records(Side::Source) + log.records(Side::Target)) as u64);
    for (number, partition) in log.0.iter().enumerate() {
        for (_, name, _) in PRODUCERS {
            let begin = format!("kc1 {name} ");
            for side in Side::BOTH {
                let found = partition.entries.iter().any(|e| e.side == side && e.value.starts_with(begin.as_bytes()));
                // 16 keys on 12 partitions: not every producer writes to every partition, but who does writes to both sides.
                let elsewhere = partition.entries.iter().any(|e| e.value.starts_with(begin.as_bytes()));
                assert_eq!(found, elsewhere, "{name} in partition {number} on the {side}");
            }
        }
    }
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}
