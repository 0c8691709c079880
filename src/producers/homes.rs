//! The side that coordinates a transactional id, and what its producer is called there (DESIGN.md section 7). Every id is at
//! home on the source until its producer begins a transaction on the other side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::ids::{Side, VirtualPid};
use crate::store::{State, TransactionalIdHome};

/// Where ids are at home that have not moved.
pub const DEFAULT: Side = Side::Source;

/// The ids that have moved, as the journal has them.
#[derive(Default, Debug)]
pub struct TransactionalHomes {
    moved: RwLock<HashMap<String, TransactionalIdHome>>,
    /// Ids that somebody moves, alone, or of which somebody asks something where they are at home.
    claimed: Mutex<HashMap<String, Claimed>>,
}

impl TransactionalHomes {
    pub fn of(&self, id: &str) -> Side {
        self.lock().get(id).map_or(DEFAULT, |home| home.side)
    }

    pub fn has_moved(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Whether any id is at home there.
    pub fn any_on(&self, side: Side) -> bool {
        side == DEFAULT || self.lock().values().any(|home| home.side == side)
    }

    /// What an id's home calls a producer: its native id and epoch. -1 stays -1. `None`: the home does not know it, since it is
    /// of before the id has moved there.
    pub fn native(&self, id: &str, (pid, epoch): (i64, i16)) -> Option<(i64, i16)> {
        if pid < 0 {
            return Some((pid, epoch));
        }
        let moved = self.lock();
        let home = moved.get(id);
        match home.filter(|home| home.client == (VirtualPid(pid), epoch)) {
            Some(home) => Some(home.native),
            None => VirtualPid(pid).native(home.map_or(DEFAULT, |home| home.side)).map(|native| (native, epoch)),
        }
    }

    /// The side that it left, where its producers of before are not known to be fenced yet.
    pub fn to_fence(&self, id: &str) -> Option<Side> {
        self.lock().get(id).filter(|home| !home.fenced).map(|home| home.side.other())
    }

    pub fn set(&self, id: &str, home: TransactionalIdHome) {
        self.moved.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), home);
    }

    pub fn fenced(&self, id: &str) {
        if let Some(home) = self.moved.write().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            home.fenced = true;
        }
    }

    /// What the journal says.
    pub fn restore(&self, journal: &State) {
        for (id, home) in &journal.transactional_ids {
            self.set(id, home.clone());
        }
    }

    /// To move it. `None`: somebody else does something with it.
    pub fn claim(self: &Arc<Self>, id: &str) -> Option<Claim> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.contains_key(id) {
            return None;
        }
        claimed.insert(id.to_owned(), Claimed::Alone);
        Some(Claim { homes: self.clone(), id: id.to_owned() })
    }

    /// Whether somebody moves it.
    pub fn is_taken(&self, id: &str) -> bool {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.get(id) == Some(&Claimed::Alone)
    }

    /// To ask something of it at home, beside others who do. `None`: it is being moved.
    pub fn share(self: &Arc<Self>, id: &str) -> Option<Claim> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        match claimed.entry(id.to_owned()).or_insert(Claimed::Shared(0)) {
            Claimed::Alone => None,
            Claimed::Shared(n) => {
                *n += 1;
                Some(Claim { homes: self.clone(), id: id.to_owned() })
            }
        }
    }

    fn lock(&self) -> RwLockReadGuard<'_, HashMap<String, TransactionalIdHome>> {
        self.moved.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claimed {
    Alone,
    Shared(usize),
}

/// Nobody else moves this id while it lives.
#[derive(Debug)]
pub struct Claim {
    homes: Arc<TransactionalHomes>,
    id: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.homes.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        match claimed.get_mut(&self.id) {
            Some(Claimed::Shared(n @ 2..)) => *n -= 1,
            _ => drop(claimed.remove(&self.id)),
        }
    }
}
