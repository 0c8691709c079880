//! How a migration ends: `abort`, before its first switch; and `complete`, with what stands in its way, the groups' last positions,
//! the record, and the side that is left.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters, waits, writes the journal")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Control;
use crate::clock;
use crate::config::Migration;
use crate::control::protocol::{Outcome, Refusal};
use crate::groups::drained::Drain;
use crate::ids::Side;
use crate::migration::closing::{self, Closed, Wanted};
use crate::migration::complete::{self, Found};
use crate::migration::{abort, moving, scheme};
use crate::store::event::WaiverKind;
use crate::store::identity::marker_topic;
use crate::store::{Event, MigrationState, PreparedTopic, State};

/// For what a mirror has to do at its end.
const RELEASE: Duration = Duration::from_secs(10);

impl Control {
    pub(super) async fn complete(&self, migration: &Migration, dry_run: bool) -> Result<Outcome, Refusal> {
        let (step, state) = (self.step(migration), self.store.state());
        let outcome = |step: String, done| {
            let migration = migration.name.clone();
            Ok(Outcome { migration, step, done, dry_run, ..Outcome::default() })
        };
        let known = state.migrations.get(&migration.name);
        let Some(known) = known.filter(|_| scheme::has_reached(migration.scheme, &step, scheme::GROUPS_SWITCHED))
        else {
            let message = format!("migration {} is at step `{step}`: its groups have not switched", migration.name);
            let hint = format!("run `kafka-cutover switch {} groups` first", migration.name);
            return Err(Refusal::new("too_early", message, hint));
        };
        if known.completed.is_some() {
            return outcome(step, self.completed_already(migration, known, &state, dry_run).await);
        }
        if known.consumers_held_at_ms.is_some() {
            let message = format!("consumers of {} are held at the seam", migration.name);
            let hint = format!("run `kafka-cutover switch {} consumers` first", migration.name);
            return Err(Refusal::new("consumers_held", message, hint));
        }
        self.grace(known).await;
        let act = self.act(migration, known, Side::Target);
        let (found, drain) = self.look(&act, &state).await?;
        let mut checks = complete::judge(&state, &migration.name, Some(&drain), &found)?;
        let groups = to_close(known, &drain, &found);
        let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let what = format!("the positions of {}", of(groups.len(), "group"));
        if dry_run {
            let source = of(found.ends.len(), "partition");
            let done = vec![format!("would write {what} natively to both clusters, and leave {source} on the source")];
            return outcome(step, done);
        }
        // Those that are waived last: what is left below the seam is taken from them.
        let everybody: Vec<Wanted> = groups.iter().map(|w| Wanted { seen: None, ..w.clone() }).collect();
        let (groups, waived): (Vec<Wanted>, Vec<Wanted>) = groups.into_iter().partition(|w| w.seen.is_some());
        let (mut closed, failed) = closing::close(&act, groups).await;
        if !failed.is_empty() {
            let hint = "nothing was completed; mend it and run it again";
            return Err(Refusal::new("groups_left", failed.join("; "), hint));
        }
        let (more, not_closed) = closing::close(&act, waived).await;
        closed.extend(more);
        let positions = closed.iter().map(|c| c.positions.len()).sum();
        checks.push(complete::positions(closed.len(), positions, &not_closed));
        crate::crash_point!("complete.closed");
        self.append(events(&migration.name, closed, checks)).await?;
        crate::crash_point!("complete.journalled");
        let state = self.store.state();
        self.leave(&state, known);
        let still_held = self.released(&known.topics).await;
        self.tell(migration, scheme::COMPLETED);
        // What was committed below the seam in between would have no meaning any more.
        let (_, late) = closing::close(&act, everybody).await;
        let mut done = vec![
            format!("{what} hold natively on both clusters, {}", of(positions, "position")),
            format!("the log that clients see begins on the target now, for {}", of(found.ends.len(), "partition")),
            "keep the source, its topics and the state directory until no client uses the proxy any more".to_owned(),
        ];
        done.extend(still_held);
        done.extend(late.iter().filter(|w| !not_closed.contains(w)).map(|why| format!("warning: {why}")));
        done.extend(abort::unmark(&self.admins, &self.shared.config.name, &state).await);
        done.push(format!("kafka-cutover report {} is the certificate", migration.name));
        outcome(scheme::COMPLETED.to_owned(), done)
    }

    pub(super) async fn abort(&self, migration: &Migration, dry_run: bool) -> Result<Outcome, Refusal> {
        let step = self.step(migration);
        if step != scheme::CONFIGURED && step != scheme::PREPARED {
            let message = format!("migration {} is at step `{step}`: its log lies on both clusters", migration.name);
            return Err(Refusal::new(
                "too_late",
                message,
                "what has switched is rolled back, which is not offered yet",
            ));
        }
        let state = self.store.state();
        let pinned = state.migrations.get(&migration.name).map_or(&[][..], |m| &m.topics);
        let [_, target] = &self.admins;
        let left = abort::left(target, pinned).await;
        let what = format!("{} topics; they stay on the source, as they were", pinned.len());
        let mut done = vec![if dry_run { format!("would forget {what}") } else { format!("forgot {what}") }];
        if !dry_run {
            let events = abort::events(&state, &migration.name);
            if !events.is_empty() {
                let copies = self.shared.mirrors.of_migration(&migration.name);
                copies.iter().for_each(|mirrored| mirrored.halt(true));
                if let Err(refusal) = self.append(events).await {
                    copies.iter().for_each(|mirrored| mirrored.halt(false));
                    return Err(refusal);
                }
                done.extend(self.released(pinned).await);
                self.shared.refresh(Side::Source);
                self.shared.refresh(Side::Target);
                self.tell(migration, scheme::CONFIGURED);
            }
            done.extend(abort::unmark(&self.admins, &self.shared.config.name, &self.store.state()).await);
        }
        done.extend(left);
        if !pinned.is_empty() {
            let topic = marker_topic(&self.shared.config.name);
            done.push(format!(
                "left on both clusters: topic {topic}, for the markers of the proxy `{}`; delete it when that proxy is no more",
                self.shared.config.name
            ));
        }
        let step = if dry_run { step } else { scheme::CONFIGURED.to_owned() };
        Ok(Outcome { migration: migration.name.clone(), step, done, dry_run, ..Outcome::default() })
    }

    /// Run again: what may have been left to do, and who has come since.
    async fn completed_already(
        &self,
        migration: &Migration,
        known: &MigrationState,
        state: &State,
        dry_run: bool,
    ) -> Vec<String> {
        let mut done = vec![format!("migration {} is completed already", migration.name)];
        let act = self.act(migration, known, Side::Target);
        match act.find().await {
            Ok(found) => done.extend(found.iter().map(|f| {
                let (group, name) = (&f.group, &migration.name);
                format!("group {group} has come since, and is at home on the source: run `kafka-cutover switch {name} groups`")
            })),
            Err(error) => done.push(format!("warning: whether groups have come since is not known ({error})")),
        }
        if !dry_run {
            done.extend(abort::unmark(&self.admins, &self.shared.config.name, state).await);
        }
        done
    }

    /// The time of these topics' copies is over: until their lanes have ended and they are set to what is configured, but not for
    /// long. What is not done then, in words.
    pub(super) async fn released(&self, topics: &[PreparedTopic]) -> Vec<String> {
        self.shared.set_prepared(&self.store.state());
        let mut looks = self.shared.mirrors.looks();
        let asked = self.shared.mirrors.look_again();
        drop(tokio::time::timeout(RELEASE, looks.wait_for(|looked| *looked >= asked)).await);
        let held = &self.store.state().held;
        let still = topics.iter().filter(|topic| topic.mirror.is_some() && held.contains_key(&topic.name));
        let word = |topic: &PreparedTopic| {
            format!(
                "warning: topic {} of the target is still set to keep what was copied; it is tried again",
                topic.name
            )
        };
        still.map(word).collect()
    }

    /// So long after a seal somebody may still write to the old side who is about to learn of the new one.
    async fn grace(&self, known: &MigrationState) {
        let grace = i64::try_from(self.shared.config.seal.grace_time.as_millis()).unwrap_or(i64::MAX);
        let left = known.sealed_at_ms.map_or(0, |at| at.saturating_add(grace).saturating_sub(clock::now_ms()));
        if let Ok(left) = u64::try_from(left) {
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
    }

    async fn look(&self, act: &moving::Act<'_>, state: &State) -> Result<(Found, Drain), Refusal> {
        let hint = "nothing was changed; try again when it can be reached";
        let unreachable =
            |e: crate::upstream::admin::AdminError| Refusal::new("cluster_unreachable", e.to_string(), hint);
        if !self.look_at_groups().await {
            let message = "the groups were not looked at in time: a cluster does not answer";
            return Err(Refusal::new("cluster_unreachable", message, hint));
        }
        let drain = self.shared.drains.of(act.migration).map_or_else(Drain::default, |drain| Drain::clone(&drain));
        let sealed = complete::sealed(state, act.migration, act.to.other());
        let copied = complete::copied(state, act.migration);
        let mut found = closing::find(act.admin(act.to.other()), &sealed, &copied).await.map_err(unreachable)?;
        found.groups = act.find().await.map_err(unreachable)?.into_iter().map(|f| f.group).collect();
        Ok((found, drain))
    }

    /// From now on the log of its partitions has one side.
    fn leave(&self, state: &State, known: &MigrationState) {
        let mut next = self.shared.partitions.load().as_ref().clone();
        for topic in &known.topics {
            next.alter(&topic.name, |index, partition| {
                let number = i32::try_from(index).unwrap_or(i32::MAX);
                let key = crate::ids::TopicPartition { topic: topic.name.clone(), partition: number };
                if let Some(history) = state.partition(&key) {
                    partition.map = history.map.clone();
                }
            });
        }
        self.shared.publish_partitions(next);
    }
}

/// Groups whose positions are to hold by themselves: all that were seen and stay, waived or not.
fn to_close(known: &MigrationState, drain: &Drain, found: &Found) -> Vec<Wanted> {
    let away: BTreeSet<&String> = found.groups.iter().collect();
    let home = drain.groups.iter().filter(|g| g.home == Side::Target && !away.contains(&g.id));
    let wanted = home.map(|g| {
        let is_waived = known.waiver(WaiverKind::Group, &g.id).is_some();
        let seen = (!is_waived).then(|| g.partitions.iter().map(|p| (p.partition.clone(), p.position)).collect());
        Wanted { group: g.id.clone(), seen }
    });
    wanted.collect()
}

fn events(migration: &str, closed: Vec<Closed>, checks: Vec<crate::store::Check>) -> Vec<Event> {
    let (at_ms, migration) = (clock::now_ms(), migration.to_owned());
    let groups = closed.into_iter().map(|c| Event::GroupClosed {
        migration: migration.clone(),
        group: c.group,
        home: c.home,
        positions: Arc::new(c.positions),
        at_ms,
    });
    let mut events: Vec<Event> = groups.collect();
    events.push(Event::Completed { migration: migration.clone(), checks, at_ms });
    events.push(Event::Step { migration, step: scheme::COMPLETED.to_owned() });
    events
}
