//! One cluster is away: at the switch, before it, after it, and when the proxy itself is started.

use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, ProduceRequest};

use kafka_cutover::ids::Side;

use super::world::*;

/// NOT_LEADER_OR_FOLLOWER, LEADER_NOT_AVAILABLE, REQUEST_TIMED_OUT: clients try again.
const PASSING: [i16; 3] = [6, 5, 7];

/// As a client does it: again and again, on a new connection if the old one has ended. True once it is taken.
async fn taken(world: &World, raw: &mut Option<Raw>, plan: Plan) -> bool {
    let connection = match raw {
        Some(connection) => connection,
        None => raw.insert(world.client().await),
    };
    connection.send(&produce("moved", 0, encode(plan)), 9).await;
    match connection.receive::<ProduceRequest>(9).await {
        None => {
            *raw = None;
            false
        }
        Some(answer) => {
            let code = answer.responses[0].partition_responses[0].error_code;
            assert!(code == 0 || PASSING.contains(&code), "code {code}");
            code == 0
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_with_a_dead_cluster_is_refused_and_changes_nothing() {
    let world = World::new(1);
    world.prepare().await;
    let mut at = 0;
    for side in Side::BOTH {
        world.cluster(side).stop_node(0);
        let refusal = refused(world.switch().await);
        assert_eq!(refusal.code, "cluster_unreachable", "{refusal}");
        assert!(refusal.message.contains(&side.to_string()), "{refusal}");
        assert_eq!(world.step().await, "prepared");
        world.cluster(side).start_node(0).unwrap();
        let mut raw = None;
        eventually("produce goes on", async || taken(&world, &mut raw, ONE).await).await;
        at += 1;
        assert_eq!(world.stored(0), (at, 0));
    }
    let mut last = None;
    eventually("the switch", async || {
        last = Some(world.switch().await);
        matches!(last, Some(Ok(_)))
    })
    .await;
    append(&mut world.client().await, 0, 1_000, at).await;
    assert_eq!(world.stored(0).1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_dies_in_the_hold_undoes_it() {
    let world = World::with(1, |c| c.seal.hold_budget = Duration::from_secs(2));
    world.prepare().await;
    let marker = world.target.faults().hold_produce(Some(MARKERS));
    let switch = world.begin_switch();
    soon("the marker is on its way", marker.wait_until_held(1)).await;
    world.target.stop_node(0);
    let refusal = refused(soon("the switch ends", switch).await.unwrap());
    assert!(!refusal.hint.is_empty(), "{refusal}");
    drop(marker);
    assert_eq!(world.step().await, "prepared");
    append(&mut world.client().await, 0, 1_000, 0).await;
    world.target.start_node(0).unwrap();
    eventually("the switch", async || world.switch().await.is_ok()).await;
    let mut raw = world.client().await;
    append(&mut raw, 0, 2_000, 1).await;
    assert_eq!(world.stored(0), (1, 1));
    assert_eq!(read(&mut raw, 0, 0, 2, 1 << 20).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_cannot_be_written_holds_nobody_beyond_the_budget() {
    let world = World::with(1, |c| c.seal.hold_budget = Duration::from_millis(500));
    world.prepare().await;
    let marker = world.target.faults().hold_produce(Some(MARKERS));
    let switch = world.begin_switch();
    soon("the marker is on its way", marker.wait_until_held(1)).await;
    // Whether it meets the hold or what comes after it: the marker is still where it was.
    append(&mut world.client().await, 0, 1_000, 0).await;
    assert!(!switch.is_finished(), "the operator hears when nothing of it is left");
    marker.release();
    let refusal = refused(soon("the switch ends", switch).await.unwrap());
    assert_eq!(refusal.code, "hold_too_long");
    assert!(refusal.message.contains("it waited for the markers on both clusters"), "{refusal}");
    world.switch().await.expect("switched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_target_is_nothing_to_clients_of_the_source() {
    let world = World::with(1, |c| c.timeouts.metadata_max_age = Duration::from_millis(100));
    world.target.stop_node(0);
    eventually("the proxy knows", async || !world.control().status().await.unwrap().clusters.target.reachable).await;
    let mut raw = world.client().await;
    for i in 0..5 {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    assert_eq!(read(&mut raw, 0, 0, 5, 1 << 20).await.len(), 5);
    assert_eq!(list_offset(&mut raw, 0, -1).await, (0, -1, 5));
    assert_eq!(raw.ask(&MetadataRequest::default().with_topics(None), 9).await.topics.len(), 1);
    let (status, body) = world.page("/readyz").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &health["target"]["reachable"]), (200, &false.into()), "{body}");
    assert!(health["target"]["error"].as_str().is_some_and(|e| e.contains("target")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_comes_back_after_the_switch_is_found_again() {
    let world = World::new(1);
    let pid = world.producer().await;
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.cut_over().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 0, 1))).await, (0, 1));
    world.target.stop_node(0);
    let mut raw = Some(raw);
    let plan = idempotent(pid, 0, 1, 1);
    for _ in 0..3 {
        assert!(!taken(&world, &mut raw, plan).await, "and never a lasting error");
    }
    let mut reader = world.client().await;
    let part = fetch_one(&mut reader, 0, 1, NO_WAIT).await;
    assert_eq!(part.error_code, 0, "a reader waits");
    assert_eq!(read(&mut reader, 0, 0, 1, 1 << 20).await.len(), 1, "and reads what the source has");
    world.target.start_node(0).unwrap();
    eventually("produce goes on", async || taken(&world, &mut raw, plan).await).await;
    assert_eq!(world.stored(0).1, 2, "once");
    assert_eq!(read(&mut reader, 0, 0, 3, 1 << 20).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_starts_without_the_source_serves_what_has_moved() {
    let mut world = World::new(2);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.cut_over().await;
    append(&mut raw, 0, 2_000, 1).await;
    drop(raw);
    world.source.stop_node(0);
    tokio::task::block_in_place(|| world.restart()).expect("the journal knows both clusters");

    let mut raw = world.client().await;
    let named = MetadataRequestTopic::default().with_name(Some(text("moved").into()));
    let topics = raw.ask(&MetadataRequest::default().with_topics(Some(vec![named])), 12).await.topics;
    assert_eq!((topics[0].error_code, topics[0].partitions.len()), (0, 2));
    assert_eq!(Some(topics[0].topic_id), world.source.topic_id("moved"), "the source's id for ever");
    assert!(topics[0].partitions.iter().all(|p| p.error_code == 0 && p.leader_id.0 == 1));
    let pid = world.producer().await;
    assert_eq!(raw.produce("moved", 0, encode(idempotent(pid, 0, 0, 1))).await, (0, 2));
    assert_eq!(read(&mut raw, 0, 1, 3, 1 << 20).await.len(), 2);
    assert_eq!(list_offset(&mut raw, 0, -1).await, (0, -1, 3));
    let below = fetch_one(&mut raw, 0, 0, NO_WAIT).await;
    assert_eq!((below.error_code, below.records.map_or(0, |r| r.len())), (0, 0), "what the source has is waited for");
    let (status, body) = world.page("/readyz").await;
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    let reachable = (&health["source"]["reachable"], &health["target"]["reachable"]);
    assert_eq!((status, reachable), (200, (&false.into(), &true.into())), "{body}");

    world.source.start_node(0).unwrap();
    assert_eq!(read(&mut raw, 0, 0, 3, 1 << 20).await.len(), 3, "and comes when it is back");
}
