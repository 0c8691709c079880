//! Groups of every library move home in mid-stream; then the proxy goes, and they go on at the target by themselves.

use std::collections::BTreeMap;

use kafka_cutover::control::protocol::{Outcome, ReportResult};
use kafka_cutover::crash::MOVE;
use kafka_cutover::ids::Side;

use crate::support::crowd::{Crowd, IN_FLIGHT, LINGER};
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::{eventually, unique};

const RANGE: &str = "partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor";
const COOPERATIVE: &str = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
/// Library, what is special about it, flags.
pub(super) type Kind = (&'static str, &'static str, &'static [&'static str]);
const KINDS: [Kind; 6] = [
    ("java", "eager", &["-X", RANGE, "--commit", "sync"]),
    // Not with `commitSync`: Java itself refuses it during any rebalance that leaves partitions with their members.
    ("java", "cooperative", &["-X", COOPERATIVE]),
    ("java", "static", &["-X", RANGE]),
    ("confluent", "classic", &[]),
    ("franz-go", "classic", &[]),
    ("kafka-python", "classic", &["--commit", "sync"]),
];
/// The other ways to commit: the whole version has these, too.
const MORE: [Kind; 11] = [
    ("java", "eager-auto", &["-X", RANGE]),
    ("java", "eager-async", &["-X", RANGE, "--commit", "async"]),
    ("java", "cooperative-async", &["-X", COOPERATIVE, "--commit", "async"]),
    ("java", "static-sync", &["-X", RANGE, "--commit", "sync"]),
    ("java", "static-async", &["-X", RANGE, "--commit", "async"]),
    ("confluent", "sync", &["--commit", "sync"]),
    ("confluent", "async", &["--commit", "async"]),
    ("franz-go", "sync", &["--commit", "sync"]),
    ("franz-go", "async", &["--commit", "async"]),
    ("kafka-python", "auto", &[]),
    ("kafka-python", "async", &["--commit", "async"]),
];

/// What a member has not committed when it gives up its partitions comes again; all others commit before they do. For its own
/// commit kafka-python has what is left of one poll.
fn may_come_again((lib, what, flags): &Kind) -> bool {
    flags.contains(&"async") || (*lib, *what) == ("kafka-python", "auto")
}

/// Groups that move in one migration.
#[derive(Clone, Copy)]
pub(super) struct Round<'a> {
    pub(super) kinds: &'a [Kind],
    /// Of each group.
    pub(super) members: usize,
    pub(super) partitions: i32,
    /// Records of each producer before each step, and after the last.
    pub(super) part: u64,
    /// Of Java's producer. A commit after each poll, without waiting for it, is a hundred a second if that is how records
    /// come: coordinators do not keep up, and clients' own timeouts say so, with the proxy and without.
    pub(super) linger: &'static str,
    /// Files of allow-lists.
    pub(super) allowed: &'static [&'static str],
}

impl Round<'_> {
    fn names(&self) -> impl Iterator<Item = (String, Kind)> {
        self.kinds.iter().map(|kind| (format!("{}-{}", kind.0, kind.1), *kind))
    }

    fn members_of(&self, name: &str, when: &str) -> Vec<String> {
        (0..self.members).map(|number| format!("{name}-{number}{when}")).collect()
    }

    fn join(&self, crowd: &mut Crowd, topic: &str, when: &str) {
        for (name, kind) in self.names() {
            let (lib, what, flags) = kind;
            for (number, member) in self.members_of(&name, when).iter().enumerate() {
                let instance = format!("group.instance.id={name}-{number}");
                let mut flags = flags.to_vec();
                if what.starts_with("static") {
                    flags.extend(["-X", &instance]);
                }
                let group = format!("{topic}-{name}");
                if may_come_again(&kind) {
                    crowd.redelivered_member(lib, member, &group, &flags);
                } else {
                    crowd.member(lib, member, &group, &flags);
                }
            }
        }
    }
}

/// In one migration, three members each; in the whole version also the other ways to commit, in groups of one, three and twenty.
pub(super) fn move_all(rig: &Rig, few: &[Kind], more: &[Kind], allowed: &'static [&'static str]) {
    let round = Round { kinds: few, members: 3, partitions: 6, part: 300, linger: "linger.ms=5", allowed };
    if !Rig::full() {
        return move_and_go(rig, &round);
    }
    move_and_go(rig, &Round { part: 5_000, ..round });
    let all = [few, more].concat();
    let round = Round { part: 1_000, linger: LINGER, ..round };
    for kinds in all.chunks(6) {
        move_and_go(rig, &Round { kinds, members: 1, ..round });
    }
    for kinds in more.chunks(6) {
        move_and_go(rig, &Round { kinds, ..round });
    }
    for kinds in all.chunks(1) {
        move_and_go(rig, &Round { kinds, members: 20, partitions: 24, ..round });
    }
}

#[test]
fn groups_move_in_mid_stream_and_the_proxy_can_go() {
    move_all(&Rig::connect(), &KINDS, &MORE, &["allow.txt", "allow-late-commits.txt"]);
}

pub(super) fn move_and_go(rig: &Rig, round: &Round<'_>) {
    let (partitions, part) = (round.partitions, round.part);
    let topic = unique("groups");
    rig.create(&topic, partitions);
    let mut proxy = Proxy::new(rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, round.allowed);
    round.join(&mut crowd, &topic, "");
    crowd.wait_for_groups(partitions as usize);
    crowd.producer("confluent", "one", &["--rate", "100", "--idempotent", "true", "-X", LINGER]);
    crowd.producer("java", "two", &["--rate", "100", "-X", round.linger]);
    crowd.wait_for_producers(part);
    proxy.prepare();
    proxy.switch();
    crowd.wait_for_producers(part);
    let output = proxy.command(&FORCED);
    assert!(output.status.success(), "{output:?}\n{}", proxy.tail());
    let moved: Outcome = serde_json::from_slice(&output.stdout).expect("an outcome");
    println!("{:#?}", moved.done);
    assert_eq!((moved.step.as_str(), moved.done.len()), ("groups-switched", round.kinds.len()));
    crowd.wait_for_producers(part);
    let report = proxy.complete();
    assert_eq!((report.result, report.groups.len()), (ReportResult::Ok, round.kinds.len()), "{report:#?}");
    assert!(report.groups.iter().all(|g| !g.after.is_empty()), "{report:#?}");
    crowd.wait_for_producers(part);
    crowd.stop_producers();
    crowd.wait_for_readers();
    for (name, _) in round.names().filter(|(_, kind)| may_come_again(kind)) {
        // Some may have come twice instead.
        let names = round.members_of(&name, "");
        let mut given = 0;
        eventually(&format!("{name} has everything"), || {
            let got = crowd.received_by(&names);
            given = got.values().map(Vec::len).sum::<usize>();
            let distinct = |mut offsets: Vec<i64>| {
                offsets.dedup();
                offsets.len() as u64
            };
            got.into_values().map(distinct).sum::<u64>() >= crowd.produced()
        });
        println!("{name}: {} records came again", given as u64 - crowd.produced());
    }
    assert_eq!(crowd.given_again(), Vec::<String>::new());
    let (verdict, log) = crowd.judge(rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    assert!(log.records(Side::Source) > 0 && log.records(Side::Target) > 0);
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());

    // Straight at the target: each group goes on at the very next record.
    let mut crowd = Crowd::new(rig.bootstrap(Side::Target), &topic, round.allowed);
    let ends = crowd.java_offsets("latest");
    round.join(&mut crowd, &topic, "-alone");
    crowd.wait_for_groups(partitions as usize);
    crowd.producer("confluent", "after", &["--rate", "100", "--records", "200", "--idempotent", "true"]);
    crowd.wait("the producer is through", |tallies| tallies.get("after").is_some_and(|t| t.ended));
    crowd.wait_for_readers();
    let last = crowd.java_offsets("latest");
    for (name, _) in round.names() {
        let got = crowd.received_by(&round.members_of(&name, "-alone"));
        let expected = ends.iter().map(|(partition, end)| (*partition, (*end..last[partition]).collect::<Vec<_>>()));
        let expected: BTreeMap<i32, Vec<i64>> = expected.filter(|(_, offsets)| !offsets.is_empty()).collect();
        assert_eq!(got, expected, "{name}");
    }
}

/// At each point of a move the process ends; the next one finds every group at home on one side, with its place.
#[test]
fn a_move_survives_the_end_of_the_process_at_any_point() {
    // By the first point only those of KIP-848 come.
    end_at_each_point(&Rig::connect(), &MOVE[1..], &[], &["allow.txt", "allow-restart.txt"]);
}

/// A group for each of the points, whose members have these flags. At the end all have moved, and been given everything.
pub(super) fn end_at_each_point(rig: &Rig, points: &[&str], flags: &[&str], allowed: &[&str]) {
    let topic = unique("moves");
    rig.create(&topic, 2);
    let mut proxy = Proxy::new(rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, allowed);
    for (number, point) in points.iter().enumerate() {
        let lib = ["java", "confluent"][number % 2];
        let group = format!("{topic}-{}", point.replace('.', "-"));
        crowd.redelivered_member(lib, &format!("{lib}-member-{number}"), &group, flags);
    }
    crowd.wait_for_groups(2);
    crowd.producer("confluent", "writer", &["--rate", "50", "--idempotent", "true", "-X", LINGER, "-X", IN_FLIGHT]);
    crowd.wait_for_producers(100);
    proxy.prepare();
    proxy.switch();
    for point in points {
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
    let (verdict, _) = crowd.judge(rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
}
