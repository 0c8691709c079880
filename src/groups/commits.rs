//! The commit barrier of a group (DESIGN.md section 6): what is being written to its positions is counted, and while they
//! are taken to another home nothing new begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Default)]
pub struct Commits {
    groups: Mutex<HashMap<String, Writing>>,
    /// Told when a closed group has nothing under way any more.
    pub quiet: Notify,
}

#[derive(Default)]
struct Writing {
    under_way: u32,
    closed: bool,
}

/// One write to a group's positions, until its outcome.
pub struct UnderWay {
    commits: Arc<Commits>,
    group: String,
}

impl Commits {
    /// `None`: the group's positions are on their way to another home.
    pub fn enter(self: &Arc<Self>, group: &str) -> Option<UnderWay> {
        let mut groups = self.lock();
        match groups.get_mut(group) {
            Some(writing) if writing.closed => return None,
            Some(writing) => writing.under_way += 1,
            None => drop(groups.insert(group.to_owned(), Writing { under_way: 1, closed: false })),
        }
        Some(UnderWay { commits: self.clone(), group: group.to_owned() })
    }

    pub fn close(&self, group: &str) {
        self.lock().entry(group.to_owned()).or_default().closed = true;
    }

    pub fn open(&self, group: &str) {
        self.change(group, |writing| writing.closed = false);
    }

    pub fn is_quiet(&self, group: &str) -> bool {
        self.lock().get(group).is_none_or(|writing| writing.under_way == 0)
    }

    /// What has neither is forgotten.
    fn change(&self, group: &str, change: impl FnOnce(&mut Writing)) {
        let mut groups = self.lock();
        let Some(writing) = groups.get_mut(group) else { return };
        change(writing);
        match (writing.under_way, writing.closed) {
            (0, false) => drop(groups.remove(group)),
            (0, true) => self.quiet.notify_waiters(),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Writing>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.commits.change(&self.group, |writing| writing.under_way -= 1);
    }
}
