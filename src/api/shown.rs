//! What a controller has done shows at the brokers a moment later, and clients look at once: the answer waits until our own
//! snapshot has it, for a short time.

use std::time::Duration;

use kafka_protocol::messages::ResponseKind;
use tokio::time::Instant;

use super::{Context, Step};
use crate::ids::Side;

/// Brokers that lag for longer lag for clients, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// A topic of the source, and what became of it.
pub enum Change {
    /// It has so many partitions, or more.
    Has(String, usize),
    Gone(String),
}

/// An answer that waits for its changes.
pub struct UntilShown {
    answer: ResponseKind,
    changes: Vec<Change>,
    deadline: Option<Instant>,
}

impl UntilShown {
    pub fn new(answer: ResponseKind, changes: Vec<Change>) -> Self {
        Self { answer, changes, deadline: None }
    }

    pub fn step(&mut self, cx: &Context<'_>) -> Step {
        let deadline = *self.deadline.get_or_insert(cx.now + PATIENCE);
        let shown = self.changes.iter().all(|change| change.shows(cx));
        if shown || cx.now >= deadline || !cx.topology.reachable(Side::Source) {
            return Step::Answer(self.answer.clone());
        }
        cx.shared.refresh(Side::Source);
        Step::AwaitTopology { side: Side::Source, newer_than: cx.topology.generation(Side::Source), deadline }
    }
}

impl Change {
    fn shows(&self, cx: &Context<'_>) -> bool {
        let partitions = |topic: &str| cx.topology.topic(Side::Source, topic).map_or(0, |t| t.partitions.len());
        match self {
            Change::Has(topic, count) => partitions(topic) >= *count,
            Change::Gone(topic) => cx.topology.topic(Side::Source, topic).is_none(),
        }
    }
}
