//! What survives a crash (DESIGN.md sections 4 and 11): every decision is an event, durable before it acts; state is a fold over events,
//! the same code at boot and live.
//!
//! * `decisions`: how requests of clients decide. * `event`: what is written. * `fold`: what it adds up to. * `format`: the bytes of the journal file.
//! * `journal`: the file itself, locked, torn tail cut, compacted by rename. * `identity`: whether this journal may speak for these
//!   clusters: the markers that keep a proxy from starting with a forgotten seal.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub mod decisions;
pub mod event;
pub mod fold;
pub mod format;
pub mod identity;
pub mod journal;

pub use decisions::Decision;
pub use event::{
    ApiVersions, Check, CheckResult, Event, GroupPosition, Identity, MovedId, PreparedPartition, PreparedTopic,
    SealDetail, SealedProducer, Skipped, TopicMirror, WaiverKind,
};
pub use fold::{
    ClosedGroup, Completion, FoldError, HeldTopic, MigrationState, PartitionHistory, State, TransactionalIdHome, Waiver,
};
pub use journal::{Journal, StoreError};

/// The journal and what it adds up to, shared. Appending blocks on the disk: call it from a blocking thread.
#[derive(Debug)]
pub struct Store {
    journal: Mutex<Journal>,
    state: ArcSwap<State>,
}

impl Store {
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        let (journal, state) = Journal::open(dir)?;
        Ok(Self::over(journal, state))
    }

    pub fn over(journal: Journal, state: State) -> Store {
        Store { journal: Mutex::new(journal), state: ArcSwap::from_pointee(state) }
    }

    /// As of the last event that is durable.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Persists, then publishes. Events that do not fold are refused before anything is written. After `StoreError::Unknown` nobody
    /// knows whether they are durable: the process must stop, and the next start decides by what the journal holds.
    pub fn append(&self, events: &[Event]) -> Result<Arc<State>, StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state.load());
        for event in events {
            state.apply(event)?;
        }
        journal.append(events)?;
        let state = Arc::new(state);
        self.state.store(state.clone());
        Ok(state)
    }

    pub fn is_worth_compacting(&self) -> bool {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).is_worth_compacting()
    }

    /// Replaces the journal's events by the state that they add up to.
    pub fn compact(&self) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.compact(&self.state.load())
    }
}
