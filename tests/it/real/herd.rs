//! Many groups move in one step: how long that takes, and for how long a member is given nothing. Nothing here depends on
//! either.

use std::collections::BTreeMap;
use std::time::Instant;

use kafka_cutover::audit::{Event, What};
use kafka_cutover::control::protocol::Outcome;

use crate::support::crowd::Crowd;
use crate::support::proxy::{FORCED, Proxy};
use crate::support::rig::Rig;
use crate::support::unique;

struct Herd {
    groups: usize,
    /// Of each group: as many as there are partitions.
    members: usize,
    /// Records a second in each partition.
    rate: &'static str,
    /// Of each partition, records before the switch and after it.
    part: u64,
}

const SMALL: Herd = Herd { groups: 10, members: 3, rate: "10", part: 50 };
const FULL: Herd = Herd { groups: 200, members: 5, rate: "2", part: 60 };

#[test]
fn many_groups_move_in_one_step() {
    let rig = Rig::connect();
    let herd = if Rig::full() { FULL } else { SMALL };
    let topic = unique("herd");
    rig.create(&topic, herd.members as i32);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.is_unwatched = Rig::full();
    proxy.more = "timeouts: { straggling_part: 20s }\nlimits: { connections_per_address: 10000 }";
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let began = Instant::now();
    crowd.herd("member", &topic, herd.groups, herd.members);
    crowd.wait_for_groups(herd.members);
    println!("{} groups of {} members have joined after {:.1?}", herd.groups, herd.members, began.elapsed());
    for partition in 0..herd.members {
        let flags = ["--partition", &partition.to_string(), "--rate", herd.rate];
        crowd.producer("franz-go", &format!("to-{partition}"), &flags);
    }
    crowd.wait_for_producers(herd.part);
    proxy.prepare();
    proxy.switch();
    crowd.wait_for_producers(herd.part);
    let began = (Instant::now(), last(&crowd.events()));
    let output = proxy.command(&FORCED);
    let took = began.0.elapsed();
    assert!(output.status.success(), "{output:?}\n{}", proxy.tail());
    let moved: Outcome = serde_json::from_slice(&output.stdout).expect("an outcome");
    assert_eq!((moved.step.as_str(), moved.done.len()), ("groups-switched", herd.groups));
    crowd.wait_for_producers(herd.part);
    crowd.stop_producers();
    crowd.wait_for_readers();
    println!("all have moved in {took:.1?}");
    let gaps = Gaps::of(&crowd.events(), began.1);
    println!("without a record: {} while nothing moved, {} over the move", show(gaps.still), show(gaps.moving));
    let (verdict, _) = crowd.judge(&rig);
    assert!(verdict.ok(), "{verdict:#?}\n{}", proxy.tail());
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}

/// When the newest event was, on the drivers' clock.
fn last(events: &[Event]) -> f64 {
    events.iter().map(|event| event.t).fold(0.0, f64::max)
}

/// For each member the longest time between two records, in seconds.
#[derive(Default)]
struct Gaps {
    still: Vec<f64>,
    moving: Vec<f64>,
}

impl Gaps {
    /// `moment`: the move begins.
    fn of(events: &[Event], moment: f64) -> Self {
        let mut given: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for event in events.iter().filter(|event| matches!(event.what, What::Recv { .. })) {
            given.entry(&event.client).or_default().push(event.t);
        }
        let mut gaps = Self::default();
        for times in given.values() {
            let pairs = || times.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
            let longest = |before: bool| {
                pairs().filter(|(_, end)| (*end < moment) == before).map(|(gap, _)| gap).fold(0.0, f64::max)
            };
            gaps.still.push(longest(true));
            gaps.moving.push(longest(false));
        }
        gaps
    }
}

fn show(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share) as usize];
    format!("median {:.2} s, 99 of 100 members {:.2} s, longest {:.2} s", at(0.5), at(0.99), at(1.0))
}
