//! The seal (DESIGN.md section 4): hold, settle, read the end, persist, release. What goes wrong before the commit is
//! undone; what may have been committed ends the process, and the journal decides.
//!
//! `reading` judges what was read (pure); `copies` brings mirrors to rest; `hold` begins and ends a hold; `settle` waits for outcomes; `sides` asks the
//! clusters; `transactions` says what is open; `run` is the whole act in its order. The exhaustive model of the design is the authority on that order.

mod copies;
pub mod hold;
pub mod reading;
pub mod run;
pub mod settle;
pub mod sides;
pub mod transactions;

pub use run::{Sealed, What, run};

use crate::control::protocol::Refusal;

/// Why a seal did not happen. Nothing is lost: what was held went to the old side.
pub fn refuse(code: &str, message: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(code, message, hint)
}
