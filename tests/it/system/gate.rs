//! The sequence gate (DESIGN.md section 7) through the whole proxy: retries over a seam, gaps, epochs, order, ids.

use std::time::Duration;

use kafka_cutover::embedded::{Effect, Point};
use kafka_cutover::ids::Side;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, ProduceRequest};

use super::world::*;

const OUT_OF_ORDER: i16 = 45;
const OLD_EPOCH: i16 = 47;
const NOT_LEADER: i16 = 6;
/// How a producer id of a partition that was sealed once looks upstream.
const SEALED_ONCE: i64 = 1 << 44;

/// A world whose source has sequences 0 to 4 of a producer, after the switch.
async fn moved() -> (World, Raw, i64) {
    let world = World::with(1, |c| c.timeouts.metadata_max_age = Duration::from_millis(200));
    let pid = world.producer().await;
    let mut raw = world.client().await;
    for sequence in 0..5 {
        let done = raw.produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))).await;
        assert_eq!(done, (0, i64::from(sequence)));
    }
    world.cut_over().await;
    (world, raw, pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_over_the_seam_is_stored_once() {
    let world = World::new(1);
    world.prepare().await;
    let pid = world.producer().await;
    world.source.faults().drop_after_append(1, Some("moved"));
    let mut raw = world.client().await;
    raw.send(&produce("moved", 0, encode(idempotent(pid, 0, 0, 3))), 9).await;
    assert!(raw.receive::<ProduceRequest>(9).await.is_none(), "the answer is lost");
    world.switch().await.expect("switched");
    let mut raw = world.client().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 0, 3))).await.0, 0, "a success, as it was one");
    assert_eq!(world.stored(0), (3, 0), "stored once");
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 3, 2))).await, (0, 3), "and on it goes");
    assert_eq!(read(&mut raw, 0, 0, 5, 1 << 20).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_what_was_acknowledged_gets_its_offset_again() {
    let (world, mut raw, pid) = moved().await;
    for sequence in 0..5 {
        let done = raw.produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))).await;
        assert_eq!(done, (0, i64::from(sequence)));
    }
    assert_eq!(world.stored(0), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_survives_a_restart() {
    let (mut world, _, pid) = moved().await;
    world.restart().unwrap();
    let mut raw = world.client().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 4, 1))).await.0, 0);
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 6, 1))).await, (OUT_OF_ORDER, -1));
    assert_eq!(world.stored(0), (5, 0));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 5, 1))).await, (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_behind_the_seam_is_refused_as_one_broker_would() {
    let (world, mut raw, pid) = moved().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 6, 1))).await, (OUT_OF_ORDER, -1));
    assert_eq!(world.stored(0), (5, 0));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 5, 1))).await, (0, 5));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 6, 1))).await, (0, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_epoch_begins_at_0_and_a_lower_one_is_over() {
    let (world, mut raw, pid) = moved().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 1, 5, 1))).await, (OUT_OF_ORDER, -1));
    assert_eq!(world.stored(0), (5, 0));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 1, 0, 1))).await, (0, 5));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 5, 1))).await, (OLD_EPOCH, -1));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 1, 1, 1))).await, (0, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_goes_alone_also_for_a_producer_that_no_table_knows() {
    let (world, _, known) = moved().await;
    let unknown = world.producer().await;
    let mut at = 5;
    for (pid, first) in [(known, 5), (unknown, 0)] {
        // The target would take any first sequence: what comes behind a refused head must not get there before it.
        world.target.faults().refuse_produce(1, Some("moved"), NOT_LEADER);
        let mut raw = world.client().await;
        for sequence in first..first + 3 {
            raw.send(&produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
        }
        assert_eq!(produced(&mut raw, 3).await, [(NOT_LEADER, -1); 3]);
        assert_eq!(world.stored(0), (5, at - 5), "nothing overtook the head");
        for sequence in first..first + 3 {
            raw.send(&produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
        }
        assert_eq!(produced(&mut raw, 3).await, [(0, at), (0, at + 1), (0, at + 2)]);
        at += 3;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_sees_ids_that_nobody_else_can_have() {
    let (world, mut raw, pid) = moved().await;
    // Somebody whose id the target has given: the same number as our client's, which the source has given.
    assert_eq!(world.target.append_directly("moved", 0, encode(idempotent(pid, 0, 0, 1))), Some(1));
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 5, 1))).await, (0, 6));
    let ids: Vec<_> = world.came(Side::Target, 0).iter().map(|p| p.producer_id).collect();
    assert_eq!(ids, [pid | SEALED_ONCE]);
    let source: Vec<_> = world.came(Side::Source, 0).iter().map(|p| p.producer_id).collect();
    assert_eq!(source, [pid; 5], "before the seal nothing is rewritten");

    // And one that our client got from the target while the source was away.
    world.source.stop_node(0);
    eventually("the proxy knows", async || !world.control().status().await.unwrap().clusters.source.reachable).await;
    let issued = world.producer().await;
    assert_eq!(issued >> 41, 1, "marked as the target's");
    assert_eq!(raw.produce("moved", 0, encode(idempotent(issued, 0, 0, 1))).await, (0, 7));
    assert_eq!(world.came(Side::Target, 0).last().unwrap().producer_id, issued | SEALED_ONCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_an_answer_is_no_gap() {
    let (mut world, mut raw, pid) = moved().await;
    for sequence in 5..7 {
        assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))).await, (0, i64::from(sequence)));
    }
    world.restart().unwrap();
    world.target.faults().next(1, ApiKey::DescribeProducers, None, Effect::DropBefore);
    let mut raw = world.client().await;
    let next = idempotent(pid, 0, 7, 1);
    assert_eq!(raw.produce("moved", 0, encode(next)).await, (NOT_LEADER, -1), "nobody knows whether it is the next");
    assert_eq!(raw.produce("moved", 0, encode(next)).await, (0, 7));
    assert_eq!(world.stored(0), (5, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_say_keeps_nobody_waiting() {
    let (mut world, mut raw, pid) = moved().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 5, 1))).await, (0, 5));
    world.config.timeouts.straggling_part = Duration::from_millis(50);
    world.restart().unwrap();
    let silent = world.target.faults().hold(ApiKey::DescribeProducers, None, Point::Process);
    let mut raw = world.client().await;
    let next = idempotent(pid, 0, 6, 1);
    let done = soon("an answer", raw.produce("moved", 0, encode(next))).await;
    assert_eq!(done, (NOT_LEADER, -1));
    silent.release();
    let mut done = done;
    eventually("it is taken", async || {
        done = raw.produce("moved", 0, encode(next)).await;
        done.0 != NOT_LEADER
    })
    .await;
    assert_eq!(done, (0, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_refused_for_good_does_not_take_what_is_behind_it_along() {
    const TOO_LARGE: i16 = 10;
    let (world, mut raw, pid) = moved().await;
    world.target.faults().refuse_produce(1, Some("moved"), TOO_LARGE);
    for sequence in 5..8 {
        raw.send(&produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
    }
    assert_eq!(produced(&mut raw, 3).await, [(TOO_LARGE, -1), (NOT_LEADER, -1), (NOT_LEADER, -1)]);
    // Its client gives the head up, and its place to the next one.
    for sequence in 5..7 {
        assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))).await, (0, i64::from(sequence)));
    }
    assert_eq!(world.stored(0), (5, 2));
}

/// What the gate is for, shown by a proxy without it: a process of its own, since the switch is read once.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn without_the_gate_a_retry_over_the_seam_is_stored_twice() {
    use super::world::Process;
    for (gate, stored) in [(true, (1, 0)), (false, (1, 1))] {
        let mut world = World::stopped(1, |_| {});
        let process = Process::start(&mut world, if gate { &[] } else { &[("KAFKA_CUTOVER_NO_GATE", "1")] }).await;
        world.prepare().await;
        let mut raw = Raw::connect(&process.address).await;
        world.source.faults().drop_after_append(1, Some("moved"));
        raw.send(&produce("moved", 0, encode(idempotent(7, 0, 0, 1))), 9).await;
        assert!(raw.receive::<ProduceRequest>(9).await.is_none(), "the answer is lost");
        world.switch().await.expect("switched");
        let mut raw = Raw::connect(&process.address).await;
        assert_eq!(raw.produce("moved", 0, encode(idempotent(7, 0, 0, 1))).await.0, 0);
        assert_eq!(world.stored(0), stored, "gate: {gate}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_of_one_number_do_not_take_each_other_for_a_retry() {
    let (world, mut raw, pid) = moved().await;
    let seam = world.target.log_end("moved", 0).unwrap();
    let mut beside = Raw::connect(&world.target.bootstrap()[0]).await;
    let unnamed = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1_000);
    let given = async |raw: &mut Raw| raw.ask(&unnamed, 4).await.producer_id.0;
    let first = given(&mut beside).await;
    assert!((0..=pid).contains(&first), "both clusters count from the same number on: {first}, {pid}");
    for number in first + 1..=pid {
        assert_eq!(given(&mut beside).await, number);
    }
    for sequence in 5..8 {
        let batch = encode(idempotent(pid, 0, sequence, 1));
        assert_eq!(raw.produce("moved", 0, batch.clone()).await.0, 0);
        assert_eq!(beside.produce("moved", 0, batch).await.0, 0);
    }
    assert_eq!(world.target.log_end("moved", 0), Some(seam + 6), "all of both are there");
    // Without a mark in its number the second would have been taken for the first's retry: a success, and nothing stored.
    assert_eq!(beside.produce("moved", 0, encode(idempotent(pid, 0, 7, 1))).await.0, 0);
    assert_eq!(world.target.log_end("moved", 0), Some(seam + 6));
}
