//! Step 2: every outstanding produce has its outcome. What lost its answer is sent again, if it is idempotent: the broker
//! knows it or takes it, and either way nothing of it can come later.
#![allow(clippy::disallowed_methods, reason = "io: waits for outcomes")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::sides::Seen;
use crate::clock;
use crate::error::{code, is_definite};
use crate::ids::{Side, TopicPartition, VirtualPid};
use crate::producers::unknown::Unknown;
use crate::routing::Live;
use crate::upstream::ask;

/// Until nothing is on its way to the partition any more.
pub async fn quiet(live: &Live) {
    loop {
        // Registered before the count is read, so that no outcome is missed in between.
        let settled = live.settled.notified();
        let mut settled = std::pin::pin!(settled);
        settled.as_mut().enable();
        if live.outstanding() == 0 {
            return;
        }
        settled.await;
    }
}

/// How lost batches are sent again.
#[derive(Clone, Copy)]
pub struct Resend {
    pub old: Side,
    /// What was lost longer ago will not land any more, and must not be made to.
    pub settle: Duration,
    /// For one answer.
    pub patience: Duration,
}

/// Sends what is unknown on the old side again; `Err`: what has no outcome yet, and why.
pub async fn resolve(
    seen: &Seen<'_>,
    lives: &[(TopicPartition, Arc<Live>)],
    resend: Resend,
) -> Result<(), (TopicPartition, String)> {
    let each = lives.iter().map(|(partition, live)| resolve_one(seen, partition, live, resend));
    join_all(each).await.into_iter().collect()
}

/// One partition's, per producer in order: what comes behind a batch without an outcome waits for it, or a leader that does
/// not know the producer would take the later one as its first.
async fn resolve_one(
    seen: &Seen<'_>,
    partition: &TopicPartition,
    live: &Live,
    resend: Resend,
) -> Result<(), (TopicPartition, String)> {
    let Resend { old, settle, patience } = resend;
    let mut stuck: HashSet<VirtualPid> = HashSet::new();
    let mut failed = Ok(());
    let list = live.unknowns().list(clock::now_ms(), settle);
    for Unknown { stamp, acks, records, .. } in list.into_iter().filter(|b| b.side == old) {
        if stuck.contains(&stamp.pid) {
            continue;
        }
        live.unknowns().sent_again(&stamp, clock::now_ms());
        let view = seen.view();
        let answer = timeout(patience, ask::produce_raw(seen.admin, &view, partition, acks, records)).await;
        let why = match answer {
            Ok(Ok(answer)) if is_definite(answer.error_code) => {
                let outcome = match answer.error_code {
                    code::NONE => "stored, now or before".to_owned(),
                    error => crate::error::code_name(error),
                };
                tracing::info!(%partition, side = %old, sequence = stamp.first, %outcome,
                    "a batch whose answer was lost has its outcome");
                live.unknowns().resolved(&stamp);
                continue;
            }
            Ok(Ok(answer)) => crate::error::code_name(answer.error_code),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {} ms", patience.as_millis()),
        };
        tracing::debug!(%partition, side = %old, sequence = stamp.first, %why, "a batch is still without an outcome");
        stuck.insert(stamp.pid);
        failed = Err((partition.clone(), why));
    }
    failed
}

/// Milliseconds (wall clock) before which one of these must not be sealed, and which.
pub fn unsettled(lives: &[(TopicPartition, Arc<Live>)], now_ms: i64) -> Option<(i64, &TopicPartition)> {
    let waiting = lives.iter().map(|(tp, live)| (live.unsettled_until_ms(), tp)).filter(|(until, _)| *until > now_ms);
    waiting.max_by_key(|(until, _)| *until)
}
