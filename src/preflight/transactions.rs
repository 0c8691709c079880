//! Transactions on the source that hang: open on a partition's leader, and known to no coordinator, so that nothing ends them.
//! Readers of committed records stand below such a one for ever, and no seam can be placed behind it. (One that its
//! coordinator knows ends some day: the switch itself looks how soon.)

use super::{Facts, Finding};

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (name, topic) in &facts.topics {
        let Some(first) = topic.open_transactions.first() else { continue };
        let (partition, start, producer) = (first.partition, first.start_offset, first.producer_id);
        let more = match topic.open_transactions.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        let abort =
            format!("kafka-transactions.sh abort --topic {name} --partition {partition} --start-offset {start}");
        let (code, what, action) = match first.said {
            true => ("hanging_transaction", "a hanging transaction, which no coordinator knows", abort),
            false => (
                "open_transaction",
                "an open transaction",
                format!(
                    "stop its producer, since brokers older than 3.0 do not say when it ends, or leave the topic out of the \
                     migration; one that hangs: {abort}"
                ),
            ),
        };
        let message = format!(
            "partition {partition} on the source has {what}: producer id {producer}, from offset {start} on{more}"
        );
        let where_ = format!("topic {name}");
        // It may have ended by the time of the switch.
        found.push(match facts.switch {
            true => Finding::error(code, where_, message, action),
            false => Finding::warning(code, where_, message, action),
        });
    }
}
