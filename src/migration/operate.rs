//! Does what the operator asks, one command after another, on the control thread.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters, writes the journal")]

mod completing;
mod late;
mod readers;

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::waive::{self, Asked};
use super::{hold, marker, moving, scheme, topics};
use crate::config::{Migration, Mirror};
use crate::control::operator::Ask;
use crate::control::protocol::{Action, Command, Event as Told, Outcome, Refusal};
use crate::ids::{Side, TopicName, TopicPartition};
use crate::mirror::configs;
use crate::monitor::metrics::GroupOutcome;
use crate::preflight;
use crate::routing::Shared;
use crate::routing::shared::HoldDeadline;
use crate::seal::hold::Sync;
use crate::seal::run::{Act, Failed};
use crate::seal::{Sealed, What};
use crate::store::event::WaiverKind;
use crate::store::{Event, MigrationState, Store, StoreError};
use crate::upstream::admin::Admin;

pub struct Control {
    shared: Arc<Shared>,
    store: Arc<Store>,
    admins: [Rc<Admin>; 2],
    workers: Vec<Sync>,
    deadlines: mpsc::UnboundedReceiver<HoldDeadline>,
    events: broadcast::Sender<Told>,
    started: Instant,
    /// When the next try to close a late seam may be made.
    late_not_before: Option<Instant>,
    /// Cancelled when the journal can no longer be trusted: the process ends.
    pub fatal: CancellationToken,
}

impl Control {
    pub fn new(
        shared: Arc<Shared>,
        store: Arc<Store>,
        admins: [Rc<Admin>; 2],
        workers: Vec<Sync>,
        deadlines: mpsc::UnboundedReceiver<HoldDeadline>,
        events: broadcast::Sender<Told>,
    ) -> Self {
        let (started, fatal) = (Instant::now(), CancellationToken::new());
        let late_not_before = None;
        let control = Self { shared, store, admins, workers, deadlines, events, started, late_not_before, fatal };
        control.show_steps();
        control
    }

    pub async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        loop {
            let asked = tokio::select! {
                asked = asked.recv() => asked,
                () = tokio::time::sleep(late::LOOK_EVERY), if self.is_any_late() => {
                    self.close_late_seams().await;
                    if self.fatal.is_cancelled() {
                        return;
                    }
                    continue;
                }
            };
            let Some(Ask { command, answer, .. }) = asked else { return };
            let done = self.command(&command).await;
            if let Err(refusal) = &done {
                tracing::warn!(migration = %command.migration, action = command.action.name(),
                    reason = %refusal.message, "refused");
            }
            if self.fatal.is_cancelled() {
                // Nothing goes on: not even an answer, which nobody could be sure of.
                return;
            }
            // Who asked may have gone.
            drop(answer.send(done));
        }
    }

    async fn command(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        let config = self.shared.config.clone();
        let migration = config.migration(&command.migration).ok_or_else(|| {
            Refusal::unknown_migration(&command.migration, config.migrations.iter().map(|m| m.name.as_str()))
        })?;
        command.check_step(&self.step(migration))?;
        match &command.action {
            Action::Prepare => self.prepare(migration, command.dry_run).await,
            Action::SwitchProducers { to, force, hold_consumers } => {
                self.switch(migration, *to, *force, *hold_consumers, command.dry_run).await
            }
            Action::SwitchConsumers { to } => self.switch_consumers(migration, *to, command.dry_run).await,
            Action::SwitchGroups { to, force } => self.switch_groups(migration, *to, *force, command.dry_run).await,
            Action::Complete => self.complete(migration, command.dry_run).await,
            Action::Abort => self.abort(migration, command.dry_run).await,
            Action::Skip { partition, why, force } => {
                self.skip(migration, partition, why, *force, command.dry_run).await
            }
            Action::Waive { kind, name, why } => {
                let asked = Asked { migration: &migration.name, kind: *kind, name, why };
                self.waive(migration, asked, command.dry_run).await
            }
        }
    }

    fn step(&self, migration: &Migration) -> String {
        let state = self.store.state();
        state.migrations.get(&migration.name).map_or_else(|| scheme::CONFIGURED.to_owned(), |m| m.step.clone())
    }

    async fn prepare(&mut self, migration: &Migration, dry_run: bool) -> Result<Outcome, Refusal> {
        let step = self.step(migration);
        if step != scheme::CONFIGURED && step != scheme::PREPARED {
            let message = format!("migration {} is at step `{step}`: producers have switched already", migration.name);
            return Err(Refusal::new("too_late", message, "topics that match later need a migration of their own"));
        }
        let [source, target] = &self.admins;
        self.preflight(migration, None).await?;
        let already = self.store.state();
        let pinned = already.migrations.get(&migration.name).map_or(&[][..], |m| &m.topics);
        let refused = |text: String| Refusal::new("prepare", text, "nothing was journalled; mend it and try again");
        let before = (pinned, &already.held);
        let prepare = |dry_run| topics::prepare(&self.shared.config, migration, source, target, before, dry_run);
        let mut prepared = prepare(true).await.map_err(|e| refused(e.to_string()))?;
        if !dry_run {
            // Before the topics are looked at for good: until they are journalled nothing keeps clients from altering them.
            for admin in &self.admins {
                let made = marker::ensure_topic(admin, &self.shared.config.name).await;
                made.map_err(|e| refused(e.to_string()))?;
            }
            prepared = prepare(false).await.map_err(|e| refused(e.to_string()))?;
            let event = Event::Pinned {
                migration: migration.name.clone(),
                scheme: migration.scheme.name().to_owned(),
                topics: prepared.topics,
            };
            let step = Event::Step { migration: migration.name.clone(), step: scheme::PREPARED.to_owned() };
            self.append(vec![event, step]).await?;
            self.shared.set_prepared(&self.store.state());
            self.shared.mirrors.look_again();
            self.shared.refresh(Side::Source);
            self.shared.refresh(Side::Target);
            self.tell(migration, scheme::PREPARED);
        }
        let at = if dry_run { step } else { scheme::PREPARED.to_owned() };
        Ok(Outcome { migration: migration.name.clone(), step: at, done: prepared.done, dry_run, ..Outcome::default() })
    }

    async fn waive(&self, migration: &Migration, asked: Asked<'_>, dry_run: bool) -> Result<Outcome, Refusal> {
        let decide = |others: &[String]| {
            let drain = self.shared.drains.of(asked.migration);
            waive::event(&self.store.state(), drain.as_deref(), others, asked, crate::clock::now_ms())
        };
        let mut decided = decide(&[]);
        if decided.as_ref().is_err_and(|refusal| refusal.code == waive::UNKNOWN_GROUP) {
            // What was not found in time was not found.
            self.look_at_groups().await;
            decided = decide(&self.members_of(migration).await);
        }
        let event = decided?;
        let what = format!("{} {}: {}", asked.kind, asked.name, asked.why.trim());
        let done = match (&event, dry_run) {
            (None, _) => format!("was waived already: {what}"),
            (Some(_), true) => format!("would waive {what}"),
            (Some(_), false) => format!("waived {what}"),
        };
        if let (Some(event), false) = (event, dry_run) {
            self.append(vec![event]).await?;
            let Asked { kind, name, why, .. } = asked;
            let waived = json!({ "kind": kind, "name": name, "why": why.trim() });
            let details = Map::from_iter([("waived".to_owned(), waived)]);
            // Nobody may be listening.
            drop(self.events.send(Told {
                kind: "waived".to_owned(),
                migration: Some(migration.name.clone()),
                details,
            }));
        }
        let (migration, step) = (migration.name.clone(), self.step(migration));
        Ok(Outcome { migration, step, done: vec![done], dry_run, ..Outcome::default() })
    }

    /// Groups that are still at home on the source, also those that have committed nothing.
    async fn members_of(&self, migration: &Migration) -> Vec<String> {
        let state = self.store.state();
        let known = state.migrations.get(&migration.name).filter(|m| m.sealed_at_ms.is_some());
        let Some(known) = known else { return vec![] };
        let found = self.act(migration, known, Side::Target).find().await;
        found.map_or_else(|_| vec![], |found| found.into_iter().map(|f| f.group).collect())
    }

    /// Until a look at the groups that began after now has ended, for as long as a cluster may take to answer. Whether one
    /// has.
    async fn look_at_groups(&self) -> bool {
        let mut looks = self.shared.drains.looks();
        let before = self.shared.drains.ask();
        let look = looks.wait_for(|ended| *ended > before);
        matches!(tokio::time::timeout(self.shared.config.timeouts.request, look).await, Ok(Ok(_)))
    }

    async fn preflight(&self, migration: &Migration, pinned: Option<&HashSet<TopicName>>) -> Result<(), Refusal> {
        let [source, target] = &self.admins;
        let (seen, now_ms) = (&self.shared.transactions, crate::clock::now_ms());
        let (topics, carried) = (seen.writers(|_| true, now_ms), seen.all_carried(now_ms));
        let seen = preflight::Seen { topics, carried, held: configs::held(&self.store.state()) };
        let mut findings = preflight::run(&self.shared.config, source, target, &[migration], pinned, &seen).await;
        // A group that has moved is used on the target, and by nobody else.
        let has_moved = |at: &str| at.strip_prefix("group ").is_some_and(|g| self.shared.homes.of(g) == Side::Target);
        findings.retain(|f| !(f.code.starts_with("group_") && has_moved(&f.where_)));
        if pinned.is_some() {
            // What is there lies below the end that `prepare` has pinned (its own trial, back after a broker's crash), or the
            // seal finds that the end is another one.
            findings.retain(|f| f.code != "target_not_empty");
        }
        let details =
            [("findings".to_owned(), json!(findings)), ("not_checked".to_owned(), json!(preflight::NOT_CHECKED))];
        // Nobody may be listening.
        drop(self.events.send(Told {
            kind: "preflight".to_owned(),
            migration: Some(migration.name.clone()),
            details: Map::from_iter(details),
        }));
        for finding in &findings {
            tracing::warn!(severity = ?finding.severity, code = %finding.code, at = %finding.where_,
                action = %finding.action, "{}", finding.message);
        }
        match findings.iter().find(|f| f.severity == preflight::Severity::Error) {
            None => Ok(()),
            Some(error) => {
                let message = format!("{}: {}", error.where_, error.message);
                Err(Refusal::new(format!("preflight:{}", error.code), message, error.action.clone()))
            }
        }
    }

    async fn switch(
        &mut self,
        migration: &Migration,
        to: Side,
        force: bool,
        hold_consumers: bool,
        dry_run: bool,
    ) -> Result<Outcome, Refusal> {
        let state = self.store.state();
        let step = self.step(migration);
        let Some(known) = state.migrations.get(&migration.name) else {
            let message = format!("migration {} is not prepared", migration.name);
            return Err(Refusal::new(
                "not_prepared",
                message,
                format!("run `kafka-cutover prepare {}` first", migration.name),
            ));
        };
        if to == Side::Source {
            let hint =
                "`switch producers` goes to the target; rolling back is a command of its own, which is not offered yet";
            return Err(Refusal::new("not_supported", "producers cannot be switched back to the source yet", hint));
        }
        let partitions: Vec<TopicPartition> = known
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| TopicPartition::new(t.name.clone(), p.partition)))
            .collect();
        if scheme::has_reached(migration.scheme, &step, scheme::PRODUCERS_SWITCHED) {
            let mut done = vec![format!("producers of {} are on the target already", migration.name)];
            done.extend(hold::again(&migration.name, known, hold_consumers)?);
            if known.late_since_ms.is_some() && !dry_run {
                if force {
                    self.abort_late(migration).await?;
                }
                done.push(self.late_seam(migration).await);
            }
            return Ok(Outcome {
                migration: migration.name.clone(),
                step,
                done,
                dry_run,
                hold_ms: known.hold_ms,
                ..Outcome::default()
            });
        }
        if migration.mirror == Mirror::Forward && known.topics.iter().any(|topic| topic.mirror.is_none()) {
            let message = format!("migration {} was prepared without its mirror", migration.name);
            return Err(Refusal::new("not_mirrored", message, "prepare the migration again"));
        }
        self.pinned(known).await?;
        // Much may have changed since `prepare`; what is found after the seal is found by clients.
        let pinned = known.topics.iter().map(|t| t.name.clone()).collect();
        self.preflight(migration, Some(&pinned)).await?;
        self.carried_can_move(migration, known, &partitions, to).await?;
        let what = format!("{} partitions of {} topics", partitions.len(), known.topics.len());
        if dry_run {
            let open = self.open_transactions(&partitions, to, force).await?;
            let mut done = vec![format!("would hold, seal and release {what}: produce goes on on the {to}")];
            done.extend(open);
            done.extend(hold_consumers.then(|| hold::stay(&migration.name, true)));
            return Ok(Outcome { migration: migration.name.clone(), step, done, dry_run, ..Outcome::default() });
        }
        self.record_carriers().await?;
        tracing::info!(migration = %migration.name, %to, partitions = partitions.len(), "the seal begins");
        match self.seal(migration, partitions, to, hold_consumers, What::Switch { force }).await {
            Ok(sealed) => {
                tracing::info!(migration = %migration.name, %to, hold_ms = sealed.hold_ms, partitions = sealed.partitions, "sealed");
                self.shared.set_prepared(&self.store.state());
                self.shared.mirrors.look_again();
                self.tell(migration, scheme::PRODUCERS_SWITCHED);
                let mut done =
                    vec![format!("sealed {what}; produce was held for {} ms and goes on on the {to}", sealed.hold_ms)];
                done.extend(hold_consumers.then(|| hold::stay(&migration.name, false)));
                if sealed.late {
                    done.push(self.late_seam(migration).await);
                }
                let step = scheme::PRODUCERS_SWITCHED.to_owned();
                let hold_ms = Some(sealed.hold_ms);
                Ok(Outcome { migration: migration.name.clone(), step, done, hold_ms, ..Outcome::default() })
            }
            Err(Failed::Refused(refusal)) => Err(refusal),
            Err(Failed::Fatal(error)) => {
                tracing::error!(%error, "the seal may or may not be durable: the process ends, its next start decides");
                self.fatal.cancel();
                Err(Refusal::new("failed", error.to_string(), "start the proxy again: the journal decides"))
            }
        }
    }

    async fn switch_groups(
        &mut self,
        migration: &Migration,
        to: Side,
        force: bool,
        dry_run: bool,
    ) -> Result<Outcome, Refusal> {
        let step = self.step(migration);
        let state = self.store.state();
        let known = state.migrations.get(&migration.name);
        let Some(known) = known.filter(|_| scheme::has_reached(migration.scheme, &step, scheme::PRODUCERS_SWITCHED))
        else {
            let message = format!("migration {} is at step `{step}`: its producers have not switched", migration.name);
            let hint = format!("run `kafka-cutover switch {} producers` first", migration.name);
            return Err(Refusal::new("too_early", message, hint));
        };
        if to == Side::Source {
            let hint =
                "`switch groups` goes to the target; rolling back is a command of its own, which is not offered yet";
            return Err(Refusal::new("not_supported", "groups cannot be switched back to the source yet", hint));
        }
        self.seam_is_placed(migration)?;
        let mut act = self.act(migration, known, to);
        if !force {
            act.look_for_transactions(self.started.elapsed()).await;
        }
        let found = act.find().await.map_err(|e| {
            Refusal::new("cluster_unreachable", e.to_string(), "nothing was changed; try again when it can be reached")
        })?;
        if dry_run {
            let done = found.iter().map(|f| {
                let state = if f.listed.state.is_empty() { "unknown" } else { f.listed.state.as_str() };
                format!("would move group {} ({state}) to the {to}", f.group)
            });
            let done = done.collect();
            return Ok(Outcome { migration: migration.name.clone(), step, done, dry_run, ..Outcome::default() });
        }
        let count = found.len();
        tracing::info!(migration = %migration.name, %to, groups = count, "groups begin to move");
        let outcomes = act.run(found).await;
        let mut done = Vec::with_capacity(count);
        let mut left = Vec::new();
        for (group, outcome) in outcomes {
            match outcome {
                Ok(moved) => {
                    self.count_moved(&group, to, &moved);
                    let took = moved.took.as_millis();
                    done.push(format!(
                        "group {group} is at home on the {to}: {} members, {} positions, {took} ms",
                        moved.members, moved.positions
                    ));
                }
                Err(moving::Failed::Undone(why)) => {
                    tracing::warn!(group, %to, why, "the group did not move: it is where it was");
                    self.shared.metrics.groups_moved.of(GroupOutcome::Undone).increment(1);
                    match known.waiver(WaiverKind::Group, &group) {
                        None => left.push(format!("group {group}: {why}")),
                        Some(_) => done.push(format!("group {group} is waived, and stays where it is: {why}")),
                    }
                }
                Err(moving::Failed::Fatal(error)) => {
                    tracing::error!(%error, "a move may or may not be durable: the process ends, its next start decides");
                    self.fatal.cancel();
                    return Err(Refusal::new(
                        "failed",
                        error.to_string(),
                        "start the proxy again: the journal decides",
                    ));
                }
            }
        }
        done.sort();
        left.sort();
        if !left.is_empty() {
            let message = format!("{} of {count} groups did not move: {}", left.len(), left.join("; "));
            let hint = "those that did are at home on the target; mend it and run it again for the rest";
            return Err(Refusal::new("groups_left", message, hint));
        }
        if !scheme::has_reached(migration.scheme, &step, scheme::GROUPS_SWITCHED) {
            let step = scheme::GROUPS_SWITCHED.to_owned();
            self.append(vec![Event::Step { migration: migration.name.clone(), step }]).await?;
            self.tell(migration, scheme::GROUPS_SWITCHED);
        }
        if done.is_empty() {
            done.push(format!("no group of {} is at home on the source", migration.name));
        }
        let step = self.step(migration);
        Ok(Outcome { migration: migration.name.clone(), step, done, ..Outcome::default() })
    }

    async fn seal(
        &mut self,
        migration: &Migration,
        partitions: Vec<TopicPartition>,
        to: Side,
        hold_consumers: bool,
        what: What,
    ) -> Result<Sealed, Failed> {
        crate::seal::run(Act {
            shared: &self.shared,
            store: &self.store,
            admins: &self.admins,
            workers: &self.workers,
            deadlines: &mut self.deadlines,
            migration: migration.name.clone(),
            partitions,
            to,
            hold_consumers,
            what,
        })
        .await
    }

    fn act<'a>(&'a self, migration: &'a Migration, known: &MigrationState, to: Side) -> moving::Act<'a> {
        moving::Act {
            shared: &self.shared,
            store: &self.store,
            admins: &self.admins,
            migration: &migration.name,
            topics: known.topics.iter().map(|t| t.name.clone()).collect(),
            to,
            carried: std::collections::BTreeSet::new(),
            unseen_transactions: None,
        }
    }

    /// The topics are those that `prepare` pinned: one deleted and made anew, on either side, is another one.
    async fn pinned(&self, known: &crate::store::MigrationState) -> Result<(), Refusal> {
        for side in Side::BOTH {
            let brokers = self.shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default();
            let look = crate::upstream::discovery::look(&self.admins[side.index()], &brokers).await;
            let view = look
                .map_err(|e| Refusal::new("cluster_unreachable", e.to_string(), "try again when it can be reached"))?;
            for topic in &known.topics {
                let pinned = if side == Side::Source { topic.source_id } else { topic.target_id };
                let Some(found) = view.topics.get(&topic.name) else {
                    let message = format!("topic {} is gone from the {side}", topic.name);
                    return Err(Refusal::new("topic_gone", message, "prepare the migration again"));
                };
                if found.id != pinned {
                    let message =
                        format!("topic {} on the {side} was deleted and made anew since it was prepared", topic.name);
                    return Err(Refusal::new("topic_made_anew", message, "prepare the migration again"));
                }
                if found.partitions.len() != topic.partitions.len() {
                    let message = format!(
                        "topic {} on the {side} has {} partitions, it was prepared with {}",
                        topic.name,
                        found.partitions.len(),
                        topic.partitions.len()
                    );
                    return Err(Refusal::new(
                        "partition_count",
                        message,
                        "make both sides equal and prepare the migration again",
                    ));
                }
            }
        }
        self.seen_by_all(known).await
    }

    /// What workers route by may be older than the look that was just taken: a topic made anew would be sealed by what is
    /// remembered of the old one.
    async fn seen_by_all(&self, known: &crate::store::MigrationState) -> Result<(), Refusal> {
        let mut changed = self.shared.topology_changed.subscribe();
        let all = || {
            let topology = self.shared.topology.load();
            let seen = |name: &str, id| topology.topic(Side::Source, name).is_some_and(|t| t.id == id);
            known.topics.iter().all(|t| t.source_id.is_nil() || seen(&t.name, t.source_id))
        };
        let looks = async {
            while !all() {
                self.shared.refresh(Side::Source);
                drop(changed.changed().await);
            }
        };
        tokio::time::timeout(self.shared.config.timeouts.request, looks).await.map_err(|_| {
            let message = "the source's metadata is not up to date".to_owned();
            Refusal::new("cluster_unreachable", message, "try again when all of its brokers can be reached")
        })
    }

    async fn append(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || store.append(&events)).await;
        self.shared.metrics.journal_appends.increment(1);
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                if matches!(error, StoreError::Unknown(_) | StoreError::Poisoned) {
                    tracing::error!(%error, "the journal cannot be written: the process ends");
                    self.fatal.cancel();
                }
                Err(Refusal::new("failed", error.to_string(), "mend the state directory, then start again"))
            }
            Err(error) => Err(Refusal::new("failed", error.to_string(), "try again")),
        }
    }

    fn tell(&self, migration: &Migration, step: &str) {
        let details = Map::from_iter([("step".to_owned(), json!(step))]);
        // Nobody may be listening.
        drop(self.events.send(Told { kind: "step".to_owned(), migration: Some(migration.name.clone()), details }));
        self.show_steps();
    }

    fn show_steps(&self) {
        for migration in &self.shared.config.migrations {
            let names = scheme::names(migration.scheme);
            self.shared.metrics.set_migration_step(&migration.name, &self.step(migration), &names);
        }
        self.show_skipped();
        let snapshot = self.shared.partitions.load();
        for (topic, states) in &snapshot.topics {
            for (partition, state) in (0..).zip(states.iter()).filter(|(_, s)| s.map.seals() > 0) {
                let segments = state.map.segments().len() + 1;
                let partition = TopicPartition { topic: topic.clone(), partition };
                self.shared.metrics.segments(&partition).set(segments as f64);
            }
        }
    }
}
