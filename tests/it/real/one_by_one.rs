//! Many migrations, one after the other, while transactional producers write to all of them: every transaction of each is whole,
//! on the one side or the other, and nobody else notices.

use super::transactions::{Pair, are_whole};
use crate::support::crowd::Crowd;
use crate::support::proxy::{Proxy, numbered};
use crate::support::rig::Rig;
use crate::support::{eventually, unique};

/// Topics, each a migration; and what else writes to some of them, beside franz-go to all.
struct Size {
    topics: usize,
    each: usize,
    part: u64,
    /// Records a second, twenty of which are a transaction; and how much slower every second one of franz-go's producers is.
    rate: &'static str,
    slower: &'static str,
}

/// Transactions of one second and of five; of four and of eight, since so many wear out two cores with six brokers otherwise.
const SIZE: Size = Size { topics: 5, each: 2, part: 20, rate: "20", slower: "5" };
const FULL: Size = Size { topics: 100, each: 10, part: 40, rate: "5", slower: "2" };

#[test]
fn transactions_are_whole_over_many_migrations() {
    let pairs: &[fn() -> Pair] = if Rig::full() { &[Pair::first, Pair::second] } else { &[Pair::second] };
    for begin in pairs {
        one_after_the_other(&begin());
    }
}

fn one_after_the_other(pair: &Pair) {
    let size = if Rig::full() { FULL } else { SIZE };
    let (rig, topic) = (&pair.rig, unique("one-by-one"));
    let topics: Vec<String> = (0..size.topics).map(|n| format!("{topic}-{n}")).collect();
    topics.iter().for_each(|topic| rig.create(topic, 1));
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut proxy = Proxy::new(rig, &names);
    proxy.one_by_one = true;
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let reader = "franz-go-reads".to_owned();
    let many = size.topics.to_string();
    crowd.member("franz-go", &reader, &format!("{topic}-g"), &["--isolation", "read_committed", "--many", &many]);
    crowd.wait_for_groups(size.topics);
    let flags = ["--rate", size.rate, "--slower", size.slower, "--transactional-id", &topic];
    crowd.producers("franz-go", size.topics, &flags);
    for (l, lib) in ["java", "confluent"].into_iter().enumerate() {
        for n in 0..size.each {
            // Spread over them.
            let (number, name) = ((2 * n + l) * size.topics / (2 * size.each), format!("{lib}-{n}"));
            let (id, name) = (format!("{topic}-{name}"), format!("{name}-{number}"));
            let flags = ["--rate", size.rate, "--transactional-id", &id];
            crowd.producer_at((&proxy.bootstrap(), &topics[number]), lib, &name, &flags);
        }
    }
    crowd.wait_for_producers(size.part);
    let mut holds: Vec<u64> = (0..size.topics)
        .map(|n| {
            proxy.prepare_one(&numbered(n));
            proxy.switch_one(&numbered(n)).hold_ms.expect("a hold")
        })
        .collect();
    holds.sort_unstable();
    println!("holds of {} seals: median {} ms, at most {:?} ms", holds.len(), holds[holds.len() / 2], holds.last());
    eventually("every seam has its place", || proxy.migrations().iter().all(|m| m.late_seam.is_none()));
    crowd.wait_for_producers(size.part);
    pair.was_spoken(&proxy, &format!("{topic}-0"));
    crowd.stop_producers();
    crowd.wait_for_readers();
    crowd.stop(&[&reader]);
    let topic_of = |client: &str| client.rsplit('-').next().and_then(|number| number.parse().ok());
    println!("{} records were committed", are_whole(&crowd, &[reader], topic_of));
    println!("the longest waits of franz-go's, for a record and for an end: {:?} ms", crowd.longest_waits("franz-go"));
    assert_eq!(crowd.complaints(), Vec::<String>::new());
    let ids = size.topics + 2 * size.each;
    assert_eq!(proxy.metric("kafka_cutover_transactional_ids_moved_total"), ids as f64, "each once");
    proxy.stop();
    assert_eq!(proxy.complaints(), Vec::<String>::new());
}
