//! Moves the log start of copies with the origin's (DESIGN.md section 8): retention deletes nothing of a copy, whose records keep
//! their old times, for as long as its migration is under way.
#![allow(clippy::disallowed_methods, reason = "io: asks both clusters")]

use std::collections::HashMap;
use std::sync::Arc;

use super::checkpoint::Key;
use super::mirrors::Mirrored;
use crate::error::{code, code_name};
use crate::ids::{CONSUMER, EARLIEST, NOffset, Native, Side, TopicPartition};
use crate::routing::Shared;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::{self, LogOffset};

type Seams = HashMap<Key, Option<NOffset>>;

/// One look at these; what cannot be asked now is asked with the next.
/// `seams`: where what came behind each copy begins.
pub(super) async fn trim(shared: &Shared, admins: &[Admin; 2], all: Vec<Arc<Mirrored>>, seams: &Seams) {
    for from in Side::BOTH {
        let of_side: Vec<&Mirrored> = all.iter().map(Arc::as_ref).filter(|m| m.route.from == from).collect();
        if let Err(error) = trim_copies_of(shared, admins, from, (&of_side, seams)).await {
            tracing::debug!(%from, %error, "the copies were not trimmed");
        }
    }
}

async fn trim_copies_of(
    shared: &Shared,
    admins: &[Admin; 2],
    from: Side,
    (all, seams): (&[&Mirrored], &Seams),
) -> Result<(), AdminError> {
    let to = from.other();
    let (origins, copies) = (starts(shared, admins, from, all).await?, starts(shared, admins, to, all).await?);
    for mirrored in all {
        let partition = &mirrored.route.partition;
        let (Some(Ok(origin)), Some(Ok(copy))) = (origins.get(partition), copies.get(partition)) else { continue };
        // Not mirrored yet: there is nothing to delete.
        let Some(begins) = mirrored.lane().ledger().to_copy(Native(origin.offset)) else { continue };
        // Nothing of what came behind it; and of one that is wanted no more, nothing at all.
        let Some(seam) = seams.get(&mirrored.key()) else { continue };
        let begins = seam.map_or(begins, |seam| begins.min(seam));
        if begins.0 <= copy.offset {
            continue;
        }
        let Some(view) = shared.topology.load().side(to).cloned() else { return Ok(()) };
        match ask::delete_records(&admins[to.index()], &view, partition, begins.0).await? {
            Ok(_) => tracing::debug!(%partition, %begins, "a copy begins where its origin does"),
            // Compacted topics, and nothing else: nothing of them is deleted by time.
            Err(code::POLICY_VIOLATION) => {}
            Err(error) => {
                if shared.alarms.is_first(format!("trimming of {partition}: {error}")) {
                    tracing::warn!(%partition, side = %to, error = code_name(error),
                        "a copy cannot be trimmed: it keeps records that are deleted where they were copied from");
                }
            }
        }
    }
    Ok(())
}

async fn starts(
    shared: &Shared,
    admins: &[Admin; 2],
    side: Side,
    all: &[&Mirrored],
) -> Result<HashMap<TopicPartition, Result<LogOffset, i16>>, AdminError> {
    let Some(view) = shared.topology.load().side(side).filter(|view| view.reachable && !all.is_empty()).cloned() else {
        return Ok(HashMap::new());
    };
    let partitions: Vec<TopicPartition> = all.iter().map(|mirrored| mirrored.route.partition.clone()).collect();
    ask::list_offsets(&admins[side.index()], &view, &partitions, EARLIEST, CONSUMER, 0).await
}
