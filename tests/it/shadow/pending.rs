//! The pure part: positions in the other side's terms, and what waits to be written.

use std::time::Duration;

use kafka_cutover::groups::position;
use kafka_cutover::groups::shadow::{self, GroupBatch, Pending, Shadow, Told, Verdict};
use kafka_cutover::ids::{Native, Side, TopicPartition, Virtual};
use kafka_cutover::offsets::SpliceMap;
use kafka_cutover::upstream::ask::groups::Stored;
use tokio::time::Instant;

fn sealed() -> SpliceMap {
    SpliceMap::whole(Side::Source).sealed(Native(100), 0, (Side::Target, Native(7))).unwrap()
}

fn at(offset: i64, metadata: &str) -> Option<Stored> {
    Some(Stored { offset, metadata: Some(metadata.to_owned()) })
}

fn commit(group: &str, partition: i32, v: i64) -> Shadow {
    Shadow {
        group: group.to_owned(),
        partition: TopicPartition::new("orders", partition),
        v: Virtual(v),
        metadata: Some(format!("at {v}")),
    }
}

/// Group, then partition and v of each position.
fn plain(batches: &[GroupBatch]) -> Vec<(&str, Vec<(i32, i64)>)> {
    let positions = |b: &GroupBatch| b.positions.iter().map(|(tp, owed)| (tp.partition, owed.v.0)).collect();
    batches.iter().map(|b| (b.group.as_str(), positions(b))).collect()
}

#[test]
fn a_position_in_the_target_s_terms() {
    let map = sealed();
    let shadow = |v, metadata| shadow::position(&map, Side::Target, Virtual(v), metadata);
    // Before the target's part: its start, without what the client noted of another position.
    assert_eq!(shadow(42, Some("noted")), at(7, ""));
    assert_eq!(shadow(100, Some("noted")), at(7, "noted"));
    assert_eq!(shadow(103, Some("noted")), at(10, "noted"));
    assert_eq!(shadow(103, None), at(10, ""));
    assert_eq!(shadow(103, Some("noted\u{1}kc1:55")), at(10, "noted"));
    let long = "m".repeat(4097);
    assert_eq!(shadow(103, Some(&long)), at(10, ""));
    assert_eq!(shadow(103, Some(&long[1..])), at(10, &long[1..]));
}

/// Source 0..100, target 100..110 (7..17), source 110..: the target's part is closed.
#[test]
fn a_position_behind_the_target_s_part() {
    let map = sealed().sealed(Native(17), 0, (Side::Source, Native(100))).unwrap();
    let shadow = |v| shadow::position(&map, Side::Target, Virtual(v), Some("noted"));
    assert_eq!(shadow(109), at(16, "noted"));
    assert_eq!(shadow(110), at(17, "noted"));
    assert_eq!(shadow(111), at(17, ""));
}

#[test]
fn before_a_seal_there_is_no_shadow() {
    let whole = SpliceMap::whole(Side::Source);
    assert!(!shadow::is_owed(Some(&whole), Side::Source), "nothing was sealed");
    assert!(!shadow::is_owed(None, Side::Source), "no migration has touched it");
    assert!(shadow::is_owed(Some(&sealed()), Side::Source));
    // A group that has moved leaves a shadow of all that it reads.
    assert!([Some(&whole), None, Some(&sealed())].into_iter().all(|map| shadow::is_owed(map, Side::Target)));
}

/// What a pass finds on the home is what the client committed, trailers and all.
#[test]
fn what_is_owed_for_what_the_home_stores() {
    let stored = |v, metadata| {
        let stored = position::stored(Some(&sealed()), Side::Source, v, metadata, 4096).0;
        Stored { offset: stored.offset, metadata: stored.metadata }
    };
    let found = [
        (TopicPartition::new("orders", 0), stored(42, Some("a"))),
        (TopicPartition::new("orders", 1), stored(100, Some("b"))),
        (TopicPartition::new("orders", 2), stored(150, Some("c"))),
        (TopicPartition::new("untracked", 0), stored(5, None)),
        (TopicPartition::new("unsealed", 0), stored(5, None)),
    ];
    let map = |tp: &TopicPartition| match &*tp.topic {
        "orders" => Some(sealed()),
        "unsealed" => Some(SpliceMap::whole(Side::Source)),
        _ => None,
    };
    let mut owed: Vec<_> =
        shadow::owed_for("g", Side::Source, found, map).map(|(s, _)| (s.partition.partition, s.v.0)).collect();
    owed.sort_unstable();
    assert_eq!(owed, [(0, 42), (1, 100), (2, 150)]);
}

#[test]
fn the_newest_position_wins() {
    let now = Instant::now();
    let mut pending = Pending::new(100);
    for v in [5, 9, 7] {
        pending.put(commit("a", 0, v));
    }
    pending.put(commit("b", 0, 1));
    pending.put(commit("a", 1, 2));
    assert_eq!(pending.len(), 3);
    let due = pending.due(10, now);
    // The last commit, also when it is a rewind; the group that has waited longest first.
    assert_eq!(plain(&due), [("a", vec![(0, 7), (1, 2)]), ("b", vec![(0, 1)])]);
    assert!(pending.is_empty() && pending.due(10, now).is_empty() && pending.next_due(now).is_none());
}

#[test]
fn what_was_not_written_waits_and_yields() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut pending = Pending::new(100);
    pending.put(commit("a", 0, 1));
    pending.put(commit("a", 1, 1));
    let [batch] = pending.due(1, now).try_into().unwrap();
    pending.put(commit("a", 0, 2));
    pending.put_back(batch, later);
    pending.put(commit("b", 0, 3));
    assert_eq!(pending.next_due(now), Some(now));
    assert_eq!(plain(&pending.due(10, now)), [("b", vec![(0, 3)])]);
    assert_eq!(pending.next_due(now), Some(later));
    assert_eq!(plain(&pending.due(10, later)), [("a", vec![(0, 2), (1, 1)])]);
}

#[test]
fn a_deletion_that_fails_keeps_nobody_else_waiting() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut pending = Pending::new(100);
    pending.delete("gone".to_owned());
    pending.put(commit("gone", 0, 1));
    assert_eq!(pending.deletions(10, now), ["gone"]);
    pending.delete_later("gone", later);
    assert_eq!(pending.next_due(now), Some(later));
    pending.put(commit("a", 0, 2));
    assert_eq!(pending.next_due(now), Some(now));
    assert!(pending.deletions(10, now).is_empty());
    assert_eq!(plain(&pending.due(10, now)), [("a", vec![(0, 2)])]);
    // What is owed to the new group of that name comes after the deletion.
    assert!(pending.due(10, later).is_empty());
    assert_eq!(pending.deletions(10, later), ["gone"]);
    pending.is_deleted("gone");
    assert_eq!(plain(&pending.due(10, later)), [("gone", vec![(0, 1)])]);
}

#[test]
fn what_is_owed_for_a_forgotten_position_goes_and_a_new_commit_takes_its_place() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut pending = Pending::new(100);
    let tp = |i| TopicPartition::new("orders", i);
    let forget = |partitions: &[i32]| Told::Forgotten {
        group: "a".to_owned(),
        partitions: partitions.iter().map(|i| tp(*i)).collect(),
    };
    pending.put(commit("a", 0, 1));
    pending.put(commit("a", 1, 1));
    pending.put(commit("a", 2, 1));
    let batch = pending.due(1, now).remove(0);
    let moment = pending.moment();
    pending.put(commit("b", 0, 4));
    pending.tell(forget(&[0, 1]));
    assert_eq!((pending.len(), pending.forgotten(9, now)), (1, vec![("a".to_owned(), vec![tp(0), tp(1)])]));
    // What was on its way comes back, and what a pass has read before: both are older.
    pending.put_back(batch, now);
    pending.put_found(commit("a", 1, 1), moment);
    assert_eq!(plain(&pending.due(10, now)), [("b", vec![(0, 4)]), ("a", vec![(2, 1)])]);
    // It fails, then the client commits one of them again.
    pending.forget_later("a", later);
    assert_eq!((pending.forgotten(9, now), pending.next_due(now)), (vec![], Some(later)));
    pending.put(commit("a", 1, 7));
    assert_eq!(pending.next_due(now), Some(now));
    assert_eq!(pending.forgotten(9, later), [("a".to_owned(), vec![tp(0)])]);
    assert_eq!(plain(&pending.due(10, now)), [("a", vec![(1, 7)])]);
    // One that goes while it is being done waits for the next time.
    let moment = pending.moment();
    pending.put(commit("a", 1, 8));
    pending.tell(forget(&[1]));
    pending.are_forgotten("a", &[tp(0), tp(1)], moment);
    assert_eq!((pending.len(), pending.forgotten(9, later)), (0, vec![("a".to_owned(), vec![tp(1)])]));
    pending.are_forgotten("a", &[tp(1)], pending.moment());
    assert_eq!(pending.next_due(now), None);
    // The whole group goes.
    pending.tell(forget(&[2]));
    pending.delete("a".to_owned());
    assert!(pending.forgotten(9, later).is_empty());
    // There is room for as many as are owed.
    let mut few = Pending::new(2);
    few.tell(forget(&[0, 1, 2]));
    few.tell(Told::Forgotten { group: "b".to_owned(), partitions: vec![tp(0)] });
    assert_eq!((few.forgotten(9, now).len(), few.take_overflowed()), (1, 2));
}

#[test]
fn a_pass_yields_to_what_was_committed_meanwhile() {
    let now = Instant::now();
    let mut pending = Pending::new(100);
    pending.put(commit("a", 0, 1));
    let moment = pending.moment();
    pending.put(commit("a", 1, 20));
    pending.put_found(commit("a", 0, 2), moment);
    pending.put_found(commit("a", 1, 10), moment);
    pending.put_found(commit("a", 2, 30), moment);
    assert_eq!(plain(&pending.due(10, now)), [("a", vec![(0, 2), (1, 20), (2, 30)])]);
}

#[test]
fn the_oldest_go_for_want_of_room() {
    let now = Instant::now();
    let mut pending = Pending::new(4);
    for v in 0..4 {
        assert_eq!(pending.has_room(), v < 2);
        pending.put(commit(&format!("g{v}"), 0, v));
    }
    pending.put(commit("g0", 0, 10));
    assert_eq!((pending.len(), pending.take_overflowed()), (4, 0));
    pending.put(commit("g4", 0, 4));
    pending.put(commit("g5", 0, 5));
    assert_eq!((pending.len(), pending.take_overflowed(), pending.take_overflowed()), (4, 2, 0));
    let due = pending.due(3, now);
    assert_eq!(plain(&due), [("g2", vec![(0, 2)]), ("g3", vec![(0, 3)]), ("g4", vec![(0, 4)])]);
    assert_eq!(plain(&pending.due(3, now)), [("g5", vec![(0, 5)])]);
}

#[test]
fn a_large_group_is_written_in_parts() {
    let now = Instant::now();
    let mut pending = Pending::new(100_000);
    (0..4_500).for_each(|p| pending.put(commit("large", p, 1)));
    let mut seen = 0;
    for size in [2_000, 2_000, 500] {
        let [batch] = pending.due(10, now).try_into().unwrap();
        assert_eq!(batch.positions.len(), size);
        seen += size;
        assert_eq!(pending.len(), 4_500 - seen);
    }
    assert!(pending.due(10, now).is_empty());
}

#[test]
fn answers_are_sorted() {
    assert_eq!(shadow::verdict(Ok(())), Verdict::Written);
    for (code, verdict) in [
        (25, Verdict::Taken),
        (22, Verdict::Taken),
        (3, Verdict::Again),
        (14, Verdict::Again),
        (16, Verdict::Again),
        (30, Verdict::Refused),
        (12, Verdict::WithoutMetadata),
    ] {
        assert_eq!(shadow::verdict(Err(code)), verdict, "{code}");
    }
    let mut pending = Pending::new(100);
    (0..5).for_each(|p| pending.put(commit("g", p, 1)));
    let [batch] = pending.due(1, Instant::now()).try_into().unwrap();
    let answers = [Ok(()), Err(16), Err(12), Err(25), Err(30)];
    let sorted =
        shadow::sort(false, batch.positions.into_iter().zip(answers).map(|((tp, owed), answer)| (tp, owed, answer)));
    assert_eq!((sorted.written, sorted.failed, sorted.moved), (1, 4, true));
    assert_eq!((sorted.taken, sorted.refused), (Some(25), Some(30)));
    let again: Vec<_> = sorted.again.iter().map(|(tp, owed)| (tp.partition, owed.metadata.as_deref())).collect();
    assert_eq!(again, [(1, Some("at 1")), (2, None)]);
}
