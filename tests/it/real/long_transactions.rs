//! One transaction is open for long when the producers are switched: the operator sees whose and since when, and nobody else waits
//! for it; many short ones go over without a pause of their own.

use super::transactions::{Pair, are_whole};
use crate::support::crowd::Crowd;
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::{eventually, unique};

struct Size {
    /// Ids with one transaction of five seconds after another.
    ids: usize,
    /// Records a second of the long one, twenty of which are its transaction.
    long: &'static str,
}

/// Of five seconds; of a minute.
const SIZE: Size = Size { ids: 5, long: "4" };
const FULL: Size = Size { ids: 50, long: "0.33" };

#[test]
fn nobody_waits_for_a_long_transaction() {
    let pairs: &[fn() -> Pair] = if Rig::full() { &[Pair::first, Pair::second] } else { &[Pair::first] };
    for begin in pairs {
        switch_under_a_long_one(&begin());
    }
}

fn switch_under_a_long_one(pair: &Pair) {
    let size = if Rig::full() { FULL } else { SIZE };
    let (rig, topic) = (&pair.rig, unique("long"));
    // The last two are of the long one, and of a producer without transactions.
    let topics: Vec<String> = (0..size.ids + 2).map(|n| format!("{topic}-{n}")).collect();
    topics.iter().for_each(|topic| rig.create(topic, 1));
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut proxy = Proxy::new(rig, &names);
    proxy.late_seam_max = "90s";
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let [reader, long, plain] = ["reads", "long", "plain"].map(str::to_owned);
    let many = topics.len().to_string();
    crowd.member("franz-go", &reader, &format!("{topic}-g"), &["--isolation", "read_committed", "--many", &many]);
    crowd.wait_for_groups(topics.len());
    crowd.producers("short", size.ids, &["--rate", "4", "--slower", "1", "--transactional-id", &topic]);
    let id = format!("{topic}-long");
    let flags = ["--rate", size.long, "--transactional-id", &id, "-X", "transaction.timeout.ms=300000"];
    crowd.producer_at((&proxy.bootstrap(), &topics[size.ids]), "java", &long, &flags);
    crowd.producer_at((&proxy.bootstrap(), &topics[size.ids + 1]), "franz-go", &plain, &["--rate", "50"]);
    let others: Vec<String> = (0..size.ids).map(|n| format!("short-{n}")).chain([plain.clone()]).collect();
    let further = |crowd: &Crowd| {
        let goals: Vec<(&String, u64)> = others.iter().map(|name| (name, crowd.acked(name) + 40)).collect();
        crowd.wait("all others go on", |t| {
            goals.iter().all(|(name, goal)| t.get(*name).is_some_and(|t| t.acked >= *goal))
        });
    };
    further(&crowd);
    proxy.prepare();
    let switch = proxy.begin_switch();
    eventually("the operator sees whose is open, and since when", || {
        let late = proxy.migration().late_seam;
        late.is_some_and(|late| late.waits_for.open.iter().any(|open| open.id == id && open.since.starts_with("20")))
    });
    further(&crowd);
    if Rig::full() {
        let late = proxy.migration().late_seam.expect("it is open for longer than the others need");
        assert_eq!(late.waits_for.open.iter().map(|open| open.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    }
    let output = switch.join().expect("the command ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout));
    eventually("the seam has its place", || proxy.migration().late_seam.is_none());
    further(&crowd);
    pair.was_spoken(&proxy, &format!("{topic}-0"));
    crowd.stop_producers();
    crowd.wait_for_readers();
    crowd.stop(&[&reader]);
    let topic_of = |client: &str| match client {
        "long" => Some(size.ids),
        "plain" => Some(size.ids + 1),
        other => other.rsplit('-').next().and_then(|number| number.parse().ok()),
    };
    println!("{} records were committed", are_whole(&crowd, &[reader], topic_of));
    println!("the longest waits for a record, and for an end: {:?} ms", crowd.longest_waits("short"));
    println!("without transactions: {:?} ms", crowd.longest_waits(&plain)[0]);
    assert_eq!(crowd.complaints(), Vec::<String>::new());
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}
