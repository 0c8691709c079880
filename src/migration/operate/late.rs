//! The second hold of a switch whose seam is late: when the last transaction of before it has ended.
#![allow(clippy::disallowed_methods, reason = "io: asks the coordinators, again after a while")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Map;
use tokio::time::Instant;

use super::Control;
use crate::clock;
use crate::config::Migration;
use crate::control::protocol::{LateWaits, OpenTransaction, Refusal};
use crate::ids::{Side, TopicPartition};
use crate::migration::moving::Found;
use crate::migration::{late, moving};
use crate::monitor::metrics::GroupOutcome;
use crate::seal::run::{Failed, HANGS, STILL_OPEN};
use crate::seal::sides::Seen;
use crate::seal::{Sealed, What, settle, transactions};
use crate::store::{Event, MigrationState};
use crate::upstream::admin::AdminError;
use crate::upstream::ask::groups::Listed;
use crate::upstream::ask::transactions::Transaction;

/// Between two looks at what is open.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest that a command waits for a seam.
const AWAITED: Duration = Duration::from_secs(10);
/// After a try that failed for another reason than an open transaction.
const PAUSE: Duration = Duration::from_secs(1);
/// After a group did not move.
const GROUP_PAUSE: Duration = Duration::from_secs(10);

impl Control {
    /// The migrations with a late seam that is open.
    fn late(&self) -> Vec<Migration> {
        let state = self.store.state();
        let is_late = |m: &&Migration| state.migrations.get(&m.name).is_some_and(|known| known.late_since_ms.is_some());
        self.shared.config.migrations.iter().filter(is_late).cloned().collect()
    }

    pub(super) fn is_any_late(&self) -> bool {
        self.store.state().migrations.values().any(|known| known.late_since_ms.is_some())
    }

    /// One look at each of them, and the seam of those whose transactions have ended.
    pub(super) async fn close_late_seams(&mut self) {
        for migration in self.late() {
            self.close_late_seam(&migration).await;
        }
    }

    /// What became of a seam that is late, in words.
    pub(super) async fn late_seam(&mut self, migration: &Migration) -> String {
        match self.await_late_seam(migration).await {
            Some(hold_ms) => {
                format!(
                    "transactions of before ended on the side that they began on; their seam took a hold of {hold_ms} ms"
                )
            }
            None => {
                let waits = late::waits(&self.shared.late_seams.of(&migration.name));
                format!("{waits}; it closes by itself, until then readers wait there")
            }
        }
    }

    /// Waits for the seam of a switch that was just made, but not so long that other commands would wait.
    async fn await_late_seam(&mut self, migration: &Migration) -> Option<u64> {
        let until = Instant::now() + self.shared.config.seal.late_seam_max.min(AWAITED);
        loop {
            if let Some(sealed) = self.close_late_seam(migration).await {
                return Some(sealed.hold_ms);
            }
            if Instant::now() >= until || self.fatal.is_cancelled() {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn seam_is_placed(&self, migration: &Migration) -> Result<(), Refusal> {
        let state = self.store.state();
        let Some(known) = state.migrations.get(&migration.name) else { return Ok(()) };
        late::is_placed(&migration.name, known, &self.shared.late_seams.of(&migration.name))
    }

    /// `--force` with a late seam that is open: what keeps it so is aborted.
    pub(super) async fn abort_late(&self, migration: &Migration) -> Result<(), Refusal> {
        let Some((partitions, to)) = self.late_partitions(migration) else { return Ok(()) };
        let (seen, open) = self.look_at_open(&partitions, to.other()).await?;
        transactions::abort(&self.shared, &seen, &open.unwrap_or_default()).await
    }

    /// The transactions that are open on a side, as `transactions::open` has them, by a fresh look at it.
    async fn look_at_open(
        &self,
        partitions: &[TopicPartition],
        side: Side,
    ) -> Result<(Seen<'_>, Option<Vec<Transaction>>), Refusal> {
        let unreachable = |e: AdminError| {
            Refusal::new("cluster_unreachable", e.to_string(), "nothing was changed; try again when it can be reached")
        };
        let admin = &self.admins[side.index()];
        let known = self.shared.topology.load().side(side).cloned();
        let seen = Seen::first(admin, known).await.map_err(unreachable)?;
        let open = transactions::open(&self.shared, admin, &seen.view(), partitions).await.map_err(unreachable)?;
        Ok((seen, open))
    }

    /// What a switch would say of the transactions that are open now, or why it would be refused.
    pub(super) async fn open_transactions(
        &self,
        partitions: &[TopicPartition],
        to: Side,
        force: bool,
    ) -> Result<Option<String>, Refusal> {
        let old = to.other();
        let (_, open) = self.look_at_open(partitions, old).await?;
        if !force {
            transactions::can_end(&self.shared, partitions, open.as_deref(), old)?;
        }
        let open = open.unwrap_or_default();
        Ok((!open.is_empty())
            .then(|| format!("{} transactions are open: readers would wait until they have ended", open.len())))
    }

    /// Its partitions whose seam is late, and the side that they go on on.
    fn late_partitions(&self, migration: &Migration) -> Option<(Vec<TopicPartition>, Side)> {
        let state = self.store.state();
        let known = state.migrations.get(&migration.name)?;
        let all = known.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.partition)));
        let all = all.map(|(topic, partition)| TopicPartition::new(topic, partition));
        let late = all.filter_map(|tp| Some((state.partition(&tp)?.map.clone(), tp))).filter(|(map, _)| map.is_late());
        let late: Vec<_> = late.collect();
        let to = late.first()?.0.open_side();
        Some((late.into_iter().map(|(_, tp)| tp).collect(), to))
    }

    async fn close_late_seam(&mut self, migration: &Migration) -> Option<Sealed> {
        if self.late_not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let (partitions, to) = self.late_partitions(migration)?;
        let old = to.other();
        let groups = transactions::carried(&self.shared, &partitions, to);
        if !groups.is_empty() {
            self.move_carried(migration, groups, to).await;
            return None;
        }
        let view = self.shared.topology.load().side(old).filter(|view| view.reachable).cloned()?;
        let open = transactions::open(&self.shared, &self.admins[old.index()], &view, &partitions).await;
        let Ok(Some(open)) = open.inspect_err(|error| {
            tracing::debug!(migration = %migration.name, %error, "the transactions of a late seam were not looked at");
        }) else {
            self.shared.refresh(old);
            return None;
        };
        let known = self.store.state();
        self.waits_for(migration, LateWaits { open: transactions::shown(&open), groups: vec![] });
        if !open.is_empty() {
            return None;
        }
        let snapshot = self.shared.partitions.load();
        let find = |tp: &TopicPartition| Some((tp.clone(), snapshot.get(&tp.topic, tp.partition)?.live.clone()));
        let lives: Vec<_> = partitions.iter().filter_map(find).collect();
        // It does not wait with a hold for what may still land.
        if settle::unsettled(&lives, clock::now_ms()).is_some() {
            return None;
        }
        let hold_consumers = known.migrations.get(&migration.name).is_some_and(|m| m.consumers_held_at_ms.is_some());
        match self.seal(migration, partitions, to, hold_consumers, What::LateSeam).await {
            Ok(sealed) => {
                self.late_not_before = None;
                tracing::info!(migration = %migration.name, hold_ms = sealed.hold_ms, partitions = sealed.partitions,
                    "the late seam is closed: readers go on over it");
                self.say(migration, "late_seam_closed", Map::new());
                self.show_steps();
                Some(sealed)
            }
            Err(Failed::Refused(refusal)) if refusal.code == STILL_OPEN => None,
            Err(Failed::Refused(refusal)) if refusal.code == HANGS => {
                self.late_not_before = Some(Instant::now() + PAUSE);
                let open = vec![OpenTransaction { id: refusal.message, since: String::new() }];
                self.waits_for(migration, LateWaits { open, groups: vec![] });
                None
            }
            Err(Failed::Refused(refusal)) => {
                tracing::warn!(migration = %migration.name, reason = %refusal.message,
                    "the late seam could not be closed: it is tried again");
                self.late_not_before = Some(Instant::now() + PAUSE);
                None
            }
            Err(Failed::Fatal(error)) => {
                tracing::error!(%error, "the seam may or may not be durable: the process ends, its next start decides");
                self.fatal.cancel();
                None
            }
        }
    }

    /// Groups whose positions are carried by transactions: each moves home, as in `switch groups`, and the ids follow with their
    /// next transactions.
    async fn move_carried(&mut self, migration: &Migration, groups: BTreeSet<String>, to: Side) {
        let state = self.store.state();
        let Some(known) = state.migrations.get(&migration.name) else { return };
        let waiting = groups.iter().cloned().collect();
        self.waits_for(migration, LateWaits { open: vec![], groups: waiting });
        let found = groups.iter().map(|group| Found { group: group.clone(), listed: Listed::default() }).collect();
        let act = moving::Act { carried: groups.clone(), ..self.act(migration, known, to) };
        let mut failed = Vec::new();
        for (group, outcome) in act.run(found).await {
            match outcome {
                Ok(moved) => self.count_moved(&group, to, &moved),
                Err(moving::Failed::Undone(why)) => {
                    tracing::warn!(group, %to, why, "the group did not move, and the seam waits for it: it is tried again");
                    self.shared.metrics.groups_moved.of(GroupOutcome::Undone).increment(1);
                    failed.push(format!("{group}: {why}"));
                }
                Err(moving::Failed::Fatal(error)) => {
                    tracing::error!(%error, "a move may or may not be durable: the process ends, its next start decides");
                    self.fatal.cancel();
                    return;
                }
            }
        }
        if !failed.is_empty() {
            // Each try is a rebalance of its members.
            self.late_not_before = Some(Instant::now() + GROUP_PAUSE);
            self.waits_for(migration, LateWaits { open: vec![], groups: failed });
        }
    }

    pub(super) fn count_moved(&self, group: &str, to: Side, moved: &moving::Moved) {
        let took = moved.took.as_millis();
        tracing::info!(group, %to, members = moved.members, positions = moved.positions, took_ms = took, "moved");
        self.shared.metrics.groups_moved.of(GroupOutcome::Moved).increment(1);
    }

    /// Before a switch: what was seen of pipelines before there was a migration is on record.
    pub(super) async fn record_carriers(&self) -> Result<(), Refusal> {
        let state = self.store.state();
        let events = self.shared.transactions.all_carried(clock::now_ms()).into_iter().filter_map(|(id, group)| {
            let topics = self.shared.transactions.topics_of(&id);
            let known = state.carriers.get(&id);
            let is_known =
                known.is_some_and(|known| known.groups.contains(&group) && known.topics.is_superset(&topics));
            (!is_known).then_some(Event::TransactionCarries { id, group, topics })
        });
        let events: Vec<Event> = events.collect();
        if events.is_empty() { Ok(()) } else { self.append(events).await }
    }

    /// Before a switch: the groups that would have to move with it can.
    pub(super) async fn carried_can_move(
        &self,
        migration: &Migration,
        known: &MigrationState,
        partitions: &[TopicPartition],
        to: Side,
    ) -> Result<(), Refusal> {
        let act = self.act(migration, known, to);
        for group in transactions::carried(&self.shared, partitions, to) {
            if let Err(moving::Failed::Undone(why)) = act.can_move(&group).await {
                let message = format!("transactions carry positions of group {group}, which cannot move along: {why}");
                let hint = "mend it, then try again; nothing was changed";
                return Err(Refusal::new("transactional_groups", message, hint));
            }
        }
        Ok(())
    }

    /// Says what it waits for; once as an alarm, when it has been open for longer than was to be expected.
    fn waits_for(&self, migration: &Migration, waits: LateWaits) {
        let state = self.store.state();
        let since = state.migrations.get(&migration.name).and_then(|m| m.late_since_ms);
        let limit = i64::try_from(self.shared.config.seal.late_seam_max.as_millis()).unwrap_or(i64::MAX);
        let is_long = since.filter(|since| clock::now_ms() - since > limit);
        if let Some(since) = is_long
            && self.shared.alarms.is_first(format!("late seam of {} since {since}", migration.name))
        {
            tracing::error!(migration = %migration.name, waits = late::waits(&waits), what_to_do = "end these transactions, or run \
                `switch producers --force`, which aborts those that a coordinator knows; others: kafka-transactions.sh abort", "readers wait at the end of the old side for longer than expected");
        }
        self.shared.late_seams.set(&migration.name, waits);
    }
}
