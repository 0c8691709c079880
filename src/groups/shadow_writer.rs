//! Writes the shadows of committed positions (DESIGN.md section 6), behind the commits: one task on the control thread.
//!
//! * After every seal, at the start, when something was dropped for want of room and now and then (a cluster forgets the
//!   positions of a group without members) a pass over all groups reads the authority; commits keep it current.
//! * One thing at a time: while positions are written none is read, so what was read is never older than what was
//!   written before. What clients commit meanwhile is taken in all the time, and wins.
//! * A cluster that is away costs a try a second; what is owed waits, coalesced.
//! * When the proxy stops, what is owed is written first, so that either cluster can go on by itself.
#![expect(clippy::disallowed_methods, reason = "io: asks both clusters, waits between tries")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::commits::UnderWay;
use super::home;
use super::position::untouched;
use super::shadow::{self, GroupBatch, Pending, Sorted, Told};
use crate::error::{code, code_name};
use crate::ids::{Side, TopicPartition};
use crate::monitor::metrics::ShadowOutcome;
use crate::offsets::SpliceMap;
use crate::routing::{Partitions, Shared};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::Answers;
use crate::upstream::ask::groups::{self, Stored};
use crate::upstream::discovery;
use crate::upstream::topology::Broker;

/// Positions that wait; beyond it the oldest are left to the next pass.
const MOST_PENDING: usize = 100_000;
/// Groups asked for or written at a time.
const GROUPS: usize = 32;
/// Commits taken in before the next look at the clock.
const MOST_AT_ONCE: usize = 10_000;
/// Between two rounds of writing: what a group commits meanwhile becomes one commit.
const PACE: Duration = Duration::from_millis(100);
/// After a failure.
const RETRY: Duration = Duration::from_secs(1);
/// For what is owed when the proxy stops: a cluster that is away by then does not keep it.
const LAST: Duration = Duration::from_secs(5);
/// Well within the shortest usual `offsets.retention.minutes`, a day (seven are the default).
const AFRESH: Duration = Duration::from_secs(6 * 3600);
/// Remembered coordinators, and groups that were complained about; beyond it the memory starts anew.
const MOST_REMEMBERED: usize = 100_000;

/// Writes until `last`, when no client commits any more, and then what is still owed.
pub async fn run(
    shared: Arc<Shared>,
    admins: [Rc<Admin>; 2],
    receiver: mpsc::UnboundedReceiver<Told>,
    last: CancellationToken,
) {
    let mut until: Option<Instant> = None;
    let mut routes = shared.routes_changed.subscribe();
    let mut inbox = Inbox { receiver, pending: Pending::new(MOST_PENDING) };
    let now = Instant::now();
    let mut writer = Writer {
        clusters: Clusters::new(shared, admins),
        complained: HashSet::new(),
        seals: 0,
        list_wanted: false,
        to_read: VecDeque::new(),
        afresh_at: now + AFRESH,
        read_at: now,
        write_at: now,
    };
    writer.notice_seals();
    loop {
        inbox.drain();
        let now = Instant::now();
        writer.notice(&mut inbox.pending, now);
        if until.is_some_and(|until| now >= until || writer.owes_nothing(&inbox.pending)) {
            return;
        }
        if now >= writer.write_at {
            let groups = inbox.pending.deletions(GROUPS, now);
            if !groups.is_empty() {
                writer.delete(&mut inbox, groups).await;
                continue;
            }
            let forgotten = inbox.pending.forgotten(GROUPS, now);
            if !forgotten.is_empty() {
                writer.forget(&mut inbox, forgotten).await;
                continue;
            }
            let batches = inbox.pending.due(GROUPS, now);
            if !batches.is_empty() {
                writer.write(&mut inbox, batches).await;
                continue;
            }
        }
        if now >= writer.read_at && writer.may_read(&inbox.pending) {
            writer.read(&mut inbox).await;
            continue;
        }
        let wake = writer.wake(&inbox.pending, now);
        let wake = sleep_until(until.map_or(wake, |until| wake.min(until)));
        tokio::select! {
            Some(told) = inbox.receiver.recv() => inbox.pending.tell(told),
            Ok(()) = routes.changed() => writer.notice_seals(),
            () = last.cancelled(), if until.is_none() => until = Some(Instant::now() + LAST),
            () = wake => {}
        }
    }
}

/// A shadow that is not what the authority's position asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    pub group: String,
    pub partition: TopicPartition,
    pub wanted: Stored,
    /// `None`: there is no shadow.
    pub found: Option<Stored>,
}

/// Reads both sides of every group and compares. Commits made meanwhile, and those not written yet, show as mismatches.
pub async fn verify(shared: &Arc<Shared>, admins: &[Rc<Admin>; 2]) -> Result<Vec<Mismatch>, AdminError> {
    let clusters = Clusters::new(shared.clone(), admins.clone());
    let mut mismatches = Vec::new();
    for group in clusters.list().await? {
        let home = shared.homes.of(&group);
        let stored = clusters.committed(home, &group, false).await?;
        let partitions = shared.partitions.load_full();
        let side = home.other();
        let mut wanted = BTreeMap::new();
        for (owed, map) in shadow::owed_for(&group, home, stored, map_of(&partitions)) {
            if let Some(position) = shadow::position(&map, side, owed.v, owed.metadata.as_deref()) {
                wanted.insert(owed.partition, position);
            }
        }
        if wanted.is_empty() {
            continue;
        }
        let mut found = clusters.committed(side, &group, false).await?;
        for (partition, wanted) in wanted {
            let found = found.remove(&partition);
            if found.as_ref() != Some(&wanted) {
                mismatches.push(Mismatch { group: group.clone(), partition, wanted, found });
            }
        }
    }
    Ok(mismatches)
}

fn map_of(partitions: &Partitions) -> impl Fn(&TopicPartition) -> Option<SpliceMap> {
    |tp| partitions.get(&tp.topic, tp.partition).map(|state| state.map.clone())
}

struct Inbox {
    receiver: mpsc::UnboundedReceiver<Told>,
    pending: Pending,
}

impl Inbox {
    /// What has come, a turn's worth.
    fn drain(&mut self) {
        for _ in 0..MOST_AT_ONCE {
            let Ok(told) = self.receiver.try_recv() else { break };
            self.pending.tell(told);
        }
    }

    /// Takes commits in while something else is waited for: they coalesce here, not in the channel.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(told) = self.receiver.recv() => self.pending.tell(told),
            }
        }
    }
}

struct Writer {
    clusters: Clusters,
    /// Groups that a WARN was logged for.
    complained: HashSet<String>,
    /// Of all partitions that are not held, when it was last looked.
    seals: u64,
    /// A pass is to begin with the list of groups.
    list_wanted: bool,
    /// The groups that the pass has still to read.
    to_read: VecDeque<String>,
    afresh_at: Instant,
    read_at: Instant,
    write_at: Instant,
}

impl Writer {
    /// A seal that was released: the groups that committed before it have no shadow.
    fn notice_seals(&mut self) {
        let seals = released_seals(&self.clusters.shared.partitions.load());
        self.list_wanted |= seals > self.seals;
        // The sum falls for a moment when the next seal holds partitions of the one before.
        self.seals = seals.max(self.seals);
    }

    /// Is a pass over all groups due for another reason?
    fn notice(&mut self, pending: &mut Pending, now: Instant) {
        let dropped = pending.take_overflowed();
        if dropped > 0 {
            self.count(ShadowOutcome::Failed, usize::try_from(dropped).unwrap_or(usize::MAX));
        }
        self.list_wanted |= dropped > 0 || (self.seals > 0 && now >= self.afresh_at);
        if now >= self.afresh_at {
            self.afresh_at = now + AFRESH;
        }
    }

    fn owes_nothing(&self, pending: &Pending) -> bool {
        !self.list_wanted && self.to_read.is_empty() && pending.owes_nothing()
    }

    fn may_read(&self, pending: &Pending) -> bool {
        (self.list_wanted || !self.to_read.is_empty() || pending.has_changed()) && pending.has_room()
    }

    fn wake(&self, pending: &Pending, now: Instant) -> Instant {
        let mut wake = self.afresh_at;
        if let Some(due) = pending.next_due(now) {
            wake = wake.min(due.max(self.write_at));
        }
        if self.may_read(pending) {
            wake = wake.min(self.read_at);
        }
        wake
    }

    /// Groups whose positions a transaction has changed, and one step of the pass: the list of groups, or what some of them
    /// have committed.
    async fn read(&mut self, inbox: &mut Inbox) {
        let changed = inbox.pending.take_changed(GROUPS);
        if !changed.is_empty() {
            // The next transaction of a busy group is not far.
            self.read_at = Instant::now() + PACE;
            self.read_groups(inbox, changed, true).await;
        }
        if self.list_wanted {
            match inbox.during(self.clusters.list()).await {
                Ok(groups) => {
                    self.list_wanted = false;
                    self.to_read = groups.into();
                }
                Err(error) => self.read_failed(&error),
            }
            return;
        }
        let groups: Vec<String> = self.to_read.drain(..self.to_read.len().min(GROUPS)).collect();
        self.read_groups(inbox, groups, false).await;
    }

    /// `changed`: by a transaction. Its coordinator answers before the group's knows of its end.
    async fn read_groups(&mut self, inbox: &mut Inbox, groups: Vec<String>, changed: bool) {
        let moment = inbox.pending.moment();
        let homes: Vec<Side> = groups.iter().map(|group| self.clusters.shared.homes.of(group)).collect();
        let answers = inbox.during(self.clusters.committed_by(&homes, &groups, changed)).await;
        let partitions = self.clusters.shared.partitions.load_full();
        for ((group, home), answer) in groups.into_iter().zip(homes).zip(answers) {
            match answer {
                // It has moved since: what was read may be old, and is a shadow now.
                Ok(_) if self.clusters.shared.homes.of(&group) != home => inbox.pending.change(group),
                Ok(stored) => {
                    for (shadow, _) in shadow::owed_for(&group, home, stored, map_of(&partitions)) {
                        inbox.pending.put_found(shadow, moment);
                    }
                }
                Err(AdminError::Refused { code: code::UNSTABLE_OFFSET_COMMIT, .. }) => inbox.pending.change(group),
                Err(error) if error.is_passing() => {
                    self.read_failed(&error);
                    match changed {
                        true => inbox.pending.change(group),
                        false => self.to_read.push_back(group),
                    }
                }
                // Deleted since it was listed.
                Err(AdminError::Refused { code: code::GROUP_ID_NOT_FOUND, .. }) => {}
                Err(error) => self.complain(&group, &error.to_string(), "see why the proxy may not read its offsets"),
            }
        }
    }

    fn read_failed(&mut self, error: &AdminError) {
        tracing::debug!(%error, "the groups' positions cannot be read for their shadows: tried again");
        self.read_at = Instant::now() + RETRY;
    }

    async fn write(&mut self, inbox: &mut Inbox, batches: Vec<GroupBatch>) {
        let answers = inbox.during(self.clusters.write(&batches)).await;
        let now = Instant::now();
        self.write_at = now + PACE;
        for (batch, answer) in batches.into_iter().zip(answers) {
            let (group, side) = (batch.group.clone(), self.clusters.shadow_side(&batch.group));
            let sorted = match answer {
                Ok(answers) => sort(batch, answers, self.clusters.has_moved(&group)),
                Err(error) => {
                    self.count(ShadowOutcome::Failed, batch.positions.len());
                    if error.is_passing() {
                        tracing::debug!(%error, group, "a shadow waits");
                        inbox.pending.put_back(batch, now + RETRY);
                    } else {
                        self.complain(&group, &error.to_string(), "see why the proxy may not commit there");
                    }
                    continue;
                }
            };
            if sorted.moved {
                self.clusters.forget(side, &group);
            }
            self.count(ShadowOutcome::Written, sorted.written);
            self.count(ShadowOutcome::Failed, sorted.failed);
            if let Some(code) = sorted.taken {
                let todo = "a group of this name has members there: stop them or give them another group.id";
                self.complain(&group, &code_name(code), todo);
            }
            if let Some(code) = sorted.refused {
                self.complain(&group, &code_name(code), "see why the proxy may not commit there");
            }
            if !sorted.again.is_empty() {
                inbox.pending.put_back(GroupBatch { group, positions: sorted.again }, now + RETRY);
            }
        }
    }

    /// The shadows of groups that are no more.
    async fn delete(&mut self, inbox: &mut Inbox, groups: Vec<String>) {
        let answers = inbox.during(self.clusters.delete(&groups)).await;
        let now = Instant::now();
        self.write_at = now + PACE;
        for (group, answer) in groups.into_iter().zip(answers) {
            match answer {
                Err(error) if error.is_passing() => {
                    tracing::debug!(%error, group, "the shadow of a deleted group waits");
                    inbox.pending.delete_later(&group, now + RETRY);
                    continue;
                }
                Err(error) => {
                    let todo = "the group was deleted on its home: delete it there too";
                    self.complain(&group, &error.to_string(), todo);
                }
                Ok(()) => {}
            }
            inbox.pending.is_deleted(&group);
        }
    }

    /// The shadows of positions that are no more.
    async fn forget(&mut self, inbox: &mut Inbox, forgotten: Vec<(String, Vec<TopicPartition>)>) {
        let moment = inbox.pending.moment();
        let answers = inbox.during(self.clusters.delete_positions(&forgotten)).await;
        let now = Instant::now();
        self.write_at = now + PACE;
        for ((group, partitions), answer) in forgotten.into_iter().zip(answers) {
            match answer {
                Err(error) if error.is_passing() => {
                    tracing::debug!(%error, group, "the shadows of deleted positions wait");
                    inbox.pending.forget_later(&group, now + RETRY);
                    continue;
                }
                Err(error) => {
                    let todo = "positions were deleted on the group's home: delete them there too";
                    self.complain(&group, &error.to_string(), todo);
                }
                Ok(()) => {}
            }
            inbox.pending.are_forgotten(&group, &partitions, moment);
        }
    }

    fn count(&self, outcome: ShadowOutcome, positions: usize) {
        let counter = self.clusters.shared.metrics.shadow_commits.of(outcome);
        counter.increment(u64::try_from(positions).unwrap_or(u64::MAX));
    }

    /// Once per group.
    fn complain(&mut self, group: &str, reason: &str, todo: &str) {
        if self.complained.len() >= MOST_REMEMBERED {
            self.complained.clear();
        }
        if self.complained.insert(group.to_owned()) {
            let side = self.clusters.shadow_side(group);
            tracing::warn!(group, %side, reason, todo,
                "the group's positions are not kept on the other side: it cannot take over there without them");
        }
    }
}

/// `has_moved`: the members that are in the way are its own of before, until their sessions end.
fn sort(batch: GroupBatch, mut answers: Answers<()>, has_moved: bool) -> Sorted {
    shadow::sort(
        has_moved,
        batch.positions.into_iter().filter_map(|(partition, owed)| {
            // Without an answer: nothing was asked for it, there is no such part any more.
            let answer = answers.remove(&partition)?;
            Some((partition, owed, answer))
        }),
    )
}

/// Of all partitions that are not held: it grows when a seal is released, and when a late seam is known.
pub fn released_seals(partitions: &Partitions) -> u64 {
    let states = partitions.topics.values().flat_map(|states| states.iter());
    let of = |map: &SpliceMap| 2 * u64::from(map.seals()) - u64::from(map.is_late());
    states.filter(|state| !state.held).map(|state| of(&state.map)).sum()
}

/// Both clusters, with the coordinators that are known of them.
struct Clusters {
    shared: Arc<Shared>,
    admins: [Rc<Admin>; 2],
    coordinators: RefCell<HashMap<(Side, String), String>>,
}

impl Clusters {
    fn new(shared: Arc<Shared>, admins: [Rc<Admin>; 2]) -> Self {
        Self { shared, admins, coordinators: RefCell::default() }
    }

    fn admin(&self, side: Side) -> &Admin {
        &self.admins[side.index()]
    }

    /// Where the shadow of a group lies.
    fn shadow_side(&self, group: &str) -> Side {
        self.shared.homes.of(group).other()
    }

    fn has_moved(&self, group: &str) -> bool {
        self.shared.homes.of(group) != home::DEFAULT
    }

    /// No writing while the group is on its way to another home: it is tried again.
    fn enter(&self, side: Side, group: &str) -> Result<UnderWay, AdminError> {
        let reason = || format!("group {group} is on its way to another home");
        self.shared.commits.enter(group).ok_or_else(|| AdminError::Unreachable { side, reason: reason() })
    }

    /// Every group, from where it is at home.
    async fn list(&self) -> Result<Vec<String>, AdminError> {
        let mut all = Vec::new();
        for side in Side::BOTH.into_iter().filter(|side| self.shared.homes.any_on(*side)) {
            let view = discovery::look(self.admin(side), &self.known(side)).await?;
            let listed = groups::list_groups(self.admin(side), &view).await?;
            all.extend(listed.into_iter().filter(|group| self.shared.homes.of(group) == side));
        }
        Ok(all)
    }

    /// One answer for each group, in their order.
    async fn committed_by(
        &self,
        homes: &[Side],
        groups: &[String],
        stable: bool,
    ) -> Vec<Result<groups::Committed, AdminError>> {
        join_all(homes.iter().zip(groups).map(|(home, group)| self.committed(*home, group, stable))).await
    }

    async fn committed(&self, side: Side, group: &str, stable: bool) -> Result<groups::Committed, AdminError> {
        let address = self.coordinator(side, group).await?;
        let answer = groups::committed(self.admin(side), &address, group, stable).await;
        answer.inspect_err(|_| self.forget(side, group))
    }

    /// One answer for each batch, in their order.
    async fn write(&self, batches: &[GroupBatch]) -> Vec<Result<Answers<()>, AdminError>> {
        join_all(batches.iter().map(|batch| self.write_one(batch))).await
    }

    /// The positions in the terms that the maps give them now.
    async fn write_one(&self, batch: &GroupBatch) -> Result<Answers<()>, AdminError> {
        let side = self.shadow_side(&batch.group);
        let _under_way = self.enter(side, &batch.group)?;
        let partitions = self.shared.partitions.load_full();
        let position = |(tp, owed): &(TopicPartition, shadow::Owed)| {
            let map = partitions.get(&tp.topic, tp.partition).map(|state| &state.map);
            if !shadow::is_owed(map, side.other()) {
                return None;
            }
            let whole = untouched();
            let map = map.unwrap_or(&whole);
            Some((tp.clone(), shadow::position(map, side, owed.v, owed.metadata.as_deref())?))
        };
        let positions: Vec<_> = batch.positions.iter().filter_map(position).collect();
        if positions.is_empty() {
            return Ok(Answers::new());
        }
        let address = self.coordinator(side, &batch.group).await?;
        let answer = groups::commit_simple(self.admin(side), &address, &batch.group, &positions).await;
        answer.inspect_err(|_| self.forget(side, &batch.group))
    }

    /// One answer for each group, in their order.
    async fn delete(&self, groups: &[String]) -> Vec<Result<(), AdminError>> {
        join_all(groups.iter().map(|group| self.delete_one(group))).await
    }

    /// Only a group that holds nothing but what a shadow may: another of the same name may be somebody's.
    async fn delete_one(&self, group: &str) -> Result<(), AdminError> {
        let side = self.shadow_side(group);
        let _under_way = self.enter(side, group)?;
        let stored = match self.committed(side, group, false).await {
            Err(AdminError::Refused { code: code::GROUP_ID_NOT_FOUND, .. }) => return Ok(()),
            other => other?,
        };
        let partitions = self.shared.partitions.load_full();
        let ours = |tp: &TopicPartition| shadow::is_owed(map_of(&partitions)(tp).as_ref(), side.other());
        if stored.is_empty() || !stored.keys().all(ours) {
            return Ok(());
        }
        let address = self.coordinator(side, group).await?;
        let deleted = groups::delete(self.admin(side), &address, group).await;
        deleted.inspect_err(|_| self.forget(side, group))
    }

    /// One answer for each group, in their order.
    async fn delete_positions(&self, forgotten: &[(String, Vec<TopicPartition>)]) -> Vec<Result<(), AdminError>> {
        join_all(forgotten.iter().map(|(group, positions)| self.delete_positions_of(group, positions))).await
    }

    /// Only where a shadow may be: the rest is somebody else's.
    async fn delete_positions_of(&self, group: &str, positions: &[TopicPartition]) -> Result<(), AdminError> {
        let side = self.shadow_side(group);
        let _under_way = self.enter(side, group)?;
        let partitions = self.shared.partitions.load_full();
        let ours = |tp: &&TopicPartition| shadow::is_owed(map_of(&partitions)(tp).as_ref(), side.other());
        let ours: Vec<&TopicPartition> = positions.iter().filter(ours).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let address = self.coordinator(side, group).await?;
        let deleted = groups::delete_positions(self.admin(side), &address, group, &ours).await;
        deleted.inspect_err(|_| self.forget(side, group))
    }

    async fn coordinator(&self, side: Side, group: &str) -> Result<String, AdminError> {
        let key = (side, group.to_owned());
        let known = self.coordinators.borrow().get(&key).cloned();
        if let Some(address) = known {
            return Ok(address);
        }
        let address = groups::coordinator(self.admin(side), &self.known(side), group).await?;
        let mut coordinators = self.coordinators.borrow_mut();
        if coordinators.len() >= MOST_REMEMBERED {
            coordinators.clear();
        }
        coordinators.insert(key, address.clone());
        Ok(address)
    }

    fn forget(&self, side: Side, group: &str) {
        self.coordinators.borrow_mut().remove(&(side, group.to_owned()));
    }

    fn known(&self, side: Side) -> Vec<Broker> {
        self.shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default()
    }
}
