//! `src/wire/`: frames, batches, codecs, schema, refusals.
#![allow(clippy::unwrap_used)]

mod batch;
mod chain;
mod data_path;
pub(crate) mod filled;
mod frame;
pub(crate) mod made;
mod reply;
mod schema;
mod spare;
