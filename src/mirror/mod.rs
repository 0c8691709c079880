//! The mirror (DESIGN.md section 8): a partition's records on the other side as well, and of each where its copy lies. So far
//! what it knows and how it cuts; nothing copies yet.

pub mod checkpoint;
pub mod codec;
pub mod cut;
pub mod ledger;
pub mod record;

pub use ledger::{Ledger, Run};
