//! The cases, by what they are about. Numbers in them are such that one that is not rewritten shows.

mod cluster;
mod data;
mod groups;
mod positions;
mod security;
mod topics;
mod transactions;

use super::case::Case;

pub(super) fn all() -> Vec<Case> {
    [
        data::cases(),
        positions::cases(),
        groups::cases(),
        cluster::cases(),
        topics::cases(),
        security::cases(),
        transactions::cases(),
    ]
    .concat()
}

/// A leader epoch of the source, as its brokers tell it.
const EPOCH: i32 = crate::api::world::EPOCHS[0];
