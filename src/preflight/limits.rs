//! Limits of the target's brokers that what worked on the source would meet: session timeouts, group sizes, commit metadata.

use super::{Facts, Finding};
use crate::ids::Side;

/// Key, whether less than on the source is what hurts, and what then happens.
const HURTS: [(&str, bool, &str); 5] = [
    (
        "group.min.session.timeout.ms",
        false,
        "members with a shorter session.timeout.ms are refused for good (INVALID_SESSION_TIMEOUT)",
    ),
    (
        "group.max.session.timeout.ms",
        true,
        "members with a longer session.timeout.ms are refused for good (INVALID_SESSION_TIMEOUT)",
    ),
    ("group.max.size", true, "members of larger groups are refused"),
    (
        "transaction.max.timeout.ms",
        true,
        "transactional producers with a longer transaction.timeout.ms cannot be taken over: their transactions are refused",
    ),
    ("offset.metadata.max.bytes", true, "commits with longer metadata are refused"),
];

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (key, less_hurts, then) in HURTS {
        let [Some(source), Some(target)] = Side::BOTH.map(|side| facts.sides[side.index()].limits.get(key)) else {
            continue;
        };
        if (less_hurts && target < source) || (!less_hurts && target > source) {
            found.push(Finding::warning(
                "broker_limit",
                Side::Target,
                format!("{key} is {target} on the target and {source} on the source: {then}"),
                format!("set {key} on the target's brokers to {source}"),
            ));
        }
    }
}
