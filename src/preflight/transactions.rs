//! Open transactions on the source. The proxy turns transactional producers away, so whoever has one writes beside it:
//! readers of committed records would stand below it, and what it writes after the switch is read by nobody.

use super::{Facts, Finding};

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (name, topic) in &facts.topics {
        let Some(first) = topic.open_transactions.first() else { continue };
        let (partition, start) = (first.partition, first.start_offset);
        let more = match topic.open_transactions.len() {
            1 => String::new(),
            n => format!(", and {} more are open", n - 1),
        };
        found.push(Finding::error(
            "open_transaction",
            format!("topic {name}"),
            format!(
                "partition {partition} on the source has an open transaction of producer id {} from offset {start} on: its producer does not \
                 come through the proxy{more}",
                first.producer_id
            ),
            format!(
                "stop that producer, or wait for its transaction to end; one that hangs: kafka-transactions.sh abort --topic {name} \
                 --partition {partition} --start-offset {start}"
            ),
        ));
    }
}
