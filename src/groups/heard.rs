//! In whose name a commit can be made on a group that has members: a classic coordinator takes none without a member's id
//! and its generation, which it tells nobody but the member. A heartbeat has both.
#![allow(clippy::disallowed_methods, reason = "io: waits for a member's heartbeat")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Groups of which that is wanted, and what was heard.
#[derive(Default)]
pub struct Heard {
    groups: Mutex<HashMap<String, Option<Seat>>>,
    /// So that nobody locks while nothing is wanted.
    wanted: AtomicUsize,
    told: Notify,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    pub member_id: String,
    /// Or the member epoch of KIP-848.
    pub generation: i32,
}

impl Heard {
    /// A heartbeat was good at the group's home.
    pub fn beat(&self, group: &str, member_id: &str, generation: i32) {
        if self.wanted.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(heard) = self.lock().get_mut(group) {
            *heard = Some(Seat { member_id: member_id.to_owned(), generation });
            self.told.notify_waiters();
        }
    }

    /// Until a member of it is heard. Dropped before: it is not wanted any more.
    pub async fn of(&self, group: &str) -> Seat {
        let _wish = Wish::new(self, group);
        loop {
            let told = self.told.notified();
            if let Some(seat) = self.lock().get(group).cloned().flatten() {
                return seat;
            }
            told.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, Option<Seat>>)) {
        let mut groups = self.lock();
        change(&mut groups);
        self.wanted.store(groups.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Seat>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Wish<'a> {
    heard: &'a Heard,
    group: &'a str,
}

impl<'a> Wish<'a> {
    fn new(heard: &'a Heard, group: &'a str) -> Self {
        heard.change(|groups| drop(groups.insert(group.to_owned(), None)));
        Self { heard, group }
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.heard.change(|groups| drop(groups.remove(self.group)));
    }
}
