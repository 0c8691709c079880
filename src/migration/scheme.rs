//! Schemes as data (DESIGN.md section 5): a scheme is a list of steps, each with the command that takes a migration to it.

use crate::config::Scheme;

/// A step that a migration can be at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// As journalled and shown.
    pub name: &'static str,
    /// The command that leads on from here; `None`: what follows is not offered yet.
    pub next: Option<&'static str>,
}

/// Before `prepare`.
pub const CONFIGURED: &str = "configured";
pub const PREPARED: &str = "prepared";
pub const PRODUCERS_SWITCHED: &str = "producers-switched";
pub const GROUPS_SWITCHED: &str = "groups-switched";
pub const COMPLETED: &str = "completed";

const PRODUCERS_FIRST: &[Step] = &[
    Step { name: CONFIGURED, next: Some(crate::control::protocol::NEXT_PREPARE) },
    Step { name: PREPARED, next: Some(crate::control::protocol::NEXT_SWITCH_PRODUCERS) },
    Step { name: PRODUCERS_SWITCHED, next: Some(crate::control::protocol::NEXT_SWITCH_GROUPS) },
    Step { name: GROUPS_SWITCHED, next: Some(crate::control::protocol::NEXT_COMPLETE) },
    Step { name: COMPLETED, next: None },
];

/// Other schemes are refused by the config until they are built.
pub fn steps(scheme: Scheme) -> &'static [Step] {
    match scheme {
        Scheme::ProducersFirst => PRODUCERS_FIRST,
        _ => &[],
    }
}

pub fn names(scheme: Scheme) -> Vec<&'static str> {
    steps(scheme).iter().map(|s| s.name).collect()
}

/// Whether a migration at this step has that one behind it, or is at it.
pub fn has_reached(scheme: Scheme, at: &str, step: &str) -> bool {
    let place = |name: &str| steps(scheme).iter().position(|s| s.name == name);
    place(at).is_some_and(|at| place(step).is_some_and(|step| at >= step))
}

pub fn next(scheme: Scheme, at: &str) -> Option<&'static str> {
    steps(scheme).iter().find(|s| s.name == at)?.next
}
