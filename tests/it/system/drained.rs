//! How far groups are from the seam (DESIGN.md section 5): shown, proven by reads, waived.

use kafka_cutover::control::protocol::{GroupStatus, SwitchBody, WaiveBody, What};
use kafka_cutover::embedded::batch::marker;
use kafka_cutover::ids::Side;
use kafka_cutover::store::event::WaiverKind;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{ApiKey, GroupId, OffsetCommitRequest};

use super::world::*;

async fn commit(world: &World, group: &str, positions: &[(i32, i64)]) {
    let position = |&(partition, v): &(i32, i64)| {
        OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(v)
    };
    let topic = OffsetCommitRequestTopic::default().with_name(text("moved").into());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(vec![topic.with_partitions(positions.iter().map(position).collect())]);
    let done = soon("committed", world.client().await.ask(&request, 8)).await;
    assert!(done.topics[0].partitions.iter().all(|p| p.error_code == 0), "{done:?}");
}

async fn group(world: &World, id: &str) -> Option<GroupStatus> {
    status(world).await.groups.into_iter().find(|g| g.id == id)
}

async fn until_behind(world: &World, id: &str, behind: Option<u64>) -> GroupStatus {
    let mut last = None;
    eventually(&format!("{id} is {behind:?} behind"), async || {
        last = group(world, id).await;
        last.as_ref().is_some_and(|g| g.behind == behind)
    })
    .await;
    last.expect("just seen")
}

/// A world whose partitions have so many records each, not yet switched.
async fn filled(partitions: i32, records: i64) -> World {
    let world = World::new(partitions);
    let mut raw = world.client().await;
    for partition in 0..partitions {
        for i in 0..records {
            append(&mut raw, partition, 1_000 + i, i).await;
        }
    }
    world
}

fn body(name: &str, why: &str) -> WaiveBody {
    let (name, why) = (name.to_owned(), why.to_owned());
    WaiveBody { kind: WaiverKind::Group, name, why, expect_step: None, dry_run: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_reads_on_until_it_is_drained() {
    let world = filled(2, 5).await;
    commit(&world, "g", &[(0, 2), (1, 5)]).await;
    world.prepare().await;
    assert_eq!(status(&world).await.groups, [], "before a seal there is no seam");
    world.switch().await.expect("switched");
    let g = until_behind(&world, "g", Some(3)).await;
    assert_eq!((g.home, g.state.as_str(), g.uncommitted), (Side::Source, "Empty", 0));
    let [p] = &g.partitions[..] else { panic!("one partition is not drained: {:?}", g.partitions) };
    assert_eq!((p.topic.as_str(), p.partition, p.position, p.behind), ("moved", 0, Some(2), Some(3)));
    let gauge = "kafka_cutover_group_lag_to_seal_records{migration=\"moved\",group=\"g\"}";
    eventually("the gauge follows", async || world.metric(gauge).await == 3.0).await;
    let (_, shown, _) = command_line(&world, &["status", MIGRATION]).await;
    assert!(shown.contains("1 of 1 groups have not read up to the seam"), "{shown}");
    assert!(shown.contains("group g: moved-0 at 2, 3 behind the seam"), "{shown}");

    commit(&world, "g", &[(0, 4)]).await;
    until_behind(&world, "g", Some(1)).await;
    commit(&world, "g", &[(0, 5)]).await;
    assert_eq!(until_behind(&world, "g", Some(0)).await.partitions, []);
    eventually("the gauge follows", async || world.metric(gauge).await == 0.0).await;
    // In the target's part, and back: a rewind is seen.
    let mut raw = world.client().await;
    append(&mut raw, 0, 2_000, 5).await;
    commit(&world, "g", &[(0, 6), (1, 0)]).await;
    until_behind(&world, "g", Some(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_held_at_the_seam_is_drained() {
    let world = filled(1, 5).await;
    commit(&world, "g", &[(0, 3)]).await;
    world.prepare().await;
    let (what, to) = (What::Producers, Side::Target);
    let body = SwitchBody { what, to, force: false, hold_consumers: true, expect_step: None, dry_run: false };
    soon("switch", world.control().switch(MIGRATION, &body)).await.expect("switched");
    append(&mut world.client().await, 0, 2_000, 5).await;
    until_behind(&world, "g", Some(2)).await;
    commit(&world, "g", &[(0, 5)]).await;
    until_behind(&world, "g", Some(0)).await;
    assert!(status(&world).await.consumers_held_since.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_reads_is_drained_by_proof() {
    let world = filled(3, 4).await;
    // The end of a transaction: no client gets it, and who commits what it got stands before it.
    for _ in 0..2 {
        world.source.append_directly("moved", 1, marker((-1, -1), true, 1_000)).expect("appended");
    }
    commit(&world, "g", &[(0, 2), (1, 4), (2, 1)]).await;
    // As compaction leaves it: below the end, and nothing there.
    world.source.faults().deny_partition("moved", 0, true);
    world.cut_over().await;
    until_behind(&world, "g", Some(3)).await;
    world.source.faults().deny_partition("moved", 0, false);
    // Retention takes the rest.
    world.source.set_log_start("moved", 2, 4);
    until_behind(&world, "g", Some(0)).await;
    // The proof is for what lies behind the position, and no more.
    commit(&world, "lower", &[(0, 1), (1, 3), (2, 0)]).await;
    until_behind(&world, "lower", Some(3 + 3)).await;
    assert_eq!(group(&world, "g").await.expect("still there").behind, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_proven_while_the_sealed_side_shows_less_than_its_end() {
    let world = filled(1, 4).await;
    commit(&world, "g", &[(0, 2)]).await;
    world.cut_over().await;
    world.source.hold_high_watermark("moved", 0, Some(2));
    let g = until_behind(&world, "g", None).await;
    assert_eq!((g.partitions[0].position, g.partitions[0].behind), (Some(2), None));
    world.source.hold_high_watermark("moved", 0, None);
    until_behind(&world, "g", Some(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_is_unknown_and_a_dead_side_hides_no_other() {
    let world = filled(1, 4).await;
    commit(&world, "g", &[(0, 1)]).await;
    world.cut_over().await;
    until_behind(&world, "g", Some(3)).await;
    let silent = world.source.faults().hold_answers(ApiKey::OffsetFetch);
    let g = until_behind(&world, "g", None).await;
    assert_eq!(g.partitions[0].position, Some(1), "where it was seen");
    silent.release();
    until_behind(&world, "g", Some(3)).await;
    world.target.stop_node(0);
    eventually("it says whom it has not heard", async || !status(&world).await.groups_not_heard.is_empty()).await;
    commit(&world, "g", &[(0, 4)]).await;
    until_behind(&world, "g", Some(0)).await;
    world.target.start_node(0).expect("its port is free");
    eventually("it has heard everybody", async || status(&world).await.groups_not_heard.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_a_position_is_named_and_waived() {
    let mut world = filled(3, 4).await;
    world.source.set_log_start("moved", 2, 4);
    commit(&world, "g", &[(0, 4)]).await;
    world.prepare().await;
    let early = refused(soon("waive", world.control().waive(MIGRATION, &body("g", "history"))).await);
    assert_eq!(early.code, "unknown_group", "groups are seen after the seal");
    world.switch().await.expect("switched");
    // Partition 2 has nothing left for anybody.
    let g = until_behind(&world, "g", Some(4)).await;
    assert_eq!((g.uncommitted, &g.waived), (1, &None));
    assert_eq!((g.partitions.len(), g.partitions[0].partition, g.partitions[0].position), (1, 1, None));

    let waive = async |body: WaiveBody| soon("waive", world.control().waive(MIGRATION, &body)).await;
    let nobody = refused(waive(body("nobody", "history")).await);
    assert!(nobody.code == "unknown_group" && nobody.message.contains("`nobody`"), "{nobody:?}");
    assert_eq!(refused(waive(body("g", "  ")).await).code, "bad_request");
    assert_eq!(refused(waive(WaiveBody { kind: WaiverKind::Finding, ..body("acl", "x") }).await).code, "not_waivable");
    let stale = WaiveBody { expect_step: Some("prepared".to_owned()), ..body("g", "x") };
    assert_eq!(refused(waive(stale).await).code, "step_changed");
    let tried = waive(WaiveBody { dry_run: true, ..body("g", "it reads live data only") }).await.expect("may be");
    assert_eq!((tried.done[0].as_str(), tried.dry_run), ("would waive group g: it reads live data only", true));
    assert_eq!(status(&world).await.waived, []);

    let args = ["waive", MIGRATION, "group", "g", "--why", "it reads live data only"];
    let (code, out, err) = command_line(&world, &args).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "waived group g: it reads live data only\nmoved: at step `producers-switched`\n");
    let (code, out, _) = command_line(&world, &args).await;
    assert!(code == Some(0) && out.starts_with("was waived already: group g"), "{out}");
    let (code, _, err) = command_line(&world, &["waive", MIGRATION, "group", "nobody", "--why", "x"]).await;
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert_eq!(command_line(&world, &["waive", MIGRATION, "group", "g"]).await.0, Some(2), "a reason is needed");

    // On record, and what it is behind is shown all the same.
    world.restart().expect("it starts again");
    let g = until_behind(&world, "g", Some(4)).await;
    assert_eq!(g.waived.as_deref(), Some("it reads live data only"));
    let waived = status(&world).await.waived;
    assert_eq!((waived.len(), waived[0].kind, waived[0].name.as_str()), (1, WaiverKind::Group, "g"));
    let (_, shown, _) = command_line(&world, &["status", MIGRATION]).await;
    assert!(shown.contains("waived: it reads live data only") && !shown.contains("have not read up"), "{shown}");
}
