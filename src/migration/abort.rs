//! `abort`: before its first seal a migration owes nobody anything (DESIGN.md sections 4, 5 and 9). It is forgotten;
//! nothing is deleted, and the operator is told what is left.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::rc::Rc;

use super::{marker, topics};
use crate::ids::{Side, TopicName};
use crate::store::identity::{Marker, MarkerSeen};
use crate::store::{Event, PreparedTopic, State};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::discovery;

/// What is journalled. Empty: there is nothing to forget, which is how a second `abort` finds it.
pub fn events(state: &State, migration: &str) -> Vec<Event> {
    if !state.migrations.contains_key(migration) {
        return Vec::new();
    }
    // A seal that a crash cut off has neither a commit nor an end.
    let cut_off = state.pending.as_ref().filter(|p| p.migration == migration);
    let undone = cut_off.map(|p| Event::SealUndone {
        migration: migration.to_owned(),
        number: p.number,
        why: "the migration was aborted".to_owned(),
    });
    undone.into_iter().chain([Event::Aborted { migration: migration.to_owned() }]).collect()
}

/// A line for each topic that `prepare` made or found on the target.
pub async fn left(target: &Admin, pinned: &[PreparedTopic]) -> Vec<String> {
    let names: Vec<TopicName> = pinned.iter().map(|t| t.name.clone()).collect();
    match try_left(target, &names).await {
        Ok(lines) => lines,
        Err(error) => vec![format!(
            "left on the target, which could not be asked ({error}): {}; delete there what you do not need",
            names.join(", ")
        )],
    }
}

async fn try_left(target: &Admin, names: &[TopicName]) -> Result<Vec<String>, AdminError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let view = discovery::look(target, &[]).await?;
    let there: Vec<TopicName> = names.iter().filter(|n| view.topics.contains_key(*n)).cloned().collect();
    let extents = topics::extents(target, &view, &there).await?;
    let line = |name: &TopicName| {
        let of_it = extents.iter().filter(|(tp, _)| tp.topic == *name);
        let records: i64 = of_it.map(|(_, at)| at.end - at.start).sum();
        let what = if records == 0 { "empty".to_owned() } else { format!("with {records} records that others wrote") };
        format!("left on the target: topic {name}, {what}; delete it there if you do not need it")
    };
    Ok(there.iter().map(line).collect())
}

/// The markers as the journal is now: a tombstone once no migration is under way, so that a later proxy with another
/// journal may start. Only where there is one of ours. Safe to repeat, which is what to do about a cluster that cannot
/// be reached.
pub async fn unmark(admins: &[Rc<Admin>; 2], name: &str, state: &State) -> Vec<String> {
    let ours = state.identity.as_ref().map(|i| i.journal);
    let next = if state.is_needed() { Marker::of(state) } else { None };
    let mut done = Vec::new();
    for side in Side::BOTH {
        let admin = &admins[side.index()];
        let written = match marker::read(admin, name).await {
            Ok(MarkerSeen::Found(found)) if Some(found.journal) == ours && Some(&found) != next.as_ref() => {
                marker::write(admin, name, next.as_ref()).await.map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        match written {
            Ok(false) => {}
            Ok(true) if next.is_none() => done.push(format!("took back the marker on the {side}")),
            Ok(true) => done.push(format!("rewrote the marker on the {side}")),
            Err(error) => done.push(format!(
                "warning: whether the {side} has a marker is unknown ({error}); run it again when it can be reached"
            )),
        }
    }
    done
}
