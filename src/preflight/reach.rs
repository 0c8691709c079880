//! Both clusters answer, and each of their brokers where it says that it is.

use super::{Facts, Finding};
use crate::ids::Side;

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for side in Side::BOTH {
        let known = &facts.sides[side.index()];
        match &known.view {
            Some(Err(why)) => found.push(Finding::error(
                "unreachable",
                side,
                format!("the {side} does not answer: {why}"),
                format!("correct {side}.bootstrap, or let this machine through to it"),
            )),
            Some(Ok(view)) if view.brokers.is_empty() => found.push(Finding::error(
                "no_brokers",
                side,
                format!("the {side} names no broker"),
                "wait until its brokers have started",
            )),
            _ => {}
        }
        for (broker, versions) in &known.brokers {
            if let Err(why) = versions {
                // What a seal asks it asks leaders.
                let finding =
                    if facts.switch && !facts.leads(side, broker) { Finding::warning } else { Finding::error };
                found.push(finding(
                    "broker_unreachable",
                    &format!("{side} broker {}", broker.address()),
                    format!("a broker of the {side} does not answer at the address that it advertises: {why}"),
                    "let this machine through to that address, or start the broker".to_owned(),
                ));
            }
        }
    }
}
