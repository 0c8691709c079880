//! What a move leaves to be done at the old home: its members leave there.
#![allow(clippy::disallowed_methods, reason = "io: asks a cluster")]

use std::rc::Rc;
use std::sync::Arc;

use super::{Act, at, patiently};
use crate::clock;
use crate::groups::home::LONGEST_SESSION_MS;
use crate::groups::moves::Protocol;
use crate::groups::shadow::Told;
use crate::routing::Shared;
use crate::store::Store;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::consumer_groups;
use crate::upstream::ask::groups::{self, Described};

impl Act<'_> {
    /// At the old home, where nobody is in the group any more. What is left there ends with its session.
    pub(super) async fn leave(&self, group: &str, protocol: Protocol, described: &Described) {
        let left = patiently(async || {
            let address = self.coordinator(self.from(), group).await?;
            leave(self.admin(self.from()), &address, group, protocol, described, |_| true).await
        });
        if let Err(error) = left.await {
            tracing::warn!(group, side = %self.from(), %error,
                "the members of a group that has moved are still listed there, until their sessions end");
        }
    }
}

/// Those of them that are meant.
async fn leave(
    admin: &Admin,
    address: &str,
    group: &str,
    protocol: Protocol,
    described: &Described,
    is_meant: impl Fn(&str) -> bool,
) -> Result<(), AdminError> {
    let there = described.members.iter().filter(|(id, _)| is_meant(id));
    let there: Vec<_> = there.map(|(id, m)| (id.clone(), m.instance_id.clone())).collect();
    match protocol {
        _ if there.is_empty() => Ok(()),
        Protocol::Classic => groups::leave(admin, address, group, &there).await,
        Protocol::Consumer => {
            let ids: Vec<String> = there.into_iter().map(|(id, _)| id).collect();
            consumer_groups::leave(admin, address, group, &ids).await
        }
    }
}

/// What a crash may have left undone: members of groups that have moved leave at the home of before, where their sessions would
/// keep the shadows from being written.
pub async fn finish(shared: Arc<Shared>, store: Arc<Store>, admins: [Rc<Admin>; 2]) {
    let now_ms = clock::now_ms();
    let state = store.state();
    let recent = state.groups.iter().filter(|(_, home)| now_ms.saturating_sub(home.moved_at_ms) <= LONGEST_SESSION_MS);
    for (group, home) in recent {
        let from = home.side.other();
        let admin = &admins[from.index()];
        let known = shared.topology.load().side(from).map(|c| c.broker_list()).unwrap_or_default();
        let left = patiently(async || {
            let address = groups::coordinator(admin, &known, group).await?;
            let (protocol, described) = at(admin, &address, group).await?;
            leave(admin, &address, group, protocol, &described, |id| home.members.iter().any(|m| m == id)).await
        });
        if let Err(error) = left.await {
            tracing::warn!(group, side = %from, %error,
                "the members of a group that has moved may still be listed there, until their sessions end");
        }
        drop(shared.shadows.send(Told::Changed(group.clone())));
    }
}
