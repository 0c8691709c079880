//! Consumers that are held at the seam until they are switched (DESIGN.md section 5): what may be asked of them, and the
//! event that lets them go on. Pure.

use crate::control::protocol::Refusal;
use crate::ids::Side;
use crate::store::{Event, MigrationState, State};

/// `switch producers` once more, with `--hold-consumers` if `hold`: what to say of the consumers, if there is anything.
pub fn again(migration: &str, known: &MigrationState, hold: bool) -> Result<Option<String>, Refusal> {
    match (known.consumers_held_at_ms, hold) {
        (Some(_), _) => Ok(Some(stay(migration, false))),
        (None, false) => Ok(None),
        (None, true) => {
            let message = format!("producers of {migration} are on the target already, and consumers follow them");
            let hint = "they can be held from the switch of the producers on, and not later; nothing was changed";
            Err(Refusal::new("too_late", message, hint))
        }
    }
}

/// For the switch that holds them.
pub fn stay(migration: &str, dry_run: bool) -> String {
    let are = if dry_run { "would be" } else { "are" };
    format!("consumers of {migration} {are} held at the seam until `kafka-cutover switch {migration} consumers`")
}

/// `switch consumers`: the event to journal, if they are held, and what that does, in words.
pub fn release(
    state: &State,
    migration: &str,
    to: Side,
    dry_run: bool,
    at_ms: i64,
) -> Result<(Option<Event>, String), Refusal> {
    let Some(known) = state.migrations.get(migration) else {
        let message = format!("migration {migration} is not prepared");
        let hint = format!("run `kafka-cutover prepare {migration}` first");
        return Err(Refusal::new("not_prepared", message, hint));
    };
    if to == Side::Source {
        let hint = "in this scheme `switch consumers` lets those go on that are held at the seam, to the target";
        return Err(Refusal::new("not_supported", "consumers cannot be switched to the source", hint));
    }
    if known.consumers_held_at_ms.is_none() {
        let done = format!(
            "consumers of {migration} are not held: they follow their producers by themselves, each partition when its \
             reader has passed the seam"
        );
        return Ok((None, done));
    }
    let would = if dry_run { "would go" } else { "go" };
    let done = format!("consumers of {migration} {would} on over the seam, to the target");
    Ok((Some(Event::ConsumersReleased { migration: migration.to_owned(), at_ms }), done))
}
