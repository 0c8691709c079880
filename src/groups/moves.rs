//! Groups on their way to another home (DESIGN.md section 6, PROTOCOL.md section 6): who has come to join again, who is still
//! missed. Pure but for its lock; `migration::moving` is the act, `api::membership` what members see of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Who belongs to a group at its old home: member id, and `group.instance.id` of a static member.
pub type Members = BTreeMap<String, Option<String>>;

/// How members learn of a move, and how they answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// A heartbeat tells them to join again; their JoinGroups wait.
    Classic,
    /// KIP-848: a heartbeat tells them that they have no partitions; the next one says that they have given them up.
    Consumer,
}

pub struct Moves {
    groups: Mutex<HashMap<String, Moving>>,
    /// So that nobody locks while nothing moves.
    under_way: AtomicUsize,
    tickets: AtomicU64,
    /// Bumped whenever anything here changes: for the act, of which there are few.
    changed: watch::Sender<u64>,
    /// Bumped when a move ends, or one more of its members has come to the new home: for those that wait, who are many.
    ended: watch::Sender<u64>,
}

struct Moving {
    protocol: Protocol,
    arrival: Arc<Arrival>,
    members: Members,
    /// Of KIP-848: those that had no partitions when it began, those that were told that they have none, those that were
    /// made to say what they have, and those that have given it up.
    idle: HashSet<String>,
    told: HashSet<String>,
    asked: HashSet<String>,
    without: HashSet<String>,
    /// The generation that the old home knows, once a heartbeat has proved it.
    generation: Option<i32>,
    /// JoinGroups that wait here.
    held: HashMap<u64, (Joining, Arc<AtomicBool>)>,
    /// The longest that a member of it allows for a rebalance.
    patience: Option<Duration>,
    disturbed: Option<String>,
}

/// A JoinGroup that waits for the group's new home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Empty: a new member.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rebalance_timeout: Duration,
}

impl Joining {
    fn is(&self, id: &str, instance: Option<&str>) -> bool {
        self.member_id == id || instance.is_some() && self.instance_id.as_deref() == instance
    }
}

/// What a member of KIP-848 is to be answered while its group is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beat {
    /// That it has no partitions.
    Told,
    /// What makes it say all that it has.
    Asked,
    /// Nothing new: it has given up what it had, having committed what it read.
    GaveUp,
}

/// How far a move has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Member ids that have not come yet.
    pub missing: Vec<String>,
    /// `None`: no member has told yet how long it allows.
    pub patience: Option<Duration>,
    /// Why it cannot go on.
    pub disturbed: Option<String>,
}

/// Who waited for one move, at the new home: by ticket the generation that it has been given, if it has one. A coordinator
/// that knows nobody of a group does not wait for who is still on the way, and gives away what a member of the cooperative
/// protocol still reads; so nobody is told of a generation that not all of them are in.
#[derive(Default)]
struct Arrival {
    /// The group has moved.
    together: AtomicBool,
    generations: Mutex<HashMap<u64, Option<i32>>>,
}

impl Arrival {
    fn set(&self, number: u64, generation: Option<i32>) {
        self.lock().insert(number, generation);
    }

    fn is_complete(&self) -> bool {
        let generations = self.lock();
        let first = generations.values().next().copied().flatten();
        first.is_some() && generations.values().all(|generation| *generation == first)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<i32>>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held, until it is dropped.
pub struct Ticket {
    moves: Arc<Moves>,
    group: String,
    number: u64,
    gone: Arc<AtomicBool>,
    arrival: Arc<Arrival>,
}

impl Default for Moves {
    fn default() -> Self {
        let (under_way, tickets) = (AtomicUsize::new(0), AtomicU64::new(0));
        let (changed, ended) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { groups: Mutex::default(), under_way, tickets, changed, ended }
    }
}

impl Moves {
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn ends(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Grows with each end of a move. Who waits for the next one reads it before it looks whether there is one.
    pub fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    /// From here on JoinGroups of the group wait. False: it is on its way already.
    pub fn begin(&self, group: &str, protocol: Protocol, members: Members) -> bool {
        let mut groups = self.lock();
        if groups.contains_key(group) {
            return false;
        }
        let moving = Moving {
            protocol,
            arrival: Arc::default(),
            members,
            idle: HashSet::new(),
            told: HashSet::new(),
            asked: HashSet::new(),
            without: HashSet::new(),
            generation: None,
            held: HashMap::new(),
            patience: None,
            disturbed: None,
        };
        groups.insert(group.to_owned(), moving);
        self.under_way.store(groups.len(), Ordering::Release);
        self.bump();
        true
    }

    /// Moved or not: who waits goes to the home that the group has now.
    pub fn end(&self, group: &str, moved: bool) {
        let mut groups = self.lock();
        if let Some(moving) = groups.remove(group) {
            moving.arrival.together.store(moved, Ordering::Release);
        }
        self.under_way.store(groups.len(), Ordering::Release);
        drop(groups);
        self.bump();
        self.wake();
    }

    /// Those that wait look again.
    pub fn wake(&self) {
        self.ended.send_modify(|n| *n += 1);
    }

    pub fn is_moving(&self, group: &str) -> bool {
        self.under_way.load(Ordering::Acquire) > 0 && self.lock().contains_key(group)
    }

    /// `None`: the group is not on its way.
    pub fn hold(self: &Arc<Self>, group: &str, joining: Joining) -> Option<Ticket> {
        let number = self.tickets.fetch_add(1, Ordering::Relaxed);
        let gone = Arc::new(AtomicBool::new(false));
        let arrival = self.of(group, |moving| {
            moving.patience = moving.patience.max(Some(joining.rebalance_timeout));
            // A client that has reconnected: its connection of before may not be known to be gone.
            moving.drop_held(|held| !joining.member_id.is_empty() && held.member_id == joining.member_id);
            moving.held.insert(number, (joining, gone.clone()));
            moving.arrival.set(number, None);
            moving.arrival.clone()
        })?;
        self.bump();
        Some(Ticket { moves: self.clone(), group: group.to_owned(), number, gone, arrival })
    }

    /// `None`: the group is not on its way.
    pub fn protocol(&self, group: &str) -> Option<Protocol> {
        self.of(group, |moving| moving.protocol)
    }

    /// A member of KIP-848 that had no partitions when it began: whatever it says, it has nothing to give up.
    pub fn has_nothing(&self, group: &str, member_id: &str) {
        self.of(group, |moving| moving.idle.insert(member_id.to_owned()));
    }

    /// A heartbeat of such a member was good at the old home. `has_none`: it says that it has no partitions.
    pub fn beat(&self, group: &str, member_id: &str, has_none: bool) -> Beat {
        let mut is_new = false;
        let beat = self.of(group, |moving| {
            // What it says of itself counts from then on only.
            let was_told = !moving.told.insert(member_id.to_owned());
            if was_told && has_none || moving.idle.contains(member_id) {
                is_new = moving.without.insert(member_id.to_owned());
            }
            match moving.without.contains(member_id) {
                true => Beat::GaveUp,
                // One that had none already, as the coordinator does not know, says nothing by itself.
                false if was_told && moving.asked.insert(member_id.to_owned()) => Beat::Asked,
                false => Beat::Told,
            }
        });
        if is_new {
            self.bump();
        }
        beat.unwrap_or(Beat::Asked)
    }

    /// A member's heartbeat of this generation was good at the old home, and it is told to join again.
    pub fn heard(&self, group: &str, member_id: &str, generation: i32) {
        self.of(group, |moving| {
            moving.generation = Some(generation);
            moving.told.insert(member_id.to_owned());
        });
    }

    /// Whether this member knows that its group moves.
    pub fn was_told(&self, group: &str, member_id: &str) -> bool {
        self.of(group, |moving| moving.told.contains(member_id)).unwrap_or(false)
    }

    pub fn generation(&self, group: &str) -> Option<i32> {
        self.of(group, |moving| moving.generation).flatten()
    }

    /// These have left the group at its old home, by member id or by instance id.
    pub fn left(&self, group: &str, gone: &[(String, Option<String>)]) {
        let is_gone = |id: &str, instance: Option<&str>| {
            gone.iter().any(|(g, of)| !g.is_empty() && g == id || of.is_some() && of.as_deref() == instance)
        };
        let noted = self.of(group, |moving| {
            moving.members.retain(|id, instance| !is_gone(id, instance.as_deref()));
            moving.drop_held(|held| is_gone(&held.member_id, held.instance_id.as_deref()));
        });
        if noted.is_some() {
            self.bump();
        }
    }

    /// The old home has begun a rebalance of its own, or has lost a member: the move is undone.
    pub fn disturb(&self, group: &str, why: impl Into<String>) {
        let noted = self.of(group, |moving| {
            moving.disturbed.get_or_insert(why.into());
        });
        if noted.is_some() {
            self.bump();
        }
    }

    /// The member ids of those that wait: none of them is of the new home.
    pub fn waiting(&self, group: &str) -> Vec<String> {
        let ids = |moving: &mut Moving| moving.held.values().map(|(joining, _)| joining.member_id.clone()).collect();
        self.of(group, ids).unwrap_or_default()
    }

    /// `None`: the group is not on its way.
    pub fn progress(&self, group: &str) -> Option<Progress> {
        self.of(group, |moving| {
            let has_come = |(id, instance): &(&String, &Option<String>)| match moving.protocol {
                Protocol::Classic => moving.held.values().any(|(joining, _)| joining.is(id, instance.as_deref())),
                Protocol::Consumer => moving.without.contains(*id),
            };
            let missing = moving.members.iter().filter(|m| !has_come(m)).map(|(id, _)| id.clone());
            Progress { missing: missing.collect(), patience: moving.patience, disturbed: moving.disturbed.clone() }
        })
    }

    fn of<T>(&self, group: &str, look: impl FnOnce(&mut Moving) -> T) -> Option<T> {
        if self.under_way.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock().get_mut(group).map(look)
    }

    fn bump(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Moving>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moving {
    /// These do not wait any more.
    fn drop_held(&mut self, which: impl Fn(&Joining) -> bool) {
        let arrival = &self.arrival;
        self.held.retain(|number, (joining, gone)| {
            let goes = which(joining);
            if goes {
                gone.store(true, Ordering::Relaxed);
                arrival.lock().remove(number);
            }
            !goes
        });
    }
}

impl Ticket {
    /// Its member has left, or has sent another JoinGroup.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The group has moved, and all that waited for it go to its new home together.
    pub fn is_moved(&self) -> bool {
        self.arrival.together.load(Ordering::Acquire)
    }

    /// It joins at the new home, once more.
    pub fn joins(&self) {
        self.arrival.set(self.number, None);
    }

    /// It has been given this generation there. True: so have all others.
    pub fn arrives(&self, generation: i32) -> bool {
        self.arrival.set(self.number, Some(generation));
        let complete = self.arrival.is_complete();
        self.moves.wake();
        complete
    }

    pub fn all_have_arrived(&self) -> bool {
        self.arrival.is_complete()
    }

    /// The move has not ended.
    pub fn is_waiting(&self) -> bool {
        self.moves.of(&self.group, |moving| moving.held.contains_key(&self.number)) == Some(true)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.arrival.lock().remove(&self.number);
        if self.is_moved() {
            self.moves.wake();
        }
        if self.moves.of(&self.group, |moving| moving.held.remove(&self.number).is_some()) == Some(true) {
            self.moves.bump();
        }
    }
}
