//! The proxy goes in the middle of a migration, and groups go on straight at a cluster, each at exactly the next record of
//! that cluster's part: before any switch, while they drain, and when they have moved.

use std::collections::BTreeMap;

use kafka_cutover::ids::Side;

use crate::support::crowd::{Crowd, LINGER};
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::whole_log::WholeLog;
use crate::support::{eventually, unique};

const PARTITIONS: i32 = 4;
/// Name, flags: who is stopped in mid-stream has committed all that it was given.
type Library = (&'static str, &'static [&'static str]);
const LIBRARIES: [Library; 4] = [
    ("java", &["--commit", "sync"]),
    ("confluent", &[]),
    ("franz-go", &["--commit", "sync"]),
    ("kafka-python", &["--commit", "sync"]),
];
/// A group that stays behind, and one that reads on; how many members each has.
const GROUPS: [(&str, usize); 2] = [("lags", 1), ("follows", 2)];
/// By partition, the next offset that a group reads.
type Places = BTreeMap<i32, i64>;

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Prepared,
    ProducersSwitched,
    GroupsSwitched,
}

impl Step {
    /// The whole version has all of them at each step.
    fn libraries(self) -> &'static [Library] {
        match self {
            _ if Rig::full() => &LIBRARIES,
            Self::Prepared => &LIBRARIES[..2],
            Self::ProducersSwitched => &LIBRARIES[..3],
            // kafka-python, on a machine that is too busy, joins before it knows the topic's partitions, and stays without.
            Self::GroupsSwitched => &LIBRARIES[2..3],
        }
    }
}

#[test]
fn before_any_switch_groups_go_on_at_the_source() {
    leave_at(Step::Prepared);
}

#[test]
fn while_groups_drain_each_side_goes_on_with_its_own_part() {
    leave_at(Step::ProducersSwitched);
}

#[test]
fn when_groups_have_moved_each_side_goes_on_with_its_own_part() {
    leave_at(Step::GroupsSwitched);
}

fn leave_at(step: Step) {
    let rig = Rig::connect();
    let part = if Rig::full() { 5_000 } else { 200 };
    let libraries = step.libraries();
    let topic = unique("leaving");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    for (lib, flags) in libraries {
        for (what, members) in GROUPS {
            for name in members_of(lib, what, members) {
                crowd.member(lib, &name, &format!("{topic}-{lib}-{what}"), flags);
            }
        }
    }
    crowd.wait_for_groups(PARTITIONS as usize);
    crowd.producer("confluent", "one", &["--rate", "100", "--idempotent", "true", "-X", LINGER]);
    crowd.producer("franz-go", "two", &["--rate", "100"]);
    let [lagging, following] = GROUPS.map(|(what, members)| {
        libraries.iter().flat_map(|(lib, _)| members_of(lib, what, members)).collect::<Vec<_>>()
    });
    crowd.wait("who will lag has begun", |tallies| {
        lagging.iter().all(|name| tallies.get(name).is_some_and(|t| t.received >= 50))
    });
    crowd.stop(&lagging);
    crowd.wait_for_producers(part);
    proxy.prepare();
    if step != Step::Prepared {
        proxy.switch();
    }
    if step == Step::GroupsSwitched {
        crowd.wait_for_producers(part);
        let output = proxy.command(&FORCED);
        assert!(output.status.success(), "{output:?}\n{}", proxy.tail());
    }
    crowd.wait_for_producers(part);
    // The others stop, too: in the middle of the last part.
    let seams = rig.admin(Side::Source).bounds(&topic).expect("the ends of the topic");
    for (lib, _) in libraries {
        let names = members_of(lib, GROUPS[1].0, GROUPS[1].1);
        eventually(&format!("{lib} is beyond {seams:?}"), || {
            let got = crowd.received_by(&names);
            (0..).zip(&seams).all(|(p, (_, seam))| got.get(&p).and_then(|o| o.last()) >= Some(seam))
        });
    }
    crowd.stop(&following);
    crowd.stop_producers();
    let log = WholeLog::read(&rig, &topic);
    let mut places: BTreeMap<String, Places> = BTreeMap::new();
    for (lib, _) in libraries {
        for (what, members) in GROUPS {
            let got = crowd.received_by(&members_of(lib, what, members));
            for (partition, offsets) in &got {
                let all: Vec<i64> = (0..offsets.len() as i64).collect();
                assert_eq!(*offsets, all, "{lib} {what}, partition {partition}: everything once");
            }
            let next: Places = got.iter().map(|(p, offsets)| (*p, offsets.len() as i64)).collect();
            let is_behind = next.iter().all(|(p, next)| *next < seams[*p as usize].1);
            assert_eq!(is_behind, what == GROUPS[0].0, "{lib} {what} is at {next:?}");
            places.insert(format!("{lib}-{what}"), next);
        }
    }
    let on = |side: Side, next: &Places| -> Places {
        next.iter().map(|(p, v)| (*p, log.0[*p as usize].place_on(side, *v))).collect()
    };
    let sides = if step == Step::Prepared { vec![Side::Source] } else { Side::BOTH.to_vec() };
    // What lies on the other side is written behind the commits.
    for (group, next) in &places {
        for side in &sides {
            eventually(&format!("the {side} knows the place of {group}"), || {
                rig.committed(*side, &format!("{topic}-{group}"), &topic, PARTITIONS) == on(*side, next)
            });
        }
    }
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
    assert_eq!(crowd.complaints(), Vec::<String>::new());
    log.holds(&crowd.events());
    drop(crowd);
    for side in sides {
        let there = places.iter().map(|(group, next)| (group.as_str(), on(side, next)));
        goes_on(&rig, side, &topic, libraries, there.collect());
    }
}

fn members_of(lib: &str, what: &str, members: usize) -> Vec<String> {
    (0..members).map(|number| format!("{lib}-{what}-{number}")).collect()
}

/// Straight at a cluster each group has everything from its place there to the end, once.
fn goes_on(rig: &Rig, side: Side, topic: &str, libraries: &[Library], places: BTreeMap<&str, Places>) {
    let mut crowd = Crowd::new(rig.bootstrap(side), topic, &["allow.txt"]);
    crowd.producer("franz-go", "after", &["--rate", "100", "--records", "200"]);
    for (lib, flags) in libraries {
        for (what, _) in GROUPS {
            let group = format!("{lib}-{what}");
            crowd.member(lib, &group, &format!("{topic}-{group}"), flags);
        }
    }
    crowd.wait("the producer is through", |tallies| tallies.get("after").is_some_and(|t| t.ended));
    let ends = rig.admin(side).bounds(topic).expect("the ends of the topic");
    for (group, next) in places {
        // Where it has not read anything it begins at the beginning.
        let from = |p: i32| next.get(&p).copied().unwrap_or(ends[p as usize].0);
        let rest = (0..PARTITIONS).map(|p| (p, (from(p)..ends[p as usize].1).collect::<Vec<_>>()));
        let expected: BTreeMap<i32, Vec<i64>> = rest.filter(|(_, offsets)| !offsets.is_empty()).collect();
        eventually(&format!("{group} is at the end of the {side}"), || {
            let got = crowd.received(group);
            expected.iter().all(|(p, offsets)| got.get(p).and_then(|o| o.last()) >= offsets.last())
        });
        crowd.stop(&[group]);
        assert_eq!(crowd.received(group), expected, "{group} at the {side}");
    }
    assert_eq!(crowd.complaints(), Vec::<String>::new());
}
