//! Open transactions on the source. Their records and markers belong to one log: nothing is sealed over one, and transactional
//! producers cannot be moved yet. Readers of committed records stand below it until it ends.

use super::{Facts, Finding};

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    for (name, topic) in &facts.topics {
        let where_ = format!("topic {name}");
        let stop = "moving transactional producers is not built yet: stop its producer, or leave the topic out of the migration";
        let (message, action) = match (topic.open_transactions.first(), topic.begun_by.first()) {
            (Some(first), _) => {
                let (partition, start) = (first.partition, first.start_offset);
                let more = match topic.open_transactions.len() {
                    1 => String::new(),
                    n => format!(", and {} more are open", n - 1),
                };
                let whose = match &first.transactional_id {
                    Some(id) => format!("transactional id {id} (producer id {})", first.producer_id),
                    None => format!("producer id {}", first.producer_id),
                };
                let hangs = format!(
                    "{stop}; one that hangs: kafka-transactions.sh abort --topic {name} --partition {partition} \
                     --start-offset {start}"
                );
                let message = format!(
                    "partition {partition} on the source has an open transaction of {whose} from offset {start} on{more}"
                );
                (message, hangs)
            }
            (None, Some(id)) => {
                (format!("transactional id {id} has an open transaction on it, without records yet"), stop.to_owned())
            }
            (None, None) => continue,
        };
        // It may have ended by the time of the switch, or be the first of many.
        found.push(match facts.switch {
            true => Finding::error("open_transaction", where_, message, action),
            false => Finding::warning("open_transaction", where_, message, action),
        });
    }
}
