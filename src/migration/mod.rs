//! 7. The operator's unit: what a migration may do next, and doing it.

pub mod abort;
pub mod certificate;
pub mod closing;
pub mod complete;
mod copies;
pub mod hold;
pub mod identity;
pub mod late;
pub mod marker;
pub mod moving;
pub mod operate;
pub mod pinned;
pub mod readers;
pub mod record;
pub mod scheme;
pub mod seed;
pub mod skip;
pub mod status;
pub mod topics;
pub mod waive;
pub mod watch;
