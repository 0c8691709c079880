//! The mirrors of what is sealed (DESIGN.md section 4, step 4): each copies to the end and rests there, and the new side goes on
//! behind its copy.
#![allow(clippy::disallowed_methods, reason = "io: reads the clock")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::reading::Mirror;
use super::{What, refuse};
use crate::control::protocol::Refusal;
use crate::ids::{NOffset, TopicPartition};
use crate::mirror::checkpoint::Key;
use crate::mirror::mirrors::{Mirrored, Standing};
use crate::mirror::wanted::wanted;
use crate::routing::Shared;
use crate::store::State;

/// Named in one refusal.
const NAMED: usize = 3;

#[derive(Default)]
pub struct Copies(HashMap<TopicPartition, Arc<Mirrored>>);

impl Copies {
    /// `Err`: one of them stands still, or is too far behind to be waited for in a hold.
    pub fn of(shared: &Shared, journal: &State, partitions: &[TopicPartition], what: What) -> Result<Self, Refusal> {
        // The first of two holds has brought them to rest.
        if what == What::LateSeam {
            return Ok(Self::default());
        }
        let open = wanted(journal).into_iter().filter(|wanted| wanted.is_open).map(|wanted| wanted.key());
        let open: HashMap<TopicPartition, Key> = open.map(|key| (key.partition.clone(), key)).collect();
        let now = Instant::now();
        let (mut copies, mut standings) = (HashMap::new(), vec![]);
        for (tp, key) in partitions.iter().filter_map(|tp| Some((tp, open.get(tp)?))) {
            // One of an earlier `prepare` is not it.
            let mirrored = shared.mirrors.of(tp).filter(|mirrored| mirrored.key() == *key);
            standings.push((tp, mirrored.as_ref().map(|mirrored| mirrored.standing(now))));
            copies.extend(mirrored.map(|mirrored| (tp.clone(), mirrored)));
        }
        keep_up(&standings)?;
        Ok(Self(copies))
    }

    pub fn partitions(&self) -> HashSet<TopicPartition> {
        self.0.keys().cloned().collect()
    }

    /// In a hold: one that has come to the end stays there, whatever is written around the proxy.
    pub fn rest(&self, partition: &TopicPartition, end: NOffset) {
        if let Some(mirrored) = self.0.get(partition)
            && mirrored.standing(Instant::now()).mirrored >= end
        {
            mirrored.halt(true);
        }
    }

    /// The hold is undone.
    pub fn go_on(&self) {
        self.0.values().for_each(|mirrored| mirrored.halt(false));
    }

    pub fn standing(&self, partition: &TopicPartition) -> Option<Mirror> {
        let standing = self.0.get(partition)?.standing(Instant::now());
        let Standing { mirrored, copy_end, is_halted, .. } = standing;
        Some(Mirror { mirrored, copy_end, is_halted })
    }
}

/// `None`: it has not begun.
fn keep_up(standings: &[(&TopicPartition, Option<Standing>)]) -> Result<(), Refusal> {
    let stops = standings.iter().filter_map(|(_, standing)| standing.as_ref()?.stopped.as_ref());
    if let Some(stop) = stops.into_iter().next() {
        let message = format!("the mirror stands still: {}", stop.message);
        return Err(refuse("mirror_stopped", message, &stop.what_to_do));
    }
    let behind = standings.iter().filter(|(_, standing)| !standing.as_ref().is_some_and(Standing::keeps_up));
    let behind = behind.map(|(tp, standing)| match standing.as_ref().and_then(|standing| standing.lag) {
        Some(lag) => format!("{tp} is {lag} offsets behind"),
        None => format!("{tp} has not begun"),
    });
    let behind: Vec<String> = behind.collect();
    if behind.is_empty() {
        return Ok(());
    }
    let named = behind.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let and_more = behind.len().checked_sub(NAMED + 1).map_or(String::new(), |n| format!(" and {} more", n + 1));
    let message = format!("the mirror has not caught up: {named}{and_more}");
    Err(refuse("mirror_behind", message, "wait for it (`kafka-cutover status --watch` shows it), then try again"))
}
