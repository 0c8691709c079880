//! The mirror's parts: the ledger against a model, and how batches are cut.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cut;
mod lane;
mod ledger;
