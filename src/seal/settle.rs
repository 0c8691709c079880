//! Step 2: every outstanding produce has its outcome. What lost its answer is sent again, if it is idempotent: the broker
//! knows it or takes it, and either way nothing of it can come later.
#![allow(clippy::disallowed_methods, reason = "io: waits for outcomes")]

use std::sync::Arc;

use crate::error::{code, is_retriable};
use crate::ids::{Side, TopicPartition};
use crate::producers::unknown::Unknown;
use crate::routing::Live;
use crate::upstream::ClusterView;
use crate::upstream::admin::Admin;
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

/// Sends what is unknown on the old side again, per producer in order; true if all of it has its outcome now.
pub async fn resolve(admin: &Admin, view: &ClusterView, lives: &[(TopicPartition, Arc<Live>)], old: Side) -> bool {
    let mut all = true;
    for (partition, live) in lives {
        let unknown: Vec<Unknown> = live.unknowns().list().into_iter().filter(|b| b.side == old).collect();
        for batch in unknown {
            let answer = ask::produce_raw(admin, view, partition, batch.acks, batch.records.clone()).await;
            match answer {
                Ok(answer) if !is_retriable(answer.error_code) => {
                    let error = match answer.error_code {
                        code::NONE => "stored, now or before".to_owned(),
                        error => crate::error::code_name(error),
                    };
                    tracing::info!(%partition, side = %old, sequence = batch.stamp.first, outcome = %error,
                        "a batch whose answer was lost has its outcome");
                    live.unknowns().resolved(&batch.stamp);
                }
                Ok(answer) => {
                    let error = crate::error::code_name(answer.error_code);
                    tracing::warn!(%partition, side = %old, %error, "a batch whose answer was lost is still unknown");
                    all = false;
                }
                Err(error) => {
                    tracing::warn!(%partition, side = %old, %error, "a batch whose answer was lost is still unknown");
                    all = false;
                }
            }
        }
    }
    all
}

/// Milliseconds (wall clock) before which one of these must not be sealed, and which.
pub fn unsettled(lives: &[(TopicPartition, Arc<Live>)], now_ms: i64) -> Option<(i64, &TopicPartition)> {
    let waiting = lives.iter().map(|(tp, live)| (live.unsettled_until_ms(), tp)).filter(|(until, _)| *until > now_ms);
    waiting.max_by_key(|(until, _)| *until)
}
