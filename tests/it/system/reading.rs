//! DESIGN.md section 3, "Rules of reading", each against a fault that breaks a proxy without it.

use std::time::Duration;

use kafka_cutover::embedded::Point;
use kafka_protocol::messages::{ApiKey, FetchRequest};

use super::world::*;

const LAGGING: i32 = 80;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_behind_one_byte_budget_is_skipped_past_the_seam() {
    let world = World::new(LAGGING);
    let mut raw = world.client().await;
    let kilobyte = |timestamp| encode(Plan { timestamp, value_size: 1_000, ..ONE });
    for partition in 0..LAGGING {
        for i in 0..2 {
            assert_eq!(raw.produce("moved", partition, kilobyte(1_000 + i)).await, (0, i));
        }
    }
    world.cut_over().await;
    for partition in 0..LAGGING {
        append(&mut raw, partition, 3_000, 2).await;
    }
    // Always in the same order, with room for two batches: the source gives the rest empty parts, although they have data.
    let mut at = vec![0; LAGGING as usize];
    while at.iter().any(|next| *next < 3) {
        let wanted: Vec<_> = (0..).zip(at.iter().copied()).collect();
        raw.send(&fetch(&wanted, Duration::from_millis(500), 2_300), 12).await;
        for part in fetched(&mut raw).await {
            assert_eq!(part.error_code, 0);
            let next = &mut at[part.partition_index as usize];
            for seen in records(&part.records.unwrap_or_default(), *next) {
                let timestamp = [1_000, 1_001, 3_000][seen.offset as usize];
                assert_eq!(seen, Seen { offset: *next, timestamp }, "partition {}", part.partition_index);
                *next += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_tail_of_a_closed_segment_drains() {
    let world = World::new(2);
    let mut raw = world.client().await;
    for i in 0..4 {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    world.cut_over().await;
    append(&mut raw, 0, 2_000, 4).await;
    // As compaction leaves it: below the end, and nothing there.
    world.source.faults().deny_partition("moved", 0, true);
    for isolation in [0, 1] {
        let request = fetch(&[(0, 2)], PATIENT, 1 << 20).with_isolation_level(isolation);
        raw.send(&request, 12).await;
        let part = fetched(&mut raw).await.remove(0);
        assert_eq!(records(&part.records.unwrap(), 2), [Seen { offset: 4, timestamp: 2_000 }]);
    }
    // The verdict holds from where it was proven.
    world.source.faults().deny_partition("moved", 0, false);
    assert_eq!(read(&mut raw, 0, 0, 2, 1).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_tail_is_not_passed_while_the_sealed_side_shows_less_than_its_end() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for i in 0..4 {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    world.cut_over().await;
    append(&mut raw, 0, 2_000, 4).await;
    // A new leader on the source whose high watermark lags: records 2 and 3 are there and cannot be seen yet.
    world.source.hold_high_watermark("moved", 0, Some(2));
    let seen = world.source.faults().seen(ApiKey::Fetch);
    raw.send(&fetch(&[(0, 2)], PATIENT, 1 << 20), 12).await;
    // It answers empty, and is asked again.
    tokio::select! {
        _ = fetched(&mut raw) => panic!("answered, with what?"),
        () = world.source.faults().wait_until_seen(ApiKey::Fetch, seen + 3) => {}
    }
    world.source.hold_high_watermark("moved", 0, None);
    let part = fetched(&mut raw).await.remove(0);
    assert_eq!(records(&part.records.unwrap(), 2)[0], Seen { offset: 2, timestamp: 1_002 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_over_the_seal_gets_the_targets_first_record() {
    let world = World::new(1);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.prepare().await;
    // The source never answers this one: who waits for it waits for ever.
    let hold = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Process);
    let mut reader = world.client().await;
    reader.send(&fetch(&[(0, 1)], PATIENT, 1 << 20), 12).await;
    soon("the source has the fetch", hold.wait_until_held(1)).await;
    world.switch().await.expect("switched");
    append(&mut raw, 0, 2_000, 1).await;
    let part = fetched(&mut reader).await.remove(0);
    assert_eq!(records(&part.records.unwrap(), 1), [Seen { offset: 1, timestamp: 2_000 }]);
    drop(hold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_straggler_fetched_after_the_seal_is_not_delivered() {
    let world = World::new(1);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.prepare().await;
    let hold = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Process);
    let mut reader = world.client().await;
    reader.send(&fetch(&[(0, 1)], PATIENT, 1 << 20), 12).await;
    soon("the source has the fetch", hold.wait_until_held(1)).await;
    world.switch().await.expect("switched");
    // Past the proxy, at the seam; the standing fetch will bring it.
    assert_eq!(world.source.append_directly("moved", 0, encode(Plan { timestamp: 6_660, ..ONE })), Some(1));
    let answered = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Answer);
    hold.release();
    soon("the source has read it", answered.wait_until_held(1)).await;
    answered.release();
    // And those who come later.
    let part = fetch_one(&mut world.client().await, 0, 0, PATIENT).await;
    assert_eq!((records(&part.records.unwrap(), 0).len(), part.high_watermark), (1, 1));
    append(&mut raw, 0, 2_000, 1).await;
    let expected = Seen { offset: 1, timestamp: 2_000 };
    let part = fetched(&mut reader).await.remove(0);
    assert_eq!(records(&part.records.unwrap(), 1), [expected]);
    assert_eq!(read(&mut raw, 0, 0, 2, 1 << 20).await, [Seen { offset: 0, timestamp: 1_000 }, expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_straggler_fetched_before_the_seal_is_not_delivered_after_it() {
    let world = World::new(2);
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    world.prepare().await;
    // The end has been read, the markers are on their way: the straggler comes now.
    let marker = world.target.faults().hold_produce(Some(MARKERS));
    let switch = world.begin_switch();
    soon("the end was read", marker.wait_until_held(1)).await;
    let straggler = encode(Plan { timestamp: 6_660, value_size: 400, ..ONE });
    assert_eq!(world.source.append_directly("moved", 0, straggler), Some(1));
    // A reader that has it before the release and is answered after it: what it may see is less than it waits for.
    let mut reader = world.client().await;
    reader.send(&fetch(&[(0, 0), (1, 0)], PATIENT, 1 << 20).with_min_bytes(300), 12).await;
    let mut behind = world.client().await;
    let part = fetch_one(&mut behind, 0, 0, PATIENT).await;
    assert_eq!(records(&part.records.unwrap(), 0), [Seen { offset: 0, timestamp: 1_000 }]);
    // One that stands at the frozen end.
    let mut standing = world.client().await;
    standing.send(&fetch(&[(0, 1)], PATIENT, 1 << 20), 12).await;
    marker.release();
    soon("the switch", switch).await.unwrap().expect("switched");
    assert_eq!(raw.produce("moved", 1, encode(Plan { timestamp: 2_000, value_size: 500, ..ONE })).await, (0, 0));
    let parts = fetched(&mut reader).await;
    assert_eq!(parts[0].error_code, 0);
    let seen = records(parts[0].records.as_ref().unwrap(), 0);
    assert!([&[][..], &[Seen { offset: 0, timestamp: 1_000 }]].contains(&&seen[..]), "{seen:?}");
    append(&mut raw, 0, 2_000, 1).await;
    let part = fetched(&mut standing).await.remove(0);
    assert_eq!(records(&part.records.unwrap(), 1), [Seen { offset: 1, timestamp: 2_000 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_below_the_targets_log_start_is_stepped_over() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for i in 0..3 {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    world.cut_over().await;
    for i in 3..9 {
        append(&mut raw, 0, 2_000 + i, i).await;
    }
    // Four of the six are gone.
    let first = world.target.log("moved", 0)[0].header.base_offset;
    world.target.set_log_start("moved", 0, first + 4);
    // At the seam, in the hole, and from before it; each by a client that has heard nothing of the target yet.
    for from in [3, 5, 1] {
        let mut reader = world.client().await;
        let (mut at, mut seen) = (from, Vec::new());
        while at < 9 {
            let part = fetch_one(&mut reader, 0, at, PATIENT).await;
            assert_eq!(part.error_code, 0, "from {from}: at {at}");
            let records = records(&part.records.unwrap(), at);
            at = records.last().map_or(at, |last| last.offset + 1);
            seen.extend(records.into_iter().map(|s| s.offset));
        }
        let expected: Vec<i64> = (from..9).filter(|o| *o < 3 || *o >= 7).collect();
        assert_eq!(seen, expected, "from {from}");
    }
    // Nothing of the fetch codec is left unread.
    raw.ask(&FetchRequest::default().with_max_wait_ms(0), 12).await;
}
