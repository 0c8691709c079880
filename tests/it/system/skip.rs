//! `skip`: a side is lost while readers are in its part, and the operator moves them on.

use kafka_cutover::control::client::ClientError;
use kafka_cutover::control::protocol::{Outcome, SkipBody, SkippedPart, SwitchBody, What};
use kafka_cutover::ids::{Side, Virtual};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{ApiKey, DeleteRecordsRequest, GroupId, OffsetCommitRequest};

use super::world::*;

const SEAM: i64 = 3;
const END: i64 = 5;

fn body(partition: i32, why: &str) -> SkipBody {
    let (topic, why) = ("moved".to_owned(), why.to_owned());
    SkipBody { topic, partition, why, force: false, expect_step: None, dry_run: false }
}

async fn skip(world: &World, body: SkipBody) -> Result<Outcome, ClientError> {
    soon("skip", world.control().skip(MIGRATION, &body)).await
}

/// In each partition three records on the source with timestamps 1000, 2000 … and two on the target.
async fn moved(partitions: i32) -> (World, Raw) {
    let world = World::new(partitions);
    let mut raw = world.client().await;
    for partition in 0..partitions {
        for i in 0..SEAM {
            append(&mut raw, partition, 1_000 * (i + 1), i).await;
        }
    }
    world.cut_over().await;
    for partition in 0..partitions {
        for i in SEAM..END {
            append(&mut raw, partition, 1_000 * (i + 1), i).await;
        }
    }
    (world, raw)
}

async fn delete(raw: &mut Raw, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(text("moved").into()).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
    let answer = soon("deleted", raw.ask(&request, 2)).await;
    (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].low_watermark)
}

/// Wherever somebody stands in the part that is skipped, what comes next is the seam's record.
async fn begins_at_the_seam(raw: &mut Raw) {
    for at in [0, 1, SEAM - 1, SEAM] {
        for isolation in [0, 1] {
            raw.send(&fetch(&[(0, at)], PATIENT, 1 << 20).with_isolation_level(isolation), 12).await;
            let part = fetched(raw).await.remove(0);
            assert_eq!((part.error_code, part.high_watermark, part.log_start_offset), (0, END, SEAM), "at {at}");
            let offsets: Vec<i64> = records(&part.records.unwrap(), 0).iter().map(|s| s.offset).collect();
            assert_eq!(offsets, [SEAM, SEAM + 1], "at {at}");
        }
    }
    let table = [
        ("earliest", -2, (0, -1, SEAM)),
        ("latest", -1, (0, -1, END)),
        ("the newest timestamp", -3, (0, 5_000, END - 1)),
        ("of a record that is skipped", 2_000, (0, 4_000, SEAM)),
        ("behind the seam", 4_500, (0, 5_000, END - 1)),
    ];
    for (what, timestamp, expected) in table {
        assert_eq!(list_offset(raw, 0, timestamp).await, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_lost_side_go_on_at_the_seam() {
    let (world, mut raw) = moved(2).await;
    world.source.stop_node(0);
    // One that waits for what it cannot get.
    let mut waiting = world.client().await;
    waiting.send(&fetch(&[(0, 1)], PATIENT, 1 << 20), 12).await;
    let outcome = skip(&world, body(0, " the source burnt down ")).await.expect("it is lost");
    assert_eq!(outcome.done, ["skipped moved-0 from 0 to 3 on the source: the source burnt down"]);
    let part = fetched(&mut waiting).await.remove(0);
    assert_eq!((part.error_code, records(&part.records.unwrap(), 0)[0].offset), (0, SEAM));
    begins_at_the_seam(&mut raw).await;
    let m = status(&world).await;
    let (topic, side, why) = ("moved".to_owned(), Side::Source, "the source burnt down".to_owned());
    let at = m.skipped[0].at.clone();
    assert_eq!(m.skipped, [SkippedPart { topic, partition: 0, side, from: Virtual(0), to: Virtual(SEAM), why, at }]);
    assert_eq!(world.metric("kafka_cutover_skipped_offsets{migration=\"moved\"}").await, 3.0);
    let (_, shown, _) = command_line(&world, &["status", MIGRATION]).await;
    assert!(shown.contains(": moved-0 from 0 to 3 on the source: the source burnt down\n"), "{shown}");
    // The lost side is not asked, and what is below the seam is gone already.
    assert_eq!(delete(&mut raw, 1).await, (0, SEAM));
    assert_eq!(delete(&mut raw, SEAM + 1).await, (0, SEAM + 1));
    assert_eq!(list_offset(&mut raw, 0, -2).await, (0, -1, SEAM + 1));
    // Behind what is skipped, and behind what is deleted there.
    for at in [0, SEAM - 1] {
        let part = fetch_one(&mut world.client().await, 0, at, PATIENT).await;
        assert_eq!((part.error_code, part.log_start_offset), (0, SEAM + 1), "at {at}");
        assert_eq!(records(&part.records.unwrap(), 0)[0].offset, SEAM + 1, "at {at}");
    }
    // The other partition still waits for its side.
    let part = fetch_one(&mut raw, 1, 0, NO_WAIT).await;
    assert_eq!((part.error_code, part.records.unwrap_or_default().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_skipped_when_the_side_comes_back() {
    let (mut world, mut raw) = moved(1).await;
    let position = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default().with_name(text("moved").into()).with_partitions(vec![position]);
    let commit = OffsetCommitRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![topic]);
    assert_eq!(soon("committed", raw.ask(&commit, 8)).await.topics[0].partitions[0].error_code, 0);
    let behind = async |world: &World| status(world).await.groups.iter().find(|g| g.id == "g").and_then(|g| g.behind);
    eventually("the group is behind", async || behind(&world).await == Some(2)).await;
    world.source.stop_node(0);
    skip(&world, body(0, "lost")).await.expect("it is lost");
    world.source.start_node(0).expect("its port is free");
    eventually("nothing is left for the group", async || behind(&world).await == Some(0)).await;
    let fetches = world.source.faults().fetched().len();
    begins_at_the_seam(&mut world.client().await).await;
    assert_eq!(world.source.faults().fetched().len(), fetches, "nobody reads there");
    world.restart().expect("it starts again");
    // The marker was read there.
    let fetches = world.source.faults().fetched().len();
    begins_at_the_seam(&mut world.client().await).await;
    assert_eq!(world.source.faults().fetched().len(), fetches, "nobody reads there");
    assert_eq!(status(&world).await.skipped.len(), 1);
    assert_eq!(world.metric("kafka_cutover_skipped_offsets{migration=\"moved\"}").await, 3.0);
    // Neither does it grow, nor is it lost to those who keep their offsets elsewhere.
    let (code, out, _) =
        command_line(&world, &["offsets", "translate", "--topic", "moved", "--partition", "0", "--offset", "1"]).await;
    assert!(code == Some(0) && out.starts_with("moved-0: virtual 1 is source 1, in segment 0"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_is_skipped_by_force_only() {
    let (world, mut raw) = moved(1).await;
    let looks = world.source.faults().seen(ApiKey::ListOffsets);
    for dry_run in [true, false] {
        let refusal = refused(skip(&world, SkipBody { dry_run, ..body(0, "impatience") }).await);
        assert_eq!(refusal.code, "readable", "{refusal:?}");
        assert!(refusal.message.contains("its leader answers") && refusal.hint.contains("--force"), "{refusal:?}");
    }
    assert!(world.source.faults().seen(ApiKey::ListOffsets) > looks, "it was asked");
    assert_eq!(read(&mut raw, 0, 0, END, 1 << 20).await.len(), 5);
    assert_eq!(status(&world).await.skipped, []);
    let forced = ["skip", MIGRATION, "--partition", "moved:0", "--why", "impatience", "--force"];
    let (code, out, err) = command_line(&world, &[&forced[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("would skip moved-0 from 0 to 3 on the source: impatience\n"), "{out}");
    assert_eq!(status(&world).await.skipped, []);
    let (code, out, _) = command_line(&world, &forced).await;
    let expected = "skipped moved-0 from 0 to 3 on the source: impatience\nmoved: at step `producers-switched`\n";
    assert_eq!((code, out.as_str()), (Some(0), expected));
    begins_at_the_seam(&mut raw).await;
    // Once more: it is so. In other words: those are kept.
    let (code, out, _) = command_line(&world, &forced[..6]).await;
    assert!(code == Some(0) && out.starts_with("was skipped already: moved-0: impatience\n"), "{out}");
    let outcome = skip(&world, body(0, "it was history")).await.expect("nothing more is lost by it");
    let expected = "another reason is on record for moved-0 from 0 to 3 on the source: it was history";
    assert_eq!(outcome.done, [expected]);
    let skipped = status(&world).await.skipped;
    assert_eq!((skipped.len(), skipped[0].why.as_str()), (1, "it was history"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_skipped_is_said_in_words() {
    let world = World::new(2);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    assert_eq!(refused(skip(&world, body(0, "x")).await).code, "not_prepared");
    world.prepare().await;
    let refusal = refused(skip(&world, body(0, "x")).await);
    assert!(refusal.code == "nothing_to_skip" && refusal.message.contains("no seam yet"), "{refusal:?}");
    world.switch().await.expect("switched");
    assert_eq!(refused(skip(&world, body(0, "  ")).await).code, "bad_request");
    let refusal = refused(skip(&world, body(1, "x")).await);
    assert!(refusal.code == "nothing_to_skip" && refusal.message.contains("no record on the source"), "{refusal:?}");
    for (topic, partition) in [("moved", 2), ("moved", -1), ("other", 0)] {
        let refusal = refused(skip(&world, SkipBody { topic: topic.to_owned(), ..body(partition, "x") }).await);
        assert!(refusal.code == "unknown_partition" && refusal.hint.contains("status moved"), "{refusal:?}");
    }
    let stale = SkipBody { expect_step: Some("prepared".to_owned()), ..body(0, "x") };
    assert_eq!(refused(skip(&world, stale).await).code, "step_changed");
    for usage in ["moved", ":0", "moved:", "moved:x", "moved:-1"] {
        let (code, _, err) = command_line(&world, &["skip", MIGRATION, "--partition", usage, "--why", "x"]).await;
        assert!(code == Some(2) && err.contains("TOPIC:P"), "{usage}: {err}");
    }
    assert_eq!(command_line(&world, &["skip", MIGRATION, "--partition", "moved:0"]).await.0, Some(2), "a reason");
    let (code, _, err) = command_line(&world, &["skip", MIGRATION, "--partition", "moved:0", "--why", "x"]).await;
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert_eq!(status(&world).await.skipped, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_on_the_lost_side_is_not_what_was_there() {
    let (world, mut raw) = moved(1).await;
    world.source.delete_topic("moved");
    world.source.create_topic("moved", 1, &[]).unwrap();
    skip(&world, body(0, "deleted by mistake")).await.expect("its records are gone");
    begins_at_the_seam(&mut raw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_skips_is_held_at_the_seam_too() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for i in 0..SEAM {
        append(&mut raw, 0, 1_000 * (i + 1), i).await;
    }
    world.prepare().await;
    let (what, to) = (What::Producers, Side::Target);
    let held = SwitchBody { what, to, force: false, hold_consumers: true, expect_step: None, dry_run: false };
    soon("switch", world.control().switch(MIGRATION, &held)).await.expect("switched");
    for i in SEAM..END {
        append(&mut raw, 0, 1_000 * (i + 1), i).await;
    }
    world.source.stop_node(0);
    skip(&world, body(0, "lost")).await.expect("it is lost");
    for at in [0, SEAM, END] {
        let part = fetch_one(&mut raw, 0, at, NO_WAIT).await;
        assert_eq!((part.error_code, part.records.unwrap_or_default().len()), (0, 0));
        assert_eq!((part.high_watermark, part.last_stable_offset), (SEAM, SEAM));
    }
    for (timestamp, offset) in [(-2, SEAM), (-1, SEAM), (1_000, -1), (-3, -1)] {
        assert_eq!(list_offset(&mut raw, 0, timestamp).await, (0, -1, offset), "{timestamp}");
    }
    let go_on = SwitchBody { what: What::Consumers, hold_consumers: false, ..held };
    soon("switch", world.control().switch(MIGRATION, &go_on)).await.expect("switched");
    begins_at_the_seam(&mut raw).await;
}
