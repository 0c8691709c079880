//! DESIGN.md section 4, step 1: what a hold does to clients, and how one that cannot end well is undone.

use std::time::Duration;

use kafka_cutover::embedded::{Hold, Point};
use kafka_cutover::ids::Side;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, MetadataRequest, ProduceRequest};

use super::world::*;

/// Matched by the migration like `moved`; its produce never gets an answer, so that no hold can settle.
const STUCK: &str = "moved-stuck";

/// A prepared world with a produce on its way that has no outcome until the `Hold` is released, and its client.
async fn stuck(hold_budget: Duration) -> (World, Hold, Raw) {
    let mut world = World::stopped(2, |c| c.seal.hold_budget = hold_budget);
    world.source.create_topic(STUCK, 1, &[]).unwrap();
    world.start().unwrap();
    world.prepare().await;
    let hold = world.source.faults().hold(ApiKey::Produce, Some(STUCK), Point::Answer);
    let mut raw = world.client().await;
    raw.send(&produce(STUCK, 0, encode(ONE)), 9).await;
    soon("the source has it", hold.wait_until_held(1)).await;
    (world, hold, raw)
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_cannot_settle_is_undone_in_order() {
    let (world, hold, mut waiting) = stuck(Duration::from_secs(8)).await;
    let pid = world.producer().await;
    let switch = world.begin_switch();
    let mut raw = world.client().await;
    let first = soon("a hold", world.produce_into_hold(&mut raw, 0, pid, 0, 60_000)).await;
    for sequence in first + 1..first + 4 {
        raw.send(&produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
    }
    let refusal = refused(soon("the switch ends", switch).await.unwrap());
    assert_eq!(refusal.code, "hold_too_long");
    assert!(refusal.message.contains("the hold's own budget"), "{refusal}");
    let expected: Vec<_> = (i64::from(first)..).take(4).map(|offset| (0, offset)).collect();
    assert_eq!(produced(&mut raw, 4).await, expected, "on the source, in order");
    let sequences: Vec<_> = world.came(Side::Source, 0).iter().map(|p| p.base_sequence).collect();
    assert_eq!(sequences, (0..first + 4).collect::<Vec<_>>());
    assert_eq!((world.step().await.as_str(), world.stored(0).1), ("prepared", 0));
    // What was on its way all the time has its answer, and the next switch does.
    hold.release();
    assert!(waiting.receive::<ProduceRequest>(9).await.is_some());
    world.switch().await.expect("switched");
    let next = encode(idempotent(pid, 0, first + 4, 1));
    assert_eq!(raw.produce("moved", 0, next).await, (0, i64::from(first) + 4));
    assert_eq!(world.stored(0).1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impatient_client_undoes_the_hold_and_is_named() {
    let (world, _hold, _waiting) = stuck(LONG).await;
    let pid = world.producer().await;
    let mut switch = world.begin_switch();
    let mut raw = world.client().await;
    let mut sequence = 0;
    let refusal = soon("the switch ends", async {
        loop {
            let request = produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))).with_timeout_ms(900);
            let done = raw.ask(&request, 9).await;
            assert_eq!(done.responses[0].partition_responses[0].error_code, 0, "held, and never failed");
            sequence += 1;
            if switch.is_finished() {
                return refused((&mut switch).await.unwrap());
            }
        }
    })
    .await;
    assert!(refusal.message.contains("allowed by raw at 127.0.0.1:"), "{refusal}");
    assert_eq!(world.source.log_end("moved", 0), Some(i64::from(sequence)));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_requests_of_a_closed_connection_are_dropped() {
    let (world, hold, _waiting) = stuck(LONG).await;
    let pid = world.producer().await;
    let switch = world.begin_switch();
    let mut raw = world.client().await;
    let held = soon("a hold", world.produce_into_hold(&mut raw, 0, pid, 0, 600_000)).await;
    drop(raw);
    world.until_held(0).await;
    hold.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    let sent = |side: Side| world.came(side, 0).len();
    assert_eq!((world.stored(0), sent(Side::Target)), ((i64::from(held), 0), 0));
    // Its client sends it again.
    let mut raw = world.client().await;
    let again = encode(idempotent(pid, 0, held, 1));
    assert_eq!(raw.produce("moved", 0, again).await, (0, i64::from(held)));
    assert_eq!(sent(Side::Target), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_is_answered_during_a_hold_up_to_the_frozen_end() {
    let (world, hold, _waiting) = stuck(LONG).await;
    let mut raw = world.client().await;
    for i in 0..3 {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    let pid = world.producer().await;
    let switch = world.begin_switch();
    soon("a hold", world.produce_into_hold(&mut raw, 1, pid, 0, 600_000)).await;
    // The end that may be shown is frozen, whatever the source has.
    assert_eq!(world.source.append_directly("moved", 0, encode(ONE)), Some(3));
    let mut reader = world.client().await;
    let part = fetch_one(&mut reader, 0, 0, PATIENT).await;
    assert_eq!((records(&part.records.unwrap(), 0).len(), part.high_watermark), (3, 3));
    for offset in [3, 4] {
        let part = fetch_one(&mut reader, 0, offset, Duration::from_millis(1)).await;
        let (error, size, end) = (part.error_code, part.records.map_or(0, |r| r.len()), part.high_watermark);
        assert_eq!((error, size, end), (0, 0, 3), "empty at the frozen end, never out of range");
    }
    hold.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    // It was there before the end was read: it lies below the seam.
    assert_eq!(read(&mut reader, 0, 0, 4, 1 << 20).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_not_named_before_the_release() {
    let world = World::new(1);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.prepare().await;
    let marker = world.target.faults().hold_produce(Some(MARKERS));
    let switch = world.begin_switch();
    soon("the end was read", marker.wait_until_held(1)).await;
    // Whoever asks the source now gets an end that will never be the log's.
    assert_eq!(world.source.append_directly("moved", 0, encode(ONE)), Some(1));
    raw.send(&list_offsets(0, -1), 7).await;
    let mut other = world.client().await;
    assert_eq!(list_offset(&mut other, 0, -2).await, (0, -1, 0), "the start is");
    assert_eq!(list_offset(&mut other, 0, 1).await, (0, 1_000, 0), "and positions by time");
    marker.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    assert_eq!(listed(&mut raw).await, (0, -1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_one_held_partition_is_held_whole_and_what_is_behind_it_too() {
    let mut world = World::stopped(1, |_| {});
    world.source.create_topic("plain", 1, &[]).unwrap();
    world.start().unwrap();
    world.prepare().await;
    let marker = world.target.faults().hold_produce(Some(MARKERS));
    let switch = world.begin_switch();
    soon("the hold", marker.wait_until_held(1)).await;
    let topic = |name: &str| {
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(encode(ONE)));
        TopicProduceData::default().with_name(text(name).into()).with_partition_data(vec![partition])
    };
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(60_000)
        .with_topic_data(vec![topic("plain"), topic("moved")]);
    let mut raw = world.client().await;
    raw.send(&request, 9).await;
    world.until_held(1).await;
    let behind = world.source.faults().seen(ApiKey::Metadata);
    raw.send(&MetadataRequest::default(), 9).await;
    assert_eq!(world.source.log_end("plain", 0), Some(0), "no part of it has gone ahead");
    marker.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    let mut answer = soon("the produce", raw.frame()).await.unwrap().slice(5..);
    let answer =
        <kafka_protocol::messages::ProduceResponse as kafka_protocol::protocol::Decodable>::decode(&mut answer, 9);
    let errors: Vec<_> = answer.unwrap().responses.iter().map(|t| t.partition_responses[0].error_code).collect();
    assert_eq!(errors, [0, 0]);
    assert!(soon("what is behind", raw.receive::<MetadataRequest>(9)).await.is_some());
    assert!(world.source.faults().seen(ApiKey::Metadata) >= behind);
    assert_eq!((world.source.log_end("plain", 0), world.stored(0)), (Some(1), (0, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_throttled_broker_would_not_read_is_held_and_no_switch_waits_for_it() {
    let world = World::new(1);
    world.prepare().await;
    let mut raw = world.client().await;
    world.source.faults().set_throttle_ms(600_000);
    append(&mut raw, 0, 1_000, 0).await;
    // As clients do that have more on its way when they hear of it.
    raw.send(&produce("moved", 0, encode(ONE)), 9).await;
    world.until_held(1).await;
    assert_eq!(world.came(Side::Source, 0).len(), 1);
    world.switch().await.expect("switched");
    assert_eq!(produced(&mut raw, 1).await, [(0, 1)]);
    assert_eq!(world.stored(0), (1, 1));
}
