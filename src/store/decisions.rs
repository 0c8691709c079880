//! What a request of a client decides, on its way to the journal: the workers hand it over, and go on when it is durable.
//! Those that come together are appended together.
#![allow(clippy::disallowed_methods, reason = "io: writes the journal")]

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Event, Store, StoreError};
use crate::producers::homes::Claim;

/// Events of one append.
const AT_ONCE: usize = 256;

#[derive(Debug)]
pub struct Decision {
    pub event: Event,
    /// Told when it is durable; dropped if it will not be.
    pub done: Option<oneshot::Sender<()>>,
    /// Given back once it has been acted on, whether who decided it still waits or not.
    pub claim: Option<Arc<Claim>>,
}

/// For ever. `act`: what follows from an event that is durable, whether who decided it still waits or not. `fatal`: nobody knows
/// whether the last events are.
pub async fn run(
    store: Arc<Store>,
    mut decided: mpsc::UnboundedReceiver<Decision>,
    act: impl Fn(&Event),
    fatal: CancellationToken,
) {
    loop {
        let mut decisions = Vec::new();
        if decided.recv_many(&mut decisions, AT_ONCE).await == 0 {
            return;
        }
        let (events, done): (Vec<Event>, Vec<_>) = decisions.into_iter().map(|d| (d.event, (d.done, d.claim))).unzip();
        let journal = store.clone();
        let append = move || journal.append(&events).map(|_| events);
        match tokio::task::spawn_blocking(append).await {
            Ok(Ok(events)) => {
                events.iter().for_each(&act);
                for (done, claim) in done {
                    drop(claim);
                    // Whoever waited may be gone.
                    done.map(|done| done.send(()).unwrap_or_default()).unwrap_or_default();
                }
            }
            Ok(Err(error @ (StoreError::Unknown(_) | StoreError::Poisoned))) => {
                tracing::error!(%error, "a decision may or may not be durable: the process ends, its next start decides");
                fatal.cancel();
                return;
            }
            Ok(Err(error)) => tracing::error!(%error, "a client's request was not decided"),
            Err(error) => tracing::error!(%error, "the journal's writer was stopped"),
        }
    }
}
