//! `mirror: forward` on real clusters: what the source holds lies on the target, record by record, below what comes there.

use std::time::Duration;

use kafka_cutover::control::protocol::MirrorStopped;
use kafka_cutover::crash::MIRROR;
use kafka_cutover::ids::Side;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::crowd::{Crowd, LINGER};
use crate::support::dump::{Dumped, Record, copied, dump, has_no_gap};
use crate::support::own::Own;
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::{PATIENCE, eventually, unique};

const PARTITIONS: i32 = 3;
/// Records of these tests are old: a broker that looked for what it may delete would delete them.
const KEPT: (&str, &str) = ("retention.ms", "-1");

fn until_copied(proxy: &Proxy) {
    eventually("the mirror has caught up", || {
        let found = proxy.migration();
        let mirror = found.mirror.as_ref().expect("it is mirrored");
        assert_eq!(mirror.stopped, Vec::<MirrorStopped>::new());
        found.guard.ok && mirror.caught_up == mirror.partitions && mirror.lag == 0
    });
}

/// Clients of every kind go on while their topic is copied, and over the switch: nobody loses, repeats or reorders anything, and
/// the target has the source's records, byte by byte, below those that came to it.
#[test]
fn history_comes_along_while_clients_go_on() {
    let (rig, topic) = (Rig::connect(), unique("mirrored"));
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.is_mirrored = true;
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let part = if Rig::full() { 200_000 } else { 4_000 };
    crowd.member("java", "java-reads", &format!("{topic}-java"), &[]);
    crowd.member("franz-go", "go-reads", &format!("{topic}-go"), &[]);
    crowd.wait_for_groups(usize::try_from(PARTITIONS).expect("a few"));
    let rate = if Rig::full() { "4000" } else { "400" };
    crowd.producer("java", "java-lz4", &["--rate", rate, "--compression", "lz4", "-X", LINGER]);
    crowd.producer("confluent", "confluent-zstd", &["--rate", rate, "--compression", "zstd", "--idempotent", "true"]);
    crowd.producer("franz-go", "go-snappy", &["--rate", rate, "--compression", "snappy"]);
    crowd.producer("confluent", "confluent-plain", &["--rate", rate, "--idempotent", "false"]);
    crowd.wait_for_producers(part);
    proxy.prepare();
    crowd.wait_for_producers(part);
    // Refused while it is a moment too far behind.
    eventually("the mirror keeps up", || {
        let switched = proxy.command(&["switch", "orders", "producers"]);
        let said = String::from_utf8_lossy(&switched.stderr);
        assert!(switched.status.success() || said.contains("the mirror has not caught up"), "{said}");
        switched.status.success()
    });
    println!("produce was held for {:?} ms", proxy.migration().hold_ms);
    crowd.wait_for_producers(part);
    let moved = proxy.command(&FORCED);
    assert!(moved.status.success(), "{}\n{}", String::from_utf8_lossy(&moved.stderr), proxy.tail());
    crowd.wait_for_producers(part);
    crowd.stop_producers();
    crowd.wait_for_readers();
    let [source, target] = Side::BOTH.map(|side| dump(rig.bootstrap(side), &topic, PARTITIONS));
    for (origin, copy) in source.iter().zip(&target) {
        assert!(has_no_gap(copy));
        assert_eq!(copied(origin, copy), origin.len(), "all of the source, and nothing between");
        crowd.copied.push(i64::try_from(origin.len()).expect("few"));
    }
    let (verdict, log) = crowd.judge(&rig);
    let copied: usize = source.iter().map(Vec::len).sum();
    println!("{copied} records were copied, {} came behind them", log.records(Side::Target));
    assert!(verdict.ok(), "{verdict:#?}");
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}

/// The process ends at each point of a mirror's life, and once more while it comes back: each record is copied once, in order.
#[test]
fn a_copy_is_exact_wherever_the_process_ends() {
    let (rig, topic) = (Rig::connect(), unique("crashed"));
    rig.create_with(&topic, PARTITIONS, &[KEPT]);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.is_mirrored = true;
    // The ledgers' file is written as a whole for the first time as soon as there is a copy; the command may have no answer.
    proxy.start_to_crash_at("mirror.shrunk");
    drop(proxy.command(&["prepare", "orders"]));
    assert!(!proxy.wait_for_end().success(), "it ends when it has written the file");
    proxy.start();
    until_copied(&proxy);
    let times = if Rig::full() { 25 } else { 2 };
    for point in MIRROR.iter().filter(|point| **point != "mirror.shrunk") {
        for time in 1..=times {
            proxy.stop();
            proxy.start_to_crash_at(&format!("{point}:{time}"));
            // Small ones, so that there is something on its way at every moment.
            for codec in ["none", "lz4"] {
                write_all_kinds(rig.bootstrap(Side::Source), &topic, codec, 60);
            }
            assert!(!proxy.wait_for_end().success(), "it ends at {point}");
            proxy.start();
            until_copied(&proxy);
        }
    }
    proxy.switch();
    let [source, target] = Side::BOTH.map(|side| dump(rig.bootstrap(side), &topic, PARTITIONS));
    for (origin, copy) in source.iter().zip(&target) {
        assert_eq!((copied(origin, copy), copy.len()), (origin.len(), origin.len()));
    }
    println!("{} records, each once", source.iter().map(Vec::len).sum::<usize>());
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}

/// Straight to one cluster: every kind of record that there is.
fn write_all_kinds(bootstrap: &str, topic: &str, codec: &str, records: i32) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("compression.codec", codec).set("linger.ms", "20");
    let producer: BaseProducer = config.create().expect("a producer");
    for n in 0..records {
        let (key, value) = (format!("{codec}-{}", n % 7), format!("{codec} {n} {}", "x".repeat(n as usize % 300)));
        let headers = OwnedHeaders::new()
            .insert(Header { key: "n", value: Some(&n.to_string()) })
            .insert(Header { key: "null", value: None::<&str> });
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(n % PARTITIONS);
        record = record.timestamp(1_700_000_000_000 + i64::from(n) * 1_000).headers(headers);
        record = if n % 5 == 0 { record } else { record.key(&key) };
        record = if n % 11 == 0 { record } else { record.payload(&value) };
        producer.send(record).expect("room");
        if n % 100 == 99 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE).expect("all are stored");
}

/// All of a topic, copied and then cut over: what came is what lies there.
fn is_copied_whole(rig: &Rig, topic: &str) -> Vec<Vec<Record>> {
    copy_and_cut_over(rig, topic);
    let [source, target] = Side::BOTH.map(|side| dump(rig.bootstrap(side), topic, PARTITIONS));
    for (origin, copy) in source.iter().zip(&target) {
        assert!(!origin.is_empty() && has_no_gap(copy));
        let same = copied(origin, copy);
        assert_eq!((origin.get(same), copy.get(same)), (None, None), "behind {same} records");
    }
    source.into_iter().map(|all| all.into_iter().map(|one| one.record).collect()).collect()
}

fn copy_and_cut_over(rig: &Rig, topic: &str) {
    let mut proxy = Proxy::new(rig, &[topic]);
    proxy.is_mirrored = true;
    proxy.start();
    proxy.prepare();
    until_copied(&proxy);
    proxy.switch();
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}

/// Some of these records, in their order.
fn is_part_of(some: &[Dumped], all: &[Dumped]) -> bool {
    let mut rest = all.iter();
    some.iter().all(|one| rest.any(|other| other.record == one.record))
}

#[test]
fn records_of_every_kind_and_codec_are_copied_as_they_are() {
    let rig = Rig::connect();
    for (what, configs) in [
        ("create", [("message.timestamp.type", "CreateTime"), KEPT]),
        ("append", [("message.timestamp.type", "LogAppendTime"), KEPT]),
    ] {
        let topic = unique(&format!("kinds-{what}"));
        rig.create_with(&topic, PARTITIONS, &configs);
        for codec in ["none", "gzip", "snappy", "lz4"] {
            write_all_kinds(rig.bootstrap(Side::Source), &topic, codec, 300);
        }
        let found = is_copied_whole(&rig, &topic);
        let all: Vec<&Record> = found.iter().flatten().collect();
        assert_eq!(all.len(), 4 * 300);
        assert!(all.iter().any(|r| r.key.is_none()) && all.iter().any(|r| r.value.is_none()));
        assert!(all.iter().all(|r| r.headers.starts_with("n=") && r.headers.ends_with(",null=NULL")));
    }
}

/// Compaction has been at it: its batches have gaps, some are empty.
#[test]
fn a_compacted_topic_is_copied_with_its_gaps_closed() {
    let (rig, topic) = (Rig::connect(), unique("compacted"));
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "60000"),
    ];
    rig.create_with(&topic, PARTITIONS, &configs);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", rig.bootstrap(Side::Source)).set("compression.codec", "lz4").set("linger.ms", "50");
    let producer: BaseProducer = config.create().expect("a producer");
    let write = |from: i32, to: i32| {
        for n in from..to {
            let (key, value) = (format!("k{}", n * n % 97), n.to_string());
            let record = BaseRecord::to(&topic).partition(n % PARTITIONS).key(&key);
            let record = if n % 13 == 0 { record } else { record.payload(&value) };
            producer.send(record).expect("room");
        }
        producer.flush(PATIENCE).expect("all are stored");
    };
    write(0, 900);
    // Every write begins a new segment, and only those before the last are compacted.
    let mut next = 900;
    eventually("it is compacted", || {
        write(next, next + 3);
        next += 3;
        let found = dump(rig.bootstrap(Side::Source), &topic, PARTITIONS);
        found.iter().all(|all| !has_no_gap(all) && all.len() < 250)
    });
    // The copy's own compaction is not what this is about; that of the source may go on.
    let lag = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "86400000")];
    rig.admin(Side::Target).create_with(&topic, PARTITIONS, &lag).expect("a topic on the target");
    let of = |side| dump(rig.bootstrap(side), &topic, PARTITIONS);
    let before = of(Side::Source);
    copy_and_cut_over(&rig, &topic);
    let (copy, after) = (of(Side::Target), of(Side::Source));
    for ((before, copy), after) in before.iter().zip(&copy).zip(&after) {
        assert!(has_no_gap(copy) && is_part_of(copy, before) && is_part_of(after, copy));
    }
    println!("{} of {next} records were copied", copy.iter().map(Vec::len).sum::<usize>());
}

/// Each way in which a copy would not be what it is to be stops it, and the operator reads why and what to do.
#[test]
fn what_would_spoil_a_copy_stops_it_loudly() {
    let (rig, topic) = (Rig::connect(), unique("spoilt"));
    rig.create_with(&topic, PARTITIONS, &[KEPT]);
    write_all_kinds(rig.bootstrap(Side::Source), &topic, "none", 300);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.is_mirrored = true;
    proxy.start();
    let stops = |proxy: &Proxy, code: &str, refusal: &str| {
        let mut found = None;
        eventually(&format!("the mirror stops: {code}"), || {
            let mirror = proxy.migration().mirror.expect("it is mirrored");
            found = mirror.stopped.into_iter().find(|stopped| stopped.code == code);
            found.is_some()
        });
        let MirrorStopped { why, what_to_do, .. } = found.expect("it was found");
        println!("{code}: {why}; {what_to_do}");
        let refused = proxy.command(&["switch", "orders", "producers"]);
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(refusal), "{said}");
        eventually("it is in the log", || {
            proxy.has_said(|line| line.contains(code) && line.contains("the mirror stands still"))
        });
    };
    let anew = |proxy: &Proxy| {
        let aborted = proxy.command(&["abort", "orders"]);
        assert!(aborted.status.success(), "{}", String::from_utf8_lossy(&aborted.stderr));
        rig.admin(Side::Target).delete(&[&topic]).expect("deleted");
        eventually("it is gone", || rig.admin(Side::Target).partitions(&topic).expect("metadata").is_none());
        proxy.prepare();
        until_copied(proxy);
    };
    proxy.prepare();
    until_copied(&proxy);
    write_all_kinds(rig.bootstrap(Side::Target), &topic, "none", 3);
    write_all_kinds(rig.bootstrap(Side::Source), &topic, "none", 3);
    stops(&proxy, "foreign_writer", "the mirror stands still");
    anew(&proxy);
    // Retention is faster than a mirror that is not there.
    proxy.stop();
    write_all_kinds(rig.bootstrap(Side::Source), &topic, "none", 300);
    let ends = rig.admin(Side::Source).bounds(&topic).expect("its ends");
    rig.admin(Side::Source).delete_records(&topic, 0, ends[0].1 - 1).expect("deleted");
    proxy.start();
    stops(&proxy, "overtaken", "the mirror stands still");
    anew(&proxy);
    rig.admin(Side::Source).delete(&[&topic]).expect("deleted");
    stops(&proxy, "topic_made_anew", "is gone from the source");
}

/// Messages of the formats before Kafka 0.11, which a 2.8 still writes where it is told to.
#[test]
fn messages_of_old_formats_are_copied() {
    let rig = Rig::connect();
    let properties = ["0.9.0", "0.10.2"].map(|format| format!("log.message.format.version={format}"));
    for property in properties {
        let old = Own::of_version(&rig, "2.8.2", 1, &["inter.broker.protocol.version=2.8".to_owned(), property]);
        let rig = Rig::connect().with(Side::Source, &old.bootstrap());
        let topic = unique("old");
        rig.create(&topic, PARTITIONS);
        for codec in ["none", "gzip", "snappy", "lz4"] {
            write_without_headers(rig.bootstrap(Side::Source), &topic, codec);
        }
        is_copied_whole(&rig, &topic);
    }
}

fn write_without_headers(bootstrap: &str, topic: &str, codec: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("compression.codec", codec).set("linger.ms", "20");
    let producer: BaseProducer = config.create().expect("a producer");
    for n in 0..200 {
        let (key, value) = (format!("k{n}"), format!("{codec} {n}"));
        producer.send(BaseRecord::to(topic).partition(n % PARTITIONS).key(&key).payload(&value)).expect("room");
    }
    producer.flush(PATIENCE).expect("all are stored");
}
