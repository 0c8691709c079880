//! What lets readers go on: the end of a hold at the seam, and a skip of what lies on a side that is lost.
#![allow(clippy::disallowed_methods, reason = "io: asks the lost side, writes the journal")]

use serde_json::{Map, json};

use super::Control;
use crate::config::Migration;
use crate::control::protocol::{Event as Told, Outcome, Refusal};
use crate::error::is_stale_topology;
use crate::ids::{CONSUMER, EARLIEST, Side, TopicPartition};
use crate::migration::{hold, skip};
use crate::routing::track;
use crate::store::Event;
use crate::upstream::{ask, discovery};

/// Looks at the leader of a lost partition: the first may have named one of before.
const LOOKS: usize = 3;

impl Control {
    pub(super) async fn switch_consumers(
        &self,
        migration: &Migration,
        to: Side,
        dry_run: bool,
    ) -> Result<Outcome, Refusal> {
        let (state, now_ms) = (self.store.state(), crate::clock::now_ms());
        let (event, done) = hold::release(&state, &migration.name, to, dry_run, now_ms)?;
        if let (Some(event), false) = (event, dry_run) {
            self.append(vec![event]).await?;
            self.publish_readers(migration);
            tracing::info!(migration = %migration.name, "consumers go on over the seam");
            self.say(migration, "consumers_released", Map::new());
        }
        let (migration, step) = (migration.name.clone(), self.step(migration));
        Ok(Outcome { migration, step, done: vec![done], dry_run, ..Outcome::default() })
    }

    pub(super) async fn skip(
        &self,
        migration: &Migration,
        partition: &TopicPartition,
        why: &str,
        force: bool,
        dry_run: bool,
    ) -> Result<Outcome, Refusal> {
        let asked = skip::Asked { migration: &migration.name, partition, why };
        let plan = skip::plan(&self.store.state(), asked, crate::clock::now_ms())?;
        let outcome = |done| {
            let (migration, step) = (migration.name.clone(), self.step(migration));
            Outcome { migration, step, done, dry_run, ..Outcome::default() }
        };
        let Some(plan) = plan else {
            return Ok(outcome(vec![format!("was skipped already: {partition}: {}", why.trim())]));
        };
        if plan.is_read && !force && self.is_readable(partition, plan.side).await {
            return Err(skip::refuse_readable(partition, plan.side));
        }
        let verb = match (plan.is_read, dry_run) {
            (true, true) => "would skip",
            (true, false) => "skipped",
            (false, true) => "would give another reason for",
            (false, false) => "another reason is on record for",
        };
        let line = |s: &crate::store::event::Skipped| {
            format!("{verb} {partition} from {} to {} on the {}: {}", s.from, s.to, s.side, s.why)
        };
        let done = plan.skipped.iter().map(line).collect();
        if !dry_run {
            tracing::warn!(migration = %migration.name, %partition, side = %plan.side, why, "readers skip what lies there");
            self.append(plan.skipped.iter().cloned().map(Event::Skipped).collect()).await?;
            self.publish_readers(migration);
            self.show_skipped();
            let skipped = json!({ "topic": partition.topic, "partition": partition.partition, "side": plan.side,
                "why": why.trim() });
            self.say(migration, "skipped", Map::from_iter([("skipped".to_owned(), skipped)]));
        }
        Ok(outcome(done))
    }

    /// Whether the leader of the partition as it was prepared answers for it.
    async fn is_readable(&self, partition: &TopicPartition, side: Side) -> bool {
        let admin = &self.admins[side.index()];
        for _ in 0..LOOKS {
            let known = self.shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default();
            let Ok(view) = discovery::look(admin, &known).await else { return false };
            if view.topics.get(&partition.topic).is_none_or(|t| !self.is_pinned(partition, side, t.id)) {
                return false;
            }
            let asked = std::slice::from_ref(partition);
            match ask::list_offsets(admin, &view, asked, EARLIEST, CONSUMER, 0).await.map(|a| a.get(partition).copied())
            {
                Ok(Some(Ok(_))) => return true,
                Ok(Some(Err(code))) if is_stale_topology(code) => {}
                _ => return false,
            }
        }
        false
    }

    fn is_pinned(&self, partition: &TopicPartition, side: Side, id: uuid::Uuid) -> bool {
        let state = self.store.state();
        let topics = state.migrations.values().flat_map(|m| &m.topics);
        topics.filter(|t| t.name == partition.topic).any(|t| {
            let pinned = if side == Side::Source { t.source_id } else { t.target_id };
            pinned.is_nil() || pinned == id
        })
    }

    fn publish_readers(&self, migration: &Migration) {
        let partitions = self.shared.partitions.load();
        self.shared.publish_partitions(track::decided(&self.store.state(), &migration.name, &partitions));
    }

    pub(super) fn show_skipped(&self) {
        for (name, migration) in &self.store.state().migrations {
            let offsets: u64 = migration.skipped.iter().map(crate::store::event::Skipped::offsets).sum();
            self.shared.metrics.skipped(name).set(offsets as f64);
        }
    }

    pub(super) fn say(&self, migration: &Migration, kind: &str, details: Map<String, serde_json::Value>) {
        // Nobody may be listening.
        drop(self.events.send(Told { kind: kind.to_owned(), migration: Some(migration.name.clone()), details }));
    }
}
