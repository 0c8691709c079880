//! PROTOCOL.md rule 16: what one client connection sends to a partition stays in order, also when its head fails.

use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::world::*;

const NOT_LEADER: i16 = 6;
/// Of the migration, and of none.
const ASIDE: &str = "moved-aside";
const PLAIN: &str = "plain";

async fn send(raw: &mut Raw, topic: &str, pid: i64, sequences: std::ops::Range<i32>) {
    for sequence in sequences {
        raw.send(&produce(topic, 0, encode(idempotent(pid, 0, sequence, 1))), 9).await;
    }
}

fn taken(offsets: std::ops::Range<i64>) -> Vec<(i16, i64)> {
    offsets.map(|offset| (0, offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_refused_in_the_hold_is_awaited_behind_the_seam() {
    let mut world = World::stopped(1, |c| c.seal.hold_budget = Duration::from_secs(25));
    world.source.create_topic(ASIDE, 1, &[]).unwrap();
    world.start().unwrap();
    world.prepare().await;
    let pid = world.producer().await;
    world.source.faults().refuse_produce(3, Some("moved"), NOT_LEADER);
    let on_its_way = world.source.faults().hold_produce(Some("moved"));
    let mut raw = world.client().await;
    send(&mut raw, "moved", pid, 0..3).await;
    soon("the source has the first", on_its_way.wait_until_held(1)).await;
    let switch = world.begin_switch();
    // A bystander shows when the hold has begun.
    let mut other = world.client().await;
    let bystander = world.producer().await;
    eventually("the hold", async || {
        send(&mut other, ASIDE, bystander, 0..1).await;
        world.held().await > 0
    })
    .await;
    send(&mut raw, "moved", pid, 3..5).await;
    world.until_held(2).await;
    on_its_way.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    assert_eq!(produced(&mut raw, 5).await, [(NOT_LEADER, -1); 5]);
    assert_eq!(world.stored(0), (0, 0), "nothing overtook the head");
    send(&mut raw, "moved", pid, 0..5).await;
    assert_eq!(produced(&mut raw, 5).await, taken(0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_moves_under_a_pipeline_does_not_reorder_it() {
    // Of a migration, and of none.
    for topic in ["moved", PLAIN] {
        let mut world = World::of_nodes(2, 1, |c| c.timeouts.metadata_max_age = Duration::from_millis(20));
        world.source.create_topic(PLAIN, 1, &[]).unwrap();
        world.start().unwrap();
        let pid = world.producer().await;
        let on_its_way = world.source.faults().hold_produce(Some(topic));
        let mut raw = world.client().await;
        send(&mut raw, topic, pid, 0..3).await;
        soon("the old leader has the first", on_its_way.wait_until_held(1)).await;
        let (leader, _) = world.source.leader(topic, 0).unwrap();
        world.source.move_leader(topic, 0, 1 - leader);
        let faults = world.source.faults();
        let looks = faults.seen(ApiKey::Metadata);
        // What was asked before the last of these is published.
        soon("the proxy looks again", faults.wait_until_seen(ApiKey::Metadata, looks + 3)).await;
        send(&mut raw, topic, pid, 3..5).await;
        let mut other = world.client().await;
        let bystander = world.producer().await;
        send(&mut other, topic, bystander, 0..1).await;
        soon("the new leader is spoken to", on_its_way.wait_until_held(2)).await;
        on_its_way.release();
        assert_eq!(produced(&mut raw, 5).await, [(NOT_LEADER, -1); 5], "{topic}");
        assert_eq!(produced(&mut other, 1).await, taken(0..1));
        send(&mut raw, topic, pid, 0..5).await;
        assert_eq!(produced(&mut raw, 5).await, taken(1..6), "{topic}");
        let stored: Vec<_> = world.source.log(topic, 0).iter().map(|b| b.header.base_sequence).collect();
        assert_eq!(stored, [0, 0, 1, 2, 3, 4]);
    }
}
