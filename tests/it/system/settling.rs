//! DESIGN.md section 4, step 2: nothing of before the seal may land after it.

use std::time::{Duration, Instant};

use kafka_cutover::clock::now_ms;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::ProduceRequest;

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_client_is_gone_is_waited_for() {
    let world = World::with(1, |c| c.seal.hold_budget = Duration::from_millis(300));
    world.prepare().await;
    let pid = world.producer().await;
    // Not idempotent, idempotent, without an answer.
    for (i, (plan, acks)) in [(ONE, -1), (idempotent(pid, 0, 0, 1), -1), (ONE, 0)].into_iter().enumerate() {
        let held = world.source.faults().hold_produce(Some("moved"));
        let mut raw = world.client().await;
        raw.send(&produce("moved", 0, encode(plan)).with_acks(acks), 9).await;
        soon("the source has received it", held.wait_until_held(1)).await;
        drop(raw);
        eventually("the proxy has seen it go", async || {
            world.page("/metrics").await.1.contains("kafka_cutover_connections 0")
        })
        .await;
        let refusal = refused(world.switch().await);
        assert_eq!(refusal.code, "hold_too_long", "{refusal}");
        held.release();
        soon("it lands", world.source.wait_high_watermark("moved", 0, i as i64 + 1)).await;
    }
    world.switch().await.expect("switched");
    let mut raw = world.client().await;
    append(&mut raw, 0, 5_000, 3).await;
    assert_eq!(read(&mut raw, 0, 0, 4, 1 << 20).await.len(), 4, "below the seam, and once");
    assert_eq!(world.stored(0), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_without_a_trace_is_waited_out() {
    let settle = Duration::from_millis(700);
    let world = World::with(1, |c| c.seal.settle_time = settle);
    world.prepare().await;
    world.source.faults().drop_before_append(1, Some("moved"));
    let mut raw = world.client().await;
    let lost = Instant::now();
    raw.send(&produce("moved", 0, encode(ONE)), 9).await;
    assert!(raw.receive::<ProduceRequest>(9).await.is_none(), "the client hears of it by a closed connection");
    world.switch().await.expect("switched");
    assert!(lost.elapsed() >= settle, "sealed after {:?}", lost.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_idempotent_batch_is_sent_again_and_not_waited_out() {
    let world = World::with(1, |c| c.seal.settle_time = Duration::from_secs(3_600));
    world.prepare().await;
    let pid = world.producer().await;
    // Lost before it was stored: the seal stores it, so that the client's retry is a duplicate and not a gap.
    world.source.faults().drop_before_append(1, Some("moved"));
    let mut raw = world.client().await;
    raw.send(&produce("moved", 0, encode(idempotent(pid, 0, 0, 1))), 9).await;
    assert!(raw.receive::<ProduceRequest>(9).await.is_none());
    world.switch().await.expect("switched");
    assert_eq!(world.source.log_end("moved", 0), Some(1));
    let mut raw = world.client().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 0, 1))).await.0, 0);
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 1, 1))).await, (0, 1));
    assert_eq!(world.stored(0), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_proxy_waits_before_its_first_seal() {
    let settle = Duration::from_millis(700);
    let mut world = World::with(1, |c| c.seal.settle_time = settle);
    world.prepare().await;
    let started = Instant::now();
    world.restart().unwrap();
    world.switch().await.expect("switched");
    assert!(started.elapsed() >= settle, "an earlier process may have left produce on its way");
}

/// Longer than any test: what is kept stays.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// So many batches of one record, pipelined, whose answers are all lost: nothing of them was appended.
async fn lose(world: &World, pid: i64, batches: i32) {
    let held = world.source.faults().hold_produce(Some("moved"));
    let mut raw = world.client().await;
    for sequence in 0..batches {
        raw.send(&produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
    }
    soon("the source has received the first", held.wait_until_held(1)).await;
    world.source.stop_node(0);
    soon("the connection ends", async { while raw.frame().await.is_some() {} }).await;
    drop(held);
}

/// The client's own second try of all of them.
async fn tried_again(world: &World, pid: i64, batches: i32) {
    let mut raw = world.client().await;
    for sequence in 0..batches {
        raw.send(&produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
    }
    let errors: Vec<_> = produced(&mut raw, batches as usize).await.into_iter().map(|(error, _)| error).collect();
    assert_eq!(errors, vec![0; batches as usize]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_retry_says_nothing_of_the_copy_that_was_lost() {
    let world = World::with(1, |c| c.seal.settle_time = FOR_EVER);
    world.prepare().await;
    let pid = world.producer().await;
    lose(&world, pid, 3).await;
    let mut raw = world.client().await;
    let (error, _) = raw.produce("moved", 0, encode(idempotent(pid, 0, 0, 1))).await;
    assert_eq!(error, 6, "nobody leads it");
    world.source.start_node(0).unwrap();
    world.switch().await.expect("switched");
    tried_again(&world, pid, 3).await;
    assert_eq!(world.stored(0), (3, 0), "each once, none acknowledged without being stored");
    let stored: Vec<_> = world.source.log("moved", 0).iter().map(|b| b.header.base_sequence).collect();
    assert_eq!(stored, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_lost_batch_waits_for_its_outcome() {
    // Refused once, in a way that passes.
    for error in [6, 19, -1] {
        let world = World::with(1, |c| c.seal.settle_time = FOR_EVER);
        world.prepare().await;
        let pid = world.producer().await;
        lose(&world, pid, 2).await;
        world.source.start_node(0).unwrap();
        world.source.faults().refuse_produce(1, Some("moved"), error);
        world.switch().await.expect("switched");
        tried_again(&world, pid, 2).await;
        assert_eq!(world.stored(0), (2, 0), "after {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_no_longer_land_is_not_made_to() {
    let world = World::with(1, |c| c.seal.settle_time = Duration::ZERO);
    world.prepare().await;
    let pid = world.producer().await;
    lose(&world, pid, 1).await;
    let lost = now_ms();
    world.source.start_node(0).unwrap();
    eventually("the settle time has passed", async || now_ms() > lost).await;
    world.switch().await.expect("switched");
    assert_eq!(world.came(Side::Source, 0).len(), 0, "old data was not written as new");
    tried_again(&world, pid, 1).await;
    assert_eq!(world.stored(0), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_moves_in_the_hold_is_found_again() {
    let mut world = World::of_nodes(2, 1, |c| {
        c.seal.settle_time = FOR_EVER;
        c.seal.hold_budget = Duration::from_secs(25);
    });
    world.start().unwrap();
    world.prepare().await;
    let pid = world.producer().await;
    world.source.faults().drop_before_append(1, Some("moved"));
    let mut raw = world.client().await;
    raw.send(&produce("moved", 0, encode(idempotent(pid, 0, 0, 1))), 9).await;
    assert!(soon("the connection ends", raw.receive::<ProduceRequest>(9)).await.is_none());
    let resent = world.source.faults().hold_produce(Some("moved"));
    let switch = world.begin_switch();
    soon("it is sent again, in the hold", resent.wait_until_held(1)).await;
    let (leader, _) = world.source.leader("moved", 0).unwrap();
    world.source.move_leader("moved", 0, 1 - leader);
    resent.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    tried_again(&world, pid, 1).await;
    assert_eq!(world.stored(0), (1, 0));
}
