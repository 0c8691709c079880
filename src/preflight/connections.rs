//! Limits that a broker counts by the client's address: behind the proxy every client has the proxy's.

use super::{Facts, Finding};
use crate::ids::Side;

/// `Integer.MAX_VALUE`: no limit.
const NO_LIMIT: &str = "2147483647";

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for side in Side::BOTH {
        let set =
            |key: &&str| facts.sides[side.index()].connections.get(*key).filter(|v| !v.is_empty() && *v != NO_LIMIT);
        let keys = super::facts::CONNECTIONS.iter().filter_map(|key| Some((key, set(key)?)));
        for (key, value) in keys {
            found.push(Finding::warning(
                "connections_limited",
                side,
                format!(
                    "{key} is {value} on the {side}: it counts all clients of the proxy as one, \
                     and a client has up to three connections for each broker"
                ),
                format!(
                    "lift it for the address of this machine ({side}: max.connections.per.ip.overrides, or no limit)"
                ),
            ));
        }
    }
}
