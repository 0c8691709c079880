//! Topic configs that differ: what clients would notice after the switch.

use std::collections::BTreeMap;

use super::{Facts, Finding};

type Configs = BTreeMap<String, String>;

/// Where less on the target than on the source takes something away, and what. (-1 in a retention is no limit.)
const LESS_HURTS: [(&str, &str); 5] = [
    ("max.message.bytes", "larger batches are refused"),
    ("retention.ms", "records are deleted earlier"),
    ("retention.bytes", "records are deleted earlier"),
    ("message.timestamp.before.max.ms", "records with older timestamps are refused"),
    ("message.timestamp.after.max.ms", "records with later timestamps are refused"),
];

/// Where any difference shows.
const MUST_EQUAL: [(&str, &str); 3] = [
    ("message.timestamp.type", "consumers see other timestamps"),
    ("compression.type", "batches are stored as another codec says"),
    ("cleanup.policy", "other records are kept"),
];

/// But for what the mirror sets on a copy for its time.
pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (name, topic) in &facts.topics {
        let place = format!("topic {name}");
        let [Some(source), Some(target)] = &topic.configs else { continue };
        let is_held = |key: &str| topic.held.as_ref().is_some_and(|held| held.contains_key(key));
        for (key, then) in LESS_HURTS.into_iter().filter(|(key, _)| !is_held(key)) {
            if let (Some(ours), Some(theirs)) = (limit(source, key), limit(target, key))
                && theirs < ours
            {
                found.push(differs(&place, key, source, target, then));
            }
        }
        for (key, then) in MUST_EQUAL.into_iter().filter(|(key, _)| !is_held(key)) {
            if let (Some(ours), Some(theirs)) = (source.get(key), target.get(key))
                && words(ours) != words(theirs)
            {
                found.push(differs(&place, key, source, target, then));
            }
        }
        in_sync(&place, target, topic.target_replicas, found);
    }
}

/// Until Kafka 3.6 one limit for both directions (KIP-937); from then on it counts where the newer one is not set.
const DIFFERENCE: &str = "message.timestamp.difference.max.ms";
const OF_DIFFERENCE: [&str; 2] = ["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"];

/// -1: none, which is the largest.
fn limit(configs: &Configs, key: &str) -> Option<i64> {
    let value: i64 = effective(configs, key)?.parse().ok()?;
    Some(if value == -1 { i64::MAX } else { value })
}

fn effective<'a>(configs: &'a Configs, key: &str) -> Option<&'a String> {
    let own = configs.get(key);
    let is_set = own.is_some_and(|v| v.parse() != Ok(i64::MAX));
    match configs.get(DIFFERENCE).filter(|_| OF_DIFFERENCE.contains(&key) && !is_set) {
        Some(difference) => Some(difference),
        None => own,
    }
}

/// `compact,delete` is `delete, compact`.
fn words(value: &str) -> Vec<&str> {
    let mut words: Vec<&str> = value.split(',').map(str::trim).collect();
    words.sort_unstable();
    words
}

fn differs(place: &str, key: &str, source: &Configs, target: &Configs, then: &str) -> Finding {
    let of = |configs: &Configs| effective(configs, key).cloned().unwrap_or_default();
    let (ours, theirs) = (of(source), of(target));
    Finding::warning(
        "config_differs",
        place,
        format!("{key} is {ours} on the source and {theirs} on the target: after the switch {then}"),
        format!("set {key}={ours} on the topic of the target (or on that of the source before `prepare` creates it)"),
    )
}

/// More than there are replicas: no produce with acks=all ever succeeds.
fn in_sync(place: &str, target: &Configs, replicas: Option<usize>, found: &mut Vec<Finding>) {
    let least = target.get("min.insync.replicas").and_then(|v| v.parse::<usize>().ok());
    if let (Some(least), Some(replicas)) = (least, replicas.filter(|n| *n > 0))
        && least > replicas
    {
        found.push(Finding::error(
            "min_insync_replicas",
            place,
            format!("min.insync.replicas is {least} with {replicas} replicas on the target: produce with acks=all is refused"),
            format!("set min.insync.replicas={replicas} or less on the target, or add replicas"),
        ));
    }
}
