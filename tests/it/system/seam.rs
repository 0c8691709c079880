//! Positions on both sides of a seam: lagging readers, ListOffsets, any offset a client keeps for itself.

use super::world::*;

const SOURCE: i64 = 6;

/// Six records on the source with timestamps 1000, 2000 … then the switch, then four on the target with 7000, 8000 …
async fn moved() -> (World, Raw) {
    let world = World::new(1);
    let mut raw = world.client().await;
    for i in 0..SOURCE {
        append(&mut raw, 0, 1_000 * (i + 1), i).await;
    }
    world.cut_over().await;
    for i in SOURCE..SOURCE + 4 {
        append(&mut raw, 0, 1_000 * (i + 1), i).await;
    }
    (world, raw)
}

fn all(from: i64) -> Vec<Seen> {
    (from..SOURCE + 4).map(|offset| Seen { offset, timestamp: 1_000 * (offset + 1) }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_reader_and_one_from_scratch_read_one_log() {
    let (world, mut raw) = moved().await;
    assert_eq!(world.stored(0), (6, 4));
    for from in [0, 3, SOURCE - 1, SOURCE, SOURCE + 2] {
        // Batch by batch, and in one go.
        for max_bytes in [1, 1 << 20] {
            assert_eq!(read(&mut raw, 0, from, SOURCE + 4, max_bytes).await, all(from), "from {from}");
        }
    }
    let part = fetch_one(&mut raw, 0, 0, NO_WAIT).await;
    assert_eq!((part.high_watermark, part.last_stable_offset, part.log_start_offset), (10, 10, 0));
    let sides = fetch_one(&mut raw, 0, 4, PATIENT).await.records.unwrap();
    assert_eq!(records(&sides, 4).len(), 2, "never both sides of one partition in one answer");
    let beyond = fetch_one(&mut raw, 0, 11, PATIENT).await;
    assert_eq!(beyond.error_code, 1, "above the virtual end");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_offsets_sees_one_log() {
    let (_world, mut raw) = moved().await;
    let table = [
        ("earliest", -2, (0, -1, 0)),
        ("latest", -1, (0, -1, 10)),
        ("the newest timestamp", -3, (0, 10_000, 9)),
        ("before everything", 1, (0, 1_000, 0)),
        ("between two on the source", 2_500, (0, 3_000, 2)),
        ("the last on the source", 6_000, (0, 6_000, 5)),
        ("in the seam", 6_001, (0, 7_000, 6)),
        ("on the target", 8_500, (0, 9_000, 8)),
        ("after everything", 99_000, (0, -1, -1)),
    ];
    for (what, timestamp, expected) in table {
        assert_eq!(list_offset(&mut raw, 0, timestamp).await, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_on_the_source_moves_the_start_and_then_the_seam() {
    let (world, mut raw) = moved().await;
    world.source.set_log_start("moved", 0, 4);
    assert_eq!(list_offset(&mut raw, 0, -2).await, (0, -1, 4));
    let gone = fetch_one(&mut raw, 0, 2, PATIENT).await;
    assert_eq!(gone.error_code, 1, "below the virtual log start");
    assert_eq!(read(&mut raw, 0, 4, 10, 1 << 20).await, all(4));
    world.source.set_log_start("moved", 0, SOURCE);
    assert_eq!(list_offset(&mut raw, 0, -2).await, (0, -1, SOURCE));
    assert_eq!(read(&mut raw, 0, SOURCE, 10, 1 << 20).await, all(SOURCE));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_is_stable_whoever_has_read_it() {
    let world = World::new(1);
    world.prepare().await;
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;
    assert_eq!(read(&mut raw, 0, 0, 1, 1 << 20).await.len(), 1, "the proxy has heard of the source's ends");
    append(&mut raw, 0, 2_000, 1).await;
    world.switch().await.expect("switched");
    append(&mut raw, 0, 3_000, 2).await;
    let part = fetch_one(&mut raw, 0, 2, PATIENT).await;
    assert_eq!((part.high_watermark, part.last_stable_offset), (3, 3));
}
