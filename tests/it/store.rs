//! What survives a crash: the fold, the journal's bytes, its lock, and who may speak for which clusters.
#![allow(clippy::disallowed_methods, reason = "tests read and damage the files")]

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use kafka_cutover::ids::{Native, Side, TopicPartition, Virtual, VirtualPid};
use kafka_cutover::offsets::SpliceMap;
use kafka_cutover::store::format::{self, FormatError, Kind};
use kafka_cutover::store::identity::{IdentityRefusal, Marker, MarkerSeen, judge, judge_clusters, marker_topic};
use kafka_cutover::store::journal::JournalFile;
use kafka_cutover::store::{
    ApiVersions, Event, FoldError, Identity, Journal, PreparedPartition, PreparedTopic, SealDetail, SealedProducer,
    Skipped, State, Store, StoreError, Waiver, WaiverKind,
};
use uuid::Uuid;

use Side::{Source, Target};

const JOURNAL: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

fn identity() -> Event {
    Event::Identity(Identity {
        journal: JOURNAL,
        name: "default".into(),
        source_cluster_id: "source-id".into(),
        target_cluster_id: Some("target-id".into()),
    })
}

fn prepared() -> Event {
    let partitions =
        vec![PreparedPartition { partition: 0, target_start: 0 }, PreparedPartition { partition: 1, target_start: 2 }];
    let topic = PreparedTopic {
        name: "orders".into(),
        partitions,
        source_id: Uuid::from_u128(1),
        target_id: Uuid::from_u128(2),
        mirror: None,
    };
    Event::Prepared { migration: "m".into(), scheme: "producers-first".into(), topics: vec![topic] }
}

fn producer(pid: i64, epoch: i16, last_sequence: i32) -> SealedProducer {
    SealedProducer { pid: VirtualPid(pid), epoch, last_sequence, base_offset: Some(3), at_ms: 5 }
}

fn detail(number: u64, partition: i32, end: i64, next: (Side, i64), producers: Vec<SealedProducer>) -> Event {
    Event::SealDetail(SealDetail {
        migration: "m".into(),
        number,
        topic: "orders".into(),
        partition,
        end: Native(end),
        end_epoch: 4,
        next: (next.0, Native(next.1)),
        producers,
        late: false,
        copied_to: None,
    })
}

fn intent(number: u64, to: Side) -> Event {
    Event::SealIntent { migration: "m".into(), number, to }
}

fn commit(number: u64) -> Event {
    Event::SealCommit { migration: "m".into(), number, at_ms: 1_000, hold_ms: 12 }
}

fn undone(number: u64) -> Event {
    Event::SealUndone { migration: "m".into(), number, why: "a test".into() }
}

/// A migration's life: cut over, one attempt undone, rolled back. One inner list is one append.
fn story() -> Vec<Vec<Event>> {
    vec![
        vec![
            identity(),
            Event::ApiVersions(ApiVersions { ranges: vec![(0, 0, 12), (1, 4, 17)], ..ApiVersions::default() }),
        ],
        vec![prepared()],
        vec![intent(1, Target)],
        vec![
            detail(1, 0, 10, (Target, 0), vec![producer(7, 0, 41)]),
            detail(1, 1, 20, (Target, 2), vec![producer(7, 0, 3), producer(8, 1, 0)]),
        ],
        vec![commit(1), Event::Step { migration: "m".into(), step: "producers switched".into() }],
        vec![intent(2, Source)],
        vec![detail(2, 0, 5, (Source, 10), vec![])],
        vec![undone(2)],
        vec![intent(3, Source)],
        vec![
            detail(3, 0, 6, (Source, 10), vec![producer(7, 0, 44)]),
            detail(3, 1, 2, (Source, 20), vec![producer(8, 0, 9)]),
        ],
        vec![commit(3)],
    ]
}

fn fold(appends: &[Vec<Event>]) -> State {
    let mut state = State::default();
    for event in appends.iter().flatten() {
        state.apply(event).expect("the story folds");
    }
    state
}

/// The story's journal, byte by byte, and where each append ends.
fn story_bytes() -> (Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, state) = Journal::open(dir.path()).expect("a new journal");
    assert_eq!(state, State::default());
    let size = || fs::metadata(dir.path().join("journal")).expect("the journal").len() as usize;
    let mut ends = vec![size()];
    for events in story() {
        journal.append(&events).expect("an append");
        ends.push(size());
    }
    (fs::read(dir.path().join("journal")).expect("the journal"), ends)
}

fn open_bytes(dir: &Path, bytes: &[u8]) -> Result<(Journal, State), StoreError> {
    fs::write(dir.join("journal"), bytes).expect("the journal");
    Journal::open(dir)
}

fn key(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

#[test]
fn torn_at_every_byte_it_opens_as_the_whole_appends_before() {
    let (bytes, ends) = story_bytes();
    let dir = tempfile::tempdir().expect("a directory");
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let (journal, state) = open_bytes(dir.path(), &bytes[..cut]).expect("torn is not damaged");
        assert_eq!(state, fold(&story()[..whole]), "cut at byte {cut}");
        drop(journal);
        let kept = fs::read(dir.path().join("journal")).expect("the journal");
        assert_eq!(kept, bytes[..ends[whole]], "cut at byte {cut}: the torn part is gone from the file");
    }
}

#[test]
fn after_a_torn_tail_it_goes_on() {
    let (bytes, ends) = story_bytes();
    let dir = tempfile::tempdir().expect("a directory");
    // A disk may leave zeros, or the length of what was never written.
    for tail in [&[0u8; 64][..], &bytes[ends[10]..ends[11] - 1], &[0xff; 9]] {
        let torn = [&bytes[..ends[10]], tail].concat();
        let (mut journal, _) = open_bytes(dir.path(), &torn).expect("torn");
        journal.append(&story()[10]).expect("an append");
        drop(journal);
        assert_eq!(fs::read(dir.path().join("journal")).expect("the journal"), bytes);
    }
}

#[test]
fn a_flipped_bit_before_the_last_append_is_refused_and_never_misread() {
    let (bytes, ends) = story_bytes();
    let last = ends[ends.len() - 2];
    for bit in 0..last * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let read = format::read(&damaged);
        assert!(read.is_err(), "bit {bit} of byte {}: {read:?}", bit / 8);
    }
    for bit in last * 8..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(format::read(&damaged).expect("as good as torn").whole, last);
    }
}

#[test]
fn damage_is_named_by_its_byte() {
    let (mut bytes, ends) = story_bytes();
    bytes[ends[3] + 20] ^= 1;
    let dir = tempfile::tempdir().expect("a directory");
    let error = open_bytes(dir.path(), &bytes).expect_err("damaged");
    let StoreError::Format { source, .. } = &error else { panic!("{error}") };
    assert_eq!(*source, FormatError::Damaged { offset: ends[3], next: ends[4] });
    assert_eq!(fs::read(dir.path().join("journal")).expect("the journal"), bytes, "nothing was cut");
}

#[test]
fn format_version_1_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = Journal::open(dir.path()).expect("a new journal");
    journal.append(&[identity()]).expect("an append");
    journal.append(&[step()]).expect("an append");
    let bytes = fs::read(dir.path().join("journal")).expect("the journal");
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN_1);
}

fn step() -> Event {
    Event::Step { migration: "m".into(), step: "s".into() }
}

/// The head; then each record: length, checksum, version, kind, and its JSON.
#[rustfmt::skip]
const GOLDEN_1: &str = concat!(
    "4b4355544a524e4c0001",
    "0000009ab4fb616f0101",
    "5b7b226576656e74223a226964656e74697479222c226a6f75726e616c223a2231313131323232322d333333332d34343434",
    "2d353535352d363636363737373738383838222c226e616d65223a2264656661756c74222c22736f757263655f636c757374",
    "65725f6964223a22736f757263652d6964222c227461726765745f636c75737465725f6964223a227461726765742d696422",
    "7d5d",
    "0000002f4fad4e2a0101",
    "5b7b226576656e74223a2273746570222c226d6967726174696f6e223a226d222c2273746570223a2273227d5d",
);

/// Every event that version 1 has written: these texts are read for ever.
#[test]
fn events_of_version_1() {
    #[rustfmt::skip]
    let golden: &[&str] = &[
        r#"{"event":"identity","journal":"11112222-3333-4444-5555-666677778888","name":"default","source_cluster_id":"source-id","target_cluster_id":"target-id"}"#,
        r#"{"event":"api_versions","ranges":[[0,0,12],[1,4,17]],"supported_features":[],"finalized_features":[],"finalized_features_epoch":0}"#,
        r#"{"event":"prepared","migration":"m","scheme":"producers-first","topics":[{"name":"orders","partitions":[{"partition":0,"target_start":0},{"partition":1,"target_start":2}],"source_id":"00000000-0000-0000-0000-000000000001","target_id":"00000000-0000-0000-0000-000000000002"}]}"#,
        r#"{"event":"seal_intent","migration":"m","number":1,"to":"target"}"#,
        r#"{"event":"seal_detail","migration":"m","number":1,"topic":"orders","partition":0,"end":10,"end_epoch":4,"next":["target",0],"producers":[{"pid":7,"epoch":0,"last_sequence":41,"base_offset":3,"at_ms":5}]}"#,
        r#"{"event":"seal_commit","migration":"m","number":1,"at_ms":1000,"hold_ms":12}"#,
        r#"{"event":"step","migration":"m","step":"producers switched"}"#,
        r#"{"event":"seal_undone","migration":"m","number":2,"why":"a test"}"#,
    ];
    let story = story();
    let written: Vec<String> = story.iter().flatten().map(|e| serde_json::to_string(e).expect("plain data")).collect();
    let first_of_each: Vec<&String> = [0, 1, 2, 3, 4, 6, 7, 10].iter().map(|i| &written[*i]).collect();
    assert_eq!(first_of_each, golden);
    for text in golden {
        serde_json::from_str::<Event>(text).expect("version 1 is read for ever");
    }
}

/// Events that came later, each as it was first written.
#[test]
fn events_since() {
    #[rustfmt::skip]
    let golden = [
        (pinned("m", vec![topic("orders", 1, (1, 2))]),
         r#"{"event":"pinned","migration":"m","scheme":"producers-first","topics":[{"name":"orders","partitions":[{"partition":0,"target_start":0}],"source_id":"00000000-0000-0000-0000-000000000001","target_id":"00000000-0000-0000-0000-000000000002"}]}"#),
        (aborted("m"), r#"{"event":"aborted","migration":"m"}"#),
        (waived("g", "it is history", 5), r#"{"event":"waived","migration":"m","kind":"group","name":"g","why":"it is history","at_ms":5}"#),
        (Event::ConsumersHeld { migration: "m".into(), at_ms: 5 }, r#"{"event":"consumers_held","migration":"m","at_ms":5}"#),
        (Event::ConsumersReleased { migration: "m".into(), at_ms: 5 }, r#"{"event":"consumers_released","migration":"m","at_ms":5}"#),
        (skipped(0, (0, 10), "it burnt down"), r#"{"event":"skipped","migration":"m","topic":"orders","partition":0,"side":"source","from":0,"to":10,"why":"it burnt down","at_ms":5}"#),
    ];
    for (event, text) in golden {
        assert_eq!(serde_json::to_string(&event).expect("plain data"), text);
        assert_eq!(serde_json::from_str::<Event>(text).expect("read for ever"), event);
    }
}

/// A compacted journal of version 1.
#[test]
fn the_snapshot_of_version_1() {
    let mut state = fold(&story()[..9]);
    state.apply(&detail(3, 0, 6, (Source, 10), vec![])).expect("a detail");
    assert_eq!(serde_json::to_string(&state).expect("plain data"), SNAPSHOT_1.replace('\n', ""));
    assert_eq!(serde_json::from_str::<State>(SNAPSHOT_1).expect("read for ever"), state);
}

#[rustfmt::skip]
const SNAPSHOT_1: &str = r#"{"identity":{"journal":"11112222-3333-4444-5555-666677778888","name":"default","source_cluster_id":"source-id","target_cluster_id":"target-id"},
"api_versions":{"ranges":[[0,0,12],[1,4,17]],"supported_features":[],"finalized_features":[],"finalized_features_epoch":0},
"migrations":{"m":{"scheme":"producers-first","step":"producers switched","topics":[{"name":"orders","partitions":[{"partition":0,"target_start":0},{"partition":1,"target_start":2}],"source_id":"00000000-0000-0000-0000-000000000001","target_id":"00000000-0000-0000-0000-000000000002"}],"sealed_at_ms":1000,"hold_ms":12}},
"partitions":[[{"topic":"orders","partition":0},{"map":{"segments":[{"virtual_start":0,"side":"source","native_start":0,"length":10,"end_epoch":4}],"tail":{"one":{"side":"target","start":0}},"tail_start":10,"seals":1,"dropped":0,"last_dropped":[null,null]},"target_start":0,"producers":{"7":{"pid":7,"epoch":0,"last_sequence":41,"base_offset":3,"at_ms":5}}}],
[{"topic":"orders","partition":1},{"map":{"segments":[{"virtual_start":0,"side":"source","native_start":0,"length":20,"end_epoch":4}],"tail":{"one":{"side":"target","start":2}},"tail_start":20,"seals":1,"dropped":0,"last_dropped":[null,null]},"target_start":2,"producers":{"7":{"pid":7,"epoch":0,"last_sequence":3,"base_offset":3,"at_ms":5},"8":{"pid":8,"epoch":1,"last_sequence":0,"base_offset":3,"at_ms":5}}}]],
"intent":3,"committed":1,"pending":{"migration":"m","number":3,"to":"source","details":[{"migration":"m","number":3,"topic":"orders","partition":0,"end":6,"end_epoch":4,"next":["source",10],"producers":[]}]}}"#;

#[test]
fn what_a_newer_version_wrote_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let with = |record: Vec<u8>| [format::head().to_vec(), record].concat();
    let refused = |bytes: &[u8]| open_bytes(dir.path(), bytes).expect_err("newer").to_string();

    for event in [r#"[{"event":"teleport"}]"#, r#"[{"event":"step","migration":"m","step":"s","more":1}]"#] {
        let text = refused(&with(format::record(Kind::Events, event.as_bytes())));
        assert!(text.contains("at byte 10") && text.contains("newer one"), "{text}");
    }
    let mut head = format::head().to_vec();
    head[9] = 2;
    assert!(refused(&head).contains("its format is 2"));
    assert!(refused(b"something else entirely").contains("does not begin like a journal"));
    let text = refused(&with(format::record(Kind::Events, br#"[{"event":"step","migration":"m","step":"s"}]"#)));
    assert!(text.contains("contradicts itself") && text.contains("not prepared"), "{text}");
}

#[test]
fn the_directory_is_locked() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Store::open(dir.path()).expect("a new one");
    let error = Store::open(dir.path()).expect_err("locked");
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    drop(first);
    Store::open(dir.path()).expect("free again");
}

#[test]
fn boot_folds_to_what_was_live() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new one");
    for (i, events) in story().iter().enumerate() {
        let published = store.append(events).expect("an append");
        assert_eq!(*published, fold(&story()[..=i]));
        assert_eq!(*store.state(), *published);
    }
    let live = store.state();
    drop(store);
    assert_eq!(*Store::open(dir.path()).expect("again").state(), *live);
}

#[test]
fn compaction_changes_nothing_but_the_size() {
    let dir = tempfile::tempdir().expect("a directory");
    for at in 0..=story().len() {
        fs::remove_file(dir.path().join("journal")).ok();
        let store = Store::open(dir.path()).expect("a new one");
        story()[..at].iter().for_each(|events| drop(store.append(events).expect("an append")));
        store.compact().expect("a compaction");
        assert!(Store::open(dir.path()).is_err(), "still locked");
        story()[at..].iter().for_each(|events| drop(store.append(events).expect("an append")));
        drop(store);
        assert_eq!(*Store::open(dir.path()).expect("again").state(), fold(&story()));
        let bytes = fs::read(dir.path().join("journal")).expect("the journal");
        assert_eq!(format::read(&bytes).expect("whole").records.len(), 1 + story().len() - at);
    }
    // One that a crash kept from its rename is thrown away.
    fs::write(dir.path().join("journal.new"), b"half a snapsh").expect("a leftover");
    assert_eq!(*Store::open(dir.path()).expect("again").state(), fold(&story()));
    assert!(!dir.path().join("journal.new").exists());
}

#[test]
fn a_journal_is_compacted_when_it_has_grown_to_twice_its_state() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new one");
    story()[..2].iter().for_each(|events| drop(store.append(events).expect("an append")));
    let long = Event::Step { migration: "m".into(), step: "s".repeat(700_000) };
    store.append(std::slice::from_ref(&long)).expect("an append");
    assert!(!store.is_worth_compacting(), "small");
    store.append(std::slice::from_ref(&long)).expect("an append");
    assert!(store.is_worth_compacting());
    store.compact().expect("a compaction");
    assert!(!store.is_worth_compacting());
    store.append(std::slice::from_ref(&long)).expect("an append");
    assert!(!store.is_worth_compacting(), "not for each event on top of a large state");
    drop(store);
    let again = Store::open(dir.path()).expect("again");
    assert!(!again.is_worth_compacting(), "known after a start too");
    again.append(std::slice::from_ref(&long)).expect("an append");
    assert!(again.is_worth_compacting());
}

#[test]
fn a_write_that_fails_poisons() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
    let store = Store::over(Journal::over(Box::new(full)), State::default());
    assert!(matches!(store.append(&[identity()]), Err(StoreError::Unknown(_))));
    assert_eq!(*store.state(), State::default(), "nothing is published");
    assert!(matches!(store.append(&[identity()]), Err(StoreError::Poisoned)));
    assert!(matches!(store.compact(), Err(StoreError::Poisoned)));
}

#[test]
fn a_sync_that_fails_poisons() {
    #[derive(Debug)]
    struct NoSync;
    impl JournalFile for NoSync {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let store = Store::over(Journal::over(Box::new(NoSync)), State::default());
    let error = store.append(&[identity()]).expect_err("not known");
    assert!(matches!(error, StoreError::Unknown(_)) && error.to_string().contains("the disk is gone"), "{error}");
    assert!(matches!(store.append(&[identity()]), Err(StoreError::Poisoned)));
}

#[test]
fn what_does_not_fold_is_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new one");
    store.append(&[identity()]).expect("an append");
    let before = fs::read(dir.path().join("journal")).expect("the journal");
    let refused = store.append(&[prepared(), commit(1)]);
    assert!(matches!(refused, Err(StoreError::Refused(FoldError::NoSuchSeal { number: 1, .. }))), "{refused:?}");
    assert_eq!(fs::read(dir.path().join("journal")).expect("the journal"), before);
    assert!(store.state().migrations.is_empty(), "not even its first half");
    store.append(&[prepared()]).expect("it is not poisoned");
}

#[test]
fn details_count_from_their_commit_on() {
    let story = story();
    let untouched = SpliceMap::whole(Source);
    let mut state = fold(&story[..4]);
    assert_eq!(state.partitions[&key(0)].map, untouched);
    assert_eq!((state.intent, state.committed), (1, 0));

    // Undone: dropped. A commit then has nothing to commit.
    let mut given_up = state.clone();
    given_up.apply(&undone(1)).expect("an end");
    assert_eq!(given_up.partitions[&key(0)].map, untouched);
    assert_eq!(given_up.intent, 1, "the number is used up");
    assert!(matches!(given_up.apply(&commit(1)), Err(FoldError::NoSuchSeal { .. })));

    // A later intent drops it too: what a process that died before its commit leaves behind.
    let mut tried_again = state.clone();
    tried_again.apply(&intent(2, Target)).expect("an intent");
    assert!(matches!(tried_again.apply(&commit(1)), Err(FoldError::NoSuchSeal { .. })));
    tried_again.apply(&commit(2)).expect("a seal without details");
    assert_eq!(tried_again.partitions[&key(0)].map, untouched);

    state.apply(&commit(1)).expect("a commit");
    let map = &state.partitions[&key(1)].map;
    assert_eq!((map.open_side(), map.tail_start(), map.native_tail_start()), (Target, Virtual(20), Native(2)));
    assert_eq!(map.segments()[0].end_epoch, 4);
    assert_eq!((state.committed, state.pending.as_ref()), (1, None));
    assert_eq!((state.migrations["m"].sealed_at_ms, state.migrations["m"].hold_ms), (Some(1_000), Some(12)));
}

#[test]
fn where_a_side_must_stand() {
    let before = fold(&story()[..2]);
    assert_eq!(before.partitions[&key(1)].journalled_end(Target), Native(2), "as prepare found it");
    let after = fold(&story());
    assert_eq!(after.partitions[&key(0)].journalled_end(Target), Native(6));
    assert_eq!(after.partitions[&key(0)].journalled_end(Source), Native(10));
    assert_eq!(after.partitions[&key(0)].map.seals(), 2);
}

#[test]
fn producers_are_cumulative_over_seals() {
    let state = fold(&story());
    let of = |partition, pid| state.partitions[&key(partition)].producers.get(&VirtualPid(pid)).copied();
    assert_eq!(of(0, 7), Some(producer(7, 0, 44)), "the later seal has the later batch");
    assert_eq!(of(1, 7), Some(producer(7, 0, 3)), "not seen at the second seal: kept");
    assert_eq!(of(1, 8), Some(producer(8, 1, 0)), "a lower epoch does not go back");

    let ahead = |a: SealedProducer, b: SealedProducer| a.is_ahead_of(&b);
    assert!(ahead(producer(1, 0, 5), producer(1, 0, 4)) && !ahead(producer(1, 0, 4), producer(1, 0, 5)));
    assert!(!ahead(producer(1, 0, 5), producer(1, 0, 5)));
    assert!(ahead(producer(1, 0, 2), producer(1, 0, i32::MAX - 1)), "sequences go round at 2^31");
    assert!(!ahead(producer(1, 0, i32::MAX - 1), producer(1, 0, 2)));
    assert!(ahead(producer(1, 1, 0), producer(1, 0, 900)));
}

#[test]
fn events_that_cannot_follow() {
    let refused = |upto: usize, event: Event| {
        let mut state = fold(&story()[..upto]);
        let before = state.clone();
        let error = state.apply(&event).expect_err("it cannot follow");
        assert_eq!(state, before, "an error changes nothing");
        error
    };
    let other = Identity {
        journal: Uuid::nil(),
        name: "default".into(),
        source_cluster_id: "source-id".into(),
        target_cluster_id: None,
    };
    assert!(matches!(refused(1, Event::Identity(other)), FoldError::IdentityChanged { .. }));
    assert!(matches!(refused(1, intent(1, Target)), FoldError::UnknownMigration(_)));
    assert!(matches!(refused(5, intent(1, Target)), FoldError::NumberNotNew { number: 1, intent: 1 }));
    assert!(matches!(refused(2, detail(1, 0, 1, (Target, 0), vec![])), FoldError::NoSuchSeal { .. }));
    assert!(matches!(refused(3, detail(1, 9, 1, (Target, 0), vec![])), FoldError::UnknownPartition(_)));
    assert!(matches!(refused(3, detail(1, 0, 1, (Source, 0), vec![])), FoldError::OtherWay { .. }));
    assert!(matches!(refused(3, detail(1, 0, -1, (Target, 0), vec![])), FoldError::Map { .. }));
    assert!(matches!(refused(4, detail(1, 0, 1, (Target, 0), vec![])), FoldError::DetailTwice { .. }));
    let scheme = Event::Prepared { migration: "m".into(), scheme: "dual-consume".into(), topics: vec![] };
    assert!(matches!(refused(2, scheme), FoldError::SchemeChanged { .. }));
}

#[test]
fn preparing_again_takes_topics_in_and_forgets_no_map() {
    let mut state = fold(&story()[..5]);
    let map = state.partitions[&key(0)].map.clone();
    state.apply(&prepared()).expect("again");
    assert_eq!(state.partitions[&key(0)].map, map);
    assert_eq!(state.migrations["m"].topics.len(), 1);
    assert_eq!(state.migrations["m"].step, "producers switched");
}

fn topic(name: &str, partitions: i32, ids: (u128, u128)) -> PreparedTopic {
    let partition = |partition| PreparedPartition { partition, target_start: 0 };
    let partitions = (0..partitions).map(partition).collect();
    let (source_id, target_id) = (Uuid::from_u128(ids.0), Uuid::from_u128(ids.1));
    PreparedTopic { name: name.into(), partitions, source_id, target_id, mirror: None }
}

fn pinned(migration: &str, topics: Vec<PreparedTopic>) -> Event {
    Event::Pinned { migration: migration.into(), scheme: "producers-first".into(), topics }
}

fn aborted(migration: &str) -> Event {
    Event::Aborted { migration: migration.into() }
}

#[test]
fn a_hold_of_consumers_is_for_its_migrations_partitions_and_comes_off_without_a_trace() {
    let before = fold(&story()[..2]);
    let mut state = before.clone();
    assert!(!state.holds_consumers(&key(0)));
    state.apply(&Event::ConsumersHeld { migration: "m".into(), at_ms: 7 }).expect("prepared");
    assert_eq!(state.migrations["m"].consumers_held_at_ms, Some(7));
    assert!(state.holds_consumers(&key(0)) && state.holds_consumers(&key(1)));
    assert!(!state.holds_consumers(&key(2)) && !state.holds_consumers(&TopicPartition::new("others", 0)));
    let text = serde_json::to_string(&state).expect("plain data");
    assert_eq!(serde_json::from_str::<State>(&text).expect("what was written"), state);
    state.apply(&Event::ConsumersReleased { migration: "m".into(), at_ms: 8 }).expect("prepared");
    assert_eq!(state, before);
    let unknown = state.apply(&Event::ConsumersHeld { migration: "n".into(), at_ms: 9 });
    assert_eq!(unknown, Err(FoldError::UnknownMigration("n".into())));
}

fn skipped(partition: i32, (from, to): (i64, i64), why: &str) -> Event {
    Event::Skipped(Skipped {
        migration: "m".into(),
        topic: "orders".into(),
        partition,
        side: Source,
        from: Virtual(from),
        to: Virtual(to),
        why: why.into(),
        at_ms: 5,
    })
}

#[test]
fn a_skip_is_of_a_closed_segment_and_its_last_reason_counts() {
    let before = fold(&story()[..5]);
    let mut state = before.clone();
    for wrong in [skipped(0, (0, 9), "x"), skipped(0, (10, 20), "x")] {
        assert!(matches!(state.apply(&wrong), Err(FoldError::NoSuchSegment { .. })));
    }
    assert_eq!(state.apply(&skipped(7, (0, 10), "x")), Err(FoldError::UnknownPartition(key(7))));
    assert_eq!(state, before);
    for why in ["it burnt down", "it is history"] {
        state.apply(&skipped(0, (0, 10), why)).expect("a closed segment");
    }
    assert!(state.partition(&key(0)).expect("prepared").map.segments()[0].skipped);
    assert!(!state.partition(&key(1)).expect("prepared").map.segments()[0].skipped);
    let known = &state.migrations["m"].skipped;
    assert_eq!((known.len(), known[0].why.as_str(), known[0].offsets()), (1, "it is history", 10));
    let text = serde_json::to_string(&state).expect("plain data");
    assert_eq!(serde_json::from_str::<State>(&text).expect("what was written"), state);
    // A later seal keeps it.
    for event in [intent(4, Source), detail(4, 0, 6, (Source, 10), vec![]), commit(4)] {
        state.apply(&event).expect("a seal");
    }
    let skipped: Vec<bool> =
        state.partition(&key(0)).expect("prepared").map.segments().iter().map(|s| s.skipped).collect();
    assert_eq!(skipped, [true, false]);
}

fn waived(name: &str, why: &str, at_ms: i64) -> Event {
    let (migration, name, why) = ("m".into(), name.into(), why.into());
    Event::Waived { migration, kind: WaiverKind::Group, name, why, at_ms }
}

#[test]
fn a_waiver_is_kept_until_the_next_word_or_the_migrations_end() {
    let mut state = fold(&story()[..2]);
    let unwaived = serde_json::to_string(&state).expect("plain data");
    for (name, why, at_ms) in [("a", "first", 1), ("b", "other", 2), ("a", "second", 3)] {
        state.apply(&waived(name, why, at_ms)).expect("a waiver");
    }
    let finding = Event::Waived {
        migration: "m".into(),
        kind: WaiverKind::Finding,
        name: "a".into(),
        why: "a code of this name".into(),
        at_ms: 4,
    };
    state.apply(&finding).expect("another kind");
    let migration = &state.migrations["m"];
    let waiver = |name: &str, why: &str, at_ms| {
        let (name, why) = (name.to_owned(), why.to_owned());
        Waiver { kind: WaiverKind::Group, name, why, at_ms }
    };
    assert_eq!(migration.waived[..2], [waiver("b", "other", 2), waiver("a", "second", 3)]);
    assert_eq!(migration.waiver(WaiverKind::Finding, "a").map(|w| w.at_ms), Some(4));
    assert_eq!(migration.waiver(WaiverKind::Finding, "b"), None);

    // In a compacted journal they are behind what was always there; without any nothing has changed.
    let text = serde_json::to_string(&state).expect("plain data");
    let added = r#""hold_ms":null,"waived":[{"kind":"group","name":"b","why":"other","at_ms":2},{"kind":"group","name":"a","why":"second","at_ms":3},{"kind":"finding","name":"a","why":"a code of this name","at_ms":4}]"#;
    assert_eq!(text, unwaived.replace(r#""hold_ms":null"#, added));
    assert_eq!(serde_json::from_str::<State>(&text).expect("read for ever"), state);

    state.apply(&prepared()).expect("prepared again");
    assert_eq!(state.migrations["m"].waived.len(), 3);
    state.apply(&aborted("m")).expect("aborted");
    state.apply(&prepared()).expect("a new one");
    assert!(state.migrations["m"].waived.is_empty());
    let mut empty = State::default();
    assert!(matches!(empty.apply(&waived("a", "x", 1)), Err(FoldError::UnknownMigration(_))));
}

#[test]
fn what_is_pinned_is_the_whole_set() {
    let mut state = fold(&story()[..2]);
    state.apply(&pinned("other", vec![topic("kept", 1, (8, 9))])).expect("another migration");
    state
        .apply(&pinned("m", vec![topic("orders", 1, (3, 4)), topic("late", 1, (5, 6))]))
        .expect("made anew, and one more");
    let names = |state: &State| state.migrations["m"].topics.iter().map(|t| t.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&state), ["orders", "late"]);
    assert_eq!(state.migrations["m"].topics[0].source_id, Uuid::from_u128(3));
    assert!(state.partition(&key(1)).is_none(), "it has one partition less now");
    state.apply(&pinned("m", vec![topic("late", 1, (5, 6))])).expect("orders has gone");
    assert_eq!(names(&state), ["late"]);
    assert!(state.partition(&key(0)).is_none() && state.partitions.len() == 2, "no other history is touched");

    let mut sealed = fold(&story()[..5]);
    let map = sealed.partitions[&key(1)].map.clone();
    sealed.apply(&pinned("m", vec![topic("late", 1, (5, 6))])).expect("pinned");
    assert_eq!((names(&sealed).len(), &sealed.partitions[&key(1)].map), (2, &map), "a map is never forgotten");
}

#[test]
fn an_aborted_migration_was_never_prepared() {
    let before = fold(&story()[..1]);
    let mut state = fold(&story()[..2]);
    state.apply(&aborted("m")).expect("nothing is sealed");
    assert_eq!(state, before);
    assert!(matches!(state.apply(&aborted("m")), Err(FoldError::UnknownMigration(_))));

    let mut undone = fold(&[vec![prepared(), intent(1, Target)]]);
    assert!(matches!(undone.apply(&aborted("m")), Err(FoldError::Sealed(_))), "a seal is under way");
    undone.apply(&Event::SealUndone { migration: "m".into(), number: 1, why: "a test".into() }).expect("undone");
    undone.apply(&aborted("m")).expect("undone is not sealed");
    assert_eq!((undone.intent, undone.migrations.len()), (1, 0), "a number is never used twice");

    let mut sealed = fold(&story()[..5]);
    let kept = sealed.clone();
    assert!(matches!(sealed.apply(&aborted("m")), Err(FoldError::Sealed(_))));
    assert_eq!(sealed, kept);
}

#[test]
fn who_may_start() {
    let empty = State::default();
    let known = fold(&story());
    let marker = |journal, number| {
        Some(MarkerSeen::Found(Marker { version: Marker::VERSION, journal, number, partitions: vec![] }))
    };
    let none = || Some(MarkerSeen::Absent);
    let ours = |number| marker(JOURNAL, number);
    let theirs = || marker(Uuid::nil(), 1);
    let unreadable = || Some(MarkerSeen::Unreadable("version 9".into()));
    #[rustfmt::skip]
    let table: &[(&State, [Option<MarkerSeen>; 2], &str)] = &[
        (&empty, [none(), none()], "ok"),
        (&empty, [none(), None], "wait target"),
        (&empty, [None, none()], "wait source"),
        (&empty, [None, None], "wait source"),
        (&empty, [theirs(), none()], "foreign source"),
        (&empty, [None, theirs()], "foreign target"),
        (&known, [none(), none()], "ok"),
        (&known, [None, None], "ok"),
        (&known, [ours(3), ours(3)], "ok"),
        (&known, [ours(1), ours(3)], "ok"),
        (&known, [ours(3), ours(4)], "ahead target"),
        (&known, [ours(4), None], "ahead source"),
        (&known, [none(), theirs()], "foreign target"),
        (&known, [unreadable(), none()], "unreadable source"),
        (&empty, [None, unreadable()], "unreadable target"),
    ];
    for (i, (state, markers, expected)) in table.iter().enumerate() {
        let got = match judge(state, "default", markers) {
            Ok(()) => "ok".to_owned(),
            Err(e) => {
                assert_eq!(e.is_wait(), expected.starts_with("wait"));
                let side = match &e {
                    IdentityRefusal::Foreign { side, .. } => format!("foreign {side}"),
                    IdentityRefusal::Ahead { side, .. } => format!("ahead {side}"),
                    IdentityRefusal::Unreadable { side, .. } => format!("unreadable {side}"),
                    IdentityRefusal::Wait { side } => format!("wait {side}"),
                    other => format!("{other}"),
                };
                let text = e.to_string();
                assert!(text.contains(side.rsplit(' ').next().expect("a side")), "{text}");
                assert!(e.is_wait() || text.contains(&marker_topic("default")), "{text}");
                side
            }
        };
        assert_eq!(got, *expected, "row {i}");
    }
    assert!(matches!(judge(&known, "other", &[none(), none()]), Err(IdentityRefusal::Name { .. })));
}

#[test]
fn a_bootstrap_that_leads_elsewhere() {
    let known = fold(&story());
    assert_eq!(judge_clusters(&known, [Some("source-id"), Some("target-id")]), Ok(()));
    assert_eq!(judge_clusters(&known, [None, None]), Ok(()));
    assert_eq!(judge_clusters(&State::default(), [Some("x"), Some("y")]), Ok(()));
    let error = judge_clusters(&known, [Some("source-id"), Some("source-id")]).expect_err("another cluster");
    let text = error.to_string();
    assert!(text.contains("target") && text.contains("source-id") && text.contains("target-id"), "{text}");
}

#[test]
fn a_marker_says_what_the_seal_under_way_will_leave() {
    let story = story();
    let under_way = fold(&story[..4]);
    let marker = Marker::of(&under_way).expect("the journal has an identity");
    let done = fold(&story[..5]);
    assert_eq!((marker.number, marker.journal), (1, JOURNAL));
    for (topic, partition, map) in &marker.partitions {
        assert_eq!(*map, done.partitions[&TopicPartition::new(topic.clone(), *partition)].map);
    }
    assert_eq!(marker.partitions.len(), 2);
    let undone = Marker::of(&fold(&story[..8])).expect("an identity");
    assert_eq!(undone.partitions, Marker::of(&done).expect("an identity").partitions, "taken back");
    assert_eq!(undone.number, 2);

    assert_eq!(MarkerSeen::parse(Some(marker.to_text().as_bytes())), MarkerSeen::Found(marker.clone()));
    assert_eq!(MarkerSeen::parse(None), MarkerSeen::Absent, "a tombstone");
    assert!(matches!(MarkerSeen::parse(Some(b"{}")), MarkerSeen::Unreadable(_)));
    let newer = Marker { version: 2, ..marker }.to_text();
    assert_eq!(MarkerSeen::parse(Some(newer.as_bytes())), MarkerSeen::Unreadable("version 2".into()));
    assert_eq!(Marker::of(&State::default()), None);
}
