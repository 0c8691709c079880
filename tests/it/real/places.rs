//! Groups that lag when they move keep their places; and where Kafka's own tool resets a group to after the move, there it
//! is, whichever part of the log that lies in.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use kafka_cutover::control::protocol::Outcome;
use kafka_cutover::ids::Side;

use super::tools::GROUPS;
use crate::support::crowd::{Crowd, LINGER};
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::tools::Tools;
use crate::support::whole_log::{Partition, WholeLog};
use crate::support::{eventually, unique};

const PARTITIONS: i32 = 4;
/// Two members of each stand still behind the seam while their group moves.
const STANDING: [(&str, &[&str]); 2] = [
    ("java", &["-X", "partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor"]),
    ("franz-go", &[]),
];
/// One member of each has left behind the seam, and comes back after the move.
const AWAY: [(&str, &[&str]); 2] = [("confluent", &[]), ("kafka-python", &["--commit", "sync"])];
/// Who reads what a reset has left to read, in turn.
const READERS: [&str; 3] = ["franz-go", "confluent", "kafka-python"];
/// Where the groups that are reset stand before.
const START: i64 = 5;
const RESETS: [&str; 11] = [
    "untouched",
    "to-earliest",
    "to-latest",
    "by-duration",
    "to-a-time-in-the-sources-part",
    "to-a-time-in-the-targets-part",
    "to-an-offset-in-the-sources-part",
    "to-the-seam",
    "to-an-offset-in-the-targets-part",
    "shifted-over-the-seam",
    "shifted-back-over-the-seam",
];
/// By partition, the next offset that a group reads.
type Places = BTreeMap<i32, i64>;

/// All but the last, kafka-python, which only the whole version has: on a machine that is too busy it joins before it knows the
/// topic's partitions, and stays without.
fn first<T>(all: &[T]) -> &[T] {
    if Rig::full() { all } else { &all[..all.len() - 1] }
}

#[test]
fn a_group_that_lags_keeps_its_place_and_a_reset_lands_where_it_should() {
    let rig = Rig::connect();
    let part = if Rig::full() { 5_000 } else { 300 };
    let topic = unique("places");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let tools = Side::BOTH.map(|side| Tools::of(&rig, side, &proxy.bootstrap(), &rig.identities()));
    let tools = if Rig::full() { &tools[..] } else { &tools[1..] };
    let group = |name: &str| format!("{topic}-{name}");

    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let standing: Vec<String> = STANDING.iter().flat_map(|(lib, _)| both(lib)).collect();
    for (lib, flags) in STANDING {
        for name in both(lib) {
            crowd.member(lib, &name, &group(lib), &[&["--hold", "40"], flags].concat());
        }
    }
    for &(lib, flags) in first(&AWAY) {
        crowd.member(lib, lib, &group(lib), flags);
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    crowd.producer("confluent", "one", &["--rate", "100", "--idempotent", "true", "-X", LINGER]);
    crowd.producer("franz-go", "two", &["--rate", "100"]);
    let away: Vec<String> = first(&AWAY).iter().map(|(lib, _)| (*lib).to_owned()).collect();
    crowd.wait("all who will lag have begun", |tallies| {
        standing.iter().chain(&away).all(|name| tallies.get(name).is_some_and(|t| t.received >= 40))
    });
    crowd.stop(&away);
    crowd.wait_for_producers(part);
    reset(&tools[0], &RESETS.map(group), &topic, &["--to-offset", &START.to_string()]);
    proxy.prepare();
    proxy.switch();
    let seams = rig.admin(Side::Source).bounds(&topic).expect("the ends of the topic");
    crowd.wait_for_producers(part);
    let output = proxy.command(&FORCED);
    assert!(output.status.success(), "{output:?}\n{}", proxy.tail());
    let moved: Outcome = serde_json::from_slice(&output.stdout).expect("an outcome");
    println!("{:#?}", moved.done);
    assert_eq!(moved.done.len(), STANDING.len() + first(&AWAY).len() + RESETS.len());

    // Each is where it was: behind the seam.
    let mut places: BTreeMap<String, Places> = RESETS.iter().map(|name| (group(name), all_at(START))).collect();
    for (lib, names) in
        STANDING.map(|(lib, _)| (lib, both(lib))).into_iter().chain(first(&AWAY).iter().copied().map(alone))
    {
        let got = crowd.received_by(&names);
        let place: Places = got.iter().map(|(p, offsets)| (*p, offsets.len() as i64)).collect();
        assert!(place.iter().all(|(p, at)| *at < seams[*p as usize].1), "{lib} is at {place:?}, seams {seams:?}");
        places.insert(group(lib), place);
    }
    tools.iter().for_each(|tools| assert_eq!(described(tools, places.keys(), &topic), places));
    standing.iter().for_each(|name| crowd.go_on(name));
    for &(lib, flags) in first(&AWAY) {
        crowd.member(lib, &format!("{lib}-returns"), &group(lib), flags);
    }
    crowd.wait_for_producers(part);
    crowd.stop_producers();
    crowd.wait_for_readers();
    let (verdict, log) = crowd.judge(&rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());

    let landed = Resets::of(&log, &topic);
    let places: BTreeMap<String, Places> =
        landed.0.iter().map(|(name, _, places)| (group(name), places.clone())).collect();
    for tools in tools {
        for (name, steps, _) in &landed.0 {
            for [topic, how @ ..] in steps {
                let how: Vec<&str> = how.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
                reset(tools, &[group(name)], topic, &how);
            }
        }
        assert_eq!(described(tools, places.keys(), &topic), places);
    }
    read_on(&rig, &proxy, &topic, &landed);
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}

fn both(lib: &str) -> Vec<String> {
    (0..2).map(|number| format!("{lib}-{number}")).collect()
}

fn alone((lib, _): (&'static str, &[&str])) -> (&'static str, Vec<String>) {
    (lib, vec![lib.to_owned()])
}

fn all_at(offset: i64) -> Places {
    (0..PARTITIONS).map(|p| (p, offset)).collect()
}

fn named<'a>(groups: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    groups.into_iter().flat_map(|group| ["--group", group]).collect()
}

fn reset(tools: &Tools, groups: &[String], topic: &str, how: &[&str]) {
    let flags = [&["--reset-offsets", "--execute", "--topic", topic], how, &named(groups)].concat();
    tools.works(GROUPS, &flags, &groups[0]);
}

/// Where the tool says that groups are.
fn described<'a>(tools: &Tools, groups: impl IntoIterator<Item = &'a String>, topic: &str) -> BTreeMap<String, Places> {
    let (ok, said) = tools.run(GROUPS, &[&["--describe"], &named(groups)[..]].concat(), "");
    assert!(ok, "{said}");
    let mut places: BTreeMap<String, Places> = BTreeMap::new();
    for line in said.lines() {
        if let [group, of, partition, offset, ..] = line.split_whitespace().collect::<Vec<_>>()[..]
            && of == topic
            && offset != "-"
        {
            let number = |word: &str| word.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
            places.entry(group.to_owned()).or_default().insert(number(partition) as i32, number(offset));
        }
    }
    places
}

/// Name; what the tool is told, one after the other: topic, option, value; where that leaves the group.
struct Resets(Vec<(&'static str, Vec<[String; 3]>, Places)>);

impl Resets {
    fn of(log: &WholeLog, topic: &str) -> Self {
        let each = |of: &dyn Fn(&Partition) -> i64| -> Places { (0..).zip(log.0.iter().map(of)).collect() };
        let zero = &log.0[0];
        let (low, high) = (zero.seam - 20, zero.seam + 10);
        assert!(START < low && high < zero.end, "parts long enough: {low}, {high}, {}", zero.end);
        let at = |offset: i64| {
            let mut places = all_at(START);
            places.insert(0, offset);
            places
        };
        let all = |option: &str, value: &str| [topic.to_owned(), option.to_owned(), value.to_owned()];
        let one = |option: &str, value: i64| [format!("{topic}:0"), option.to_owned(), value.to_string()];
        // The very moment of a record: what was written in the same millisecond comes with it.
        let time = |offset: i64| {
            let entry = zero.entries.iter().find(|e| e.offset == offset).expect("a record");
            let moment = UNIX_EPOCH + Duration::from_millis(entry.timestamp as u64);
            let places = each(&|p| p.at_time(entry.timestamp).unwrap_or(p.end));
            (vec![all("--to-datetime", &humantime::format_rfc3339_millis(moment).to_string())], places)
        };
        let (to, by) = ("--to-offset", "--shift-by");
        let of = |name: &'static str| {
            let (steps, places) = match name {
                "untouched" => (vec![], all_at(START)),
                "to-earliest" => (vec![all("--to-earliest", "")], all_at(0)),
                "to-latest" => (vec![all("--to-latest", "")], each(&|p| p.end)),
                // A day ago nothing was written.
                "by-duration" => (vec![all("--by-duration", "P1D")], all_at(0)),
                "to-a-time-in-the-sources-part" => time(low),
                "to-a-time-in-the-targets-part" => time(high),
                "to-an-offset-in-the-sources-part" => (vec![one(to, low)], at(low)),
                "to-the-seam" => (vec![one(to, zero.seam)], at(zero.seam)),
                "to-an-offset-in-the-targets-part" => (vec![one(to, high)], at(high)),
                "shifted-over-the-seam" => (vec![one(to, START), one(by, high - START)], at(high)),
                "shifted-back-over-the-seam" => (vec![one(to, high), one(by, low - high)], at(low)),
                other => unreachable!("{other}"),
            };
            (name, steps, places)
        };
        Self(RESETS.map(of).to_vec())
    }
}

/// A member that joins each of the groups has everything from its place on, once.
fn read_on(rig: &Rig, proxy: &Proxy, topic: &str, landed: &Resets) {
    let mut crowd = Crowd::new(&proxy.bootstrap(), topic, &["allow.txt"]);
    let readers = first(&READERS);
    for (number, (name, ..)) in landed.0.iter().enumerate() {
        crowd.member(readers[number % readers.len()], name, &format!("{topic}-{name}"), &[]);
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    // For who has nothing left to read.
    crowd.producer("franz-go", "late", &["--rate", "100", "--records", "100"]);
    crowd.wait("the producer is through", |tallies| tallies.get("late").is_some_and(|t| t.ended));
    let log = WholeLog::read(rig, topic);
    for (name, _, places) in &landed.0 {
        let rest = places.iter().map(|(p, at)| (*p, (*at..log.0[*p as usize].end).collect::<Vec<_>>()));
        let expected: BTreeMap<i32, Vec<i64>> = rest.filter(|(_, offsets)| !offsets.is_empty()).collect();
        eventually(&format!("{name} is at the end"), || {
            let got = crowd.received(name);
            expected.iter().all(|(p, offsets)| got.get(p).and_then(|o| o.last()) >= offsets.last())
        });
        crowd.stop(&[name]);
        assert_eq!(crowd.received(name), expected, "{name}");
    }
    log.holds(&crowd.events());
    assert_eq!(crowd.complaints(), Vec::<String>::new());
}
