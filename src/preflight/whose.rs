//! The two clusters are two, and neither of them is this proxy.

use std::collections::BTreeSet;

use super::{Facts, Finding};
use crate::config::Config;
use crate::ids::Side;

pub fn find(config: &Config, facts: &Facts, found: &mut Vec<Finding>) {
    for side in Side::BOTH {
        let Some(view) = facts.view(side) else { continue };
        let ours: BTreeSet<String> =
            config.listeners.iter().flat_map(|l| l.advertised(l.bind)).map(|a| a.to_string()).collect();
        for broker in view.broker_list().iter().map(|b| b.address()).filter(|b| ours.contains(b)) {
            found.push(Finding::error(
                "loop",
                format!("{side} broker {broker}"),
                format!("a broker of the {side} advertises {broker}, which is this proxy: it would connect to itself"),
                format!("correct `listeners`, or let {side}.bootstrap lead to the brokers themselves"),
            ));
        }
    }
    let [Some(source), Some(target)] = Side::BOTH.map(|side| facts.view(side)) else { return };
    let addresses = source.broker_list();
    let shared = target.broker_list().into_iter().find(|b| addresses.contains(b));
    let same_id = !source.cluster_id.is_empty() && source.cluster_id == target.cluster_id;
    if same_id || shared.is_some() {
        let both = match shared {
            Some(broker) => format!("{} is a broker of both", broker.address()),
            None => format!("both have id {}", source.cluster_id),
        };
        found.push(Finding::error(
            "same_cluster",
            "source, target",
            format!("both bootstraps lead to one cluster: {both}"),
            "correct source.bootstrap or target.bootstrap",
        ));
    }
}
