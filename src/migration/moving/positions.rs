//! The positions of a group that moves: read at the old home, written at the new one, read there again.
#![expect(clippy::disallowed_methods, reason = "io: asks both clusters, waits between tries")]

use std::collections::BTreeMap;

use tokio::time::{Instant, sleep};

use super::{Act, Attempt, BARRIER, Failed, PAUSE, no_group, patiently};
use crate::error::{code, code_name, is_retriable};
use crate::groups::position::{self, METADATA_MAX_BYTES};
use crate::ids::{Side, TopicPartition, Virtual};
use crate::store::event::GroupPosition;
use crate::upstream::admin::AdminError;
use crate::upstream::ask::groups::{self, Committed, Stored};

/// Positions in one commit: a coordinator writes them as one batch.
const PER_COMMIT: usize = 2_000;

impl Act<'_> {
    /// The positions, from home to home.
    pub(super) async fn hand_over(&self, group: &str) -> Result<Vec<GroupPosition>, Attempt> {
        let stored = self.stable_positions(group).await?;
        let partitions = self.shared.partitions.load_full();
        let topology = self.shared.topology.load_full();
        let most = topology.side(self.to).and_then(|c| c.commit_metadata).unwrap_or(METADATA_MAX_BYTES);
        let mut wanted: BTreeMap<TopicPartition, Stored> = BTreeMap::new();
        let mut taken = Vec::with_capacity(stored.len());
        for (tp, at_home) in stored {
            let index = usize::try_from(tp.partition).unwrap_or(usize::MAX);
            if topology.topic(self.to, &tp.topic).is_none_or(|t| t.partitions.len() <= index) {
                return Err(Attempt::Failed(Failed::Undone(self.not_there(&tp))));
            }
            let map = partitions.get(&tp.topic, tp.partition).map(|state| &state.map);
            let v = position::shown(map, self.from(), at_home.offset, at_home.metadata.as_deref());
            let metadata = v.metadata.as_deref().filter(|m| m.len() <= most);
            let (there, dropped) = position::stored(map, self.to, v.offset, metadata, most);
            let dropped = dropped || metadata.is_none() && v.metadata.is_some();
            if dropped {
                self.shared.metrics.trailer_metadata_dropped.increment(1);
            }
            let natives = [(self.from(), at_home.offset), (self.to, there.offset)];
            let on = |side: Side| natives.iter().find(|(of, _)| *of == side).map(|(_, native)| *native);
            taken.push(GroupPosition {
                topic: tp.topic.clone(),
                partition: tp.partition,
                at: Virtual(v.offset),
                source: on(Side::Source),
                target: on(Side::Target),
            });
            let metadata = Some(there.metadata.unwrap_or_default());
            wanted.insert(tp, Stored { offset: there.offset, metadata });
        }
        let positions: Vec<_> = wanted.iter().map(|(tp, stored)| (tp.clone(), stored.clone())).collect();
        for positions in positions.chunks(PER_COMMIT) {
            self.write(group, positions).await?;
        }
        // What lies there besides is no position of this group, or none any more: it must not become one.
        let mut found = self.committed(self.to, group, false).await.or_else(no_group)?;
        let stale: Vec<TopicPartition> = found.keys().filter(|tp| !wanted.contains_key(*tp)).cloned().collect();
        if !stale.is_empty() {
            let stale: Vec<&TopicPartition> = stale.iter().collect();
            patiently(async || {
                let address = self.coordinator(self.to, group).await?;
                groups::delete_positions(self.admin(self.to), &address, group, &stale).await
            })
            .await?;
            found = self.committed(self.to, group, false).await.or_else(no_group)?;
        }
        let of = |tp: &TopicPartition| (found.get(tp), wanted.get(tp));
        if let Some(tp) = found.keys().chain(wanted.keys()).find(|tp| of(tp).0 != of(tp).1) {
            let why = format!("the {} does not answer what was committed there for {tp}", self.to);
            return Err(Attempt::Failed(Failed::Undone(why)));
        }
        taken.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(taken)
    }

    pub(super) fn not_there(&self, what: impl std::fmt::Display) -> String {
        format!(
            "it reads {what}, which the {} does not have: create the topic there with the same partitions, an empty one \
             will do",
            self.to
        )
    }

    async fn write(&self, group: &str, positions: &[(TopicPartition, Stored)]) -> Result<(), Attempt> {
        let until = Instant::now() + BARRIER;
        loop {
            let answers = patiently(async || {
                let address = self.coordinator(self.to, group).await?;
                groups::commit_simple(self.admin(self.to), &address, group, positions).await
            });
            let answers = answers.await?;
            let Some((tp, code)) = answers.iter().find_map(|(tp, a)| Some((tp, *a.as_ref().err()?))) else {
                return Ok(());
            };
            if !is_retriable(code) || Instant::now() > until {
                let why = format!("the {} refuses its position of {tp}: {}", self.to, code_name(code));
                return Err(Attempt::Failed(Failed::Undone(why)));
            }
            sleep(PAUSE).await;
        }
    }

    async fn stable_positions(&self, group: &str) -> Result<Committed, Attempt> {
        let until = Instant::now() + BARRIER;
        loop {
            match self.committed(self.from(), group, true).await {
                Err(AdminError::Refused { code: code::UNSTABLE_OFFSET_COMMIT, .. }) if Instant::now() < until => {
                    sleep(PAUSE).await;
                }
                Err(AdminError::Refused { code: code::UNSTABLE_OFFSET_COMMIT, .. }) => {
                    let why = "a transaction that carries its positions does not end".to_owned();
                    return Err(Attempt::Failed(Failed::Undone(why)));
                }
                other => return Ok(other.or_else(no_group)?),
            }
        }
    }
}
