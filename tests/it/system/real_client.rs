//! librdkafka over a seam: an idempotent producer that never hears of it, groups that stop before and start after, assign and seek.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::world::*;

const PARTITIONS: i32 = 4;
const HALF: usize = 400;

fn client(world: &World) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", world.address());
    config
}

/// Numbers as records of `moved`, in turn to each of so many partitions.
pub fn send(producer: &BaseProducer, partitions: i32, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let payload = format!("{number}");
        let mut record = BaseRecord::<(), str>::to("moved").partition(number as i32 % partitions).payload(&payload);
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(60)).expect("all are acknowledged");
}

fn consumer(world: &World, group: &str) -> BaseConsumer {
    let mut config = client(world);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config.set("check.crcs", "true").create().expect("a consumer")
}

/// `(partition, offset, number)` of the next records.
fn take(consumer: &BaseConsumer, count: usize) -> Vec<(i32, i64, usize)> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", taken.len());
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.expect("no error reaches the application");
        let number = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
        taken.push((message.partition(), message.offset(), number));
    }
    taken
}

/// Each partition's numbers, all of a range, in order, at contiguous offsets.
fn check(taken: &[(i32, i64, usize)], numbers: std::ops::Range<usize>) {
    for partition in 0..PARTITIONS {
        let of: Vec<_> = taken.iter().filter(|(p, ..)| *p == partition).collect();
        let expected: Vec<usize> = numbers.clone().filter(|n| *n as i32 % PARTITIONS == partition).collect();
        assert_eq!(of.iter().map(|(_, _, n)| *n).collect::<Vec<_>>(), expected, "partition {partition}");
        assert!(of.windows(2).all(|w| w[1].1 == w[0].1 + 1), "partition {partition}: contiguous");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_goes_on_and_groups_find_their_place() {
    let world = World::new(PARTITIONS);
    let producer: BaseProducer =
        client(&world).set("enable.idempotence", "true").set("linger.ms", "1").create().expect("a producer");
    tokio::task::block_in_place(|| {
        send(&producer, PARTITIONS, 0..HALF);
        // One that read all, one that read a part; both stop before the switch.
        for (group, count) in [("done", HALF), ("lagging", HALF / 2)] {
            let consumer = consumer(&world, group);
            consumer.subscribe(&["moved"]).unwrap();
            let taken = take(&consumer, count);
            let mut positions = TopicPartitionList::new();
            for partition in 0..PARTITIONS {
                if let Some(last) = taken.iter().rev().find(|(p, ..)| *p == partition) {
                    positions.add_partition_offset("moved", partition, Offset::Offset(last.1 + 1)).unwrap();
                }
            }
            consumer.commit(&positions, CommitMode::Sync).expect("the commit is taken");
        }
    });
    world.cut_over().await;
    tokio::task::block_in_place(|| {
        send(&producer, PARTITIONS, HALF..2 * HALF);
        let stored: i64 = (0..PARTITIONS).map(|p| world.stored(p).1).sum();
        assert_eq!(stored, HALF as i64, "on the target, once");

        let done = consumer(&world, "done");
        done.subscribe(&["moved"]).unwrap();
        check(&take(&done, HALF), HALF..2 * HALF);

        let lagging = consumer(&world, "lagging");
        lagging.subscribe(&["moved"]).unwrap();
        let rest = take(&lagging, 2 * HALF - HALF / 2);
        for partition in 0..PARTITIONS {
            let numbers: Vec<_> = rest.iter().filter(|(p, ..)| *p == partition).map(|(_, _, n)| *n).collect();
            let last = *numbers.last().unwrap();
            assert!(last >= 2 * HALF - PARTITIONS as usize, "to the end");
            assert!(
                numbers.windows(2).all(|w| w[1] == w[0] + PARTITIONS as usize),
                "none lost, none twice: {numbers:?}"
            );
        }

        let fresh = consumer(&world, "fresh");
        fresh.subscribe(&["moved"]).unwrap();
        check(&take(&fresh, 2 * HALF), 0..2 * HALF);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn assign_and_seek_on_both_sides_of_the_seam() {
    let world = World::new(PARTITIONS);
    let producer: BaseProducer = client(&world).set("enable.idempotence", "true").create().expect("a producer");
    tokio::task::block_in_place(|| send(&producer, PARTITIONS, 0..HALF));
    world.cut_over().await;
    tokio::task::block_in_place(|| {
        send(&producer, PARTITIONS, HALF..2 * HALF);
        let seam = HALF as i64 / i64::from(PARTITIONS);
        let consumer = consumer(&world, "seeker");
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset("moved", 1, Offset::Offset(seam - 2)).unwrap();
        consumer.assign(&assigned).unwrap();
        let number = |offset: i64| offset as usize * PARTITIONS as usize + 1;
        for from in [seam - 2, seam + 3, 5, seam, seam - 1] {
            consumer
                .seek("moved", 1, Offset::Offset(from), Duration::from_secs(10))
                .or_else(|_| {
                    // Before the first fetch of an assignment librdkafka cannot seek: then it stands there already.
                    if from == seam - 2 { Ok(()) } else { Err("seek") }
                })
                .unwrap();
            let expected: Vec<_> = (from..from + 5).map(|o| (1, o, number(o))).collect();
            assert_eq!(take(&consumer, 5), expected);
        }
        let (low, high) = consumer.fetch_watermarks("moved", 1, Duration::from_secs(10)).unwrap();
        assert_eq!((low, high), (0, 2 * seam));
    });
}
