//! Step 1: produce of the partitions waits, their visible end is frozen, and every worker has acknowledged both.
#![expect(clippy::disallowed_methods, reason = "io: waits for the workers; the hold's clock")]

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::refuse;
use crate::control::protocol::Refusal;
use crate::ids::TopicPartition;
use crate::offsets::SpliceMap;
use crate::routing::Shared;
use crate::routing::shared::HoldDeadline;

/// Asks a worker to acknowledge the snapshots of now.
pub type Sync = mpsc::UnboundedSender<oneshot::Sender<()>>;

/// The code of a refusal because of the hold's deadline.
pub const TOO_LONG: &str = "hold_too_long";

/// A hold under way: until when, and who made it so short.
pub struct Hold<'a> {
    shared: &'a Shared,
    pub since: Instant,
    deadline: HoldDeadline,
    told: &'a mut mpsc::UnboundedReceiver<HoldDeadline>,
}

impl<'a> Hold<'a> {
    pub fn begin(
        shared: &'a Shared,
        partitions: &[TopicPartition],
        told: &'a mut mpsc::UnboundedReceiver<HoldDeadline>,
        budget: Duration,
    ) -> Self {
        // Left over from an earlier hold.
        while told.try_recv().is_ok() {}
        // Taken first: whoever meets the hold is younger than it, so that its own budget never ends behind a client's equal one.
        let since = Instant::now();
        set_held(shared, partitions, true);
        let deadline = HoldDeadline { at: since + budget, client: "the hold's own budget".to_owned() };
        Self { shared, since, deadline, told }
    }

    /// Every worker has seen the hold: nothing is forwarded or shown beyond it any more.
    pub async fn acknowledged(&mut self, workers: &[Sync]) -> Result<(), Refusal> {
        for worker in workers {
            let (done, acknowledged) = oneshot::channel();
            // A worker that has ended forwards nothing either.
            if worker.send(done).is_ok() {
                self.within(acknowledged).await?.ok();
            }
        }
        Ok(())
    }

    /// Awaits something, but no longer than the most impatient held request allows.
    pub async fn within<T>(&mut self, what: impl Future<Output = T>) -> Result<T, Refusal> {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                biased;
                Some(told) = self.told.recv() => {
                    if told.at < self.deadline.at {
                        self.deadline = told;
                    }
                }
                done = timeout_at(self.deadline.at, &mut what) => return done.map_err(|_| self.too_long()),
            }
        }
    }

    pub fn too_long(&self) -> Refusal {
        let held = self.since.elapsed().as_millis();
        let message = format!("produce was held for {held} ms, no longer was allowed by {}", self.deadline.client);
        refuse(TOO_LONG, message, "nothing was changed; look at both clusters' latency, then try again")
    }

    pub fn held_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Everything goes on where it was.
    pub fn undo(&self, partitions: &[TopicPartition]) {
        set_held(self.shared, partitions, false);
    }
}

fn set_held(shared: &Shared, partitions: &[TopicPartition], held: bool) {
    alter(shared, partitions, |_, state| state.held = held);
}

/// Release: the new maps, and the hold ends with the same snapshot. `consumers_held`: readers stay at the seam.
pub fn release(shared: &Shared, maps: &[(TopicPartition, SpliceMap)], consumers_held: bool) {
    let partitions: Vec<TopicPartition> = maps.iter().map(|(tp, _)| tp.clone()).collect();
    alter(shared, &partitions, |i, state| {
        if let Some((_, map)) = maps.get(i) {
            state.map = map.clone();
        }
        state.held = false;
        state.consumers_held = consumers_held;
    });
}

/// One new snapshot with these partitions changed; the index is theirs in the list.
fn alter(
    shared: &Shared,
    partitions: &[TopicPartition],
    mut change: impl FnMut(usize, &mut crate::routing::PartitionState),
) {
    let mut next = crate::routing::Partitions::clone(&shared.partitions.load());
    let mut by_topic: std::collections::HashMap<&str, Vec<(usize, usize)>> = std::collections::HashMap::new();
    for (i, partition) in partitions.iter().enumerate() {
        let index = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        by_topic.entry(&partition.topic).or_default().push((index, i));
    }
    for (topic, list) in by_topic {
        let places: std::collections::HashMap<usize, usize> = list.into_iter().collect();
        next.alter(topic, |index, state| {
            if let Some(i) = places.get(&index) {
                change(*i, state);
            }
        });
    }
    shared.publish_partitions(next);
}
