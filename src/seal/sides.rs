//! The two clusters as a seal sees them: who leads what, and where both logs stand.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters, within a time")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, try_join3};
use tokio::time::timeout;

use super::reading::Reading;
use crate::error::code;
use crate::ids::{CONSUMER, DEBUGGING_CONSUMER, LATEST, Native, Side, TopicPartition};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask;
use crate::upstream::discovery;
use crate::upstream::topology::Broker;

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// For a look at the leaders in a hold: a broker that does not answer is not the only one.
const LOOK: Duration = Duration::from_secs(1);

/// One cluster, and its leaders by the last look.
pub struct Seen<'a> {
    pub admin: &'a Admin,
    view: RefCell<Arc<ClusterView>>,
    looks: Cell<usize>,
}

impl<'a> Seen<'a> {
    pub async fn first(admin: &'a Admin, known: Option<Arc<ClusterView>>) -> Result<Self, AdminError> {
        let brokers = known.map(|c| c.broker_list()).unwrap_or_default();
        let view = discovery::look(admin, &brokers).await?;
        Ok(Self { admin, view: RefCell::new(Arc::new(view)), looks: Cell::new(0) })
    }

    pub fn view(&self) -> Arc<ClusterView> {
        self.view.borrow().clone()
    }

    /// What was asked was no leader's to answer, or nobody answered. If this fails too, the last view stays.
    pub async fn look_again(&self) {
        let mut addresses: Vec<String> = self.view().broker_list().iter().map(Broker::address).collect();
        self.looks.set(self.looks.get() + 1);
        if !addresses.is_empty() {
            let n = addresses.len();
            addresses.rotate_left(self.looks.get() % n);
        }
        addresses.extend(self.admin.bootstrap());
        match timeout(LOOK, discovery::look_in_order(self.admin, &addresses)).await {
            Ok(Ok(view)) => *self.view.borrow_mut() = Arc::new(view),
            Ok(Err(error)) => tracing::debug!(side = %self.admin.side, %error, "no fresh look at the leaders"),
            Err(_) => tracing::debug!(side = %self.admin.side, "no fresh look at the leaders in time"),
        }
    }
}

/// Both clusters of a seal.
pub struct Sides<'a> {
    pub old: Seen<'a>,
    pub new: Seen<'a>,
}

impl Sides<'_> {
    pub fn of(&self, side: Side) -> &Seen<'_> {
        if self.old.admin.side == side { &self.old } else { &self.new }
    }

    pub async fn look_again(&self) {
        join(self.old.look_again(), self.new.look_again()).await;
    }

    /// One look at both: ends, producers, ends again. `waits_for`: the side whose answer is still to come.
    pub async fn read(&self, all: &[TopicPartition], waits_for: &Cell<Side>) -> Result<Vec<Reading>, AdminError> {
        let (old, new) = (self.old.admin, self.new.admin);
        let (old_view, new_view) = (self.old.view(), self.new.view());
        let (old_view, new_view) = (&*old_view, &*new_view);
        let leo = |admin, view| ask::list_offsets(admin, view, all, LATEST, DEBUGGING_CONSUMER, READ_UNCOMMITTED);
        let hw = |admin, view| ask::list_offsets(admin, view, all, LATEST, CONSUMER, READ_UNCOMMITTED);
        let lso = |admin, view| ask::list_offsets(admin, view, all, LATEST, CONSUMER, READ_COMMITTED);
        waits_for.set(old.side);
        let before = async {
            let ends = leo(old, old_view).await;
            waits_for.set(new.side);
            ends
        };
        let other = try_join3(before, leo(new, new_view), hw(new, new_view)).await?;
        let (ends, other_ends, other_hws) = other;
        waits_for.set(old.side);
        let mut producers = ask::describe_producers(old, old_view, all).await?;
        let again = try_join3(leo(old, old_view), hw(old, old_view), lso(old, old_view)).await;
        let (ends_again, hws, stables) = again?;
        let mut readings = Vec::with_capacity(all.len());
        for tp in all {
            let at = |found: &Ends, side| end_of(found, tp, side);
            let (end, end_epoch) = at(&ends, old.side)?;
            let producers = match producers.remove(tp) {
                Some(Ok(found)) => found,
                other => {
                    let code = other.and_then(Result::err).unwrap_or(code::LEADER_NOT_AVAILABLE);
                    let what = format!("DescribeProducers of {tp}");
                    return Err(AdminError::Refused { side: old.side, what, code });
                }
            };
            readings.push(Reading {
                partition: tp.clone(),
                end,
                end_again: at(&ends_again, old.side)?.0,
                end_epoch,
                high_watermark: at(&hws, old.side)?.0,
                stable: at(&stables, old.side)?.0,
                other_end: at(&other_ends, new.side)?.0,
                other_high_watermark: at(&other_hws, new.side)?.0,
                producers,
            });
        }
        Ok(readings)
    }
}

type Ends = HashMap<TopicPartition, Result<ask::LogOffset, i16>>;

fn end_of(found: &Ends, tp: &TopicPartition, side: Side) -> Result<(crate::ids::NOffset, i32), AdminError> {
    match found.get(tp) {
        Some(Ok(found)) => Ok((Native(found.offset), found.leader_epoch)),
        other => {
            let code = other.and_then(|o| o.as_ref().err().copied()).unwrap_or(code::LEADER_NOT_AVAILABLE);
            Err(AdminError::Refused { side, what: format!("ListOffsets of {tp}"), code })
        }
    }
}
