//! `offsets translate`: the answer against a reference model, and from a journal that is only looked at.

use std::path::Path;

use kafka_cutover::control::protocol::{Terms, TranslateQuery, Translation};
use kafka_cutover::control::render;
use kafka_cutover::control::translate::answer;
use kafka_cutover::ids::{Native, Side, TopicPartition, Virtual};
use kafka_cutover::offsets::translated::{Owner, There};
use kafka_cutover::offsets::{NoPlace, Position, SpliceMap, Translated, translate};
use kafka_cutover::store::{Event, Journal, PreparedPartition, PreparedTopic, SealDetail, State, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use crate::control::command_line;

use Side::{Source, Target};

// ---------------------------------------------------------------------------------------------- the map

/// Every record of a partition, written out.
struct Log {
    map: SpliceMap,
    /// In virtual order.
    records: Vec<(Side, i64)>,
    /// Log end, stragglers included.
    ends: [i64; 2],
    open: Side,
    /// Virtual end when the side was opened for the first time.
    first: [Option<i64>; 2],
    /// Native ends of all closed parts.
    closed: [Vec<i64>; 2],
}

impl Log {
    /// One entry per part: how many records it gets, and how many stragglers the other side gets before the seal.
    fn of(parts: &[(i64, i64)]) -> Self {
        let mut log = Log {
            map: SpliceMap::whole(Source),
            records: vec![],
            ends: [0, 0],
            open: Source,
            first: [Some(0), None],
            closed: [vec![], vec![]],
        };
        for (i, (records, stragglers)) in parts.iter().enumerate() {
            let (open, other) = (log.open, log.open.other());
            for _ in 0..*records {
                log.records.push((open, log.ends[open.index()]));
                log.ends[open.index()] += 1;
            }
            log.ends[other.index()] += stragglers;
            if i + 1 < parts.len() {
                let (end, next) = (log.ends[open.index()], log.ends[other.index()]);
                log.map = log.map.sealed(Native(end), 0, (other, Native(next))).expect("a seal");
                log.closed[open.index()].push(end);
                log.first[other.index()].get_or_insert(log.end());
                log.open = other;
            }
        }
        log
    }

    fn end(&self) -> i64 {
        self.records.len() as i64
    }

    /// A record, or what the open side will have there.
    fn record(&self, at: i64) -> (Side, i64) {
        let to_come = (self.open, self.ends[self.open.index()] + at - self.end());
        self.records.get(at as usize).copied().unwrap_or(to_come)
    }

    fn there(&self, side: Side, at: i64) -> Option<There> {
        let next = self.records.iter().skip(at as usize).find(|r| r.0 == side).map(|r| r.1);
        let to_come = (side == self.open).then(|| self.record(at.max(self.end())).1);
        let native = next.or(to_come).or(self.closed[side.index()].last().copied())?;
        Some(There { native: Native(native), exact: self.record(at) == (side, native) })
    }

    /// Behind the side's last record before `native`, or where the side's part begins.
    fn read_up_to(&self, side: Side, native: i64) -> Option<i64> {
        let read = self.records.iter().rposition(|r| r.0 == side && r.1 < native).map(|last| last as i64 + 1);
        let beyond = if side == self.open { (native - self.ends[side.index()]).max(0) } else { 0 };
        let is_tail = beyond > 0;
        if is_tail { Some(self.end() + beyond) } else { read.or(self.first[side.index()]) }
    }

    /// The virtual offset of a native one, if it has one.
    fn at(&self, side: Side, native: i64) -> Option<i64> {
        let placed = self.records.iter().position(|r| *r == (side, native)).map(|at| at as i64);
        let beyond = native - self.ends[side.index()];
        let to_come = (side == self.open && beyond >= 0).then_some(self.end() + beyond);
        let is_end = self.closed[side.index()].contains(&native);
        placed.or(to_come).or_else(|| self.read_up_to(side, native).filter(|_| is_end))
    }

    fn check(&self, asked: Position) {
        let at = match asked {
            Position::Virtual(at) => Some(at.0),
            Position::Native(side, native) => self.at(side, native.0),
        };
        let Some(at) = at else {
            let Position::Native(side, native) = asked else { unreachable!("each virtual offset has a place") };
            match translate(&self.map, asked) {
                Err(NoPlace::NoPart(of)) => assert!(of == side && self.first[side.index()].is_none()),
                Err(NoPlace::Unmapped { side: of, native: n, before, after }) => {
                    assert_eq!((of, n), (side, native));
                    let ends = &self.closed[side.index()];
                    assert_eq!(before.map(|b| b.0), ends.iter().copied().rfind(|end| *end <= native.0));
                    assert!(after.is_none_or(|after| after > native), "{after:?}");
                }
                other => panic!("{asked:?}: {other:?}"),
            }
            return;
        };
        let translated = translate(&self.map, asked).unwrap_or_else(|e| panic!("{asked:?}: {e}"));
        let Translated { owner, native, read_up_to, .. } = translated;
        assert_eq!((translated.at.0, (owner.side, native.0)), (at, self.record(at)), "{asked:?}");
        assert_eq!(translated.sides, Side::BOTH.map(|side| self.there(side, at)), "{asked:?}");
        assert_eq!(native.0 - owner.native_start.0, at - owner.virtual_start.0, "{asked:?}: within its segment");
        let expected = match asked {
            Position::Virtual(_) => Some(at),
            Position::Native(side, native) => self.read_up_to(side, native.0),
        };
        assert_eq!(Some(read_up_to.0), expected, "{asked:?}");
        assert!(read_up_to.0 <= at);
        // And back.
        let back = translate(&self.map, Position::Native(owner.side, native)).expect("it has a place");
        assert_eq!((back.at, back.owner, back.sides), (translated.at, owner, translated.sides), "{asked:?}");
    }
}

proptest! {
    #[test]
    fn every_offset_is_what_the_log_says(parts in vec((0i64..4, 0i64..3), 1..7)) {
        let log = Log::of(&parts);
        for at in 0..log.end() + 3 {
            log.check(Position::Virtual(Virtual(at)));
        }
        for side in Side::BOTH {
            for native in 0..log.ends[side.index()] + 3 {
                log.check(Position::Native(side, Native(native)));
            }
        }
    }
}

/// `[source 0..10) [target 2..`
fn cut_over() -> SpliceMap {
    SpliceMap::whole(Source).sealed(Native(10), 0, (Target, Native(2))).expect("a seal")
}

/// `[source 0..10) [target 2..8) [source 13..`, with stragglers between 10 and 13.
fn rolled_back() -> SpliceMap {
    cut_over().sealed(Native(8), 0, (Source, Native(13))).expect("a seal")
}

fn refused(map: &SpliceMap, asked: Position) -> String {
    translate(map, asked).expect_err("it has no place").to_string()
}

#[test]
fn the_seam_belongs_to_the_later_segment_and_the_end_of_the_source_is_the_seam() {
    let map = cut_over();
    let at = |asked| translate(&map, asked).expect("it has a place");
    let seam = at(Position::Virtual(Virtual(10)));
    let open = Owner { number: 1, side: Target, virtual_start: Virtual(10), native_start: Native(2), length: None };
    let there = |native, exact| Some(There { native: Native(native), exact });
    assert_eq!((seam.owner, seam.native, seam.sides), (open, Native(2), [there(10, false), there(2, true)]));
    // A reader of the source that has read everything there.
    assert_eq!(at(Position::Native(Source, Native(10))), seam);
    assert_eq!(at(Position::Native(Target, Native(2))), seam);
    let before = at(Position::Virtual(Virtual(9)));
    assert_eq!((before.owner.number, before.owner.length), (0, Some(10)));
    assert_eq!(before.sides, [there(9, true), there(2, false)]);
}

#[test]
fn where_a_side_goes_on_its_number_says_less_than_its_record() {
    let map = rolled_back();
    let again = translate(&map, Position::Native(Source, Native(13))).expect("it has a place");
    assert_eq!((again.at, again.owner.number, again.read_up_to), (Virtual(16), 2, Virtual(10)));
    let later = translate(&map, Position::Native(Source, Native(14))).expect("it has a place");
    assert_eq!((later.at, later.read_up_to), (Virtual(17), Virtual(17)));
}

#[test]
fn what_readers_skip_is_translated_as_before() {
    let map = rolled_back();
    let skipping = map.closed_away().fold(map.clone(), |m, s| {
        m.skipping(s.side, s.virtual_start, s.virtual_end()).expect("it is one of its segments")
    });
    assert_ne!(skipping, map);
    let asked = (0..30).flat_map(|n| {
        [Position::Virtual(Virtual(n)), Position::Native(Source, Native(n)), Position::Native(Target, Native(n))]
    });
    for position in asked {
        assert_eq!(translate(&skipping, position), translate(&map, position), "{position:?}");
    }
}

#[test]
fn what_has_no_place_is_said_in_words() {
    let native = |side, native| Position::Native(side, Native(native));
    let map = rolled_back();
    let stragglers = "source offset 11 is not in the log that clients see: \
                      the source's part of it ended at 10 and goes on at 13, what lies between are stragglers";
    assert_eq!(refused(&map, native(Source, 11)), stragglers);
    assert!(refused(&map, native(Target, 9)).ends_with("ended at 8, what came later is a straggler"));
    assert!(refused(&map, native(Target, 1)).ends_with("the target's part of it begins at 2"));
    assert_eq!(refused(&SpliceMap::whole(Source), native(Target, 0)), "the target has no part of the log");
    for asked in [Position::Virtual(Virtual(-1)), native(Source, -2), native(Target, i64::MIN)] {
        assert!(refused(&map, asked).contains("no record's offset: -1 and -2 stand for the ends"), "{asked:?}");
    }
    // What was dropped at the head, and what no log can hold.
    let dropped = map.drop_below(Virtual(12));
    assert_eq!(
        refused(&dropped, Position::Virtual(Virtual(9))),
        "virtual offset 9 lies below 10, where the log begins now"
    );
    assert_eq!(translate(&dropped, native(Source, 10)).expect("the seam").at, Virtual(10));
    assert!(refused(&dropped, native(Source, 4)).ends_with("the source's part of it begins at 13"));
    let dropped = cut_over().drop_below(Virtual(10));
    assert!(refused(&dropped, native(Source, 4)).ends_with("the source's part of it is deleted"));
    assert!(refused(&map, native(Source, i64::MAX)).contains("beyond what the log can hold"));
    let far = SpliceMap::whole(Source).sealed(Native(1), 0, (Target, Native(5))).expect("a seal");
    assert!(refused(&far, Position::Virtual(Virtual(i64::MAX))).contains("beyond what the log can hold"));
    assert!(translate(&SpliceMap::whole(Source), Position::Virtual(Virtual(i64::MAX))).is_ok());
}

// ---------------------------------------------------------------------------------------------- the journal

/// Migration `m` over `orders`: partition 0 cut over at 10 to the target's 2, partition 1 prepared only, a seal of it under way.
fn story() -> Vec<Event> {
    let detail = |number, partition, end| {
        Event::SealDetail(SealDetail {
            migration: "m".into(),
            number,
            topic: "orders".into(),
            partition,
            end: Native(end),
            end_epoch: 0,
            next: (Target, Native(2)),
            producers: vec![],
            late: false,
            copied_to: None,
        })
    };
    let partitions = [0, 1].map(|partition| PreparedPartition { partition, target_start: 2 }).to_vec();
    let (source_id, target_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let topics = vec![PreparedTopic { name: "orders".into(), partitions, source_id, target_id, mirror: None }];
    let intent = |number| Event::SealIntent { migration: "m".into(), number, to: Target };
    vec![
        Event::Prepared { migration: "m".into(), scheme: "producers-first".into(), topics },
        intent(1),
        detail(1, 0, 10),
        Event::SealCommit { migration: "m".into(), number: 1, at_ms: 1, hold_ms: 1 },
        intent(2),
        detail(2, 1, 5),
    ]
}

/// What `story` adds up to.
pub fn decided() -> State {
    let mut state = State::default();
    story().iter().for_each(|event| state.apply(event).expect("the story folds"));
    state
}

/// Names and bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<_> = entries.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

/// A journal with a torn tail and an unfinished compaction beside it, and no lock.
fn left_behind() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&story()).unwrap();
    drop(journal);
    let path = dir.path().join("journal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0, 0, 0, 40, 1, 2]);
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(dir.path().join("journal.new"), "KCUT").unwrap();
    std::fs::remove_file(dir.path().join("lock")).unwrap();
    dir
}

#[test]
fn a_look_changes_nothing_and_needs_no_lock() {
    let dir = left_behind();
    let before = files(dir.path());
    assert_eq!(Journal::look(dir.path()).unwrap(), decided());
    assert_eq!(files(dir.path()), before);
    let empty = tempfile::tempdir().unwrap();
    let none = Journal::look(empty.path()).unwrap_err();
    assert!(matches!(none, StoreError::NoJournal { .. }), "{none}");
    assert_eq!(files(empty.path()), []);

    let (mut journal, state) = Journal::open(dir.path()).unwrap();
    assert_eq!(Journal::look(dir.path()).unwrap(), state, "while another holds the lock");
    journal.compact(&state).unwrap();
    assert_eq!(Journal::look(dir.path()).unwrap(), state, "a snapshot");
    let undone = Event::SealUndone { migration: "m".into(), number: 2, why: "a test".into() };
    journal.append(&[undone]).unwrap();
    assert_eq!(Journal::look(dir.path()).unwrap().pending, None, "what was appended since");
}

#[test]
fn damage_is_no_torn_tail_for_a_look_either() {
    let dir = left_behind();
    let path = dir.path().join("journal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 6);
    let whole = bytes[10..].to_vec();
    bytes.extend(whole);
    bytes[30] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let damaged = Journal::look(dir.path()).unwrap_err().to_string();
    assert!(damaged.contains("the record at byte 10 is damaged"), "{damaged}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

async fn offline(dir: &Path, topic: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let dir = dir.to_str().unwrap();
    let ask = ["offsets", "translate", "--state", dir, "--topic", topic];
    command_line(Path::new("none.sock"), &[&ask[..], args].concat()).await
}

#[tokio::test]
async fn the_command_line_translates_from_a_journal_and_leaves_it_as_it_was() {
    let dir = left_behind();
    let before = files(dir.path());
    for (topic, args, expected) in [
        (
            "orders",
            "--partition 0 --offset 9",
            "orders-0: virtual 9 is source 9, in segment 0 (virtual 0 to 9)\n\
             who reads the target alone goes on at target 2\n",
        ),
        (
            "orders",
            "--partition 0 --offset 10 --from source",
            "orders-0: virtual 10 is target 2, in segment 1 (open since virtual 10)\n\
             who reads the source alone goes on at source 10\n",
        ),
        // A seal that is not committed has not happened.
        (
            "orders",
            "--partition 1 --offset 7",
            "orders-1: virtual 7 is source 7, in segment 0 (open since virtual 0)\nthe target has no part of it\n",
        ),
        (
            "payments",
            "--partition 3 --offset 7 --from source",
            "payments-3: virtual 7 is source 7, in segment 0 (open since virtual 0)\n\
             no migration has prepared it: all of it is on the source, at the same offsets\n",
        ),
    ] {
        let (code, out, err) = offline(dir.path(), topic, &args.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), expected, ""), "{topic} {args}");
    }
    let (code, out, _) = offline(dir.path(), "orders", &["--partition", "0", "--offset", "12", "--json"]).await;
    assert_eq!((code, out.lines().count()), (Some(0), 1));
    let translation: Translation = serde_json::from_str(&out).unwrap();
    assert_eq!((translation.native, translation.migration.as_deref()), (Native(4), Some("m")));
    let history = decided().partition(&TopicPartition::new("orders", 0)).unwrap().clone();
    assert_eq!(history.map, cut_over());
    assert_eq!(files(dir.path()), before);
}

#[tokio::test]
async fn the_command_line_refuses_in_one_line() {
    let dir = left_behind();
    for (args, code, said) in [
        (
            "--partition 0 --offset 11 --from source",
            1,
            "the source's part of it ended at 10, what came later is a straggler",
        ),
        ("--partition 0 --offset 1 --from target", 1, "the target's part of it begins at 2; ask for target 2 or later"),
        ("--partition 1 --offset 1 --from target", 1, "orders-1: the target has no part of the log; it gets one when"),
        ("--partition 0 --offset -1", 2, "-1 is no record's offset: -1 and -2 stand for the ends of a log"),
        ("--partition -1 --offset 1", 2, "-1 is not in 0.."),
        ("--partition 0 --offset 99999999999999999999", 2, "number too large"),
        ("--partition 0 --offset 1 --from here", 2, "virtual, source, target"),
        ("--partition 0", 2, "--offset"),
    ] {
        let (status, out, err) = offline(dir.path(), "orders", &args.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((status, out.as_str()), (Some(code), ""), "{args}: {err}");
        assert!(err.contains(said) && (code == 2 || err.lines().count() == 1), "{args}: {err}");
    }
    assert_eq!(offline(dir.path(), "", &["--partition", "0", "--offset", "1"]).await.0, Some(2));
    let missing = dir.path().join("missing");
    let (code, out, err) = offline(&missing, "orders", &["--partition", "0", "--offset", "1"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.ends_with("missing holds no journal: what is needed is the state.dir of the proxy's config\n"),
        "{err}"
    );
    assert!(!missing.exists());
}

/// The text of a position where a side goes on: its third line.
#[test]
fn a_reader_of_one_side_is_warned_where_it_has_missed_the_other() {
    let mut state = decided();
    for event in [
        Event::SealUndone { migration: "m".into(), number: 2, why: "a test".into() },
        Event::SealIntent { migration: "m".into(), number: 3, to: Source },
        Event::SealDetail(SealDetail {
            migration: "m".into(),
            number: 3,
            topic: "orders".into(),
            partition: 0,
            end: Native(8),
            end_epoch: 0,
            next: (Source, Native(13)),
            producers: vec![],
            late: false,
            copied_to: None,
        }),
        Event::SealCommit { migration: "m".into(), number: 3, at_ms: 2, hold_ms: 1 },
    ] {
        state.apply(&event).expect("it folds");
    }
    let asked = TranslateQuery { topic: "orders".into(), partition: 0, offset: 13, from: Terms::Source };
    let expected = "orders-0: virtual 16 is source 13, in segment 2 (open since virtual 16)\n\
                    who reads the target alone goes on at target 8\n\
                    who stands at source 13 and knows the source alone has read up to virtual 10: \
                    what lies between is on the target\n";
    assert_eq!(render::translation(&answer(&state, &asked).expect("an answer")), expected);
}
