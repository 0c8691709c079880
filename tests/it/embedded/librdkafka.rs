//! librdkafka, a client that is not ours: produces idempotent and compressed, reads in a group of two, commits, resumes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use kafka_cutover::embedded::{Cluster, GroupState};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::cluster;

const PARTITIONS: i32 = 6;
const RECORDS: usize = 10_000;

fn producer(cluster: &Cluster) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap().join(","))
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()
        .expect("a producer")
}

fn consumer(cluster: &Cluster, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap().join(","))
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer")
}

fn produce(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    let producer = producer(cluster);
    for number in numbers {
        let payload = format!("{number:06}-{}", "payload ".repeat(10));
        let mut record = BaseRecord::<(), str>::to("t").partition(number as i32 % PARTITIONS).payload(&payload);
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(60)).expect("all are delivered");
}

type Seen = BTreeMap<i32, Vec<usize>>;

/// `members` of one group in threads of their own. Once they have their partitions `meanwhile` runs; they read until `target`
/// records are seen by all together, commit, and leave after everybody has committed.
fn consume(cluster: &Cluster, members: usize, target: usize, meanwhile: impl FnOnce()) -> Seen {
    let seen = Mutex::new(Seen::new());
    let count = AtomicUsize::new(0);
    let committed = Barrier::new(members);
    let deadline = Instant::now() + Duration::from_secs(60);
    let member = || {
        let consumer = consumer(cluster, "g");
        consumer.subscribe(&["t"]).unwrap();
        while count.load(Ordering::SeqCst) < target && Instant::now() < deadline {
            let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
            let message = message.expect("no error reaches the application");
            let payload = std::str::from_utf8(message.payload().unwrap()).unwrap();
            seen.lock().unwrap().entry(message.partition()).or_default().push(payload[..6].parse().unwrap());
            count.fetch_add(1, Ordering::SeqCst);
        }
        let done = consumer.commit_consumer_state(CommitMode::Sync);
        committed.wait();
        done.expect("the commit is taken");
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..members).map(|_| scope.spawn(member)).collect();
        let together =
            |c: &Cluster| c.group("g").is_some_and(|(s, _, m)| s == GroupState::Stable && m.len() == members);
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        waiting
            .block_on(async { tokio::time::timeout(Duration::from_secs(30), cluster.wait_until(together)).await })
            .expect("the group is stable");
        meanwhile();
        threads.into_iter().for_each(|t| t.join().expect("a member ends well"));
    });
    seen.into_inner().unwrap()
}

#[test]
fn a_real_client_produces_consumes_and_resumes() {
    let cluster = cluster(3);
    cluster.create_topic("t", PARTITIONS, &[]).unwrap();
    let seen = consume(&cluster, 2, RECORDS, || produce(&cluster, 0..RECORDS));
    check(&seen, 0..RECORDS);
    let ends: i64 = (0..PARTITIONS).map(|p| cluster.log_end("t", p).unwrap()).sum();
    assert_eq!(ends, RECORDS as i64, "idempotent: nothing twice");
    let headers: Vec<_> = (0..PARTITIONS).flat_map(|p| cluster.log("t", p)).map(|b| b.header).collect();
    assert!(headers.iter().all(|h| h.producer_id == 0 && h.compression() == 3), "lz4, by one producer");
    let committed: i64 = (0..PARTITIONS).filter_map(|p| cluster.committed("g", "t", p)).sum();
    assert_eq!(committed, RECORDS as i64);

    // From where the group stood: nothing of the first 10,000 again.
    produce(&cluster, RECORDS..RECORDS + 600);
    let seen = consume(&cluster, 1, 600, || {});
    check(&seen, RECORDS..RECORDS + 600);
}

#[test]
fn a_real_client_survives_lost_answers_and_a_moving_leader() {
    let cluster = cluster(2);
    cluster.create_topic("t", PARTITIONS, &[]).unwrap();
    cluster.faults().drop_after_append(3, Some("t"));
    cluster.faults().drop_before_append(1, Some("t"));
    produce(&cluster, 0..600);
    for partition in 0..PARTITIONS {
        let (leader, _) = cluster.leader("t", partition).unwrap();
        cluster.move_leader("t", partition, 1 - leader);
    }
    produce(&cluster, 600..1_200);
    let ends: Vec<_> = (0..PARTITIONS).map(|p| cluster.log_end("t", p).unwrap()).collect();
    assert_eq!(ends, [200; PARTITIONS as usize], "nothing twice, nothing lost");
    check(&consume(&cluster, 1, 1_200, || {}), 0..1_200);
}

fn check(seen: &Seen, numbers: std::ops::Range<usize>) {
    for partition in 0..PARTITIONS {
        let expected: Vec<_> = numbers.clone().filter(|n| *n as i32 % PARTITIONS == partition).collect();
        assert_eq!(seen.get(&partition), Some(&expected), "partition {partition}: all, once, in order");
    }
}
