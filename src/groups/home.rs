//! The side that coordinates a group (DESIGN.md section 6). Every group is at home on the source until it is moved.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::moves::Protocol;
use crate::ids::Side;
use crate::store::State;

/// Where groups are at home that do not look for it.
pub const DEFAULT: Side = Side::Source;

/// No member's session is longer: the brokers' default of `group.max.session.timeout.ms`.
pub const LONGEST_SESSION_MS: i64 = 30 * 60 * 1000;

/// The groups that were moved.
#[derive(Default)]
pub struct Homes(RwLock<HashMap<String, Home>>);

struct Home {
    side: Side,
    /// The members' ids at the home that it left: what comes with one of them is of before the move (PROTOCOL.md rule 30).
    /// Members of KIP-848 keep theirs: empty.
    former: HashSet<String>,
    is_consumer: bool,
    moved_at_ms: i64,
}

impl Homes {
    pub fn of(&self, group: &str) -> Side {
        self.lock().get(group).map_or(DEFAULT, |home| home.side)
    }

    pub fn has_moved(&self, group: &str) -> bool {
        self.lock().contains_key(group)
    }

    /// Whether any group is at home there.
    pub fn any_on(&self, side: Side) -> bool {
        side == DEFAULT || self.lock().values().any(|home| home.side == side)
    }

    /// A member's id of before the group's last move. No coordinator knows it any more.
    pub fn was_member(&self, group: &str, member_id: &str) -> bool {
        !member_id.is_empty() && self.lock().get(group).is_some_and(|home| home.former.contains(member_id))
    }

    /// A group of KIP-848 that was moved not long ago: its home may be asked by members that have not joined there yet.
    pub fn has_moved_as_consumer(&self, group: &str, now_ms: i64) -> bool {
        let is_recent = |home: &Home| now_ms.saturating_sub(home.moved_at_ms) <= LONGEST_SESSION_MS;
        self.lock().get(group).is_some_and(|home| home.is_consumer && is_recent(home))
    }

    pub fn set(
        &self,
        group: &str,
        side: Side,
        protocol: Protocol,
        former: impl IntoIterator<Item = String>,
        moved_at_ms: i64,
    ) {
        let (former, is_consumer) = match protocol {
            Protocol::Classic => (former.into_iter().collect(), false),
            Protocol::Consumer => (HashSet::new(), true),
        };
        let home = Home { side, former, is_consumer, moved_at_ms };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned(), home);
    }

    /// What the journal says.
    pub fn restore(&self, journal: &State) {
        for (group, home) in &journal.groups {
            let protocol = if home.consumer { Protocol::Consumer } else { Protocol::Classic };
            self.set(group, home.side, protocol, home.members.iter().cloned(), home.moved_at_ms);
        }
    }

    fn lock(&self) -> RwLockReadGuard<'_, HashMap<String, Home>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
