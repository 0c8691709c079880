//! The end of a migration: what stands in its way, positions that hold on both clusters, the certificate.

use std::time::Duration;

use kafka_cutover::config::Config;
use kafka_cutover::control::client::ClientError;
use kafka_cutover::control::protocol::{Outcome, Report, ReportResult, StepBody, Terms, TranslateQuery, WaiveBody};
use kafka_cutover::control::translate;
use kafka_cutover::ids::Side;
use kafka_cutover::store::event::WaiverKind;
use kafka_cutover::store::{CheckResult, Journal};
use kafka_protocol::messages::{ApiKey, JoinGroupRequest};

use super::moving::{ByHand, alone, join, position, switch_groups, until_told_to_rejoin};
use super::world::*;

fn at_once(config: &mut Config) {
    config.seal.grace_time = Duration::ZERO;
}

async fn complete(world: &World) -> Result<Outcome, ClientError> {
    soon("complete", world.control().complete(MIGRATION, &StepBody::default())).await
}

async fn waive(world: &World, kind: WaiverKind, name: &str) -> Result<Outcome, ClientError> {
    let why = "nobody needs it".to_owned();
    let body = WaiveBody { kind, name: name.to_owned(), why, expect_step: None, dry_run: false };
    soon("waived", world.control().waive(MIGRATION, &body)).await
}

async fn report(world: &World) -> Report {
    soon("a report", world.control().report(MIGRATION)).await.expect("a report")
}

/// Old records, which retention would have taken by now: they are in nobody's way.
async fn filled(records: i64) -> World {
    let world = World::with(1, at_once);
    let mut raw = world.client().await;
    for i in 0..records {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    world
}

async fn simple(world: &World) -> ByHand {
    ByHand { raw: world.client().await, member: String::new(), generation: -1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_said_one_after_another() {
    let world = filled(4).await;
    let mut reader = simple(&world).await;
    assert_eq!(reader.commit("reader", 1).await, 0);
    let early = refused(complete(&world).await);
    assert_eq!((early.code.as_str(), early.hint.contains("switch moved groups")), ("too_early", true));
    world.cut_over().await;
    assert_eq!(refused(complete(&world).await).code, "too_early");
    switch_groups(&world).await.expect("moved");
    let refusal = refused(complete(&world).await);
    assert_eq!(refusal.code, "not_drained");
    assert!(refusal.message.contains("group reader has 3 records left"), "{}", refusal.message);
    assert_eq!(reader.commit("reader", 4).await, 0);
    // A group that has come since the others moved.
    let mut late = simple(&world).await;
    assert_eq!(late.commit("late", 4).await, 0);
    let refusal = refused(complete(&world).await);
    assert_eq!((refusal.code.as_str(), refusal.message.contains("late")), ("groups_left", true));
    switch_groups(&world).await.expect("moved");
    // Somebody bypasses the proxy.
    world.source.append_directly("moved", 0, encode(ONE)).expect("appended");
    let refusal = refused(complete(&world).await);
    assert_eq!((refusal.code.as_str(), refusal.hint.contains("finding stragglers")), ("stragglers", true));
    let unknown = refused(waive(&world, WaiverKind::Finding, "target_not_empty").await);
    assert_eq!((unknown.code.as_str(), unknown.hint.contains("stragglers")), ("not_waivable", true));
    waive(&world, WaiverKind::Finding, "stragglers").await.expect("waived");

    let dry = StepBody { dry_run: true, ..StepBody::default() };
    let would = soon("a dry run", world.control().complete(MIGRATION, &dry)).await.expect("nothing is in the way");
    assert_eq!(would.step, "groups-switched");
    assert_eq!(report(&world).await.result, ReportResult::NotCompleted);
    let done = complete(&world).await.expect("completed");
    assert_eq!(done.step, "completed");
    let report = report(&world).await;
    let waived: Vec<&str> =
        report.checks.iter().filter(|c| c.result == CheckResult::Waived).map(|c| c.name.as_str()).collect();
    assert_eq!((report.result, waived), (ReportResult::Ok, vec!["stragglers"]));
    assert!(report.checks.iter().any(|c| c.name == "positions" && c.detail.contains("2 positions of 2 groups")));
    // Who comes later is at home on the source, as ever.
    let mut newer = simple(&world).await;
    assert_eq!(newer.commit("newer", 5).await, 0);
    let again = complete(&world).await.expect("it is done");
    assert_eq!(again.done.len(), 2, "{:?}", again.done);
    assert!(again.done[1].contains("group newer has come since"), "{:?}", again.done);
    switch_groups(&world).await.expect("moved");
    assert_eq!(complete(&world).await.expect("it is done").done, ["migration moved is completed already"]);
    assert_eq!(position(&world, "newer").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waived_group_that_cannot_move_stays_and_is_on_record() {
    let world = filled(2).await;
    let mut reader = simple(&world).await;
    assert_eq!(reader.commit("stuck", 1).await, 0);
    world.cut_over().await;
    // Somebody else's group of this name.
    let mut other = Raw::connect(&world.target.bootstrap()[0]).await;
    let first = other.ask(&join("stuck", ""), 9).await;
    assert_eq!(other.ask(&join("stuck", &first.member_id), 9).await.error_code, 0);
    let refusal = refused(switch_groups(&world).await);
    assert!(refusal.code == "groups_left" && refusal.message.contains("has members on the target"), "{refusal:?}");
    waive(&world, WaiverKind::Group, "stuck").await.expect("waived");
    let outcome = switch_groups(&world).await.expect("it is accepted");
    assert!(outcome.step == "groups-switched" && outcome.done[0].contains("stuck is waived"), "{:?}", outcome.done);
    complete(&world).await.expect("completed");
    let report = report(&world).await;
    let check = report.checks.iter().find(|c| c.name == "groups_at_home").expect("a check");
    assert!(check.result == CheckResult::Waived && check.detail.contains("stuck"), "{check:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_new_readers_would_miss_need_a_waiver() {
    let world = World::with(1, at_once);
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let mut raw = world.client().await;
    for i in 0..3 {
        append(&mut raw, 0, now + i, i).await;
    }
    world.cut_over().await;
    switch_groups(&world).await.expect("nothing to move");
    let refusal = refused(complete(&world).await);
    assert_eq!(refusal.code, "history_without_copy");
    assert!(refusal.message.contains("moved (3)"), "{}", refusal.message);
    waive(&world, WaiverKind::Finding, "history_without_copy").await.expect("waived");
    complete(&world).await.expect("completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_begins_at_the_seam_and_no_side_needs_the_other() {
    let mut world = filled(5).await;
    let mut member = alone(&world, "group").await;
    assert_eq!(member.commit("group", 5).await, 0);
    world.cut_over().await;
    let mut raw = world.client().await;
    append(&mut raw, 0, 2_000, 5).await;
    let moving = tokio::spawn(super::moving::switch(world.control()));
    until_told_to_rejoin(&mut member, "group").await;
    member.raw.send(&join("group", &member.member), 9).await;
    soon("moved", moving).await.unwrap().expect("moved");
    let joined = soon("joined", member.raw.receive::<JoinGroupRequest>(9)).await.expect("an answer");
    member.sync("group", &joined).await;
    assert_eq!(fetch_one(&mut raw, 0, 2, NO_WAIT).await.error_code, 0, "the source's part is read until the end");
    complete(&world).await.expect("completed");
    // The part that was left is gone, as retention would have it; what follows stays where it is.
    assert_eq!(fetch_one(&mut raw, 0, 2, NO_WAIT).await.error_code, 1);
    assert_eq!(list_offset(&mut raw, 0, -2).await.2, 5);
    assert_eq!(read(&mut raw, 0, 5, 6, 1 << 20).await.len(), 1);
    // Members go on, and the source hears of no commit any more.
    let before = world.source.faults().seen(ApiKey::OffsetCommit);
    assert_eq!((member.heartbeat("group").await, member.commit("group", 6).await), (0, 0));
    assert_eq!(world.source.committed("group", "moved", 0), Some(5), "all that it has");
    let native = world.target.log_end("moved", 0);
    assert_eq!(world.target.committed("group", "moved", 0), native);
    let certificate = report(&world).await;
    let group = &certificate.groups[0];
    let positions =
        |of: &[kafka_cutover::store::GroupPosition]| of.iter().map(|p| (p.at.0, p.source)).collect::<Vec<_>>();
    assert_eq!(
        (group.home, positions(&group.before), positions(&group.after)),
        (Side::Target, vec![(5, Some(5))], vec![(5, Some(5))])
    );
    let sides: Vec<(Side, Option<i64>)> =
        certificate.partitions[0].segments.iter().map(|s| (s.side, s.length)).collect();
    assert_eq!(sides, [(Side::Source, Some(5)), (Side::Target, None)]);

    // It is so after a restart, and read from the journal alone.
    world.restart().expect("the proxy starts again");
    let mut raw = world.client().await;
    assert_eq!(fetch_one(&mut raw, 0, 2, NO_WAIT).await.error_code, 1);
    assert_eq!(report(&world).await, certificate);
    assert_eq!(position(&world, "group").await, 6);
    assert_eq!(world.source.faults().seen(ApiKey::OffsetCommit), before);
    drop(world.proxy.take());
    let state = Journal::look(&world.config.state.dir).expect("a journal");
    assert_eq!(kafka_cutover::migration::certificate::of(&state, MIGRATION).as_ref(), Some(&certificate));
    // What an offset of before means is still known, and to the certificate alone.
    let asked = |offset, from| TranslateQuery { topic: "moved".to_owned(), partition: 0, offset, from };
    for (offset, from) in [(2, Terms::Virtual), (5, Terms::Virtual), (4, Terms::Source), (7, Terms::Source)] {
        let asked = asked(offset, from);
        assert_eq!(translate::by_certificate(&certificate, &asked), translate::answer(&state, &asked), "{asked:?}");
    }
    let left = translate::by_certificate(&certificate, &asked(2, Terms::Virtual)).expect("it has a place");
    assert_eq!(left.target.map(|at| at.exact), Some(false), "the target goes on behind it");
    // The markers are gone: another proxy may begin here.
    world.config.state.dir = world.dir.path().join("another");
    world.start().expect("it starts with a journal of its own");
}

/// A position that the target's own offsets cannot say carries what they cannot. At the end it says what the target can.
#[tokio::test(flavor = "multi_thread")]
async fn positions_are_rewritten_in_the_name_of_a_member() {
    let world = filled(4).await;
    let mut member = alone(&world, "waived").await;
    assert_eq!(member.commit("waived", 1).await, 0);
    world.cut_over().await;
    let moving = tokio::spawn(super::moving::switch(world.control()));
    until_told_to_rejoin(&mut member, "waived").await;
    member.raw.send(&join("waived", &member.member), 9).await;
    soon("moved", moving).await.unwrap().expect("moved");
    let joined = soon("joined", member.raw.receive::<JoinGroupRequest>(9)).await.expect("an answer");
    member.sync("waived", &joined).await;
    assert_eq!(position(&world, "waived").await, 1, "in a trailer");
    waive(&world, WaiverKind::Group, "waived").await.expect("waived");
    // Its generation is the member's to tell.
    let completing = tokio::spawn(async move { (complete(&world).await, world) });
    while !completing.is_finished() {
        assert_eq!(soon("a heartbeat", member.heartbeat("waived")).await, 0);
    }
    let (done, world) = completing.await.unwrap();
    done.expect("completed");
    assert_eq!(position(&world, "waived").await, 4, "the first that is left");
    let closed = report(&world).await.groups.remove(0).after.remove(0);
    assert_eq!((closed.at.0, closed.source), (4, Some(4)));
    assert_eq!(world.target.committed("waived", "moved", 0), closed.target);
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_is_done_or_not() {
    for (point, step) in kafka_cutover::crash::COMPLETE.iter().zip(["groups-switched", "completed"]) {
        let mut world = World::stopped(1, at_once);
        let process = Process::start(&mut world, &[]).await;
        let mut raw = Raw::connect(&process.address).await;
        append(&mut raw, 0, 1_000, 0).await;
        let mut reader = ByHand { raw, member: String::new(), generation: -1 };
        assert_eq!(reader.commit("reader", 1).await, 0);
        world.cut_over().await;
        switch_groups(&world).await.expect("moved");
        drop(process);
        let process = Process::start(&mut world, &[("KAFKA_CUTOVER_CRASH_AT", point)]).await;
        assert!(complete(&world).await.is_err(), "{point}: the process has ended");
        drop(process);
        let _process = Process::start(&mut world, &[]).await;
        assert_eq!(world.step().await, step, "{point}");
        complete(&world).await.expect("completed");
        let certificate = report(&world).await;
        assert_eq!((certificate.result, certificate.groups[0].after.len()), (ReportResult::Ok, 1), "{point}");
    }
}
