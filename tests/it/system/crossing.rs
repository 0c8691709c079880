//! Transactional producers over a seam: each transaction ends on the side that it began on, and the next one begins on the
//! other; nobody waits for anybody's.

use std::time::Duration;

use kafka_cutover::control::client::ClientError;
use kafka_cutover::control::protocol::{Outcome, SwitchBody, What};
use kafka_cutover::embedded::Point;
use kafka_cutover::ids::{LATEST, Side};
#[cfg(feature = "crash-points")]
use kafka_protocol::messages::AddPartitionsToTxnRequest;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ApiKey, DescribeTransactionsRequest, JoinGroupRequest, ListTransactionsRequest, OffsetFetchRequest,
};

use super::moving::{alone, join, switch_groups, until_told_to_rejoin};
use super::transactions::{Producer, aborted, committed, contents};
use super::world::*;

const ILLEGAL_GENERATION: i16 = 22;
const OFFSET_NOT_AVAILABLE: i16 = 78;
const PRODUCER_FENCED: i16 = 90;
const INVALID_PRODUCER_EPOCH: i16 = 47;

async fn switch_with(world: &World, force: bool, dry_run: bool) -> Result<Outcome, ClientError> {
    let (what, to) = (What::Producers, Side::Target);
    let body = SwitchBody { what, to, force, hold_consumers: false, expect_step: None, dry_run };
    soon("the switch ends", world.control().switch(MIGRATION, &body)).await
}

/// The switch of producers is done, and its seam is late.
pub async fn until_late(world: &World) {
    eventually("the late seam is open", async || {
        status(world).await.late_seam.is_some_and(|l| !l.waits_for.open.is_empty())
    })
    .await;
}

pub async fn until_placed(world: &World) {
    eventually("the seam has its place", async || status(world).await.late_seam.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_transaction_begins_on_the_other_side() {
    let mut world = World::new(1);
    let mut tx = Producer::begin(&world.address(), "tx").await;
    let mut idle = Producer::begin(&world.address(), "idle").await;
    tx.write("moved", 3, true).await;
    tx.write("moved", 2, false).await;
    let seam = world.source.log_end("moved", 0).unwrap();
    let mut zombie = Producer::begin(&world.address(), "heir").await;
    zombie.write("moved", 1, true).await;
    let mut heir = Producer::begin(&world.address(), "heir").await;
    world.cut_over().await;
    assert_eq!(world.source.log_end("moved", 0), Some(seam + 2));

    // It keeps its number, its epoch and its sequence.
    tx.write("moved", 2, true).await;
    tx.write("moved", 1, false).await;
    tx.write("moved", 1, true).await;
    idle.write("moved", 1, true).await;
    heir.write("moved", 1, true).await;
    assert_eq!(world.source.log_end("moved", 0), Some(seam + 2), "nothing more comes there");
    let part = committed(&world, 0).await;
    assert_eq!(contents(&part), (vec![0, 1, 2, 4, 5, 7], vec![3, 6, 8]));
    let part = committed(&world, seam + 2).await;
    assert_eq!(contents(&part), (vec![9, 10, 12, 14, 16, 18], vec![11, 13, 15, 17, 19]));
    assert_eq!(aborted(&part).iter().map(|(_, first)| *first).collect::<Vec<_>>(), [12]);
    assert_eq!(world.metric("kafka_cutover_transactional_ids_moved_total").await, 3.0);

    // Whoever has an old epoch of it is fenced, through the proxy and beside it.
    assert_eq!(zombie.add(&[("moved", 0)]).await, [PRODUCER_FENCED]);
    assert_eq!(zombie.produce("moved", 0, 1).await.0, INVALID_PRODUCER_EPOCH);
    let mut beside = tx.twin(Raw::connect(&world.source.bootstrap()[0]).await);
    assert_eq!(beside.add(&[("moved", 0)]).await, [PRODUCER_FENCED]);

    // Who is initialised there has what the new side calls it, and its predecessor is fenced.
    let mut second = Producer::begin(&world.address(), "tx").await;
    assert_ne!(second.pid, tx.pid);
    assert_eq!(tx.add(&[("moved", 0)]).await, [PRODUCER_FENCED]);
    second.write("moved", 1, true).await;
    // A client that wants a greater epoch names what it has.
    assert_eq!(idle.initialise().await, 0);
    idle.write("moved", 1, true).await;

    let mut raw = world.client().await;
    let listed = raw.ask(&ListTransactionsRequest::default(), 0).await;
    let mut ids: Vec<(String, String)> = listed
        .transaction_states
        .iter()
        .map(|t| (t.transactional_id.to_string(), t.transaction_state.to_string()))
        .collect();
    ids.sort();
    let done = "CompleteCommit".to_owned();
    assert_eq!(ids, ["heir", "idle", "tx"].map(|id| (id.to_owned(), done.clone())));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text("tx").into()]);
    let described = raw.ask(&request, 0).await;
    assert_eq!(described.transaction_states[0].producer_id.0, second.pid);

    // It is on record.
    world.restart().unwrap();
    second.raw = world.client().await;
    second.write("moved", 1, true).await;
    idle.raw = world.client().await;
    idle.write("moved", 1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_ends_where_it_began_and_holds_nobody_up() {
    let mut world = World::new(2);
    world.prepare().await;
    let mut plain = world.client().await;
    append(&mut plain, 0, 1_000, 0).await;
    let mut tx = Producer::begin(&world.address(), "long").await;
    let mut short = Producer::begin(&world.address(), "short").await;
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    assert_eq!(tx.produce("moved", 0, 2).await, (0, 1));
    let switch = world.begin_switch();
    until_late(&world).await;
    let now = status(&world).await;
    assert_eq!((now.step.as_str(), now.guard.ok), ("producers-switched", false));
    assert!(now.guard.reason.as_ref().is_some_and(|r| r.contains("long (since ")), "{now:?}");
    let refusal = refused(switch_groups(&world).await);
    assert_eq!(refusal.code, "late_seam_open");

    // Others go on on the new side; what they write has no place yet.
    let appended = soon("a plain batch", plain.produce("moved", 0, encode(ONE))).await;
    assert_eq!(appended, (0, -1));
    short.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).len(), 2);
    let mut reader = world.client().await;
    assert_eq!(list_offset(&mut reader, 0, LATEST).await.0, OFFSET_NOT_AVAILABLE);
    let part = fetch_one(&mut reader, 0, 0, NO_WAIT).await;
    assert_eq!((contents(&part), part.high_watermark), ((vec![0, 1, 2], vec![]), 3), "readers stay there");

    // The open one goes on where it began, also to a partition that it had not yet.
    assert_eq!(tx.produce("moved", 0, 1).await, (0, 3));
    assert_eq!(tx.add(&[("moved", 1)]).await, [0]);
    assert_eq!(tx.produce("moved", 1, 1).await, (0, 0));
    // Sequences are of a partition.
    tx.sequence -= 1;
    // A restart changes nothing of that.
    drop(switch);
    world.restart().unwrap();
    tx.raw = world.client().await;
    until_late(&world).await;
    assert_eq!(tx.produce("moved", 0, 1).await, (0, 4));
    assert_eq!(tx.end(true).await, 0);
    until_placed(&world).await;
    assert_eq!(world.source.log_end("moved", 0), Some(6));
    tx.write("moved", 1, true).await;
    let part = committed(&world, 0).await;
    assert_eq!(contents(&part), (vec![0, 1, 2, 3, 4], vec![5]));
    let part = committed(&world, 6).await;
    assert_eq!(contents(&part), (vec![6, 7, 9], vec![8, 10]));
    assert_eq!((part.high_watermark, list_offset(&mut world.client().await, 0, LATEST).await), (11, (0, -1, 11)));
    assert!(status(&world).await.guard.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_not_end_stops_the_switch_by_name_unless_it_may_be_aborted() {
    let world = World::with(1, |c| c.seal.late_seam_max = Duration::from_millis(1));
    world.prepare().await;
    let mut tx = Producer::begin(&world.address(), "checkpoint").await;
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
    eventually("it is too old", async || switch_with(&world, false, true).await.is_err()).await;
    for dry_run in [true, false] {
        let refusal = refused(switch_with(&world, false, dry_run).await);
        assert_eq!(refusal.code, "open_transaction");
        assert!(refusal.message.contains("checkpoint (open since ") && refusal.hint.contains("--force"), "{refusal:?}");
    }
    assert_eq!((world.step().await.as_str(), tx.produce("moved", 0, 1).await), ("prepared", (0, 1)));
    switch_with(&world, true, false).await.expect("it is aborted");
    assert_eq!(tx.end(true).await, PRODUCER_FENCED);
    until_placed(&world).await;
    assert_eq!(contents(&committed(&world, 0).await).0, [0, 1]);
    assert_eq!(aborted(&committed(&world, 0).await).len(), 1);
    let mut next = Producer::begin(&world.address(), "checkpoint").await;
    next.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_seam_that_stays_open_can_be_forced() {
    let world = World::with(1, |c| c.seal.late_seam_max = Duration::from_millis(1));
    world.prepare().await;
    let mut tx = Producer::begin(&world.address(), "stays").await;
    // It begins when the seal has just looked.
    let looks = || world.source.faults().hold(ApiKey::ListTransactions, None, Point::Answer);
    let preflight = looks();
    let switch = world.begin_switch();
    soon("the preflight looks", preflight.wait_until_held(1)).await;
    let seal = looks();
    preflight.release();
    soon("the seal looks", seal.wait_until_held(1)).await;
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    seal.release();
    let outcome = soon("the switch ends", switch).await.unwrap().expect("switched");
    assert!(outcome.done.iter().any(|line| line.contains("stays (since ")), "{outcome:?}");
    let outcome = switch_with(&world, true, false).await.expect("it is aborted");
    assert!(outcome.done.iter().any(|line| line.contains("their seam took a hold of")), "{outcome:?}");
    assert_eq!(tx.end(true).await, PRODUCER_FENCED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_over_with_the_group_whose_positions_it_commits() {
    let mut world = World::new(2);
    let mut plain = world.client().await;
    for offset in 0..6 {
        append(&mut plain, 1, 1_000, offset).await;
    }
    let mut tx = Producer::begin(&world.address(), "pipeline").await;
    let transform = async |world: &World, tx: &mut Producer, position: i64, commit: bool| {
        assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
        assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
        assert_eq!(tx.commit_positions("g", "moved", 1, position).await, [0, 0]);
        assert_eq!(tx.end(commit).await, 0);
        place(world, "g", 1).await
    };
    assert_eq!(transform(&world, &mut tx, 2, true).await, (0, 2));
    world.cut_over().await;
    assert!(world.target.committed("g", "moved", 1).is_some(), "its group is at home there");
    // It reads what lies on the source, and commits that on the target.
    assert_eq!(transform(&world, &mut tx, 4, true).await, (0, 4));
    assert_eq!(transform(&world, &mut tx, 5, false).await, (0, 4));
    assert_eq!(transform(&world, &mut tx, 5, true).await, (0, 5));
    world.restart().unwrap();
    tx.raw = world.client().await;
    assert_eq!(transform(&world, &mut tx, 6, true).await, (0, 6));
    assert_eq!(world.came(Side::Target, 0).len(), 4);
    assert_eq!(contents(&committed(&world, 0).await).0, [0]);
    assert_eq!(contents(&committed(&world, 2).await).0, [2, 4, 6, 8]);
    // A transaction may begin with the positions, and hold nothing else.
    let mut another = Producer::begin(&world.address(), "another").await;
    assert_eq!(another.commit_positions("g", "moved", 1, 6).await, [0, 0]);
    assert_eq!(another.end(true).await, 0);
    assert_eq!(world.metric("kafka_cutover_transactional_ids_moved_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_stays_with_its_group_until_that_has_moved() {
    let mut world = World::new(1);
    world.prepare().await;
    let mut tx = Producer::begin(&world.address(), "pipeline").await;
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    assert_eq!(tx.commit_positions("g", "moved", 0, 0).await, [0, 0]);
    assert_eq!(tx.end(true).await, 0);
    // Its positions are on their way to the target for as long as this holds them.
    let hold = world.target.faults().hold(ApiKey::OffsetCommit, None, Point::Process);
    drop(world.begin_switch());
    let mut raw = world.client().await;
    soon("the positions are on their way", hold.wait_until_held(1)).await;
    assert_eq!(soon("a plain batch", raw.produce("moved", 0, encode(ONE))).await, (0, -1));
    tx.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).len(), 1, "the pipeline still writes on the source");
    eventually("it is said", async || {
        status(&world).await.late_seam.is_some_and(|late| late.waits_for.groups.iter().any(|g| g.starts_with("g")))
    })
    .await;
    // A crash does not make the proxy forget whose positions they were.
    world.restart().unwrap();
    soon("the positions are on their way again", hold.wait_until_held(2)).await;
    tx.raw = world.client().await;
    tx.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).len(), 1);
    hold.release();
    until_placed(&world).await;
    tx.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).len(), 2);
}

/// A member that waited for its group's move in the midst of a transaction would keep the group from moving.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_begins_ahead_of_its_group_is_to_abort() {
    let world = World::new(1);
    world.prepare().await;
    let mut before = Producer::begin(&world.address(), "before").await;
    assert_eq!(before.add(&[("moved", 0)]).await, [0]);
    assert_eq!(before.commit_positions("g", "moved", 0, 0).await, [0, 0]);
    assert_eq!(before.end(true).await, 0);
    let mut member = alone(&world, "g").await;
    let switch = world.begin_switch();
    until_told_to_rejoin(&mut member, "g").await;
    // Nobody knows yet that its transactions carry positions.
    let mut ahead = Producer::begin(&world.address(), "ahead").await;
    assert_eq!(ahead.add(&[("moved", 0)]).await, [0]);
    let positions = ahead.positions("g", "moved", 0, 1);
    let positions = positions.with_member_id(text(&member.member)).with_generation_id(member.generation);
    let answer = soon("it is to abort", ahead.raw.ask(&positions, 4)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ILLEGAL_GENERATION);
    assert_eq!(ahead.end(false).await, 0);
    member.raw.send(&join("g", &member.member), 9).await;
    soon("the switch ends", switch).await.unwrap().expect("switched");
    let joined = soon("joined", member.raw.receive::<JoinGroupRequest>(9)).await.expect("an answer");
    member.sync("g", &joined).await;
    assert_eq!(ahead.add(&[("moved", 0)]).await, [0]);
    assert_eq!(ahead.commit_positions("g", "moved", 0, 1).await, [0, 0]);
    assert_eq!(ahead.end(true).await, 0);
    assert_eq!(place(&world, "g", 0).await, (0, 1));
}

/// A position of a group, in a way that waits for open transactions: error and offset.
pub async fn place(world: &World, group: &str, partition: usize) -> (i16, i64) {
    let group = OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let answer = world.client().await.ask(&request, 8).await;
    let part = answer.groups[0].topics[0].partitions.iter().find(|p| p.partition_index as usize == partition);
    part.map(|p| (p.error_code, p.committed_offset)).unwrap()
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_survives_the_end_of_the_process_at_any_point_of_its_crossing() {
    for point in kafka_cutover::crash::CROSSING {
        let mut world = World::new(1);
        let mut tx = Producer::begin(&world.address(), "tx").await;
        tx.write("moved", 2, true).await;
        world.cut_over().await;
        drop(world.proxy.take());
        {
            let process = Process::start(&mut world, &[("KAFKA_CUTOVER_CRASH_AT", point)]).await;
            tx.raw = Raw::connect(&process.address).await;
            let request = tx.adding(&[("moved", 0)]);
            tx.raw.send(&request, 3).await;
            assert!(tx.raw.receive::<AddPartitionsToTxnRequest>(3).await.is_none(), "{point}: the process ends");
        }
        world.start().unwrap();
        tx.raw = world.client().await;
        tx.write("moved", 1, true).await;
        tx.write("moved", 1, true).await;
        assert_eq!(world.came(Side::Target, 0).len(), 2, "{point}");
        let part = committed(&world, 3).await;
        assert_eq!(contents(&part), (vec![3, 5], vec![4, 6]), "{point}");
        let mut beside = tx.twin(Raw::connect(&world.source.bootstrap()[0]).await);
        assert_eq!(beside.add(&[("moved", 0)]).await, [PRODUCER_FENCED], "{point}");
    }
}
