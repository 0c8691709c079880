//! The checker is checked: every class of anomaly is planted in a clean history, and exactly it is found.

use std::collections::BTreeSet;

use kafka_cutover::audit::event::Tally;
use kafka_cutover::audit::expect::Duplicates;
use kafka_cutover::audit::record::{self, RecordError};
use kafka_cutover::audit::{
    AllowList, Checker, Class, Event, Expectations, Producing, Reading, Record, Segment, Verdict, What,
};
use kafka_cutover::ids::Side;
use proptest::prelude::*;

/// Records of each partition, and where its seam lies; what the target held before.
const RECORDS: i64 = 40;
const SEAM: i64 = 20;
const TARGET_START: i64 = 100;
const PARTITIONS: i64 = 3;
const READERS: [&str; 4] = ["final", "g1", "g2", "peek"];

#[derive(Clone)]
struct Story {
    expect: Expectations,
    events: Vec<Event>,
    dumps: Vec<(Side, String, i64, String)>,
    /// Clients whose `done` does not come by itself.
    silent: Vec<&'static str>,
}

fn id_of(producer: usize, seq: u64) -> u64 {
    ((producer as u64 + 1) << 32) | ((seq + 7) * 1_000_003)
}

impl Story {
    /// Two producers over six keys and three partitions; a group of two, a final read, and one that only looks.
    fn clean() -> Self {
        let mut expect = Expectations::default()
            .reading("g1", Reading::group("g"))
            .reading("g2", Reading::group("g"))
            .reading("final", Reading::Assign { complete: true })
            .reading("peek", Reading::Assign { complete: false });
        for partition in 0..PARTITIONS {
            let source = Segment { side: Side::Source, start: 0, native: 0, length: Some(SEAM), copy: false };
            let target = Segment { side: Side::Target, start: SEAM, native: TARGET_START, length: None, copy: false };
            expect = expect.segments(&partition.to_string(), vec![source, target]);
        }
        let mut story = Self { expect, events: Vec::new(), dumps: Vec::new(), silent: Vec::new() };
        for reader in READERS {
            let parts: &[&str] = match reader {
                "g1" => &["0", "1"],
                "g2" => &["2"],
                _ => &["0", "1", "2"],
            };
            story.push(reader, What::Ready { lib: None });
            story.push(reader, What::Assign { partitions: parts.iter().map(|p| p.to_string()).collect() });
        }
        let mut next = [0i64; PARTITIONS as usize];
        for seq in 0..(RECORDS * PARTITIONS / 2) as u64 {
            for (number, producer) in ["p0", "p1"].into_iter().enumerate() {
                let key = record::key(seq % 6);
                let partition = (seq % PARTITIONS as u64) as usize;
                let offset = next[partition];
                next[partition] += 1;
                story.write(producer, seq, &key, id_of(number, seq), &partition.to_string(), Some(offset), offset);
            }
        }
        story
    }

    fn push(&mut self, client: &str, what: What) {
        let t = self.events.len() as f64 / 1000.0;
        self.events.push(Event::new(t, client, what));
    }

    /// Sends one record, acknowledges it, and has every reader of its partition receive it.
    #[expect(clippy::too_many_arguments, reason = "a record is just that")]
    fn write(
        &mut self,
        producer: &str,
        seq: u64,
        key: &str,
        id: u64,
        partition: &str,
        acked: Option<i64>,
        offset: i64,
    ) {
        self.push(producer, What::Send { seq, key: key.into(), id });
        let ack = What::Ack { seq, key: key.into(), id, partition: partition.into(), offset: acked };
        self.push(producer, ack);
        let value = Record { producer, seq, key, id }.to_string();
        for reader in READERS {
            if (reader == "g1" && partition == "2") || (reader == "g2" && partition != "2") {
                continue;
            }
            self.recv(reader, partition, offset, &value);
        }
    }

    fn recv(&mut self, reader: &str, partition: &str, offset: i64, value: &str) {
        let what = What::Recv { partition: partition.into(), offset, value: value.into(), key: None };
        self.push(reader, what);
    }

    /// What lies on both clusters, as the clean story has it.
    fn dumped(mut self) -> Self {
        for event in self.events.iter().filter(|e| e.client == "final") {
            let What::Recv { partition, offset, value, .. } = &event.what else { continue };
            let (side, native) = match *offset < SEAM {
                true => (Side::Source, *offset),
                false => (Side::Target, *offset - SEAM + TARGET_START),
            };
            self.dumps.push((side, partition.clone(), native, value.clone()));
        }
        self
    }

    fn drop_recv(&mut self, readers: &[&str], partition: &str, offset: i64) {
        let before = self.events.len();
        self.events.retain(|e| {
            let hit = matches!(&e.what, What::Recv { partition: p, offset: o, .. } if p == partition && *o == offset);
            !(hit && readers.contains(&e.client.as_str()))
        });
        assert!(self.events.len() < before, "nothing to drop");
    }

    fn value_at(&self, partition: &str, offset: i64) -> String {
        self.events
            .iter()
            .find_map(|e| match &e.what {
                What::Recv { partition: p, offset: o, value, .. } if p == partition && *o == offset => {
                    Some(value.clone())
                }
                _ => None,
            })
            .expect("a record there")
    }

    /// Every reader finds something else at a place.
    fn change_value(&mut self, partition: &str, offset: i64, to: &str) {
        for event in &mut self.events {
            if let What::Recv { partition: p, offset: o, value, .. } = &mut event.what
                && p == partition
                && *o == offset
            {
                *value = to.into();
            }
        }
    }

    /// Two records of a partition change places, for everybody, before anything was read.
    fn swap(&mut self, partition: &str, a: i64, b: i64) {
        let (at_a, at_b) = (self.value_at(partition, a), self.value_at(partition, b));
        self.change_value(partition, a, &at_b);
        self.change_value(partition, b, &at_a);
        for event in &mut self.events {
            if let What::Ack { partition: p, offset: Some(o), .. } = &mut event.what
                && p == partition
            {
                *o = if *o == a {
                    b
                } else if *o == b {
                    a
                } else {
                    *o
                };
            }
        }
    }

    fn ack_of(&mut self, partition: &str, offset: i64) -> &mut Option<i64> {
        self.events
            .iter_mut()
            .find_map(|e| match &mut e.what {
                What::Ack { partition: p, offset: o, .. } if p == partition && *o == Some(offset) => Some(o),
                _ => None,
            })
            .expect("an ack there")
    }

    fn names(&self) -> BTreeSet<String> {
        self.events.iter().map(|e| e.client.clone()).collect()
    }

    /// Each client's events, with its tally at the end.
    fn by_client(&self) -> Vec<Vec<Event>> {
        self.names()
            .into_iter()
            .map(|name| {
                let mut own: Vec<Event> = self.events.iter().filter(|e| e.client == name).cloned().collect();
                let count = |f: fn(&What) -> bool| Some(own.iter().filter(|e| f(&e.what)).count() as u64);
                let tally = match name.starts_with('p') && name != "peek" {
                    true => Tally {
                        sent: count(|w| matches!(w, What::Send { .. })),
                        acked: count(|w| matches!(w, What::Ack { .. })),
                        failed: count(|w| matches!(w, What::Fail { .. })),
                        received: None,
                    },
                    false => Tally { received: count(|w| matches!(w, What::Recv { .. })), ..Tally::default() },
                };
                if !self.silent.contains(&name.as_str()) {
                    own.push(Event::new(99.0, name, What::Done(tally)));
                }
                own
            })
            .collect()
    }

    fn judge(&self) -> Verdict {
        let mut checker = Checker::new(self.expect.clone());
        for event in self.by_client().iter().flatten() {
            checker.event(event);
        }
        self.judge_dumps(checker)
    }

    fn judge_dumps(&self, mut checker: Checker) -> Verdict {
        for (side, partition, native, value) in &self.dumps {
            checker.dump(*side, partition, *native, value.as_bytes());
        }
        checker.finish()
    }
}

/// Every plant: its class, what it is, how it is done.
type Plant = (Class, &'static str, fn(&mut Story));

const PLANTS: &[Plant] = &[
    (Class::LostWrite, "the last record is gone", |s| s.drop_recv(&READERS, "0", RECORDS - 1)),
    (Class::LostWrite, "in neither dump, though it was read", |s| {
        *s = s.clone().dumped();
        s.dumps.retain(|(_, p, native, _)| !(p == "0" && *native == 7));
    }),
    (Class::LostWrite, "acks=0 by the book, but nothing broke", |s| {
        s.expect = s.expect.clone().producing("p2", Producing::acks_none(false));
        s.push("p2", What::Send { seq: 0, key: "k0".into(), id: 5 });
        s.push("p2", What::Ack { seq: 0, key: "k0".into(), id: 5, partition: "0".into(), offset: None });
    }),
    (Class::Unseen, "the group ends early", |s| s.drop_recv(&["g1"], "0", RECORDS - 1)),
    (Class::Unseen, "only the clusters have it", |s| {
        *s = s.clone().dumped();
        s.drop_recv(&READERS, "2", RECORDS - 1);
    }),
    (Class::Duplicate, "a record at two offsets", |s| {
        let value = s.value_at("0", 3);
        ["final", "g1", "peek"].iter().for_each(|r| s.recv(r, "0", RECORDS, &value));
    }),
    (Class::Duplicate, "two members of a group get the same", |s| {
        let value = s.value_at("0", RECORDS - 1);
        s.push("g1", What::Revoke { partitions: vec!["0".into()] });
        s.push("g2", What::Assign { partitions: vec!["0".into()] });
        s.recv("g2", "0", RECORDS - 1, &value);
    }),
    (Class::InconsistentOffsets, "one reader finds another record", |s| {
        let last = s.value_at("0", RECORDS - 1);
        s.drop_recv(&["peek"], "0", RECORDS - 1);
        s.drop_recv(&["peek"], "0", RECORDS - 2);
        s.recv("peek", "0", RECORDS - 2, &last);
    }),
    (Class::PollSkip, "a reader jumps over a record", |s| s.drop_recv(&["peek"], "1", 30)),
    (Class::NonmonotonicPoll, "a reader goes back", |s| {
        let value = s.value_at("1", 35);
        s.recv("peek", "1", 35, &value);
    }),
    // In partition 0, offsets 0, 2, 4, ... are p0's, with the keys k0 and k3 in turn.
    (Class::NonmonotonicSend, "two keys change places", |s| s.swap("0", 4, 6)),
    (Class::OrderInversion, "two records of a key change places", |s| {
        s.write("p0", 60, "k0", 71, "0", Some(RECORDS), RECORDS);
        s.write("p0", 61, "k0", 72, "0", Some(RECORDS + 1), RECORDS + 1);
        s.swap("0", RECORDS, RECORDS + 1);
    }),
    (Class::SeamGap, "the first of the new side is missed", |s| s.drop_recv(&["peek"], "0", SEAM)),
    (Class::SeamGap, "the last of the old side is missed", |s| s.drop_recv(&["peek"], "0", SEAM - 1)),
    (Class::SeamOverlap, "the old side is read again", |s| {
        let value = s.value_at("0", SEAM - 2);
        s.recv("peek", "0", SEAM - 2, &value);
    }),
    (Class::AckOffset, "acknowledged elsewhere", |s| *s.ack_of("1", 12) = Some(1012)),
    (Class::SplitBrainWrite, "on both sides", |s| {
        *s = s.clone().dumped();
        let value = s.value_at("0", SEAM + 3);
        s.dumps.push((Side::Source, "0".into(), SEAM + 1, value));
    }),
    (Class::SplitBrainWrite, "on both sides, no map known", |s| {
        *s = s.clone().dumped();
        s.expect.layout.clear();
        let value = s.value_at("0", SEAM + 3);
        s.dumps.push((Side::Source, "0".into(), SEAM + 1, value));
    }),
    (Class::SplitBrainWrite, "acknowledged below the target's start", |s| {
        *s = s.clone().dumped();
        s.dumps.iter_mut().find(|d| d.0 == Side::Target).expect("the target has some").2 = TARGET_START - 1;
    }),
    (Class::ByteDrift, "another id", |s| {
        let value = s.value_at("0", 9);
        let changed = format!("{}{}", &value[..value.len() - 1], if value.ends_with('0') { '1' } else { '0' });
        s.change_value("0", 9, &changed);
    }),
    (Class::ByteDrift, "another sequence", |s| {
        let value = s.value_at("0", 9).replacen(" 12 ", " 13 ", 1);
        s.change_value("0", 9, &value);
    }),
    (Class::ByteDrift, "no record at all", |s| s.change_value("0", 9, "kc1 p1 12 k0 00000")),
    (Class::ByteDrift, "a record that nobody sent", |s| {
        let value = Record { producer: "p0", seq: 999, key: "k0", id: 3 }.to_string();
        s.recv("peek", "0", RECORDS, &value);
    }),
    (Class::ByteDrift, "under another key", |s| {
        s.drop_recv(&["peek"], "0", RECORDS - 1);
        let value = s.value_at("0", RECORDS - 1);
        let what = What::Recv { partition: "0".into(), offset: RECORDS - 1, value, key: Some("k77".into()) };
        s.push("peek", what);
    }),
    (Class::ByteDrift, "changed on a cluster", |s| {
        *s = s.clone().dumped();
        s.dumps[4].3.push('!');
        s.drop_recv(&["peek"], "0", 39);
        s.expect = s.expect.clone().producing("p0", Producing { loss: true, ..Producing::default() });
        s.expect = s.expect.clone().producing("p1", Producing { loss: true, ..Producing::default() });
    }),
    (Class::ClientError, "a warning", |s| {
        s.push("g1", What::Log { level: "WARN".into(), text: "coordinator not available".into() });
    }),
    (Class::ClientError, "an unknown level", |s| s.push("g1", What::Log { level: "?".into(), text: "x".into() })),
    (Class::ClientError, "a failed commit", |s| s.push("g1", What::Commit { ok: false, error: "x".into() })),
    (Class::ClientError, "a failed send", |s| {
        s.push("p0", What::Send { seq: 900, key: "k1".into(), id: 77 });
        s.push("p0", What::Fail { seq: 900, key: "k1".into(), id: Some(77), error: "timed out".into() });
    }),
    (Class::ClientError, "a send without outcome", |s| {
        s.push("p0", What::Send { seq: 900, key: "k1".into(), id: 77 });
    }),
    (Class::BrokenHistory, "an undeclared reader", |s| {
        s.expect.readers.remove("peek");
    }),
    (Class::BrokenHistory, "a client that never ends", |s| s.silent.push("p0")),
    (Class::BrokenHistory, "a line lost on the way", |s| {
        s.silent.push("g2");
        s.push("g2", What::Done(Tally { received: Some(41), ..Tally::default() }));
    }),
    (Class::BrokenHistory, "the same ack twice", |s| {
        let ack = s.events.iter().find(|e| matches!(e.what, What::Ack { .. })).expect("an ack").clone();
        s.events.push(ack);
        s.silent.push("p0");
        s.push("p0", What::Done(Tally { sent: Some(60), acked: Some(61), ..Tally::default() }));
    }),
    (Class::BrokenHistory, "nobody reads it all", |s| {
        for reader in ["g1", "g2", "final"] {
            s.expect = s.expect.clone().reading(reader, Reading::Assign { complete: false });
        }
    }),
];

#[test]
fn a_clean_history_is_clean() {
    for (what, story) in [("events", Story::clean()), ("events and dumps", Story::clean().dumped())] {
        let verdict = story.judge();
        assert!(verdict.ok(), "{what}: {:?}", verdict.anomalies);
        let all = (RECORDS * PARTITIONS) as u64;
        assert_eq!((verdict.records_sent, verdict.records_acked, verdict.records_received), (all, all, all));
        assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered, verdict.client_errors), (0, 0, 0, 0));
    }
}

#[test]
fn every_planted_anomaly_is_found_and_no_other() {
    for (class, what, plant) in PLANTS {
        let mut story = Story::clean();
        plant(&mut story);
        let verdict = story.judge();
        let found: Vec<Class> = verdict.counts.keys().copied().collect();
        assert_eq!(found, [*class], "{class}: {what}: {:#?}", verdict.anomalies);
        assert_eq!(verdict.anomalies.first().map(|a| a.class), Some(*class));
    }
}

#[test]
fn every_class_is_planted() {
    let planted: BTreeSet<Class> = PLANTS.iter().map(|(class, ..)| *class).collect();
    assert_eq!(planted, Class::ALL.into_iter().collect());
}

#[test]
fn counts_of_the_verdict_follow_the_plants() {
    let judge = |plant: fn(&mut Story)| {
        let mut story = Story::clean();
        plant(&mut story);
        story.judge()
    };
    assert_eq!(judge(|s| s.drop_recv(&READERS, "0", RECORDS - 1)).lost, 1);
    assert_eq!(judge(|s| s.drop_recv(&["g1"], "0", RECORDS - 1)).lost, 1);
    assert_eq!(judge(|s| s.swap("0", 4, 6)).reordered, 1);
    assert_eq!(judge(|s| s.push("g1", What::Log { level: "ERROR".into(), text: "x".into() })).client_errors, 1);
    // A duplicate in the log that the group receives too is one duplicate, not two.
    let twice = judge(|s| {
        let value = s.value_at("0", 3);
        ["final", "g1", "peek"].iter().for_each(|r| s.recv(r, "0", RECORDS, &value));
    });
    assert_eq!(twice.duplicated, 1);
}

#[test]
fn examples_are_bounded_and_counts_are_not() {
    let mut story = Story::clean();
    for i in 0..500 {
        story.push("g1", What::Log { level: "WARN".into(), text: format!("line {i}") });
    }
    let verdict = story.judge();
    assert_eq!((verdict.count(Class::ClientError), verdict.client_errors), (500, 500));
    assert_eq!(verdict.anomalies.len(), 10);
}

#[test]
fn a_mirrored_copy_is_no_split_brain() {
    let mut story = Story::clean().dumped();
    for partition in 0..PARTITIONS {
        let layout = story.expect.layout.get_mut(&partition.to_string()).expect("laid out");
        let native = TARGET_START - SEAM;
        layout.push(Segment { side: Side::Target, start: 0, native, length: Some(SEAM), copy: true });
        for offset in 0..SEAM {
            let value = story.value_at(&partition.to_string(), offset);
            story.dumps.push((Side::Target, partition.to_string(), native + offset, value));
        }
    }
    let verdict = story.judge();
    assert!(verdict.ok(), "{:?}", verdict.anomalies);
    // A copy that is not the same, record by record, shows.
    let last = story.dumps.len() - 1;
    story.dumps[last].3 = story.value_at("1", 3);
    assert_eq!(story.judge().counts.keys().copied().collect::<Vec<_>>(), [Class::InconsistentOffsets]);
}

#[test]
fn promises_decide_what_is_an_anomaly() {
    let duplicate: fn(&mut Story) = |s| {
        let value = s.value_at("0", 3);
        ["final", "g1", "peek"].iter().for_each(|r| s.recv(r, "0", RECORDS, &value));
    };
    let judge = |promise: Producing, spoil: fn(&mut Story), log: &str| {
        let mut story = Story::clean();
        spoil(&mut story);
        for producer in ["p0", "p1"] {
            story.expect = story.expect.clone().producing(producer, promise);
            if !log.is_empty() {
                story.push(producer, What::Log { level: "INFO".into(), text: log.into() });
            }
        }
        story.judge()
    };
    let lost = "Connection to node 3 lost: disconnected";
    assert_eq!(judge(Producing::idempotent(), duplicate, lost).duplicated, 1);
    assert_eq!(judge(Producing::acks_all(), duplicate, "").duplicated, 1);
    assert!(judge(Producing::acks_all(), duplicate, lost).ok());
    assert!(judge(Producing { duplicates: Duplicates::Always, ..Producing::default() }, duplicate, "").ok());

    let loss: fn(&mut Story) = |s| s.drop_recv(&READERS, "0", RECORDS - 1);
    assert_eq!(judge(Producing::acks_one(false), loss, "").lost, 1);
    assert!(judge(Producing::acks_one(true), loss, "").ok());

    let reorder: fn(&mut Story) = |s| s.swap("0", 4, 8);
    assert!(judge(Producing { reordering: true, ..Producing::default() }, reorder, "").ok());
}

#[test]
fn a_new_assignment_may_start_anywhere() {
    let mut story = Story::clean();
    for reader in ["g1", "g2"] {
        let redelivery = Reading::Group { name: "g".into(), redelivery: true };
        story.expect = story.expect.clone().reading(reader, redelivery);
    }
    story.push("g1", What::Revoke { partitions: vec!["0".into()] });
    story.push("g2", What::Assign { partitions: vec!["0".into()] });
    for offset in 30..RECORDS {
        let value = story.value_at("0", offset);
        story.recv("g2", "0", offset, &value);
    }
    let verdict = story.judge();
    assert!(verdict.ok(), "{:?}", verdict.anomalies);
}

#[test]
fn offsets_without_records_are_no_skip() {
    let mut story = Story::clean();
    // Markers lie between: the next record of partition 0 is at 45.
    story.write("p0", 60, "k0", 4242, "0", Some(45), 45);
    let verdict = story.judge();
    assert!(verdict.ok(), "{:?}", verdict.anomalies);
}

#[test]
fn a_killed_client_need_not_be_done() {
    let mut story = Story::clean();
    story.silent.push("g2");
    story.expect.vanishing.insert("g2".into());
    assert!(story.judge().ok());
}

#[test]
fn allowed_lines_mean_nothing_to_that_library_only() {
    let allow = AllowList::parse(
        "# lib\tregex\twhy\n\njava\t^Bootstrap broker .* disconnected\tshutdown\n*\tidle\tidle close\n",
    )
    .expect("well formed");
    let judge = |lib: &str, text: &str| {
        let mut story = Story::clean();
        story.expect.allow = allow.clone();
        story.push("g1", What::Ready { lib: Some(lib.into()) });
        story.push("g1", What::Log { level: "WARN".into(), text: text.into() });
        story.judge().client_errors
    };
    assert_eq!(judge("java", "Bootstrap broker x disconnected"), 0);
    assert_eq!(judge("franz", "Bootstrap broker x disconnected"), 1);
    assert_eq!(judge("java", "something else"), 1);
    assert_eq!(judge("franz", "closed while idle"), 0);
    for broken in ["java only", "java\tx", "java\t(\twhy", "java\tx\t "] {
        assert!(AllowList::parse(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn lines_of_drivers_are_read_strictly() {
    let cases = [
        (r#"{"t":1.5,"e":"ready","c":"a","lib":"java"}"#, What::Ready { lib: Some("java".into()) }),
        (
            r#"{"t":1.5,"e":"send","c":"a","s":3,"k":"k1","id":"00000000000000ff"}"#,
            What::Send { seq: 3, key: "k1".into(), id: 255 },
        ),
        (
            r#"{"t":1.5,"e":"ack","c":"a","s":3,"k":"k1","id":"00000000000000ff","pt":2,"o":-1}"#,
            What::Ack { seq: 3, key: "k1".into(), id: 255, partition: "2".into(), offset: None },
        ),
        (
            r#"{"t":1.5,"e":"fail","c":"a","s":3,"k":"k1","error":"late"}"#,
            What::Fail { seq: 3, key: "k1".into(), id: None, error: "late".into() },
        ),
        (
            r#"{"t":1.5,"e":"recv","c":"a","pt":"orders-2","o":7,"v":"kc1 p 0 k0 0000000000000001"}"#,
            What::Recv {
                partition: "orders-2".into(),
                offset: 7,
                value: "kc1 p 0 k0 0000000000000001".into(),
                key: None,
            },
        ),
        (
            r#"{"t":1.5,"e":"assign","c":"a","parts":[0,"x"]}"#,
            What::Assign { partitions: vec!["0".into(), "x".into()] },
        ),
        (r#"{"t":1.5,"e":"revoke","c":"a","parts":[]}"#, What::Revoke { partitions: vec![] }),
        (r#"{"t":1.5,"e":"commit","c":"a","ok":true}"#, What::Commit { ok: true, error: String::new() }),
        (
            r#"{"t":1.5,"e":"log","c":"a","level":"WARN","text":"hm"}"#,
            What::Log { level: "WARN".into(), text: "hm".into() },
        ),
        (
            r#"{"t":1.5,"e":"done","c":"a","sent":3,"acked":2,"failed":1}"#,
            What::Done(Tally { sent: Some(3), acked: Some(2), failed: Some(1), received: None }),
        ),
    ];
    for (line, what) in cases {
        assert_eq!(Event::parse(line).expect(line), Event::new(1.5, "a", what), "{line}");
    }
    for wrong in [
        r#"{"t":1,"e":"poll","c":"a"}"#,
        r#"{"t":1,"e":"ready","c":"a","extra":1}"#,
        r#"{"e":"ready","c":"a"}"#,
        r#"{"t":1,"e":"ready"}"#,
        r#"{"t":1,"e":"ack","c":"a","s":3,"k":"k1","id":"ff","pt":2,"o":0}"#,
        r#"{"t":1,"e":"ack","c":"a","s":3,"k":"k1","pt":2,"o":0}"#,
        r#"{"t":1,"e":"recv","c":"a","pt":2,"o":-1,"v":"x"}"#,
        r#"{"t":1,"e":"done","c":"a"}"#,
        "not json",
    ] {
        assert!(Event::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_value_is_read_byte_by_byte() {
    let record = Record { producer: "p1", seq: 10, key: "k3", id: 0xdead_beef };
    assert_eq!(record.encode(0), "kc1 p1 10 k3 00000000deadbeef");
    assert_eq!(record.encode(40), "kc1 p1 10 k3 00000000deadbeef xxxxxxxxxx");
    assert_eq!(Record::parse(record.encode(40).as_bytes()), Ok(record));
    let wrong = [
        ("kc2 p1 10 k3 00000000deadbeef", RecordError::Shape),
        ("kc1 p1 010 k3 00000000deadbeef", RecordError::Sequence),
        ("kc1 p1 -1 k3 00000000deadbeef", RecordError::Sequence),
        ("kc1 p1 10 k3 00000000DEADBEEF", RecordError::Id),
        ("kc1 p1 10 k3 deadbeef", RecordError::Id),
        ("kc1 p1 10 k3", RecordError::Shape),
        ("kc1  10 k3 00000000deadbeef", RecordError::Shape),
        ("kc1 p1 10 k3 00000000deadbeef xxxy", RecordError::Padding),
        ("kc1 p1 10 k3 00000000deadbeef ", RecordError::Padding),
        ("", RecordError::Shape),
    ];
    for (value, error) in wrong {
        assert_eq!(Record::parse(value.as_bytes()), Err(error), "{value:?}");
    }
}

proptest! {
    #[test]
    fn a_value_comes_back_and_a_changed_byte_shows(
        seq in any::<u64>(), id in any::<u64>(), size in 0usize..200, at in any::<prop::sample::Index>(), flip in 1u8..=255,
    ) {
        let record = Record { producer: "canary-1", seq, key: "k17", id };
        let mut value = record.encode(size).into_bytes();
        prop_assert_eq!(Record::parse(&value), Ok(record));
        let at = at.index(value.len());
        value[at] ^= flip;
        prop_assert_ne!(Record::parse(&value), Ok(record));
    }

    /// Clients' events come in any interleaving: the verdict is the same.
    #[test]
    fn the_order_between_clients_does_not_matter(picks in prop::collection::vec(any::<prop::sample::Index>(), 700)) {
        let story = Story::clean();
        let mut queues: Vec<_> = story.by_client().into_iter().map(|own| own.into_iter()).collect();
        let mut checker = Checker::new(story.expect.clone());
        let mut picks = picks.iter().cycle();
        while !queues.is_empty() {
            let at = picks.next().expect("cycles").index(queues.len());
            match queues[at].next() {
                Some(event) => checker.event(&event),
                None => drop(queues.remove(at)),
            }
        }
        prop_assert_eq!(checker.finish(), story.judge());
    }
}
