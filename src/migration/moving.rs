//! Moves groups to another home (DESIGN.md section 6, PROTOCOL.md section 6). Clients see one ordinary rebalance.
//!
//! 1. The group is still, with members that it names: Stable, or Empty. From here on its JoinGroups wait (`groups::moves`) and
//!    its members' heartbeats are answered REBALANCE_IN_PROGRESS, so that each commits, gives up its partitions and joins again.
//! 2. When all wait: the commit barrier. What was being committed has its outcome; nothing new begins.
//! 3. The positions are read at the old home, written at the new one in its own terms, and read there again.
//! 4. It is journalled. Until then whatever goes wrong undoes it: who waits joins at the old home again.
//! 5. Who waits joins at the new home. The members leave at the old one, where the positions are the shadow from now on.
#![expect(clippy::disallowed_methods, reason = "io: asks both clusters, waits for members, writes the journal")]

mod leaving;
mod positions;

pub use leaving::finish;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::clock;
use crate::error::code;
use crate::groups::moves::Protocol;
use crate::groups::shadow::Told;
use crate::ids::{Side, TopicName};
use crate::producers::transactions::LAPSE_MS;
use crate::routing::Shared;
use crate::store::{Event, Store, StoreError};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::groups::{self, Committed, Described, Listed};
use crate::upstream::ask::{consumer_groups, transactions};
use crate::upstream::discovery;

/// Groups that are looked at, or moved, at a time.
const AT_ONCE: usize = 256;
/// What a member allows for a rebalance that has not told: Java's default of `max.poll.interval.ms`.
const PATIENCE: Duration = Duration::from_secs(300);
/// Beyond what the members allow: brokers give them a little more, too.
const MARGIN: Duration = Duration::from_secs(5);
/// For what is being written to the positions at the barrier, for open transactions, and for coordinators that move.
pub(super) const BARRIER: Duration = Duration::from_secs(10);
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// A group whose home begins a rebalance of its own is tried again, so often.
const TRIES: u32 = 3;

/// States without members.
const EMPTY: [&str; 3] = ["", "Empty", "Dead"];
const STABLE: &str = "Stable";
const MIXED: &str = "it has members of both protocols: let all of them speak the same one first (group.protocol)";

/// A group that belongs to a migration, at the home that it is to leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub group: String,
    pub listed: Listed,
}

/// What became of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    pub positions: usize,
    pub members: usize,
    /// From the first JoinGroup that waited to the release of all.
    pub took: Duration,
}

/// Why one did not move: it is where it was.
#[derive(Debug)]
pub enum Failed {
    Undone(String),
    /// Nobody knows whether it is durable: the process must end.
    Fatal(StoreError),
}

impl From<AdminError> for Failed {
    fn from(e: AdminError) -> Self {
        Self::Undone(e.to_string())
    }
}

fn undone<T>(why: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::Undone(why.into()))
}

/// Everything that a move works with.
pub struct Act<'a> {
    pub shared: &'a Arc<Shared>,
    pub store: &'a Arc<Store>,
    pub admins: &'a [Rc<Admin>; 2],
    pub migration: &'a str,
    pub topics: BTreeSet<TopicName>,
    pub to: Side,
    /// Groups that move so that the producers whose transactions carry their positions can follow.
    pub carried: BTreeSet<String>,
    /// Why transactions may carry positions of groups without being known here.
    pub unseen_transactions: Option<String>,
}

impl Act<'_> {
    pub(super) fn admin(&self, side: Side) -> &Admin {
        &self.admins[side.index()]
    }

    fn from(&self) -> Side {
        self.to.other()
    }

    pub(super) async fn coordinator(&self, side: Side, group: &str) -> Result<String, AdminError> {
        let known = self.shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default();
        groups::coordinator(self.admin(side), &known, group).await
    }

    /// Who is in it on a side.
    pub(super) async fn at(&self, side: Side, group: &str) -> Result<(Protocol, Described), AdminError> {
        patiently(async || {
            let address = self.coordinator(side, group).await?;
            at(self.admin(side), &address, group).await
        })
        .await
    }

    /// Who is in it at the old home, all of one protocol.
    async fn at_home(&self, group: &str) -> Result<(Protocol, Described), Attempt> {
        let (protocol, described) = self.at(self.from(), group).await?;
        if protocol == Protocol::Consumer && described.members.values().any(|m| m.is_classic) {
            return Err(Attempt::Failed(Failed::Undone(MIXED.to_owned())));
        }
        if !described.has_members() && !is_empty(&described.state) {
            return Err(Attempt::Disturbed(format!("it is {} and names no member", described.state)));
        }
        Ok((protocol, described))
    }

    pub(super) async fn committed(&self, side: Side, group: &str, stable: bool) -> Result<Committed, AdminError> {
        patiently(async || {
            let address = self.coordinator(side, group).await?;
            groups::committed(self.admin(side), &address, group, stable).await
        })
        .await
    }

    /// What this process has not seen because it has not run for long.
    pub async fn look_for_transactions(&mut self, running: Duration) {
        let lapse = Duration::from_millis(u64::try_from(LAPSE_MS).unwrap_or(0));
        if running >= lapse {
            return;
        }
        let known = self.shared.topology.load().side(self.from()).cloned();
        let Some(view) = known else { return };
        let ids = patiently(async || transactions::known_ids(self.admin(self.from()), &view).await).await;
        let told = match ids {
            Ok(ids) if ids.is_empty() => return,
            Ok(ids) => format!("the {} remembers {} transactional ids", self.from(), ids.len()),
            Err(error) => error.to_string(),
        };
        self.unseen_transactions = Some(format!(
            "the proxy runs for {} s, and {told}; try again when it has run for {} minutes, or go on with --force if no \
             transaction commits positions of a group",
            running.as_secs(),
            lapse.as_secs() / 60
        ));
    }

    /// The groups that have committed positions on a topic of the migration, or a member with a partition of one, and are
    /// still at the old home.
    pub async fn find(&self) -> Result<Vec<Found>, AdminError> {
        let known = self.shared.topology.load().side(self.from()).map(|c| c.broker_list()).unwrap_or_default();
        let view = discovery::look(self.admin(self.from()), &known).await?;
        let listed = groups::listed(self.admin(self.from()), &view).await?;
        let here = listed.into_iter().filter(|(group, _)| self.shared.homes.of(group) == self.from());
        let looked = stream::iter(here).map(|(group, listed)| async {
            let belongs = self.belongs(&group, &listed).await?;
            Ok::<_, AdminError>(belongs.then_some(Found { group, listed }))
        });
        let looked: Vec<_> = looked.buffered(AT_ONCE).collect().await;
        Ok(looked.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    async fn belongs(&self, group: &str, listed: &Listed) -> Result<bool, AdminError> {
        let positions = match self.committed(self.from(), group, false).await {
            // Deleted since it was listed.
            Err(AdminError::Refused { code: code::GROUP_ID_NOT_FOUND, .. }) => return Ok(false),
            other => other?,
        };
        if positions.keys().any(|tp| self.topics.contains(&tp.topic)) {
            return Ok(true);
        }
        if is_empty(&listed.state) && !listed.state.is_empty() {
            return Ok(false);
        }
        // Nobody has a partition of a classic group while it rebalances.
        let until = Instant::now() + BARRIER;
        loop {
            let (_, described) = self.at(self.from(), group).await?;
            let mut topics = described.members.values().flat_map(|m| &m.topics);
            if topics.any(|t| self.topics.contains(t.as_str())) {
                return Ok(true);
            }
            if is_still(&described) {
                return Ok(false);
            }
            if Instant::now() > until {
                tracing::warn!(group, side = %self.from(), state = described.state,
                    "the group rebalances and has no positions: what it reads is not known, so it is left where it is");
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
    }

    /// All of these at once; what became of each.
    pub async fn run(&self, found: Vec<Found>) -> Vec<(String, Result<Moved, Failed>)> {
        let moves = stream::iter(found).map(|found| async {
            let outcome = self.one(&found).await;
            (found.group, outcome)
        });
        let mut moves = std::pin::pin!(moves.buffer_unordered(AT_ONCE));
        let mut outcomes = Vec::new();
        while let Some((group, outcome)) = moves.next().await {
            let is_fatal = matches!(outcome, Err(Failed::Fatal(_)));
            outcomes.push((group, outcome));
            if is_fatal {
                break;
            }
        }
        outcomes
    }

    async fn one(&self, found: &Found) -> Result<Moved, Failed> {
        let group = found.group.as_str();
        self.has_producers_along(group)?;
        let (_, there) = self.at(self.to, group).await?;
        if there.has_members() {
            return undone(self.is_used(&there));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(group).await {
                Err(Attempt::Disturbed(why)) if tries < TRIES => {
                    tracing::info!(group, why, "the group's move begins again");
                }
                Err(Attempt::Disturbed(why)) => return undone(why),
                Err(Attempt::Failed(failed)) => return Err(failed),
                Ok(moved) => return Ok(moved),
            }
        }
    }

    /// A group whose positions transactions carry goes together with their producers, who must not stay behind.
    fn has_producers_along(&self, group: &str) -> Result<(), Failed> {
        if self.carried.contains(group) {
            return Ok(());
        }
        let Some(carriers) = self.shared.transactions.carriers(group, clock::now_ms()) else {
            return undone("there are too many transactional ids to know whose transactions carry its positions");
        };
        let stays = |id: &&String| self.shared.transactional_homes.of(id) != self.to;
        if let Some(id) = carriers.iter().find(stays) {
            return undone(format!(
                "transactions of {id} carry its positions, and that id is at home on the {}: the topics that it writes to \
                 belong into this migration",
                self.from()
            ));
        }
        match &self.unseen_transactions {
            Some(why) if carriers.is_empty() => {
                undone(format!("whether transactions carry its positions is not known: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// What can be known of it before it is tried.
    pub async fn can_move(&self, group: &str) -> Result<(), Failed> {
        let (_, there) = self.at(self.to, group).await?;
        if there.has_members() {
            return undone(self.is_used(&there));
        }
        let (_, here) = match self.at_home(group).await {
            Ok(found) => found,
            Err(Attempt::Disturbed(_)) => return Ok(()),
            Err(Attempt::Failed(failed)) => return Err(failed),
        };
        let topology = self.shared.topology.load_full();
        let positions = self.committed(self.from(), group, false).await.or_else(no_group)?;
        let mut read = here.members.values().flat_map(|m| &m.topics).map(String::as_str);
        let all: BTreeSet<&str> = read.by_ref().chain(positions.keys().map(|tp| &*tp.topic)).collect();
        let count = |side, topic: &str| topology.topic(side, topic).map(|t| t.partitions.len());
        let lacks =
            |topic: &&&str| count(self.from(), topic).is_some() && count(self.to, topic) < count(self.from(), topic);
        match all.iter().find(lacks) {
            Some(topic) => undone(self.not_there(format_args!("topic {topic}"))),
            None => Ok(()),
        }
    }

    fn is_used(&self, there: &Described) -> String {
        format!("a group of this name has members on the {} (state {})", self.to, there.state)
    }

    async fn attempt(&self, group: &str) -> Result<Moved, Attempt> {
        let (protocol, described) = self.still(group).await?;
        if protocol == Protocol::Consumer && described.has_members() {
            self.call(group, &described).await?;
        }
        let members = described.members.iter().map(|(id, m)| (id.clone(), m.instance_id.clone()));
        if !self.shared.moves.begin(group, protocol, members.collect()) {
            return Err(Attempt::Failed(Failed::Undone("it is on its way already".to_owned())));
        }
        for (id, _) in described.members.iter().filter(|(_, m)| protocol == Protocol::Consumer && !m.has_partitions) {
            self.shared.moves.has_nothing(group, id);
        }
        let done = self.gathered(group, protocol, &described).await;
        match &done {
            Ok(_) => {}
            // Nobody may act on what may not have happened: the process ends, and what waits with it.
            Err(Attempt::Failed(Failed::Fatal(_))) => return done,
            Err(_) => {
                if protocol == Protocol::Consumer {
                    self.shared.called.add(group);
                }
                // What was written at the new home is a shadow again.
                drop(self.shared.shadows.send(Told::Changed(group.to_owned())));
            }
        }
        self.shared.commits.open(group);
        self.shared.moves.end(group, done.is_ok());
        if done.is_ok() {
            crate::crash_point!("move.released");
            self.leave(group, protocol, &described).await;
            drop(self.shared.shadows.send(Told::Changed(group.to_owned())));
        }
        done
    }

    /// Before members of KIP-848 are told that they have nothing it is journalled: whoever runs then must give it back to
    /// them. A coordinator tells each of its partitions once, and takes only topics that its own cluster has.
    async fn call(&self, group: &str, described: &Described) -> Result<(), Attempt> {
        let topology = self.shared.topology.load_full();
        let subscribed = described.members.values().flat_map(|m| &m.topics);
        let there = |topic: &&String| {
            let [old, new] = [self.from(), self.to].map(|side| topology.topic(side, topic).map(|t| t.partitions.len()));
            old.is_none() || old == new
        };
        if let Some(topic) = subscribed.clone().find(|topic| !there(topic)) {
            return Err(Attempt::Failed(Failed::Undone(self.not_there(format_args!("topic {topic}")))));
        }
        if !self.store.state().called.contains(group) {
            let (migration, group) = (self.migration.to_owned(), group.to_owned());
            self.append(Event::GroupCalled { migration, group }).await.map_err(Attempt::Failed)?;
        }
        crate::crash_point!("move.called");
        Ok(())
    }

    /// Until it is Stable, or has no members.
    async fn still(&self, group: &str) -> Result<(Protocol, Described), Attempt> {
        let until = Instant::now() + PATIENCE;
        loop {
            let state = match self.at_home(group).await {
                Ok((protocol, described)) if is_still(&described) => {
                    return Ok((protocol, described));
                }
                Ok((_, described)) => described.state,
                Err(Attempt::Disturbed(state)) => state,
                Err(failed) => return Err(failed),
            };
            if Instant::now() > until {
                let why = format!("it has not become Stable in {} s: {state}", PATIENCE.as_secs());
                return Err(Attempt::Failed(Failed::Undone(why)));
            }
            sleep(PAUSE).await;
        }
    }

    /// Steps 1 to 4.
    async fn gathered(&self, group: &str, protocol: Protocol, described: &Described) -> Result<Moved, Attempt> {
        let began = Instant::now();
        self.all_have_come(group, described, began).await?;
        crate::crash_point!("move.gathered");
        self.shared.commits.close(group);
        if !self.quiet(group, BARRIER).await {
            let why = format!("a commit has no outcome for {} s", BARRIER.as_secs());
            return Err(Attempt::Failed(Failed::Undone(why)));
        }
        // One that has begun while its members came.
        self.has_producers_along(group).map_err(Attempt::Failed)?;
        // Who came by another way, or joined a moment before it began.
        let (_, now) = self.at_home(group).await?;
        let is_same = now.members.iter().all(|(id, m)| described.members.get(id).is_some_and(|d| d.epoch == m.epoch));
        if !is_same || now.has_members() && now.state != STABLE {
            return Err(Attempt::Disturbed(format!(
                "it has changed at its home while its members came: {}",
                now.state
            )));
        }
        let positions = self.hand_over(group).await?;
        let count = positions.len();
        crate::crash_point!("move.copied");
        // One that waits may have got its id from the old home without having joined there.
        let mut members = self.shared.moves.waiting(group);
        members.extend(described.members.keys().cloned());
        members.retain(|id| !id.is_empty());
        members.sort();
        members.dedup();
        let at_ms = clock::now_ms();
        let event = Event::GroupMoved {
            migration: self.migration.to_owned(),
            group: group.to_owned(),
            to: self.to,
            members: members.clone(),
            at_ms,
            consumer: protocol == Protocol::Consumer,
            positions: Arc::new(positions),
        };
        self.append(event).await.map_err(Attempt::Failed)?;
        crate::crash_point!("move.journalled");
        self.shared.homes.set(group, self.to, protocol, members, at_ms);
        self.shared.called.remove(group);
        Ok(Moved { positions: count, members: described.members.len(), took: began.elapsed() })
    }

    /// Until what is being written to its positions has its outcome; false: it takes too long.
    pub(super) async fn quiet(&self, group: &str, patience: Duration) -> bool {
        let quiet = async {
            loop {
                let quiet = self.shared.commits.quiet.notified();
                if self.shared.commits.is_quiet(group) {
                    return;
                }
                quiet.await;
            }
        };
        timeout(patience, quiet).await.is_ok()
    }

    async fn all_have_come(&self, group: &str, described: &Described, began: Instant) -> Result<(), Attempt> {
        let moves = &self.shared.moves;
        let mut changes = moves.changes();
        loop {
            changes.borrow_and_update();
            let Some(progress) = moves.progress(group) else {
                return Err(Attempt::Disturbed("its move was given up".to_owned()));
            };
            if let Some(why) = progress.disturbed {
                return Err(Attempt::Disturbed(why));
            }
            if progress.missing.is_empty() {
                return Ok(());
            }
            let patience = progress.patience.unwrap_or(PATIENCE) + MARGIN;
            if !matches!(timeout_at(began + patience, changes.changed()).await, Ok(Ok(()))) {
                let who = |id: &String| {
                    let client = described.members.get(id).map_or("", |m| m.client_id.as_str());
                    format!("{id} (client {client})")
                };
                let missing: Vec<String> = progress.missing.iter().map(who).collect();
                let why =
                    format!("of its members {} did not join again in {} s", missing.join(", "), patience.as_secs());
                return Err(Attempt::Failed(Failed::Undone(why)));
            }
        }
    }

    async fn append(&self, event: Event) -> Result<(), Failed> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.append(&[event])).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error @ (StoreError::Unknown(_) | StoreError::Poisoned))) => Err(Failed::Fatal(error)),
            Ok(Err(error)) => undone(error.to_string()),
            // It may have been written.
            Err(error) => Err(Failed::Fatal(StoreError::Unknown(std::io::Error::other(error)))),
        }
    }
}

/// A group at its coordinator, by the protocol that it speaks there. To who asks for a classic one a group of the other
/// protocol is not there.
async fn at(admin: &Admin, address: &str, group: &str) -> Result<(Protocol, Described), AdminError> {
    let classic = groups::describe(admin, address, group).await?;
    if classic.state != groups::NOT_THERE {
        return Ok((Protocol::Classic, classic));
    }
    match consumer_groups::describe(admin, address, group).await {
        Ok(described) if described.state != groups::NOT_THERE => Ok((Protocol::Consumer, described)),
        Ok(_) | Err(AdminError::Unsupported { .. }) => Ok((Protocol::Classic, classic)),
        Err(error) => Err(error),
    }
}

/// Once more while the answer is one that passes: a coordinator that moves, or is not there yet.
pub(super) async fn patiently<T>(ask: impl AsyncFn() -> Result<T, AdminError>) -> Result<T, AdminError> {
    let until = Instant::now() + BARRIER;
    loop {
        match ask().await {
            Err(error) if error.is_passing() && Instant::now() < until => sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// A group that has committed nothing may not be there.
pub(super) fn no_group(error: AdminError) -> Result<Committed, AdminError> {
    match error {
        AdminError::Refused { code: code::GROUP_ID_NOT_FOUND, .. } => Ok(Committed::new()),
        other => Err(other),
    }
}

pub(super) fn is_still(described: &Described) -> bool {
    described.state == STABLE || !described.has_members()
}

fn is_empty(state: &str) -> bool {
    EMPTY.contains(&state)
}

/// Why one attempt did not do.
enum Attempt {
    /// The home has begun a rebalance of its own: another attempt may do.
    Disturbed(String),
    Failed(Failed),
}

impl From<AdminError> for Attempt {
    fn from(e: AdminError) -> Self {
        Self::Failed(e.into())
    }
}
