//! A group of the same name that somebody else uses on the target: the positions that the proxy keeps there would be
//! written over its own.

use super::{Facts, Finding};

/// Without members.
const QUIET: [&str; 3] = ["", "Empty", "Dead"];

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (what, why) in &facts.groups_unknown {
        found.push(Finding::warning(
            "group_unknown",
            what,
            format!("whether it is used on both clusters cannot be told: {why}"),
            "look at the group's coordinator, or see to it that nobody uses the group on the target",
        ));
    }
    for seen in &facts.groups {
        let place = format!("group {}", seen.group);
        let state = &seen.state;
        if !QUIET.contains(&state.as_str()) {
            found.push(Finding::error(
                "group_in_use",
                place,
                format!(
                    "has members on the target too (state {state}): \
                     after the switch its positions would be written over there"
                ),
                "stop its members on the target, or give one of the two another group.id",
            ));
        } else if let Some(topic) = &seen.committed {
            found.push(Finding::warning(
                "group_known",
                place,
                format!("has committed positions of topic {topic} on the target already: they are written over after the switch"),
                "delete the group on the target if nobody needs these positions",
            ));
        }
    }
}
