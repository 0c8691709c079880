//! Transactional producers cannot be moved yet: nothing is sealed that one of them writes to. Looked at before the hold, and
//! again in it: a worker that has seen the hold adds no partition to a transaction any more.

use std::collections::{BTreeSet, HashSet};

use super::refuse;
use crate::control::protocol::Refusal;
use crate::ids::{TopicName, TopicPartition};
use crate::routing::Shared;

/// Named in one refusal.
const NAMED: usize = 5;

/// `Err`: who has written to one of the partitions' topics through this proxy, or has one in its transaction.
pub fn nobody_writes(shared: &Shared, partitions: &[TopicPartition], now_ms: i64) -> Result<(), Refusal> {
    let topics: HashSet<&TopicName> = partitions.iter().map(|tp| &tp.topic).collect();
    let writers = shared.transactions.writers(|topic| topics.contains(topic), now_ms);
    if writers.is_empty() {
        return Ok(());
    }
    let one = |(id, topics): (&String, &BTreeSet<TopicName>)| {
        let id = if id.is_empty() { "others" } else { id };
        format!("{id} (to {})", topics.iter().map(|t| &**t).collect::<Vec<_>>().join(", "))
    };
    let named: Vec<String> = writers.iter().take(NAMED).map(one).collect();
    let more = match writers.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    let message = format!("transactional producers write to it: {}{more}", named.join(", "));
    let hint = "moving transactional producers is not built yet: stop them and try again 15 minutes after they have written \
                last, or leave these topics out of the migration";
    Err(refuse("transactional_producers", message, hint))
}
