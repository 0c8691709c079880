//! What the proxy has seen of each transactional producer (DESIGN.md section 7). What is here is lost with the process: guards and
//! shadows depend on it (that of a group's move knows how long the process runs, and asks its cluster), and what saves a
//! question to a coordinator that is asked otherwise.
//!
//! Bounded: beyond [`MANY`] ids the names of new writers are not kept, only when they wrote last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::{TopicName, VirtualPid};
use crate::store::State;

/// Ids remembered.
const MANY: usize = 10_000;
/// Groups remembered of one transaction.
const MANY_GROUPS: usize = 100;
/// A producer that has not written for so long is taken for stopped: `transaction.max.timeout.ms` of the brokers, by which
/// its last transaction has ended too.
pub const LAPSE_MS: i64 = 15 * 60 * 1000;

#[derive(Default, Debug)]
pub struct Transactions(Mutex<Seen>);

#[derive(Default, Debug)]
struct Seen {
    ids: HashMap<String, Id>,
    /// When an id without a name here has written to a topic last.
    nameless: HashMap<TopicName, i64>,
    /// Ids and groups whose positions their transactions have carried, and when they did last.
    carried: HashMap<(String, String), i64>,
}

#[derive(Default, Debug)]
struct Id {
    pid: Option<VirtualPid>,
    /// Topics of migrations, and when it has written to each last.
    topics: HashMap<TopicName, i64>,
    /// Groups whose positions its transaction carries.
    groups: BTreeSet<String>,
    /// Since its last transaction it was refused a partition, and given none.
    refused: bool,
    /// Its transaction of this number and epoch goes on, or begins, where its id is at home, though others cross. (With the second
    /// protocol no two transactions of it have the same.)
    under_way: Option<(i64, i16)>,
    last_ms: i64,
}

impl Id {
    fn is_lapsed(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.last_ms) > LAPSE_MS
    }
}

impl Transactions {
    /// It writes to a topic of a migration, or is about to.
    pub fn writes(&self, id: &str, pid: VirtualPid, topic: &TopicName, now_ms: i64) {
        let mut seen = self.lock();
        let Some(known) = seen.id(id, now_ms) else {
            seen.nameless.insert(topic.clone(), now_ms);
            return;
        };
        known.pid = Some(pid);
        match known.topics.get_mut(topic) {
            Some(at) => *at = now_ms,
            None => drop(known.topics.insert(topic.clone(), now_ms)),
        }
    }

    /// The topics of migrations that it has written to.
    pub fn topics_of(&self, id: &str) -> BTreeSet<TopicName> {
        self.lock().ids.get(id).into_iter().flat_map(|known| known.topics.keys().cloned()).collect()
    }

    /// Who writes to one of these topics: ids with their topics, in their order. A writer without a name is `""`.
    pub fn writers(&self, of: impl Fn(&TopicName) -> bool, now_ms: i64) -> BTreeMap<String, BTreeSet<TopicName>> {
        let seen = self.lock();
        let fresh = |(topic, at): &(&TopicName, &i64)| now_ms.saturating_sub(**at) <= LAPSE_MS && of(topic);
        let topics = |all: &HashMap<TopicName, i64>| -> BTreeSet<TopicName> {
            all.iter().filter(fresh).map(|(topic, _)| topic.clone()).collect()
        };
        let named = seen.ids.iter().map(|(id, known)| (id.clone(), topics(&known.topics)));
        let all = named.chain([(String::new(), topics(&seen.nameless))]);
        all.filter(|(_, topics)| !topics.is_empty()).collect()
    }

    /// It was refused a partition of its transaction.
    pub fn refused(&self, id: &str, now_ms: i64) {
        if let Some(known) = self.lock().id(id, now_ms) {
            known.refused = true;
        }
    }

    /// Its coordinator has taken something into its transaction: that one has begun.
    pub fn began(&self, id: &str) {
        if let Some(known) = self.lock().ids.get_mut(id) {
            known.refused = false;
        }
    }

    /// Its transaction, of the second protocol, goes on where its id is at home.
    pub fn went_on(&self, id: &str, client: (i64, i16), now_ms: i64) {
        if let Some(known) = self.lock().id(id, now_ms) {
            known.under_way = Some(client);
        }
    }

    pub fn goes_on(&self, id: &str, client: (i64, i16)) -> bool {
        self.lock().ids.get(id).is_some_and(|known| known.under_way == Some(client))
    }

    /// Its transaction is going to carry positions of a group. Whether that is new.
    pub fn carries(&self, id: &str, group: &str, now_ms: i64) -> bool {
        let mut seen = self.lock();
        if seen.carried.len() >= MANY {
            seen.carried.retain(|_, at| now_ms.saturating_sub(*at) <= LAPSE_MS);
        }
        let has_room = seen.carried.len() < MANY;
        let is_new = has_room && seen.carried.insert((id.to_owned(), group.to_owned()), now_ms).is_none();
        if let Some(known) = seen.id(id, now_ms)
            && known.groups.len() < MANY_GROUPS
        {
            known.groups.insert(group.to_owned());
        }
        is_new
    }

    /// What the journal says.
    pub fn restore(&self, journal: &State, now_ms: i64) {
        let mut seen = self.lock();
        for (id, carrier) in &journal.carriers {
            seen.carried.extend(carrier.groups.iter().map(|group| ((id.clone(), group.clone()), now_ms)));
            if let Some(known) = seen.id(id, now_ms) {
                known.topics.extend(carrier.topics.iter().map(|topic| (topic.clone(), now_ms)));
            }
        }
    }

    /// Ids with the groups whose positions their transactions have carried lately.
    pub fn all_carried(&self, now_ms: i64) -> Vec<(String, String)> {
        self.carried(now_ms, |_, _| true)
    }

    /// The groups whose positions transactions of this id have carried lately.
    pub fn carried_by(&self, id: &str, now_ms: i64) -> BTreeSet<String> {
        self.carried(now_ms, |of, _| of == id).into_iter().map(|(_, group)| group).collect()
    }

    /// The ids whose transactions have carried positions of this group lately. `None`: nobody knows, there are too many.
    pub fn carriers(&self, group: &str, now_ms: i64) -> Option<BTreeSet<String>> {
        if self.lock().carried.len() >= MANY {
            return None;
        }
        Some(self.carried(now_ms, |_, of| of == group).into_iter().map(|(id, _)| id).collect())
    }

    fn carried(&self, now_ms: i64, of: impl Fn(&str, &str) -> bool) -> Vec<(String, String)> {
        let seen = self.lock();
        let lately = seen.carried.iter().filter(|(_, at)| now_ms.saturating_sub(**at) <= LAPSE_MS);
        lately.filter(|((id, group), _)| of(id, group)).map(|(pair, _)| pair.clone()).collect()
    }

    /// Whether all that its transaction wanted was refused: then none has begun.
    pub fn has_none(&self, id: &str) -> bool {
        self.lock().ids.get(id).is_some_and(|known| known.refused)
    }

    /// Its transaction is over: the groups whose positions it carried.
    pub fn ended(&self, id: &str) -> BTreeSet<String> {
        let mut seen = self.lock();
        let Some(known) = seen.ids.get_mut(id) else { return BTreeSet::new() };
        known.refused = false;
        std::mem::take(&mut known.groups)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// `None`: there is no room for another.
    fn id(&mut self, id: &str, now_ms: i64) -> Option<&mut Id> {
        if !self.ids.contains_key(id) {
            if self.ids.len() >= MANY {
                self.ids.retain(|_, known| !known.is_lapsed(now_ms));
            }
            if self.ids.len() >= MANY {
                return None;
            }
            self.ids.insert(id.to_owned(), Id::default());
        }
        let known = self.ids.get_mut(id)?;
        known.last_ms = now_ms;
        Some(known)
    }
}
