//! The operator's word that a group which is not drained, or what `complete` has found, is accepted (DESIGN.md section 5):
//! what may be waived, and the event that says so. Pure.

use super::complete::WAIVABLE;
use crate::control::protocol::Refusal;
use crate::groups::drained::Drain;
use crate::store::event::WaiverKind;
use crate::store::{Event, State};

pub const UNKNOWN_GROUP: &str = "unknown_group";

/// What the operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    pub migration: &'a str,
    pub kind: WaiverKind,
    pub name: &'a str,
    pub why: &'a str,
}

/// The event to journal; `None`: it was waived before, in the same words. `drain`: what the last look at the groups found;
/// `others`: groups that belong to the migration besides.
pub fn event(
    state: &State,
    drain: Option<&Drain>,
    others: &[String],
    asked: Asked<'_>,
    at_ms: i64,
) -> Result<Option<Event>, Refusal> {
    let Asked { migration, kind, name, why } = asked;
    let why = why.trim();
    if why.is_empty() {
        let message = format!("a waiver of {kind} {name} without a reason");
        return Err(Refusal::new("bad_request", message, "say why it is accepted (--why TEXT): it is kept on record"));
    }
    if kind == WaiverKind::Finding && !WAIVABLE.contains(&name) {
        let message =
            format!("`{name}` cannot be waived: warnings of preflight stop nothing, and its errors are mended");
        let hint = format!("what can be is found by `complete`: {}", WAIVABLE.join(", "));
        return Err(Refusal::new("not_waivable", message, hint));
    }
    let Some(known) = state.migrations.get(migration) else {
        let message = format!("migration {migration} is not prepared");
        let hint = format!("run `kafka-cutover prepare {migration}` first");
        return Err(Refusal::new("not_prepared", message, hint));
    };
    let before = known.waiver(kind, name);
    if before.is_some_and(|w| w.why == why) {
        return Ok(None);
    }
    let groups = drain.map_or(&[][..], |d| &d.groups);
    let unheard = drain.map_or(&[][..], |d| &d.unheard);
    let named = groups.iter().map(|g| g.id.as_str()).chain(others.iter().map(String::as_str)).any(|id| id == name);
    let seen = named || unheard.iter().any(|u| u.group.as_deref() == Some(name));
    if kind == WaiverKind::Group && before.is_none() && !seen {
        let message = format!("no group `{name}` was seen that reads a topic of migration {migration}");
        let hint = match drain {
            None => "groups are looked at once producers have switched",
            Some(_) => "`kafka-cutover status` lists those that were seen",
        };
        return Err(Refusal::new(UNKNOWN_GROUP, message, hint));
    }
    let (migration, name, why) = (migration.to_owned(), name.to_owned(), why.to_owned());
    Ok(Some(Event::Waived { migration, kind, name, why, at_ms }))
}
