//! The mirror (DESIGN.md section 8): a partition's records on the other side as well, and of each where its copy lies.
//!
//! Pure: `cut` makes batches for the copy of fetched ones (`record`, `codec`), `ledger` knows which offset is which, `checkpoint` is
//! its bytes on disk, `lane` is the life of one partition's mirror, `stop` why it stands still, `wanted` what the journal wants.
//! IO, on a thread of its own: `run` starts lanes, `driver` drives one; they share `intake` (reads), `outlet` (writes), `book` (the
//! ledgers' file); `configs` sets the copies' topics, `trim` moves
//! their log starts. `mirrors` is what everybody else sees.

pub mod book;
pub mod checkpoint;
pub mod codec;
pub mod configs;
pub mod cut;
mod driver;
mod intake;
pub mod lane;
pub mod ledger;
pub mod mirrors;
mod outlet;
pub mod record;
pub mod run;
pub mod stop;
mod trim;
pub mod wanted;

pub use ledger::{Ledger, Run};
pub use mirrors::Mirrors;

/// In the requests to brokers.
const CLIENT_ID: &str = "kafka-cutover-mirror";
/// The versions from which on topics go by id.
const FETCH_BY_ID: i16 = 13;
const PRODUCE_BY_ID: i16 = 13;
/// The producer ids of copies: no coordinator issues such, and none of a client becomes one.
pub const WRITERS: i64 = 1 << 61;
