//! A late seam in words (DESIGN.md section 4): what it waits for, and that a step waits for it. Pure.

use crate::control::protocol::{LateWaits, OpenTransaction, Refusal};
use crate::store::MigrationState;

/// Named in one line.
const NAMED: usize = 5;

/// Why nothing goes on yet.
pub fn waits(waits: &LateWaits) -> String {
    let since = |t: &OpenTransaction| if t.since.is_empty() { String::new() } else { format!(" (since {})", t.since) };
    let open = waits.open.iter().map(|t| format!("{}{}", t.id, since(t)));
    let open = listed("transactions of before the switch end first", open.collect());
    let groups = listed("groups move first whose positions transactions carry", waits.groups.clone());
    match [groups, open].into_iter().flatten().collect::<Vec<_>>() {
        all if all.is_empty() => "the late seam is open: its end is being read".to_owned(),
        all => format!("the late seam is open: {}", all.join("; ")),
    }
}

fn listed(what: &str, all: Vec<String>) -> Option<String> {
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    let named = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    (!all.is_empty()).then(|| format!("{what}: {named}{more}"))
}

/// A step that needs the seam.
pub fn is_placed(migration: &str, known: &MigrationState, now: &LateWaits) -> Result<(), Refusal> {
    if known.late_since_ms.is_none() {
        return Ok(());
    }
    let hint = format!(
        "it closes by itself; `kafka-cutover status {migration}` shows what it waits for, and \
         `kafka-cutover switch {migration} producers --force` aborts what is older than `seal.late_seam_max`"
    );
    Err(Refusal::new("late_seam_open", waits(now), hint))
}
