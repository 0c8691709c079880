//! Makes empty target partitions ready for producers that are in the middle of their sequences (DESIGN.md section 7): a log that never
//! held a record may refuse an unknown producer whose first sequence is not 0 (KAFKA-15591). One partition is tried; if it refuses,
//! each empty one gets a record, which is deleted again. A log whose record was deleted begins at 1: that is where its part will begin.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::record::{self, Producer, Record};
use crate::clock::now_ms;
use crate::error::{code, is_retriable};
use crate::ids::TopicPartition;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;
use crate::upstream::{ask, discovery};

/// Nobody's producer id: no broker hands out numbers this high, and no seal makes one of them.
pub const TRIAL_PRODUCER: Producer = Producer { id: 1 << 60, epoch: 0, sequence: 7 };
/// For each partition, over all tries.
const TIME: Duration = Duration::from_secs(15);

/// An empty partition that never held a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Untouched {
    pub tp: TopicPartition,
    /// DeleteRecords is refused where nothing but compaction deletes.
    pub deletable: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seeded {
    /// The partition that was tried. `None`: there was none to try.
    pub tried: Option<TopicPartition>,
    /// It took the first sequence as it was: nothing else is needed.
    pub accepted: bool,
    /// Given a record that was deleted again.
    pub seeded: Vec<TopicPartition>,
    /// Would need a record that nobody can delete: left as they are.
    pub left: Vec<TopicPartition>,
}

/// Tries one, and seeds all if it must be.
pub async fn seed(admin: &Admin, view: &ClusterView, untouched: &[Untouched]) -> Result<Seeded, AdminError> {
    let mut done = Seeded::default();
    let Some(first) = untouched.iter().find(|p| p.deletable) else {
        done.left = untouched.iter().map(|p| p.tp.clone()).collect();
        return Ok(done);
    };
    done.tried = Some(first.tp.clone());
    match append(admin, view, &first.tp, batch(Some(TRIAL_PRODUCER))).await? {
        code::NONE => {
            delete(admin, view, &first.tp).await?;
            done.accepted = true;
            return Ok(done);
        }
        code::OUT_OF_ORDER_SEQUENCE_NUMBER | code::UNKNOWN_PRODUCER_ID => {}
        other => return Err(refused(admin, format!("a trial batch to {}", first.tp), other)),
    }
    for Untouched { tp, deletable } in untouched {
        if !deletable {
            done.left.push(tp.clone());
            continue;
        }
        match append(admin, view, tp, batch(None)).await? {
            code::NONE => delete(admin, view, tp).await?,
            other => return Err(refused(admin, format!("a seed record to {tp}"), other)),
        }
        done.seeded.push(tp.clone());
    }
    Ok(done)
}

fn batch(producer: Option<Producer>) -> Bytes {
    let text = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
    // With a key, for topics that are compacted too.
    let record =
        Record { key: text("kafka-cutover"), value: text("made by `kafka-cutover prepare`, to be deleted at once") };
    record::batch(&record, now_ms(), producer)
}

/// The code of the last answer. A try whose outcome is unknown is repeated: a second record is deleted with the first.
async fn append(admin: &Admin, view: &ClusterView, tp: &TopicPartition, batch: Bytes) -> Result<i16, AdminError> {
    let deadline = ask::within(TIME);
    let mut fresh = None;
    loop {
        let view = fresh.as_ref().unwrap_or(view);
        let failed = match ask::produce_raw(admin, view, tp, -1, batch.clone()).await {
            Ok(answer) if !is_retriable(answer.error_code) => return Ok(answer.error_code),
            Ok(answer) => refused(admin, format!("a record to {tp}"), answer.error_code),
            Err(e) => e,
        };
        fresh = Some(again(admin, view, failed, deadline).await?);
    }
}

/// Everything that is there.
async fn delete(admin: &Admin, view: &ClusterView, tp: &TopicPartition) -> Result<(), AdminError> {
    const TO_THE_HIGH_WATERMARK: i64 = -1;
    let deadline = ask::within(TIME);
    let mut fresh = None;
    loop {
        let view = fresh.as_ref().unwrap_or(view);
        let failed = match ask::delete_records(admin, view, tp, TO_THE_HIGH_WATERMARK).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(code)) => refused(admin, format!("DeleteRecords of {tp}"), code),
            Err(e) => e,
        };
        fresh = Some(again(admin, view, failed, deadline).await?);
    }
}

/// A fresh view if another try makes sense, else the failure.
async fn again(
    admin: &Admin,
    view: &ClusterView,
    failed: AdminError,
    deadline: Instant,
) -> Result<ClusterView, AdminError> {
    if !failed.is_passing() || !ask::pause(deadline).await {
        return Err(failed);
    }
    discovery::look(admin, &view.broker_list()).await
}

fn refused(admin: &Admin, what: String, code: i16) -> AdminError {
    AdminError::Refused { side: admin.side, what, code }
}
