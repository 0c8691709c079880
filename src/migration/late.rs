//! A late seam in words (DESIGN.md section 4): what it waits for, and that a step waits for it. Pure.

use crate::control::protocol::{OpenTransaction, Refusal};
use crate::store::MigrationState;

/// Named in one line.
const NAMED: usize = 5;

/// Why nothing goes on yet.
pub fn waits(open: &[OpenTransaction]) -> String {
    let named: Vec<String> = open.iter().take(NAMED).map(|t| format!("{} (since {})", t.id, t.since)).collect();
    let more = match open.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    match named.is_empty() {
        true => "the late seam is open: its end is being read".to_owned(),
        false => {
            format!("the late seam is open: transactions of before the switch end first: {}{more}", named.join(", "))
        }
    }
}

/// A step that needs the seam.
pub fn is_placed(migration: &str, known: &MigrationState, open: &[OpenTransaction]) -> Result<(), Refusal> {
    if known.late_since_ms.is_none() {
        return Ok(());
    }
    let hint = format!(
        "it closes by itself; `kafka-cutover status {migration}` shows what it waits for, and \
         `kafka-cutover switch {migration} producers --force` aborts what is older than `seal.late_seam_max`"
    );
    Err(Refusal::new("late_seam_open", waits(open), hint))
}
