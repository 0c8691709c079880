//! The mirror's ledger against the plainest model of it: the list of the origin's offsets that were copied.

use kafka_cutover::ids::{Native, TopicPartition};
use kafka_cutover::mirror::checkpoint::{self, File, Key};
use kafka_cutover::mirror::ledger::LedgerError;
use kafka_cutover::mirror::{Ledger, Run};
use proptest::prelude::*;

/// What happens to a mirror: a gap on the origin, and then so many records of it.
fn steps() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let gap = prop_oneof![3 => Just(0i64), 3 => Just(1), 1 => 1i64..300];
    let count = prop_oneof![1 => Just(0i64), 4 => 1i64..30, 1 => 1i64..3_000];
    proptest::collection::vec((gap, count), 0..400)
}

/// By the copy's order: the origin's offset of each record.
struct Model {
    start: (i64, i64),
    copied: Vec<i64>,
    covered: i64,
}

impl Model {
    fn to_copy(&self, origin: i64) -> Option<i64> {
        (origin < self.covered).then(|| self.start.1 + self.copied.partition_point(|o| *o < origin) as i64)
    }

    fn to_origin(&self, copy: i64) -> Option<i64> {
        self.copied.get(usize::try_from((copy - self.start.1).max(0)).unwrap()).copied()
    }
}

fn both(start: (i64, i64), steps: &[(i64, i64)]) -> (Ledger, Model) {
    let mut ledger = Ledger::new(Native(start.0), Native(start.1));
    let mut model = Model { start, copied: vec![], covered: start.0 };
    for (gap, count) in steps {
        let from = model.covered + gap;
        ledger.copied(Native(from), *count).unwrap();
        model.copied.extend(from..from + count);
        model.covered = from + count;
    }
    (ledger, model)
}

/// Of the file, and of a frame in it.
const HEAD: usize = 10;
const PREFIX: usize = 8;

fn key(topic: &str) -> Key {
    Key { partition: TopicPartition::new(topic, 3), writer: (1 << 61) + 5 }
}

/// As it comes out of a file of its own.
fn written(ledger: &Ledger) -> Ledger {
    let (_, file) = File::whole([(&key("moved"), ledger)]);
    checkpoint::read(&file).unwrap().0.remove(&key("moved")).unwrap()
}

/// Offsets at which something may be wrong: the edges of runs, and what lies around them.
fn edges(ledger: &Ledger) -> Vec<(i64, i64)> {
    let runs: Vec<Run> = ledger.runs().collect();
    let around = |run: &Run| [(run.origin.0, run.copy.0), (run.origin_end().0, run.copy_end().0)];
    let edges = runs.iter().flat_map(around).chain([(ledger.covered().0, ledger.copy_end().0)]);
    edges.flat_map(|(o, c)| (-2..=2).map(move |d| (o + d, c + d))).collect()
}

fn agrees(ledger: &Ledger, model: &Model) {
    assert_eq!(ledger.records(), model.copied.len() as i64);
    assert_eq!((ledger.covered().0, ledger.copy_end().0), (model.covered, model.start.1 + ledger.records()));
    for (origin, copy) in edges(ledger) {
        assert_eq!(ledger.to_copy(Native(origin)).map(|n| n.0), model.to_copy(origin), "of the origin: {origin}");
        assert_eq!(ledger.to_origin(Native(copy)).map(|n| n.0), model.to_origin(copy), "of the copy: {copy}");
    }
    let runs: Vec<Run> = ledger.runs().collect();
    let each: Vec<i64> = runs.iter().flat_map(|run| run.origin.0..run.origin_end().0).collect();
    assert_eq!(each, model.copied);
    // Each as long as it can be, one behind the other on the copy.
    assert!(runs.windows(2).all(|w| w[0].origin_end() < w[1].origin && w[0].copy_end() == w[1].copy));
    assert!(runs.iter().all(|run| run.copy.0 == run.origin.0 + run.delta()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_ledger_knows_each_offset(start in (0i64..1_000, 0i64..1_000), steps in steps()) {
        let (ledger, model) = both(start, &steps);
        agrees(&ledger, &model);
    }

    #[test]
    fn what_is_written_of_it_is_read_again(
        steps in steps(),
        parts in 1usize..20,
        torn in any::<prop::sample::Index>(),
    ) {
        let (of, another) = (key("moved"), key("another"));
        let mut ledger = Ledger::new(Native(7), Native(3));
        let other = Ledger::new(Native(0), Native(0));
        let (mut file, mut bytes) = File::whole([(&of, &ledger)]);
        let mut ends = vec![(bytes.len(), ledger.clone())];
        for (turn, part) in (0..).zip(steps.chunks(steps.len().max(1).div_ceil(parts))) {
            for (gap, count) in part {
                ledger.copied(Native(ledger.covered().0 + gap), *count).unwrap();
            }
            if turn == 1 {
                bytes.extend(file.add(&another, &other));
            }
            let more = file.add(&of, &ledger);
            prop_assert_eq!(more.is_empty(), Some(&ledger) == ends.last().map(|(_, before)| before));
            bytes.extend(more);
            ends.push((bytes.len(), ledger.clone()));
        }
        prop_assert!(file.add(&of, &ledger).is_empty());
        let (mut read, up_to, good) = checkpoint::read(&bytes).unwrap();
        prop_assert_eq!((up_to, good), (file, bytes.len()));
        prop_assert_eq!(read.remove(&of).unwrap(), ledger.clone());
        prop_assert!(read.into_iter().all(|(key, ledger)| (key, ledger) == (another.clone(), other.clone())));
        agrees(&ledger, &both((7, 3), &steps).1);
        // Cut off anywhere behind its first frame it is as of the last one that is whole.
        let cut = ends[0].0 + torn.index(bytes.len() - ends[0].0 + 1);
        let (read, _, good) = checkpoint::read(&bytes[..cut]).unwrap();
        prop_assert_eq!(read.get(&of), ends.iter().rfind(|(end, _)| *end <= cut).map(|(_, ledger)| ledger));
        // What is written behind the good part is read again.
        let (_, mut file, _) = checkpoint::read(&bytes[..good]).unwrap();
        let mended = [&bytes[..good], &file.add(&of, &ledger)].concat();
        prop_assert_eq!(checkpoint::read(&mended).unwrap().0.remove(&of).unwrap(), ledger.clone());
        prop_assert_eq!(written(&ledger), ledger);
    }

    #[test]
    fn it_goes_back_to_where_the_copy_ends(steps in steps(), end in any::<prop::sample::Index>()) {
        let (mut ledger, model) = both((7, 3), &steps);
        let end = 3 + end.index(model.copied.len() + 2) as i64;
        ledger.back_to(Native(end));
        let kept = usize::try_from(end - 3).unwrap().min(model.copied.len());
        let is_cut = kept < model.copied.len();
        let covered = match is_cut {
            true => model.copied[..kept].last().map_or(ledger.covered().0, |last| last + 1),
            false => model.covered,
        };
        agrees(&ledger, &Model { start: model.start, copied: model.copied[..kept].to_vec(), covered });
        prop_assert!(!is_cut || ledger.covered().0 <= model.copied[kept], "what was cut off is read again");
    }

    #[test]
    fn what_the_origin_has_lost_is_forgotten_and_nothing_else(steps in steps(), below in any::<prop::sample::Index>()) {
        let (mut ledger, model) = both((0, 0), &steps);
        let below = below.index(usize::try_from(model.covered + 1).unwrap()) as i64;
        let (mut file, mut bytes) = File::whole([(&key("moved"), &ledger)]);
        ledger.drop_below(Native(below));
        ledger.copied(Native(ledger.covered().0 + 3), 5).unwrap();
        bytes.extend(file.add(&key("moved"), &ledger));
        let (read, ..) = checkpoint::read(&bytes).unwrap();
        prop_assert_eq!(read.get(&key("moved")), Some(&ledger));
        prop_assert_eq!(ledger.records(), model.copied.len() as i64 + 5);
        let last = model.covered + 3;
        let model = Model { copied: model.copied.into_iter().chain(last..last + 5).collect(), covered: last + 5, ..model };
        for (origin, _) in edges(&ledger).into_iter().filter(|(origin, _)| *origin >= below) {
            prop_assert_eq!(ledger.to_copy(Native(origin)).map(|n| n.0), model.to_copy(origin));
        }
        let from = model.to_copy(below).unwrap_or(ledger.copy_end().0);
        for (_, copy) in edges(&ledger).into_iter().filter(|(_, copy)| *copy >= from) {
            prop_assert_eq!(ledger.to_origin(Native(copy)).map(|n| n.0), model.to_origin(copy));
        }
        prop_assert_eq!(written(&ledger), ledger);
    }

    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        let _ = checkpoint::read(&bytes);
        let mut ledger = Ledger::new(Native(5), Native(5));
        for (at, count) in [(6, 3), (11, 1 << 40), (1 << 50, 4)] {
            ledger.copied(Native(at), count).unwrap();
        }
        let mut file = File::whole([(&key("moved"), &ledger)]).1;
        // Its last frame, with a checksum that is right.
        let begins = HEAD + PREFIX + usize::try_from(u32::from_be_bytes(file[HEAD..HEAD + 4].try_into().unwrap())).unwrap();
        let payload = begins + PREFIX;
        let at = payload + at.index(file.len() - payload);
        file.splice(at.., bytes);
        let length = (file.len() - payload) as u32;
        let covered = [&length.to_be_bytes()[..], &file[payload..]].concat();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &covered) as u32;
        file[begins..begins + 4].copy_from_slice(&length.to_be_bytes());
        file[begins + 4..payload].copy_from_slice(&crc.to_be_bytes());
        if let Ok((read, ..)) = checkpoint::read(&file) {
            for read in read.values() {
                for (origin, copy) in edges(read) {
                    prop_assert!(read.to_copy(Native(origin)).is_none_or(|at| at <= read.copy_end()));
                    prop_assert!(read.to_origin(Native(copy)).is_none_or(|at| at < read.covered()));
                }
            }
        }
    }
}

#[test]
fn nothing_is_copied_twice_and_nothing_before_the_last() {
    let mut ledger = Ledger::new(Native(10), Native(0));
    assert_eq!((ledger.to_copy(Native(10)), ledger.to_origin(Native(0)), ledger.records()), (None, None, 0));
    ledger.copied(Native(12), 3).unwrap();
    assert_eq!(ledger.copied(Native(14), 1), Err(LedgerError::Backwards { at: 14, covered: 15 }));
    assert_eq!(ledger.skipped(Native(14)), Err(LedgerError::Backwards { at: 14, covered: 15 }));
    // What is behind the last record and will not be copied.
    assert_eq!(ledger.to_copy(Native(15)), None);
    ledger.skipped(Native(17)).unwrap();
    assert_eq!((ledger.to_copy(Native(16)), ledger.to_copy(Native(17))), (Some(Native(3)), None));
    assert_eq!(ledger.copied(Native(i64::MAX), 1), Err(LedgerError::Overflow));
    assert_eq!((ledger.copied(Native(17), -1), ledger.records()), (Err(LedgerError::Overflow), 3));
    assert_eq!(ledger.start(), (Native(12), Native(0)));
}

#[test]
fn a_gap_takes_two_to_four_bytes_on_disk_and_hardly_more_in_memory() {
    const RUNS: i64 = 100_000;
    for (length, gap, most) in [(20, 1, 2), (10_000, 1, 3), (1_000_000, 100, 4)] {
        let mut ledger = Ledger::new(Native(0), Native(0));
        (0..RUNS).for_each(|run| ledger.copied(Native(run * (length + gap)), length).unwrap());
        let (_, file) = File::whole([(&key("moved"), &ledger)]);
        let gaps = usize::try_from(RUNS).unwrap();
        assert!(file.len() <= gaps * most + 100, "{} bytes for {RUNS} gaps behind runs of {length}", file.len());
        // A vector may be twice as large as what is in it.
        assert!(ledger.size() <= 2 * gaps * (most + 1), "{} bytes in memory", ledger.size());
    }
}

#[test]
fn a_ledger_that_was_cut_back_is_written_anew() {
    let mut ledger = Ledger::new(Native(0), Native(0));
    (0..500).for_each(|run| ledger.copied(Native(run * 3), 2).unwrap());
    let (mut file, mut bytes) = File::whole([(&key("moved"), &ledger)]);
    ledger.back_to(Native(301));
    bytes.extend(file.add(&key("moved"), &ledger));
    (500..1_000).for_each(|run| ledger.copied(Native(run * 3), 1).unwrap());
    bytes.extend(file.add(&key("moved"), &ledger));
    assert_eq!(checkpoint::read(&bytes).unwrap().0.get(&key("moved")), Some(&ledger));
    assert!(!file.is_worth_writing_anew());
    (0..100).for_each(|_| {
        ledger.back_to(Native(ledger.copy_end().0 - 1));
        bytes.extend(file.add(&key("moved"), &ledger));
    });
    assert!(file.is_worth_writing_anew(), "{} bytes", bytes.len());
}
