//! What every worker and the control thread share. Snapshots are read without a lock; whoever changes one bumps the
//! counter that others wait on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::in_flight::{InFlight, ReadAhead};
use super::partitions::Partitions;
use crate::config::Config;
use crate::control::protocol::{LateWaits, Truncated};
use crate::groups::drained::Drain;
use crate::groups::shadow::Told;
use crate::groups::{Called, Commits, Heard, Homes, Moves};
use crate::ids::{NodeId, Side, TopicName};
use crate::mirror::{self, Mirrors};
use crate::monitor::Metrics;
use crate::producers::TransactionalHomes;
use crate::producers::transactions::Transactions;
use crate::store::{Decision, State};
use crate::upstream::Topology;
use crate::virtual_cluster::VirtualCluster;

pub struct Shared {
    pub config: Config,
    pub cluster: VirtualCluster,
    pub topology: Arc<ArcSwap<Topology>>,
    pub partitions: ArcSwap<Partitions>,
    /// Bumped with every topology snapshot.
    pub topology_changed: watch::Sender<u64>,
    /// Bumped with every partition snapshot: holds begin and end, maps grow.
    pub routes_changed: watch::Sender<u64>,
    /// Bumped when a sequence gate may judge otherwise.
    pub gates_changed: watch::Sender<u64>,
    /// Ask discovery for a fresh look at a side.
    pub refresh: [Notify; 2],
    /// A broker of that side has said that it does not lead what it was taken to lead.
    old_leaders: [AtomicBool; 2],
    /// Held produce requests tell the seal until when they can wait, and whose they are.
    pub deadlines: mpsc::UnboundedSender<HoldDeadline>,
    /// Commits that get a shadow on the other side, and groups that are no more, for the writer on the control thread.
    pub shadows: mpsc::UnboundedSender<Told>,
    pub coordinators: Coordinators,
    pub homes: Homes,
    pub moves: Arc<Moves>,
    pub commits: Arc<Commits>,
    pub called: Called,
    pub heard: Heard,
    pub transaction_coordinators: Coordinators,
    pub transactions: Transactions,
    pub transactional_homes: Arc<TransactionalHomes>,
    /// What clients' requests decide, for the journal.
    pub decisions: mpsc::UnboundedSender<Decision>,
    pub stragglers: Stragglers,
    pub truncations: Truncations,
    pub late_seams: LateSeams,
    pub mirrors: Mirrors,
    pub drains: Drains,
    pub in_flight: InFlight,
    pub read_ahead: Arc<ReadAhead>,
    pub alarms: Alarms,
    pub sought: Sought,
    /// The topics that a migration has prepared, and which.
    prepared: ArcSwap<HashMap<TopicName, String>>,
    /// By topic what its copy is set to, whatever clients set.
    held_configs: ArcSwap<HashMap<TopicName, Arc<BTreeMap<String, String>>>>,
    pub metrics: Arc<Metrics>,
    /// Set when the proxy is to take no more work.
    pub winding_down: CancellationToken,
    client_ids: AtomicU64,
}

/// The first of these to pass undoes the hold.
#[derive(Clone, Debug)]
pub struct HoldDeadline {
    pub at: Instant,
    pub client: String,
}

impl Shared {
    pub fn new(
        config: Config,
        cluster: VirtualCluster,
        topology: Arc<ArcSwap<Topology>>,
        deadlines: mpsc::UnboundedSender<HoldDeadline>,
        shadows: mpsc::UnboundedSender<Told>,
        decisions: mpsc::UnboundedSender<Decision>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let limit = usize::try_from(config.limits.in_flight_bytes.as_u64()).unwrap_or(usize::MAX);
        let read_ahead = Arc::new(ReadAhead::new(
            usize::try_from(config.limits.read_ahead_bytes.as_u64()).unwrap_or(usize::MAX),
            usize::try_from(config.limits.read_ahead_bytes_per_connection.as_u64()).unwrap_or(usize::MAX),
        ));
        Self {
            config,
            cluster,
            topology,
            partitions: ArcSwap::default(),
            topology_changed: watch::Sender::new(0),
            routes_changed: watch::Sender::new(0),
            gates_changed: watch::Sender::new(0),
            refresh: [Notify::new(), Notify::new()],
            old_leaders: Default::default(),
            deadlines,
            shadows,
            coordinators: Coordinators::default(),
            homes: Homes::default(),
            moves: Arc::default(),
            commits: Arc::default(),
            called: Called::default(),
            heard: Heard::default(),
            transaction_coordinators: Coordinators::default(),
            transactions: Transactions::default(),
            transactional_homes: Arc::default(),
            decisions,
            stragglers: Stragglers::default(),
            truncations: Truncations::default(),
            late_seams: LateSeams::default(),
            mirrors: Mirrors::default(),
            drains: Drains::default(),
            in_flight: InFlight::new(limit, metrics.held_bytes.clone()),
            read_ahead,
            alarms: Alarms::default(),
            sought: Sought::default(),
            prepared: ArcSwap::default(),
            held_configs: ArcSwap::default(),
            metrics,
            winding_down: CancellationToken::new(),
            client_ids: AtomicU64::new(1),
        }
    }

    /// A number for a client connection, never used twice.
    pub fn next_client(&self) -> u64 {
        self.client_ids.fetch_add(1, Ordering::Relaxed)
    }

    pub fn publish_partitions(&self, mut next: Partitions) {
        next.version = self.partitions.load().version + 1;
        self.partitions.store(Arc::new(next));
        self.routes_changed.send_modify(|n| *n += 1);
    }

    /// Would a broker of the source create a topic that a client asks for?
    pub fn source_creates_topics(&self) -> bool {
        self.topology.load().side(Side::Source).is_some_and(|c| c.creates_topics)
    }

    pub fn stir_gates(&self) {
        self.gates_changed.send_modify(|n| *n += 1);
    }

    /// The migration that has prepared a topic.
    pub fn prepared_by(&self, topic: &str) -> Option<String> {
        self.prepared.load().get(topic).cloned()
    }

    /// Whether any migration is under way.
    pub fn any_prepared(&self) -> bool {
        !self.prepared.load().is_empty()
    }

    /// What the journal says of prepared topics.
    pub fn set_prepared(&self, journal: &State) {
        let topics =
            journal.migrations.iter().flat_map(|(name, m)| m.topics.iter().map(|t| (t.name.clone(), name.clone())));
        self.prepared.store(Arc::new(topics.collect()));
        self.held_configs.store(Arc::new(mirror::configs::held(journal)));
    }

    /// What a topic's copy on the target is set to for its time, whatever clients set.
    pub fn held_configs(&self, topic: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.held_configs.load().get(topic).cloned()
    }

    /// A topic that the snapshot lacks is looked for, unless it was a moment ago: a client that asks for what is not there
    /// does so again and again. `looked`: when the look behind the snapshot began. Whether there is something to wait for.
    pub fn seek(&self, side: Side, topic: &str, looked: Option<Instant>, now: Instant) -> bool {
        let awaited = self.sought.seek(side, topic, looked, now);
        if awaited == Awaited::Asked {
            self.refresh(side);
        }
        awaited != Awaited::Nothing
    }

    /// A broker does not lead what it was taken to lead. If the next look says the same, another broker is asked.
    pub fn leaders_are_old(&self, side: Side) {
        self.old_leaders[side.index()].store(true, Ordering::Relaxed);
        self.refresh(side);
    }

    /// Whether that was so since the last time.
    pub fn take_old_leaders(&self, side: Side) -> bool {
        self.old_leaders[side.index()].swap(false, Ordering::Relaxed)
    }

    /// What is known of a side turned out to be old.
    pub fn refresh(&self, side: Side) {
        self.refresh[side.index()].notify_one();
    }
}

/// Which broker coordinates a group, or a transactional id, per side, as far as it was asked.
#[derive(Default)]
pub struct Coordinators(Mutex<HashMap<(Side, String), NodeId>>);

impl Coordinators {
    /// Of them remembered; beyond that the memory starts anew.
    const MANY: usize = 100_000;
    /// Names of this many bytes are; a longer one is asked for each time.
    const LONG: usize = 256;

    pub fn get(&self, side: Side, key: &str) -> Option<NodeId> {
        self.lock().get(&(side, key.to_owned())).copied()
    }

    pub fn set(&self, side: Side, key: &str, node: NodeId) {
        if key.len() > Self::LONG {
            return;
        }
        let mut known = self.lock();
        if known.len() >= Self::MANY {
            known.clear();
        }
        known.insert((side, key.to_owned()), node);
    }

    pub fn forget(&self, side: Side, key: &str) {
        self.lock().remove(&(side, key.to_owned()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Side, String), NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that appeared on a sealed side after its seal, per migration.
#[derive(Default)]
pub struct Stragglers(Mutex<HashMap<String, u64>>);

impl Stragglers {
    pub fn of(&self, migration: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(migration).copied().unwrap_or(0)
    }

    pub fn set(&self, migration: &str, records: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(migration.to_owned(), records);
    }
}

/// What late seams wait for, per migration, as of the last look.
#[derive(Default)]
pub struct LateSeams(Mutex<HashMap<String, LateWaits>>);

impl LateSeams {
    pub fn of(&self, migration: &str) -> LateWaits {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(migration).cloned().unwrap_or_default()
    }

    pub fn set(&self, migration: &str, waits: LateWaits) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(migration.to_owned(), waits);
    }
}

/// Sealed sides that have lost records, per migration.
#[derive(Default)]
pub struct Truncations(Mutex<HashMap<String, Vec<Truncated>>>);

impl Truncations {
    pub fn of(&self, migration: &str) -> Vec<Truncated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(migration).cloned().unwrap_or_default()
    }

    /// Whether this side of this partition was not known to have lost any. The lowest end that was seen is kept.
    pub fn is_new(&self, migration: &str, seen: Truncated) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(migration.to_owned()).or_default();
        let same = |t: &&mut Truncated| {
            (&t.topic, t.partition, t.side, t.end) == (&seen.topic, seen.partition, seen.side, seen.end)
        };
        match known.iter_mut().find(same) {
            Some(before) => {
                before.from = before.from.min(seen.from);
                false
            }
            None => {
                known.push(seen);
                true
            }
        }
    }
}

/// How far the groups of each migration are from its seams, as of the last look.
pub struct Drains {
    of: Mutex<HashMap<String, Arc<Drain>>>,
    /// A look is wanted now.
    wanted: Notify,
    begun: AtomicU64,
    /// The number of the last look that has ended.
    ended: watch::Sender<u64>,
}

impl Default for Drains {
    fn default() -> Self {
        let (of, wanted, begun) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { of, wanted, begun, ended: watch::Sender::new(0) }
    }
}

impl Drains {
    /// `None`: there was no look since a seal of this migration was released.
    pub fn of(&self, migration: &str) -> Option<Arc<Drain>> {
        self.lock().get(migration).cloned()
    }

    /// Asks for a look. One that sees what is so now has a higher number than this.
    pub fn ask(&self) -> u64 {
        let begun = self.begun.load(Ordering::Acquire);
        self.wanted.notify_one();
        begun
    }

    /// The number of the last look that has ended, and of each that follows.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    pub fn wanted(&self) -> impl Future<Output = ()> + '_ {
        self.wanted.notified()
    }

    /// Whoever looks says so first, then what was found.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    pub fn end(&self, found: HashMap<String, Arc<Drain>>) {
        *self.lock() = found;
        self.ended.send_replace(self.begun.load(Ordering::Acquire));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Drain>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Topics that were not found, and when they were last looked for.
#[derive(Default)]
pub struct Sought(Mutex<HashMap<(Side, String), Instant>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    /// A look is to be asked for.
    Asked,
    /// Somebody did, and has no answer yet.
    Underway,
    Nothing,
}

impl Sought {
    /// Between two looks for the same topic.
    const PAUSE: Duration = Duration::from_secs(1);
    /// Topics remembered; beyond that the memory starts anew.
    const MANY: usize = 10_000;
    /// No topic has a longer name (Kafka's `Topic.MAX_NAME_LENGTH`).
    const LONGEST: usize = 249;

    /// The topics that were asked for a moment ago.
    pub fn now(&self, side: Side, now: Instant) -> Vec<TopicName> {
        let sought = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent =
            sought.iter().filter(|((on, _), at)| *on == side && now.saturating_duration_since(**at) < Self::PAUSE);
        recent.map(|((_, topic), _)| TopicName::from(topic.as_str())).collect()
    }

    fn seek(&self, side: Side, topic: &str, looked: Option<Instant>, now: Instant) -> Awaited {
        if topic.len() > Self::LONGEST {
            return Awaited::Nothing;
        }
        let mut sought = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (side, topic.to_owned());
        match sought.get(&key) {
            // One that was under way then may have asked too early.
            Some(at) if looked.is_none_or(|looked| looked < *at) => return Awaited::Underway,
            Some(at) if now.saturating_duration_since(*at) < Self::PAUSE => return Awaited::Nothing,
            _ => {}
        }
        if sought.len() >= Self::MANY {
            sought.clear();
        }
        sought.insert(key, now);
        Awaited::Asked
    }
}

/// What was said already: an alarm about the same thing is not repeated with every look.
#[derive(Default)]
pub struct Alarms(Mutex<HashSet<String>>);

impl Alarms {
    /// Alarms remembered; beyond that the memory starts anew.
    const MANY: usize = 100_000;
    /// Bytes of one that are.
    const LONG: usize = 512;

    pub fn is_first(&self, mut about: String) -> bool {
        // It may have been a client that made it long.
        about.truncate(about.floor_char_boundary(Self::LONG));
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= Self::MANY {
            said.clear();
        }
        said.insert(about)
    }
}
