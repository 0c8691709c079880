//! A client fetch over many brokers: what is read before it is asked for, what an answer says of partitions that nobody has
//! answered for, and how long it waits.

use kafka_cutover::embedded::Point;
use kafka_protocol::messages::ApiKey;

use super::world::*;

/// One batch of one record each, plain.
async fn fill(world: &World, partition: i32, batches: i64) {
    let mut raw = world.client().await;
    let done = |offset: i64| (0, offset);
    for offset in 0..batches {
        let batch = encode(Plan { timestamp: 1_000 + offset, ..ONE });
        assert_eq!(raw.produce("moved", partition, batch).await, done(offset));
    }
}

fn offsets(part: &kafka_protocol::messages::fetch_response::PartitionData, from: i64) -> Vec<i64> {
    records(part.records.as_ref().unwrap(), from).iter().map(|s| s.offset).collect()
}

/// A partition with several batches, and limits of the client that let it have one at a time.
async fn one_batch(raw: &mut Raw, partition: i32, at: i64) -> Vec<i64> {
    raw.send(&fetch(&[(partition, at)], PATIENT, 1), 12).await;
    let part = fetched(raw).await.remove(0);
    assert_eq!(part.error_code, 0);
    offsets(&part, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_there_is_read_before_it_is_asked_for() {
    let world = World::new(1);
    fill(&world, 0, 4).await;
    let mut reader = world.client().await;
    let seen = world.source.faults().seen(ApiKey::Fetch);
    assert_eq!(one_batch(&mut reader, 0, 0).await, [0]);
    // Nobody has asked for the next one.
    soon("it is read ahead", world.source.faults().wait_until_seen(ApiKey::Fetch, seen + 2)).await;
    for at in 1..4 {
        assert_eq!(one_batch(&mut reader, 0, at).await, [at]);
    }
    // A position that nobody could foresee.
    assert_eq!(one_batch(&mut reader, 0, 1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_read_ahead_nothing_is_asked_for_the_client() {
    let world = World::with(1, |config| config.limits.read_ahead_bytes = bytesize::ByteSize(0));
    fill(&world, 0, 3).await;
    let mut reader = world.client().await;
    let seen = world.source.faults().seen(ApiKey::Fetch);
    for at in 0..2 {
        assert_eq!(one_batch(&mut reader, 0, at).await, [at]);
    }
    assert_eq!(world.source.faults().seen(ApiKey::Fetch), seen + 2, "one for each of the client's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_ahead_is_judged_by_the_map_of_its_delivery() {
    let world = World::new(1);
    fill(&world, 0, 3).await;
    let mut reader = world.client().await;
    let seen = world.source.faults().seen(ApiKey::Fetch);
    assert_eq!(one_batch(&mut reader, 0, 0).await, [0]);
    soon("it is read ahead", world.source.faults().wait_until_seen(ApiKey::Fetch, seen + 2)).await;
    world.cut_over().await;
    append(&mut world.client().await, 0, 2_000, 3).await;
    assert_eq!(read(&mut reader, 0, 1, 4, 1).await.iter().map(|s| s.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(world.stored(0), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_does_not_wait_reads_all_the_same() {
    let world = World::new(1);
    fill(&world, 0, 1).await;
    let mut reader = world.client().await;
    // A read that takes longer than such a client waits is there for its next fetch.
    eventually("the record comes", async || {
        let part = fetch_one(&mut reader, 0, 0, NO_WAIT).await;
        assert_eq!(part.error_code, 0);
        offsets(&part, 0) == [0]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_a_client_made_up_does_not_spoil_the_seal() {
    let world = World::new(2);
    fill(&world, 0, 1).await;
    let held = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Process);
    let mut reader = world.client().await;
    // Answered without the broker's word on it.
    let part = fetch_one(&mut reader, 0, 1_000_000, NO_WAIT).await;
    assert_eq!((part.error_code, part.high_watermark), (0, -1));
    held.release();
    world.cut_over().await;
    append(&mut world.client().await, 0, 2_000, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_only_on_a_brokers_word() {
    let world = World::new(1);
    fill(&world, 0, 2).await;
    let held = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Process);
    let mut reader = world.client().await;
    let part = fetch_one(&mut reader, 0, 0, NO_WAIT).await;
    // Position 0 and high watermark 0 would be "nothing more" to librdkafka, and `kcat -e` would end.
    assert_eq!((part.high_watermark, part.last_stable_offset), (-1, -1));
    held.release();
    assert_eq!(read(&mut reader, 0, 0, 2, 1 << 20).await.len(), 2);
    let mut ends = (0, 0);
    eventually("the end is told", async || {
        let part = fetch_one(&mut reader, 0, 2, NO_WAIT).await;
        ends = (part.high_watermark, part.last_stable_offset);
        ends == (2, 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_before_the_seam_is_passed_while_another_partition_has_a_backlog() {
    const BACKLOG: i64 = 300;
    let world = World::new(2);
    fill(&world, 0, 4).await;
    fill(&world, 1, BACKLOG).await;
    world.cut_over().await;
    append(&mut world.client().await, 0, 2_000, 4).await;
    world.source.faults().deny_partition("moved", 0, true);
    let (mut reader, mut at) = (world.client().await, 0);
    let crossed = loop {
        assert!(at < BACKLOG, "it waits until nobody else reads");
        reader.send(&fetch(&[(0, 2), (1, at)], PATIENT, 1), 12).await;
        let parts = fetched(&mut reader).await;
        at += offsets(&parts[1], at).len() as i64;
        let crossed = offsets(&parts[0], 2);
        if !crossed.is_empty() {
            break crossed;
        }
    };
    assert_eq!(crossed, [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn min_bytes_may_come_from_any_broker() {
    let mut world = World::of_nodes(2, 2, |_| {});
    world.start().expect("the proxy starts");
    fill(&world, 0, 1).await;
    fill(&world, 1, 1).await;
    let mut reader = world.client().await;
    let held = world.source.faults().seen(ApiKey::Fetch);
    reader.send(&fetch(&[(0, 0), (1, 0)], PATIENT, 1 << 20).with_min_bytes(3_000), 12).await;
    soon("both are asked", world.source.faults().wait_until_seen(ApiKey::Fetch, held + 2)).await;
    let big = encode(Plan { timestamp: 2_000, value_size: 4_000, ..ONE });
    assert_eq!(world.client().await.produce("moved", 0, big).await, (0, 1));
    let parts = fetched(&mut reader).await;
    assert_eq!(offsets(&parts[0], 0), [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_records_comes_last_in_an_answer() {
    let world = World::new(3);
    fill(&world, 0, 1).await;
    let mut reader = world.client().await;
    reader.send(&fetch(&[(0, 0), (1, 0), (2, 0)], PATIENT, 1 << 20), 12).await;
    let topics = fetched_in_order(&mut reader).await;
    let order: Vec<i32> = topics.iter().flat_map(|t| &t.partitions).map(|p| p.partition_index).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_once_and_few_partitions_are_named() {
    const PARTITIONS: i32 = 128;
    const LIMIT: u32 = 512 * 1024;
    let mut world = World::of_nodes(2, PARTITIONS, |c| {
        c.limits.read_ahead_bytes_per_connection = bytesize::ByteSize(LIMIT.into());
    });
    world.start().expect("the proxy starts");
    let batch = encode(Plan { value_size: 16_000, ..ONE });
    for partition in 0..PARTITIONS {
        for offset in 0..4 {
            assert_eq!(world.source.append_directly("moved", partition, batch.clone()), Some(offset));
        }
    }
    let (mut reader, mut delivered, mut few) = (world.client().await, 0, None);
    let mut at = vec![0; PARTITIONS as usize];
    while at.iter().any(|offset| *offset < 4) {
        let places: Vec<_> = (0..).zip(at.iter().copied()).collect();
        reader.send(&fetch(&places, PATIENT, 1 << 20), 12).await;
        for (offset, part) in at.iter_mut().zip(fetched(&mut reader).await) {
            let records = part.records.unwrap_or_default();
            delivered += records.len();
            *offset += super::world::records(&records, *offset).len() as i64;
        }
        // Each broker has more than so many left.
        if few.is_none() && at.iter().filter(|offset| **offset == 4).count() > PARTITIONS as usize / 2 {
            few = Some(world.source.faults().fetched().iter().any(|f| f.bytes > 0 && f.partitions <= 16));
        }
    }
    let fetched = world.source.faults().fetched();
    let served: usize = fetched.iter().map(|f| f.bytes).sum();
    // What a long poll has brought meanwhile may not find room.
    assert!(served < delivered / 4 * 5, "{served} bytes for {delivered}: {fetched:?}");
    assert_eq!(few, Some(true), "{fetched:?}");
}
