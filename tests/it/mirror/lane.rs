//! One partition's mirror in a world that loses, delays and refuses what it can, and that compacts the origin meanwhile: whatever
//! happens, the copy is the origin's records once each and in order, and the ledger knows which is which.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::ids::{Native, Side, TopicPartition};
use kafka_cutover::mirror::Ledger;
use kafka_cutover::mirror::cut::Copy;
use kafka_cutover::mirror::lane::{Fetched, Lane, Next, Outcome, Route};
use kafka_cutover::wire::batch::produce_batch;
use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;
use tokio::time::Instant;

use super::cut::{CODECS, LIMIT, batch};

const OUT_OF_ORDER: i16 = 45;
const NOT_ENOUGH_REPLICAS: i16 = 19;
/// Longer than anything is late.
const LATE: Duration = Duration::from_millis(2_100);

/// What may happen, each with a number to choose by.
#[derive(Clone, Copy, Debug)]
enum Chance {
    Read(usize),
    /// The copy's leader takes what comes next, or refuses it once.
    Take,
    Refuse,
    Answer,
    /// The connection ends: so many of what is on its way arrive all the same, later.
    Lose(usize),
    Arrive,
    AskEnd,
    Wait,
    /// Nothing is written for so long that the copy's leader forgets who did: it takes any sequence then.
    Silence,
    /// The process ends, before or after the ledger was written.
    Crash(usize),
    Compact(usize),
    Halt(bool),
    Grow(usize),
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    let one = prop_oneof![
        6 => any::<u16>().prop_map(|n| Chance::Read(n.into())),
        8 => Just(Chance::Take),
        1 => Just(Chance::Refuse),
        8 => Just(Chance::Answer),
        1 => (0usize..6).prop_map(Chance::Lose),
        2 => Just(Chance::Arrive),
        4 => Just(Chance::AskEnd),
        4 => Just(Chance::Wait),
        1 => Just(Chance::Silence),
        1 => (0usize..6).prop_map(Chance::Crash),
        1 => any::<u16>().prop_map(|n| Chance::Compact(n.into())),
        1 => any::<bool>().prop_map(Chance::Halt),
        2 => (1usize..30).prop_map(Chance::Grow),
    ];
    proptest::collection::vec(one, 0..250)
}

struct World {
    now: Instant,
    /// The origin's batches, by the offsets that are left in each.
    origin: Vec<Vec<i64>>,
    next: i64,
    lane: Lane,
    written: Ledger,
    /// Sent on the present connection, and the answers that wait to be read; of an earlier one, still to arrive.
    wire: VecDeque<Copy>,
    answers: VecDeque<Outcome>,
    late: VecDeque<Copy>,
    /// The copy: of each record where it came from; the sequence that its leader expects, if it knows the writer; the last batches.
    copy: Vec<i64>,
    expects: Option<i32>,
    last: VecDeque<(i32, i32, i64)>,
}

fn route() -> Route {
    Route { partition: TopicPartition::new("moved", 0), from: Side::Source, writer: (1 << 61) + 7 }
}

/// Where the records of a batch came from: each says so in its header.
fn origins(copy: &Copy) -> (i32, Vec<i64>) {
    let bytes: Bytes = copy.batch.concat().into();
    let head = produce_batch(&bytes).expect("a broker takes it");
    let decompress = |bytes: &mut Bytes, compression: kafka_protocol::records::Compression| {
        Ok(Bytes::from(CODECS[compression as usize].1.decompress(bytes, LIMIT)?))
    };
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut bytes.clone(), Some(decompress)).unwrap();
    let of = |record: &kafka_protocol::records::Record| {
        let value = record.headers.get(b"h".as_slice()).cloned().flatten().expect("its header");
        std::str::from_utf8(&value).unwrap().parse().unwrap()
    };
    (head.base_sequence, set.records.iter().map(of).collect())
}

impl World {
    fn new() -> Self {
        let ledger = Ledger::new(Native(0), Native(0));
        let mut world = Self {
            now: Instant::now(),
            origin: vec![],
            next: 0,
            lane: Lane::new(route(), ledger.clone(), true, LIMIT),
            written: ledger,
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            late: VecDeque::new(),
            copy: vec![],
            expects: None,
            last: VecDeque::new(),
        };
        world.grow(20);
        world
    }

    fn grow(&mut self, records: usize) {
        for size in [records / 2, records - records / 2] {
            let end = self.next + size as i64;
            self.origin.extend((size > 0).then(|| (self.next..end).collect::<Vec<_>>()));
            // A marker, now and then.
            self.next = end + i64::from(size % 3 == 0);
        }
    }

    /// As its driver does: first the ledger, then what is to be sent.
    fn drive(&mut self) {
        if self.lane.take_unwritten() {
            self.written = self.lane.ledger().clone();
            self.lane.written();
        }
        self.wire.extend(self.lane.send(self.now));
    }

    fn read(&mut self, many: usize) {
        let Next::Read(from) = self.lane.next() else { return };
        let found = self.origin.iter().skip_while(|offsets| offsets.last().is_none_or(|last| *last < from.0));
        let some: Vec<Bytes> =
            found.take(1 + many % 7).enumerate().map(|(i, offsets)| batch(offsets, CODECS[(many + i) % 5])).collect();
        let fetched =
            Fetched { error_code: 0, readable: Native(self.next), aborted: vec![], records: some.concat().into() };
        let is_hole = fetched.records.is_empty();
        self.lane.read(from, &fetched, self.now);
        if is_hole {
            self.lane.read_to_the_end(from, fetched.readable, self.now);
        }
    }

    /// A broker's rules for one producer (`ProducerAppendInfo`, `ProducerStateEntry.findDuplicateBatch`).
    fn append(&mut self, copy: &Copy) -> Outcome {
        let (first, records) = origins(copy);
        let last = first + records.len() as i32 - 1;
        if let Some((_, _, at)) = self.last.iter().find(|(f, l, _)| (*f, *l) == (first, last)) {
            return Some(Ok(Native(*at)));
        }
        if self.expects.is_some_and(|expects| expects != first) {
            return Some(Err((OUT_OF_ORDER, String::new())));
        }
        let at = self.copy.len() as i64;
        self.copy.extend(records);
        self.expects = Some(last + 1);
        self.last.push_back((first, last, at));
        if self.last.len() > 5 {
            self.last.pop_front();
        }
        Some(Ok(Native(at)))
    }

    fn lose(&mut self, arrive: usize) {
        let left = self.wire.len().min(arrive);
        let lost = self.wire.drain(..).take(left).collect::<Vec<_>>();
        self.late.extend(lost);
        self.answers.clear();
    }

    fn arrive(&mut self) {
        if let Some(copy) = self.late.pop_front() {
            drop(self.append(&copy));
        }
    }

    fn happens(&mut self, chance: Chance) {
        match chance {
            Chance::Read(many) => self.read(many),
            Chance::Take => {
                if let Some(copy) = self.wire.pop_front() {
                    let answer = self.append(&copy);
                    self.answers.push_back(answer);
                }
            }
            Chance::Refuse => {
                if self.wire.pop_front().is_some() {
                    self.answers.push_back(Some(Err((NOT_ENOUGH_REPLICAS, String::new()))));
                }
            }
            Chance::Answer => {
                if let Some(answer) = self.answers.pop_front() {
                    self.lane.stored(answer, self.now);
                }
            }
            Chance::Lose(arrive) => {
                self.lose(arrive);
                (0..self.lane.unanswered()).for_each(|_| self.lane.stored(None, self.now));
            }
            Chance::Arrive => self.arrive(),
            Chance::AskEnd => {
                if self.lane.next() == Next::AskEnd {
                    let end = Native(self.copy.len() as i64);
                    self.lane.ended(end, end, self.now);
                }
            }
            Chance::Wait => {
                while !self.late.is_empty() {
                    self.arrive();
                }
                self.now += LATE;
            }
            Chance::Silence => {
                self.happens(Chance::Wait);
                if self.wire.is_empty() && self.answers.is_empty() {
                    self.now += Duration::from_secs(700);
                    self.expects = None;
                    self.last.clear();
                }
            }
            Chance::Crash(arrive) => {
                self.lose(arrive);
                self.lane = Lane::new(route(), self.written.clone(), false, LIMIT);
            }
            Chance::Compact(which) => {
                // Never the last batch: the active segment stays.
                let all = self.origin.len().saturating_sub(1);
                if let Some(offsets) = self.origin.get_mut(which % all.max(1)).filter(|offsets| offsets.len() > 1) {
                    offsets.remove(which / 7 % offsets.len());
                }
            }
            Chance::Halt(halt) => self.lane.halt(halt),
            Chance::Grow(records) => self.grow(records),
        }
        self.drive();
    }

    fn is_exact(&self) {
        assert!(self.lane.stopped().is_none(), "{:?}", self.lane.stopped());
        assert!(self.copy.is_sorted_by(|a, b| a < b), "once each, in order: {:?}", self.copy);
        let left = self.origin.iter().flatten();
        assert!(left.into_iter().all(|offset| *offset >= self.lane.mirrored().0 || self.copy.contains(offset)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn each_record_is_copied_once_whatever_happens(chances in chances()) {
        let mut world = World::new();
        world.drive();
        for chance in chances {
            world.happens(chance);
            world.is_exact();
        }
        world.happens(Chance::Halt(false));
        for turn in 0..2_000 {
            for chance in [Chance::AskEnd, Chance::Wait, Chance::Read(turn), Chance::Take, Chance::Answer] {
                world.happens(chance);
            }
            if world.lane.mirrored().0 == world.next && world.lane.is_clear() {
                break;
            }
        }
        world.is_exact();
        prop_assert_eq!((world.lane.mirrored(), world.lane.lag()), (Native(world.next), Some(0)));
        let ledger = world.lane.ledger();
        let known: Vec<i64> = ledger.runs().flat_map(|run| run.origin.0..run.origin_end().0).collect();
        prop_assert_eq!(&known, &world.copy, "the ledger says where each came from");
        let left: Vec<i64> = world.origin.concat();
        prop_assert!(left.iter().all(|offset| world.copy.contains(offset)), "nothing is missing");
        prop_assert_eq!(world.lane.copy_end(), Some(Native(world.copy.len() as i64)));
        world.happens(Chance::Halt(true));
        prop_assert!(world.lane.is_halted());
    }
}
