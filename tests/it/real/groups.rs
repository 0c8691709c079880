//! Groups of every library move home in mid-stream; then the proxy goes, and they go on at the target by themselves.

use std::collections::BTreeMap;

use kafka_cutover::control::protocol::Outcome;
use kafka_cutover::crash::MOVE;
use kafka_cutover::ids::Side;

use crate::support::crowd::{Crowd, LINGER};
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::unique;

const PARTITIONS: i32 = 6;
const MEMBERS: usize = 3;
const RANGE: &str = "partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor";
const COOPERATIVE: &str = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
/// Library, what is special about it, flags.
type Kind = (&'static str, &'static str, &'static [&'static str]);
const KINDS: [Kind; 6] = [
    ("java", "eager", &["-X", RANGE, "--commit", "sync"]),
    // Not with `commitSync`: Java itself refuses it during any rebalance that leaves partitions with their members.
    ("java", "cooperative", &["-X", COOPERATIVE]),
    ("java", "static", &["-X", RANGE]),
    ("confluent", "classic", &[]),
    ("franz-go", "classic", &[]),
    ("kafka-python", "classic", &["--commit", "sync"]),
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

#[test]
fn groups_move_in_mid_stream_and_the_proxy_can_go() {
    let rig = Rig::connect();
    let part = if Rig::full() { 5_000 } else { 300 };
    let topic = unique("groups");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
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
    crowd.stop_producers();
    crowd.wait_for_readers();
    let (verdict, log) = crowd.judge(&rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    assert!(log.records(Side::Source) > 0 && log.records(Side::Target) > 0);
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());

    // Straight at the target: each group goes on at the very next record.
    let mut crowd = Crowd::new(rig.bootstrap(Side::Target), &topic, &["allow.txt"]);
    let ends = crowd.java_offsets("latest");
    join(&mut crowd, &topic, "-alone");
    crowd.wait_for_groups(PARTITIONS as usize);
    crowd.producer("confluent", "after", &["--rate", "100", "--records", "200", "--idempotent", "true"]);
    crowd.wait_for_readers();
    let last = crowd.java_offsets("latest");
    for (name, _) in kinds() {
        let names: Vec<String> = (0..MEMBERS).map(|number| format!("{name}-{number}-alone")).collect();
        let got = crowd.received_by(&names);
        let expected = ends.iter().map(|(partition, end)| (*partition, (*end..last[partition]).collect::<Vec<_>>()));
        let expected: BTreeMap<i32, Vec<i64>> = expected.filter(|(_, offsets)| !offsets.is_empty()).collect();
        assert_eq!(got, expected, "{name}");
    }
}

/// At each point of a move the process ends; the next one finds every group at home on one side, with its place.
#[test]
fn a_move_survives_the_end_of_the_process_at_any_point() {
    let rig = Rig::connect();
    let topic = unique("moves");
    rig.create(&topic, 2);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt", "allow-restart.txt"]);
    let groups: Vec<String> = MOVE.iter().map(|point| format!("{topic}-{}", point.replace('.', "-"))).collect();
    for (number, group) in groups.iter().enumerate() {
        let lib = ["java", "confluent"][number % 2];
        crowd.redelivered_member(lib, &format!("{lib}-member-{number}"), group, &[]);
    }
    crowd.wait_for_groups(2);
    crowd.producer("confluent", "writer", &["--rate", "50", "--idempotent", "true", "-X", LINGER]);
    crowd.wait_for_producers(100);
    proxy.prepare();
    proxy.switch();
    for point in MOVE {
        proxy.stop();
        proxy.start_to_crash_at(point);
        crowd.wait_for_producers(50);
        let output = proxy.command(&FORCED);
        assert!(!output.status.success(), "{point}: the process should have ended");
        let status = proxy.wait_for_end();
        assert!(status.code().is_none(), "{point}: ended by {status}, not by the crash point\n{}", proxy.tail());
        proxy.start();
        assert_eq!(proxy.migration().step, "producers-switched", "{point}");
        crowd.wait_for_producers(50);
    }
    let output = proxy.command(&FORCED);
    assert!(output.status.success(), "{output:?}\n{}", proxy.tail());
    assert_eq!(proxy.migration().step, "groups-switched");
    crowd.wait_for_producers(50);
    crowd.stop_producers();
    crowd.wait_for_readers();
    let (verdict, _) = crowd.judge(&rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
}
