//! The questions of a seal, tried on a real partition.

use super::{Facts, Finding};
use crate::ids::Side;

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for side in Side::BOTH {
        for (what, why) in &facts.sides[side.index()].refused {
            found.push(Finding::error(
                "question_refused",
                side,
                format!("the {side} does not answer {what}: {why}"),
                "give the proxy's principal Describe, DescribeConfigs, Read, Write and Create on the topics; look at the brokers",
            ));
        }
    }
}
