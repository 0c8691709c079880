//! How far a group is from the seam, as far as it is proven; what a waiver does about it.

use bytes::Bytes;
use kafka_cutover::embedded::batch;
use kafka_cutover::groups::drained::{
    Closed, Drain, GroupDrain, Judged, PartitionDrain, Probed, Standing, Unheard, judge, not_drained, probed,
};
use kafka_cutover::ids::{Native, Side, TopicPartition, VOffset, Virtual};
use kafka_cutover::migration::waive::{self, Asked};
use kafka_cutover::offsets::{Place, SpliceMap};
use kafka_cutover::store::event::WaiverKind;
use kafka_cutover::store::{Event, State, Waiver};

use crate::embedded::raw::{ONE, Plan, encode};

use Side::{Source, Target};
use Standing::{Behind, Drained, Uncommitted, Unknown};

/// Source 0..10, then the target from 7.
fn sealed() -> SpliceMap {
    SpliceMap::whole(Source).sealed(Native(10), 0, (Target, Native(7))).unwrap()
}

/// Source 0..10, target 7..12 (10..15), then the source from 10.
fn rolled_back() -> SpliceMap {
    sealed().sealed(Native(12), 0, (Source, Native(10))).unwrap()
}

fn at(v: i64) -> Option<VOffset> {
    Some(Virtual(v))
}

fn is(map: &SpliceMap, position: Option<VOffset>, closed: &Closed) -> Standing {
    match judge(map, position, closed) {
        Judged::Is(standing) => standing,
        Judged::Asks(place) => panic!("{position:?} asks for {place:?}"),
    }
}

fn asks(map: &SpliceMap, position: Option<VOffset>, closed: &Closed) -> Place {
    match judge(map, position, closed) {
        Judged::Asks(place) => place,
        Judged::Is(standing) => panic!("{position:?} is {standing:?}"),
    }
}

#[test]
fn at_or_behind_the_seam_nothing_is_asked() {
    let closed = Closed::default();
    for v in [10, 11, 1_000, i64::MAX] {
        assert_eq!(is(&sealed(), at(v), &closed), Drained);
    }
    // Nothing lies below a seam of an empty log, whether somebody has committed or not.
    let empty = SpliceMap::whole(Source).sealed(Native(0), -1, (Target, Native(7))).unwrap();
    assert_eq!((is(&empty, at(0), &closed), is(&empty, None, &closed)), (Drained, Drained));
    // Before any seal there is no seam to be behind of.
    assert_eq!(is(&SpliceMap::whole(Source), at(3), &closed), Drained);
}

#[test]
fn nothing_is_left_to_read_of_what_is_skipped() {
    let closed = Closed::default();
    let map = sealed().skipping(Source, Virtual(0), Virtual(10)).unwrap();
    for position in [None, at(0), at(9), at(10)] {
        assert_eq!(is(&map, position, &closed), Drained, "and nobody is asked");
    }
    // What lies on the open side below it still counts.
    let map = rolled_back().skipping(Target, Virtual(10), Virtual(15)).unwrap();
    assert_eq!(is(&map, at(10), &closed), Drained);
    assert_eq!(asks(&map, at(9), &closed).side, Source);
}

#[test]
fn below_the_seam_a_read_decides() {
    let map = sealed();
    let mut closed = Closed::default();
    let place = asks(&map, at(6), &closed);
    assert_eq!((place.side, place.native, place.end), (Source, Native(6), Some(Native(10))));
    closed.found(&place, Native(8));
    assert_eq!(is(&map, at(6), &closed), Behind(2), "from the first record on");
    assert_eq!(is(&map, at(8), &closed), Behind(2));
    assert_eq!(is(&map, at(3), &closed), Behind(7), "what is between is not known");
    assert_eq!(is(&map, None, &closed), Uncommitted(10));
    assert_eq!(asks(&map, at(9), &closed).native, Native(9), "behind the record it says nothing");
    // Retention may have taken it until the next look.
    closed.forget_records();
    assert_eq!(asks(&map, at(6), &closed).native, Native(6));
    closed.prove(&place);
    closed.forget_records();
    assert_eq!((is(&map, at(6), &closed), is(&map, at(9), &closed)), (Drained, Drained), "for ever");
    assert_eq!(asks(&map, at(5), &closed).native, Native(5), "and no lower");
    assert_eq!(asks(&map, None, &closed).native, Native(0));
}

#[test]
fn what_retention_took_is_not_left_to_read() {
    let map = sealed();
    let mut closed = Closed::default();
    closed.begins(Source, Native(4));
    closed.begins(Source, Native(2));
    assert_eq!(asks(&map, at(1), &closed).native, Native(4), "a start only rises");
    closed.found(&asks(&map, at(1), &closed), Native(4));
    assert_eq!((is(&map, at(1), &closed), is(&map, None, &closed)), (Behind(6), Uncommitted(6)));
    closed.begins(Source, Native(10));
    assert_eq!((is(&map, at(1), &closed), is(&map, None, &closed)), (Drained, Drained));
}

#[test]
fn after_a_rollback_both_closed_segments_count() {
    let map = rolled_back();
    let mut closed = Closed::default();
    let first = asks(&map, at(3), &closed);
    assert_eq!((first.side, first.native), (Source, Native(3)));
    closed.prove(&first);
    let second = asks(&map, at(3), &closed);
    assert_eq!((second.side, second.native, second.end), (Target, Native(7), Some(Native(12))));
    closed.found(&second, Native(9));
    assert_eq!((is(&map, at(3), &closed), is(&map, at(12), &closed)), (Behind(3), Behind(3)));
    assert_eq!(is(&map, at(15), &closed), Drained);
    // A record of the first segment counts with all that lies behind it.
    closed.found(&asks(&map, at(1), &closed), Native(1));
    assert_eq!(is(&map, at(1), &closed), Behind(14));
    closed.prove(&second);
    closed.forget_records();
    assert_eq!((is(&map, at(3), &closed), is(&map, at(11), &closed)), (Drained, Drained));
}

/// Every log of a few offsets with every choice of records in it, every position, every order of the looks: the answer
/// is drained exactly if there is no record from the position to the seam.
#[test]
fn against_every_small_log() {
    let map = SpliceMap::whole(Source).sealed(Native(4), 0, (Target, Native(5))).unwrap();
    let map = map.sealed(Native(8), 0, (Source, Native(4))).unwrap();
    let seam = 7;
    for records in 0_u32..1 << seam {
        let has = |v: i64| v < seam && records & 1 << v != 0;
        let first = |from: i64, to: i64| (from..to).find(|v| has(*v));
        let mut positions: Vec<Option<i64>> = std::iter::once(None).chain((0..=seam + 1).map(Some)).collect();
        for downwards in [true, false] {
            let mut closed = Closed::default();
            positions.sort_by_key(|p| p.map(|v| if downwards { -v } else { v }));
            for position in &positions {
                let position = position.map(Virtual);
                let standing = loop {
                    match judge(&map, position, &closed) {
                        Judged::Is(standing) => break standing,
                        Judged::Asks(place) => {
                            let end = place.virtual_end.unwrap().0;
                            match first(place.at().0, end) {
                                Some(v) => closed.found(&place, Native(v - place.delta)),
                                None => closed.prove(&place),
                            }
                        }
                    }
                };
                let from = position.map_or(0, |v| v.0);
                let left = first(from, seam);
                assert_eq!(standing == Drained, left.is_none(), "{records:b} at {position:?}: {standing:?}");
                match standing {
                    Behind(n) | Uncommitted(n) => {
                        assert_eq!(position.is_none(), standing == Uncommitted(n));
                        let n = i64::try_from(n).unwrap();
                        assert!((seam - left.unwrap()..=seam - from).contains(&n), "{records:b} at {position:?}: {n}");
                    }
                    _ => assert_eq!(standing, Drained),
                }
            }
        }
    }
}

/// A batch of so many records, where it lies.
fn data(base: i64, records: i32) -> Bytes {
    placed(encode(Plan { records, ..ONE }), base)
}

/// As compaction leaves it: so many offsets and no record.
fn hollow(base: i64, offsets: i32) -> Bytes {
    let mut bytes = encode(Plan { records: offsets, ..ONE })[..61].to_vec();
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
    placed(bytes.into(), base)
}

fn marker(base: i64) -> Bytes {
    placed(batch::marker((1, 0), false, 1_000), base)
}

fn placed(bytes: Bytes, base: i64) -> Bytes {
    let mut bytes = bytes.to_vec();
    batch::place(&mut bytes, base, 0);
    bytes.into()
}

#[test]
fn what_a_read_of_the_tail_says() {
    let map = sealed();
    let place = map.locate(Virtual(6));
    let say = |high_watermark: i64, batches: &[Bytes]| {
        probed(&place, Native(10), high_watermark, high_watermark, &batches.concat())
    };
    assert_eq!(say(10, &[]), Probed::Nothing);
    assert_eq!(say(9, &[]), Probed::NotYet, "the high watermark is not there yet");
    assert_eq!(say(10, &[data(6, 4)]), Probed::Record(Native(6)));
    assert_eq!(say(10, &[data(5, 3)]), Probed::Record(Native(6)), "in the middle of a batch");
    assert_eq!(say(9, &[data(8, 1)]), Probed::Record(Native(8)), "a record is a record");
    assert_eq!(say(12, &[data(10, 2)]), Probed::Nothing, "a straggler behind the end");
    assert_eq!(say(10, &[marker(6), data(7, 1)]), Probed::Record(Native(7)));
    assert_eq!(say(10, &[marker(6), hollow(7, 2)]), Probed::GoOn(Native(9)));
    assert_eq!(say(10, &[marker(6), hollow(7, 3)]), Probed::Nothing);
    assert_eq!(say(12, &[marker(6), data(10, 1)]), Probed::Nothing);
    assert_eq!(say(10, &[data(2, 2), marker(9)]), Probed::Nothing, "what lies before the place is not asked about");
    // Cut off, or not to be read: no proof.
    assert_eq!(say(10, &[data(6, 4).slice(..70)]), Probed::NotYet);
    assert_eq!(say(10, &[data(2, 2)]), Probed::NotYet);
    let mut foreign = data(6, 1).to_vec();
    foreign[16] = 9;
    assert_eq!(say(10, &[foreign.into()]), Probed::NotYet);
}

fn group(id: &str, standings: &[Standing]) -> GroupDrain {
    let partition = |(i, standing): (i32, &Standing)| PartitionDrain {
        partition: TopicPartition::new("orders", i),
        position: at(1),
        standing: *standing,
    };
    let partitions = (0..).zip(standings).map(partition).collect();
    GroupDrain { id: id.to_owned(), home: Source, state: "Stable".to_owned(), partitions }
}

#[test]
fn a_group_is_as_far_as_its_partitions_together() {
    assert_eq!(group("g", &[Drained, Drained]).behind(), Some(0));
    assert_eq!(group("g", &[Drained, Behind(3), Uncommitted(4)]).behind(), Some(7));
    assert_eq!(group("g", &[Behind(3), Unknown]).behind(), None);
    assert_eq!(group("g", &[Uncommitted(1), Drained, Uncommitted(4)]).uncommitted(), 2);
    assert_eq!(group("g", &[Drained]).unknown(), group("g", &[Unknown]));
}

fn prepared() -> State {
    let mut state = State::default();
    let pinned = Event::Pinned { migration: "m".into(), scheme: "producers-first".into(), topics: vec![] };
    state.apply(&pinned).unwrap();
    state
}

fn asked<'a>(name: &'a str, why: &'a str) -> Asked<'a> {
    Asked { migration: "m", kind: WaiverKind::Group, name, why }
}

#[test]
fn why_a_migration_is_not_drained() {
    let mut state = prepared();
    let reasons = |state: &State, groups: Vec<GroupDrain>, unheard: Vec<Unheard>| {
        not_drained(state, "m", Some(&Drain { groups, unheard }))
    };
    assert_eq!(not_drained(&state, "m", None), ["the groups have not been looked at yet"]);
    assert!(reasons(&state, vec![group("a", &[Drained])], vec![]).is_empty());
    assert!(reasons(&state, vec![], vec![]).is_empty(), "nobody reads");
    let groups = || vec![group("a", &[Behind(3)]), group("b", &[Behind(1), Uncommitted(4)]), group("c", &[Unknown])];
    let why = reasons(&state, groups(), vec![]);
    assert_eq!(why.len(), 3);
    assert!(why[0].contains("group a has 3 records"), "{why:?}");
    assert!(why[1].contains("group b has 5 records") && why[1].contains("no position on 1 partitions"), "{why:?}");
    assert!(why[2].contains("group c") && why[2].contains("not known"), "{why:?}");

    let unheard = |group: Option<&str>| Unheard { group: group.map(str::to_owned), what: "not heard".to_owned() };
    assert_eq!(reasons(&state, vec![], vec![unheard(None), unheard(Some("a"))]).len(), 2);
    let drain = Drain { groups: groups(), unheard: vec![] };
    for name in ["a", "c"] {
        let waived = waive::event(&state, Some(&drain), &[], asked(name, "it is history"), 5).unwrap().unwrap();
        state.apply(&waived).unwrap();
    }
    let why = reasons(&state, groups(), vec![unheard(None), unheard(Some("a"))]);
    assert_eq!(why.len(), 2, "{why:?}");
    assert!(why[0].contains("group b") && why[1] == "not heard", "a waiver is one group's: {why:?}");
    assert_eq!(not_drained(&state, "another", Some(&drain)).len(), 3, "and one migration's");
}

#[test]
fn what_may_be_waived() {
    let mut state = prepared();
    let drain = Drain {
        groups: vec![group("seen", &[Behind(1)])],
        unheard: vec![Unheard { group: Some("unheard".to_owned()), what: String::new() }],
    };
    let refused = |state: &State, drain: Option<&Drain>, asked: Asked<'_>| {
        let refusal = waive::event(state, drain, &[], asked, 5).unwrap_err();
        assert!(!refusal.message.is_empty() && !refusal.hint.is_empty());
        refusal.code
    };
    assert_eq!(refused(&state, Some(&drain), asked("seen", " \n")), "bad_request");
    assert_eq!(refused(&state, Some(&drain), asked("never", "why not")), "unknown_group");
    assert_eq!(refused(&state, None, asked("seen", "why not")), "unknown_group");
    assert_eq!(refused(&State::default(), Some(&drain), asked("seen", "why not")), "not_prepared");
    let finding = Asked { kind: WaiverKind::Finding, ..asked("target_not_empty", "why not") };
    assert_eq!(refused(&state, Some(&drain), finding), "not_waivable");

    for (name, why) in [("seen", " it is history "), ("unheard", "no rights")] {
        let event = waive::event(&state, Some(&drain), &[], asked(name, why), 5).unwrap().unwrap();
        state.apply(&event).unwrap();
    }
    let waiver = |name: &str, why: &str, at_ms| {
        let (name, why) = (name.to_owned(), why.to_owned());
        Waiver { kind: WaiverKind::Group, name, why, at_ms }
    };
    let both = [waiver("seen", "it is history", 5), waiver("unheard", "no rights", 5)];
    assert_eq!(state.migrations["m"].waived, both);
    // Once more, also when it is seen no more; then in other words.
    assert_eq!(waive::event(&state, None, &[], asked("seen", "it is history"), 9), Ok(None));
    let event = waive::event(&state, None, &[], asked("seen", "it is done"), 9).unwrap().unwrap();
    state.apply(&event).unwrap();
    assert_eq!(state.migrations["m"].waived, [waiver("unheard", "no rights", 5), waiver("seen", "it is done", 9)]);
}
