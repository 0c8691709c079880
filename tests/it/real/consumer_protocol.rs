//! Groups of KIP-848 (`group.protocol=consumer`) move home in mid-stream, between two clusters that both speak it.

use std::collections::BTreeMap;

use kafka_cutover::control::protocol::{Outcome, ReportResult};
use kafka_cutover::crash::MOVE;
use kafka_cutover::ids::Side;

use super::groups::end_at_each_point;
use crate::support::crowd::{Crowd, LINGER};
use crate::support::own::Own;
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::unique;

const PARTITIONS: i32 = 6;
const MEMBERS: usize = 3;
const HEARTBEATS: &str = "allow-heartbeats.txt";
const CONSUMER: &str = "group.protocol=consumer";
/// Library, what is special about it, flags.
type Kind = (&'static str, &'static str, &'static [&'static str]);
const KINDS: [Kind; 4] = [
    ("java", "auto", &["-X", CONSUMER]),
    ("java", "sync", &["-X", CONSUMER, "--commit", "sync"]),
    ("java", "static", &["-X", CONSUMER]),
    ("confluent", "auto", &["-X", CONSUMER]),
];

fn kinds() -> impl Iterator<Item = (String, Kind)> {
    KINDS.into_iter().map(|kind| (format!("{}-{}", kind.0, kind.1), kind))
}

fn join(crowd: &mut Crowd, topic: &str, round: &str) {
    for (name, (lib, what, flags)) in kinds() {
        for number in 0..MEMBERS {
            let instance = format!("group.instance.id={name}-{number}");
            let mut flags = flags.to_vec();
            if what == "static" {
                flags.extend(["-X", &instance]);
            }
            crowd.member(lib, &format!("{name}-{number}{round}"), &format!("{topic}-{name}"), &flags);
        }
    }
}

/// A source that speaks it, beside the rig's target.
fn clusters() -> (Own, Rig) {
    let rig = Rig::connect();
    let source = Own::start(&rig, Side::Target, 1, &[]);
    let rig = rig.with(Side::Source, &source.bootstrap());
    (source, rig)
}

#[test]
fn groups_of_the_new_protocol_move_in_mid_stream_and_the_proxy_can_go() {
    let (_source, rig) = clusters();
    let part = if Rig::full() { 5_000 } else { 300 };
    let topic = unique("groups848");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt", HEARTBEATS]);
    join(&mut crowd, &topic, "");
    crowd.wait_for_groups(PARTITIONS as usize);
    crowd.producer("confluent", "one", &["--rate", "100", "--idempotent", "true", "-X", LINGER]);
    crowd.producer("java", "two", &["--rate", "100"]);
    crowd.wait_for_producers(part);
    proxy.prepare();
    proxy.switch();
    crowd.wait_for_producers(part);
    let output = proxy.command(&FORCED);
    assert!(output.status.success(), "{output:?}\n{}", proxy.tail());
    let moved: Outcome = serde_json::from_slice(&output.stdout).expect("an outcome");
    println!("{:#?}", moved.done);
    assert_eq!((moved.step.as_str(), moved.done.len()), ("groups-switched", KINDS.len()));
    crowd.wait_for_producers(part);
    let report = proxy.complete();
    assert_eq!((report.result, report.groups.len()), (ReportResult::Ok, KINDS.len()), "{report:#?}");
    assert!(report.groups.iter().all(|g| g.after.len() == PARTITIONS as usize), "{report:#?}");
    crowd.wait_for_producers(part);
    crowd.stop_producers();
    crowd.wait_for_readers();
    let (verdict, log) = crowd.judge(&rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    assert!(log.records(Side::Source) > 0 && log.records(Side::Target) > 0);
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());

    // Straight at the target: each group goes on at the very next record.
    let mut crowd = Crowd::new(rig.bootstrap(Side::Target), &topic, &["allow.txt", HEARTBEATS]);
    let ends = crowd.java_offsets("latest");
    join(&mut crowd, &topic, "-alone");
    crowd.wait_for_groups(PARTITIONS as usize);
    crowd.producer("confluent", "after", &["--rate", "100", "--records", "200", "--idempotent", "true"]);
    crowd.wait_for_readers();
    let last = crowd.java_offsets("latest");
    for (name, _) in kinds() {
        let mut got: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for number in 0..MEMBERS {
            for (partition, offsets) in crowd.received(&format!("{name}-{number}-alone")) {
                got.entry(partition).or_default().extend(offsets);
            }
        }
        got.values_mut().for_each(|offsets| offsets.sort_unstable());
        let expected = ends.iter().map(|(partition, end)| (*partition, (*end..last[partition]).collect::<Vec<_>>()));
        let expected: BTreeMap<i32, Vec<i64>> = expected.filter(|(_, offsets)| !offsets.is_empty()).collect();
        assert_eq!(got, expected, "{name}");
    }
}

/// At each point of a move the process ends; the next one finds every group at home on one side, with its place, and its
/// members with their partitions.
#[test]
fn a_move_of_the_new_protocol_survives_the_end_of_the_process_at_any_point() {
    let (_source, rig) = clusters();
    end_at_each_point(&rig, MOVE, &["-X", CONSUMER], &["allow.txt", "allow-restart.txt", HEARTBEATS]);
}
