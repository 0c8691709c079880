//! Groups of KIP-848 that were called to another home and have not moved: their members may have been told that they have
//! no partitions. A coordinator does not tell a member again what it has, unless the member sends all of its own state,
//! which it does after an error. So each is answered with one, once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::State;

/// Members of one group that are remembered: who has more sends ids of nobody.
const MANY: usize = 10_000;

/// By group the members that have told their state since.
#[derive(Default)]
pub struct Called {
    groups: Mutex<HashMap<String, HashSet<String>>>,
    /// So that nobody locks while there are none.
    any: AtomicUsize,
}

impl Called {
    /// What the journal says.
    pub fn restore(&self, journal: &State) {
        journal.called.iter().for_each(|group| self.add(group));
    }

    pub fn add(&self, group: &str) {
        self.change(|groups| drop(groups.insert(group.to_owned(), HashSet::new())));
    }

    pub fn remove(&self, group: &str) {
        self.change(|groups| drop(groups.remove(group)));
    }

    /// Whether a member must be made to tell its state. `tells`: this request does.
    pub fn must_ask(&self, group: &str, member_id: &str, tells: bool) -> bool {
        if self.any.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut groups = self.lock();
        let Some(told) = groups.get_mut(group) else { return false };
        // One that does not tell it after an error is not asked for ever.
        told.len() < MANY && told.insert(member_id.to_owned()) && !tells
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, HashSet<String>>)) {
        let mut groups = self.lock();
        change(&mut groups);
        self.any.store(groups.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashSet<String>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
