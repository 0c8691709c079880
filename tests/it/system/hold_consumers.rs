//! `switch producers --hold-consumers`: readers stay at the seam, whatever comes behind it, until `switch consumers`.

use std::time::Duration;

use kafka_cutover::control::client::ClientError;
use kafka_cutover::control::protocol::{Outcome, SwitchBody, What};
use kafka_cutover::ids::Side;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

use super::world::*;

const SEAM: i64 = 3;

fn body(what: What, hold_consumers: bool) -> SwitchBody {
    SwitchBody { what, to: Side::Target, force: false, hold_consumers, expect_step: None, dry_run: false }
}

async fn switch(world: &World, what: What, hold_consumers: bool) -> Result<Outcome, ClientError> {
    soon("switch", world.control().switch(MIGRATION, &body(what, hold_consumers))).await
}

/// Records with timestamps 1000, 2000 … up to the seam, not yet switched.
async fn filled(partitions: i32) -> (World, Raw) {
    let world = World::new(partitions);
    let mut raw = world.client().await;
    for partition in 0..partitions {
        for i in 0..SEAM {
            append(&mut raw, partition, 1_000 * (i + 1), i).await;
        }
    }
    world.prepare().await;
    (world, raw)
}

/// Two more in partition 0, on the target.
async fn beyond_the_seam(raw: &mut Raw) {
    for i in SEAM..SEAM + 2 {
        append(raw, 0, 1_000 * (i + 1), i).await;
    }
}

/// Whoever asks is shown a log that ends at the seam.
async fn ends_at_the_seam(raw: &mut Raw) {
    // At the seam, and beyond it: of what a producer was told, or from before a restart.
    for at in [SEAM, SEAM + 1, SEAM + 2, SEAM + 100] {
        for isolation in [0, 1] {
            raw.send(&fetch(&[(0, at)], NO_WAIT, 1 << 20).with_isolation_level(isolation), 12).await;
            let part = fetched(raw).await.remove(0);
            assert!(part.error_code == 0 && part.records.unwrap_or_default().is_empty(), "at {at}");
            assert_eq!((part.high_watermark, part.last_stable_offset), (SEAM, SEAM), "at {at}");
        }
    }
    let read = read(raw, 0, 0, SEAM, 1 << 20).await;
    assert_eq!(read.iter().map(|s| s.timestamp).collect::<Vec<_>>(), [1_000, 2_000, 3_000]);
    let part = fetch_one(raw, 0, 1, NO_WAIT).await;
    assert_eq!((part.high_watermark, part.last_stable_offset, part.log_start_offset), (SEAM, SEAM, 0));
    let table = [
        ("earliest", -2, (0, -1, 0)),
        ("latest", -1, (0, -1, SEAM)),
        ("the newest timestamp", -3, (0, 3_000, 2)),
        ("below the seam", 2_500, (0, 3_000, 2)),
        ("of a record beyond it", 4_000, (0, -1, -1)),
        ("after everything", 99_000, (0, -1, -1)),
    ];
    for (what, timestamp, expected) in table {
        assert_eq!(list_offset(raw, 0, timestamp).await, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_stay_at_the_seam_while_producers_go_on_and_are_let_go_on_at_once() {
    let (world, mut raw) = filled(1).await;
    // One that waits there from before the seal on, and one that comes later.
    let mut early = world.client().await;
    early.send(&fetch(&[(0, SEAM)], PATIENT, 1 << 20), 12).await;
    let outcome = switch(&world, What::Producers, true).await.expect("switched");
    // The marker was read there.
    let fetches = world.target.faults().fetched().len();
    assert!(outcome.done[1].starts_with("consumers of moved are held at the seam until"), "{outcome:?}");
    let mut late = world.client().await;
    late.send(&fetch(&[(0, SEAM)], PATIENT, 1 << 20), 12).await;
    beyond_the_seam(&mut raw).await;
    assert_eq!(world.stored(0), (3, 2));
    ends_at_the_seam(&mut world.client().await).await;
    assert_eq!(world.target.faults().fetched().len(), fetches, "no reader was let near the target");
    let m = status(&world).await;
    assert_eq!((m.step.as_str(), m.next.as_deref()), ("producers-switched", Some("switch consumers")));
    assert!(m.consumers_held_since.is_some() && m.guard.ok, "{m:?}");

    let outcome = switch(&world, What::Consumers, false).await.expect("switched");
    assert_eq!(outcome.done, ["consumers of moved go on over the seam, to the target"]);
    for reader in [&mut early, &mut late] {
        let part = fetched(reader).await.remove(0);
        let first = records(&part.records.unwrap(), SEAM)[0];
        assert_eq!(first, Seen { offset: SEAM, timestamp: 4_000 });
    }
    assert_eq!(read(&mut raw, 0, 0, SEAM + 2, 1 << 20).await.len(), 5);
    assert_eq!(list_offset(&mut raw, 0, -1).await, (0, -1, SEAM + 2));
    assert_eq!(fetch_one(&mut raw, 0, SEAM + 3, PATIENT).await.error_code, 1, "above the virtual end again");
    let m = status(&world).await;
    assert_eq!((m.next.as_deref(), m.consumers_held_since), (Some("switch groups"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_need_not_wait_is_answered_at_once_and_others_are_read_meanwhile() {
    let (world, mut raw) = filled(2).await;
    switch(&world, What::Producers, true).await.expect("switched");
    beyond_the_seam(&mut raw).await;
    // Nothing is waited for.
    raw.send(&fetch(&[(0, SEAM)], PATIENT, 1 << 20).with_min_bytes(0), 12).await;
    assert_eq!(fetched(&mut raw).await[0].high_watermark, SEAM);
    // The other one has more.
    raw.send(&fetch(&[(0, SEAM), (1, 0)], PATIENT, 1 << 20), 12).await;
    let parts = fetched(&mut raw).await;
    assert_eq!((parts[0].records.clone().unwrap_or_default().len(), parts[0].high_watermark), (0, SEAM));
    assert_eq!(records(parts[1].records.as_ref().unwrap(), 0)[0].offset, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_holds_nothing_leads_nobody_over_the_seam() {
    let (world, mut raw) = filled(1).await;
    switch(&world, What::Producers, true).await.expect("switched");
    beyond_the_seam(&mut raw).await;
    // As compaction leaves it: below the end, and nothing there.
    world.source.faults().deny_partition("moved", 0, true);
    let mut patient = world.client().await;
    patient.send(&fetch(&[(0, 1)], PATIENT, 1 << 20), 12).await;
    let fetches = world.target.faults().fetched().len();
    for _ in 0..3 {
        let part = fetch_one(&mut raw, 0, 1, Duration::from_millis(100)).await;
        assert_eq!((part.error_code, part.records.unwrap_or_default().len()), (0, 0));
    }
    assert_eq!(world.target.faults().fetched().len(), fetches);
    switch(&world, What::Consumers, false).await.expect("switched");
    let part = fetched(&mut patient).await.remove(0);
    assert_eq!(records(&part.records.unwrap(), 1)[0], Seen { offset: SEAM, timestamp: 4_000 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_them_there() {
    let (mut world, mut raw) = filled(1).await;
    switch(&world, What::Producers, true).await.expect("switched");
    beyond_the_seam(&mut raw).await;
    let since = status(&world).await.consumers_held_since.expect("held");
    world.restart().expect("it starts again");
    let mut raw = world.client().await;
    ends_at_the_seam(&mut raw).await;
    let m = status(&world).await;
    assert_eq!((m.consumers_held_since, m.next.as_deref()), (Some(since), Some("switch consumers")));
    append(&mut raw, 0, 6_000, SEAM + 2).await;
    ends_at_the_seam(&mut raw).await;
    switch(&world, What::Consumers, false).await.expect("switched");
    world.restart().expect("it starts again");
    assert_eq!(read(&mut world.client().await, 0, 0, SEAM + 3, 1 << 20).await.len(), 6);
    assert_eq!(status(&world).await.consumers_held_since, None);
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn it_is_in_force_from_the_commit_on_whatever_crashes() {
    for (point, held) in [("seal.before-commit", false), ("seal.committed", true), ("seal.released", true)] {
        let mut world = World::stopped(1, |_| {});
        let process = Process::start(&mut world, &[("KAFKA_CUTOVER_CRASH_AT", point)]).await;
        let mut raw = Raw::connect(&process.address).await;
        for i in 0..SEAM {
            append(&mut raw, 0, 1_000 * (i + 1), i).await;
        }
        world.prepare().await;
        switch(&world, What::Producers, true).await.expect_err("it crashes");
        drop(process);
        world.start().expect("the next one starts");
        let m = status(&world).await;
        assert_eq!((m.consumers_held_since.is_some(), m.step == "producers-switched"), (held, held), "{point}");
        let mut raw = world.client().await;
        beyond_the_seam(&mut raw).await;
        match held {
            true => ends_at_the_seam(&mut raw).await,
            false => assert_eq!(read(&mut raw, 0, 0, SEAM + 2, 1 << 20).await.len(), 5),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_is_undone_holds_nobody() {
    let world = World::with(1, |c| c.seal.hold_budget = Duration::from_millis(500));
    world.prepare().await;
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    let marker = world.target.faults().hold_produce(Some(MARKERS));
    refused(switch(&world, What::Producers, true).await);
    drop(marker);
    assert_eq!(status(&world).await.consumers_held_since, None);
    append(&mut raw, 0, 2_000, 1).await;
    assert_eq!(read(&mut raw, 0, 0, 2, 1 << 20).await.len(), 2);
    eventually("switched without it", async || switch(&world, What::Producers, false).await.is_ok()).await;
    append(&mut raw, 0, 3_000, 2).await;
    assert_eq!(read(&mut raw, 0, 0, 3, 1 << 20).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_beyond_the_seam_are_not_deleted_unseen() {
    let (world, mut raw) = filled(1).await;
    switch(&world, What::Producers, true).await.expect("switched");
    beyond_the_seam(&mut raw).await;
    let mut delete = async |offset| {
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(text("moved").into()).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
        let answer = soon("deleted", raw.ask(&request, 2)).await;
        (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].low_watermark)
    };
    let asked = world.target.faults().seen(ApiKey::DeleteRecords);
    assert_eq!(delete(SEAM + 1).await, (1, -1), "beyond the end");
    assert_eq!(delete(2).await, (0, 2));
    assert_eq!(delete(-1).await, (0, SEAM), "up to the end that is shown");
    assert_eq!(world.target.faults().seen(ApiKey::DeleteRecords), asked);
    assert_eq!(list_offset(&mut raw, 0, -2).await, (0, -1, SEAM));
    switch(&world, What::Consumers, false).await.expect("switched");
    assert_eq!(read(&mut raw, 0, SEAM, SEAM + 2, 1 << 20).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_is_told() {
    let (world, _) = filled(1).await;
    let refusal = refused(switch(&world, What::Groups, true).await);
    assert!(refusal.code == "bad_request" && refusal.hint.contains("--hold-consumers"), "{refusal:?}");
    let rehearse = ["switch", MIGRATION, "producers", "--hold-consumers", "--dry-run"];
    let (code, out, err) = command_line(&world, &rehearse).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("consumers of moved would be held at the seam until"), "{out}");
    assert_eq!(status(&world).await.consumers_held_since, None);
    let (code, out, _) = command_line(&world, &["switch", MIGRATION, "producers", "--hold-consumers"]).await;
    assert!(code == Some(0) && out.contains("`kafka-cutover switch moved consumers`"), "{out}");
    // Once more, with the flag and without it: so it is.
    for args in [&rehearse[..], &["switch", MIGRATION, "producers", "--hold-consumers"], &rehearse[..3]] {
        let (code, out, _) = command_line(&world, args).await;
        assert!(code == Some(0) && out.contains("on the target already") && out.contains("are held at"), "{out}");
    }
    let (_, out, _) = command_line(&world, &["status"]).await;
    assert!(out.contains("moved: consumers are held at the seam since 20"), "{out}");
    let (code, out, _) = command_line(&world, &["switch", MIGRATION, "consumers", "--dry-run", "--json"]).await;
    let tried: Outcome = serde_json::from_str(&out).expect("JSON");
    let would = "consumers of moved would go on over the seam, to the target";
    assert_eq!((code, tried.dry_run, tried.done), (Some(0), true, vec![would.to_owned()]));
    let (code, _, err) = command_line(&world, &["switch", MIGRATION, "consumers", "--to", "source"]).await;
    assert!(code == Some(1) && err.lines().count() == 1, "{err}");
    assert!(status(&world).await.consumers_held_since.is_some());

    // `cutover` goes on with what is next.
    let (code, out, err) = command_line(&world, &["cutover", MIGRATION, "--dry-run"]).await;
    assert!(code == Some(0) && out.contains("would go on over the seam"), "{out}{err}");
    let (code, out, err) = command_line(&world, &["cutover", MIGRATION, "--yes"]).await;
    assert!(code == Some(0) && out.starts_with("consumers of moved go on over the seam"), "{out}{err}");
    assert_eq!(status(&world).await.consumers_held_since, None);
    for _ in 0..2 {
        let (code, out, err) = command_line(&world, &["switch", MIGRATION, "consumers"]).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("are not held: they follow their producers by themselves"), "{out}");
    }
    let refusal = refused(switch(&world, What::Producers, true).await);
    assert!(refusal.code == "too_late" && refusal.message.contains("consumers follow"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_prepare_there_is_nothing_to_let_go_on() {
    let world = World::new(1);
    let refusal = refused(switch(&world, What::Consumers, false).await);
    assert!(refusal.code == "not_prepared" && refusal.hint.contains("prepare moved"), "{refusal:?}");
}
