//! A client's fetch over two brokers, step by step, by a clock of its own: when it is answered, and with what.

use std::sync::Arc;
use std::time::Duration;

use kafka_cutover::api::Context;
use kafka_cutover::api::fetch::{Gather, LaneKey, LaneKind, Lanes, Next, Send};
use kafka_cutover::ids::Side;
use kafka_cutover::wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionFetched, TopicFetched,
};
use tokio::time::Instant;

use super::world::{SOURCE, World, text};
use crate::embedded::raw::{ONE, encode};

const VERSION: i16 = 12;
const MAX_WAIT: Duration = Duration::from_millis(500);
const MOST: i32 = 1 << 20;

/// Both partitions of `plain`, each led by a broker of its own, for more bytes than there ever are.
struct Fetch {
    world: World,
    gather: Gather,
    lanes: Lanes,
}

impl Fetch {
    fn new() -> Self {
        let world = World::new();
        let partition = |index| FetchPartition { index, fetch_offset: 0, max_bytes: MOST, ..FetchPartition::default() };
        let plain =
            FetchTopic { name: text("plain"), partitions: (0..2).map(partition).collect(), ..FetchTopic::default() };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(MAX_WAIT.as_millis()).unwrap(),
            min_bytes: 100_000,
            max_bytes: MOST,
            topics: vec![plain],
            ..FetchRequest::default()
        };
        let gather = Gather::new(&world.cx(VERSION), request);
        let lanes = Lanes::new(Arc::clone(&world.shared.read_ahead));
        Self { world, gather, lanes }
    }

    fn at(&self, ms: u64) -> Instant {
        self.world.now + Duration::from_millis(ms)
    }

    fn step(&mut self, ms: u64) -> (Vec<Send>, Next) {
        let cx = Context { now: self.at(ms), ..self.world.cx(VERSION) };
        self.gather.step(&cx, &mut self.lanes)
    }

    /// The answer of the broker that leads this partition to its long poll.
    fn told(&mut self, partition: i32, records: bool) {
        let node = SOURCE + 1 + partition;
        let mut fetched = PartitionFetched::empty(partition, 0);
        (fetched.high_watermark, fetched.last_stable_offset, fetched.log_start_offset) =
            (i64::from(records), i64::from(records), 0);
        if records {
            fetched.records = encode(ONE).into();
        }
        let plain = TopicFetched { name: text("plain"), partitions: vec![fetched], ..TopicFetched::default() };
        let answer = FetchResponse { topics: vec![plain], ..FetchResponse::default() };
        self.lanes.arrived(LaneKey { side: Side::Source, node, kind: LaneKind::Standing }, Some(answer));
    }

    fn waits(&mut self, ms: u64) -> Instant {
        match self.step(ms).1 {
            Next::Wait(until) => until,
            Next::Answer(answer) => panic!("answered after {ms} ms: {answer:?}"),
        }
    }

    /// The partitions with records in the answer of now.
    fn answers(&mut self, ms: u64) -> Vec<i32> {
        match self.step(ms).1 {
            Next::Answer(answer) => {
                let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
                partitions.filter(|p| !p.records.is_empty()).map(|p| p.index).collect()
            }
            Next::Wait(until) => panic!("waits until {:?} after its start", until - self.world.now),
        }
    }
}

#[test]
fn a_long_poll_that_ends_with_the_clients_time_is_in_its_answer() {
    let mut fetch = Fetch::new();
    let (sends, _) = fetch.step(0);
    assert!(sends.iter().all(|s| s.key.kind == LaneKind::Standing) && sends.len() == 2);
    fetch.told(0, true);
    assert_eq!(fetch.waits(100), fetch.at(500), "for what may still come");
    let late = fetch.waits(500);
    assert!(late > fetch.at(500) && late < fetch.at(600), "the other poll is due");
    fetch.told(1, true);
    assert_eq!(fetch.answers(505), [0, 1]);
}

#[test]
fn so_is_one_that_was_sent_again_meanwhile() {
    let mut fetch = Fetch::new();
    fetch.step(0);
    fetch.told(0, true);
    fetch.told(1, false);
    let (sends, _) = fetch.step(100);
    assert_eq!(sends.iter().map(|s| s.key.node).collect::<Vec<_>>(), [SOURCE + 2], "it had nothing yet");
    fetch.waits(500);
    fetch.told(1, true);
    assert_eq!(fetch.answers(505), [0, 1]);
}

#[test]
fn a_broker_that_does_not_answer_in_time_is_not_waited_for() {
    let mut fetch = Fetch::new();
    fetch.step(0);
    fetch.told(0, true);
    fetch.waits(100);
    let late = fetch.waits(500);
    let ms = u64::try_from((late - fetch.at(0)).as_millis()).unwrap();
    assert_eq!(fetch.answers(ms), [0]);
}
