//! Why the mirror of a partition stands still, in words for an operator. Pure.

use super::lane::Route;
use crate::error::{code, code_name};
use crate::ids::NOffset;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stop {
    /// `snake_case`, for ever: scripts know it (`control::protocol::MirrorStopped`).
    pub code: &'static str,
    pub message: String,
    pub what_to_do: String,
    /// Somebody may mend it: it is tried again now and then.
    pub may_pass: bool,
}

/// A copy that cannot go on: the one way out.
const ANEW: &str = "`abort` the migration, delete the topic on the other side, then `prepare` again";

impl Stop {
    fn for_good(code: &'static str, message: String, what_to_do: String) -> Self {
        Self { code, message, what_to_do, may_pass: false }
    }

    pub(super) fn foreign_writer(route: &Route, at: NOffset, expected: NOffset) -> Self {
        let (tp, to) = (&route.partition, route.from.other());
        Self::for_good(
            "foreign_writer",
            format!(
                "{tp} on the {to} ends at {at}, the mirror has written up to {expected}: somebody else writes there"
            ),
            format!("stop who writes to {tp} on the {to}; then {ANEW}"),
        )
    }

    pub(super) fn copy_lost(route: &Route, end: NOffset) -> Self {
        let (tp, to) = (&route.partition, route.from.other());
        Self::for_good(
            "copy_lost",
            format!("{tp} on the {to} ends at {end}, before the copy began: its records are gone"),
            ANEW.to_owned(),
        )
    }

    pub(super) fn truncated(route: &Route, at: NOffset, end: NOffset) -> Self {
        let (tp, from) = (&route.partition, route.from);
        Self::for_good(
            "truncated",
            format!(
                "{tp} on the {from} ends at {end}, and was copied up to {at}: it has lost records, or was made anew"
            ),
            format!("the copy has what the {from} lost; {ANEW}"),
        )
    }

    pub(super) fn overtaken(route: &Route, at: NOffset, start: NOffset) -> Self {
        let (tp, from) = (&route.partition, route.from);
        Self::for_good(
            "overtaken",
            format!(
                "{tp} on the {from} begins at {start}, and was copied up to {at}: retention was faster than the mirror"
            ),
            format!(
                "raise retention.ms and retention.bytes of the topic on the {from} and the mirror's rate; then {ANEW}"
            ),
        )
    }

    pub fn made_anew(route: &Route) -> Self {
        let tp = &route.partition;
        Self::for_good(
            "topic_made_anew",
            format!("topic {} was deleted, or made anew, since it was prepared", tp.topic),
            ANEW.to_owned(),
        )
    }

    pub(super) fn corrupt(route: &Route, why: &str) -> Self {
        let (tp, from) = (&route.partition, route.from);
        Self::for_good(
            "corrupt_batch",
            format!("{tp} on the {from}: {why}"),
            format!(
                "no consumer can read it either: move the log start behind it (kafka-delete-records.sh); then {ANEW}"
            ),
        )
    }

    pub(super) fn not_read(route: &Route, error: i16) -> Self {
        let (tp, from) = (&route.partition, route.from);
        Self {
            code: "refused",
            message: format!("the {from} does not let the mirror read {tp}: {}", code_name(error)),
            what_to_do: format!(
                "allow READ of the topic on the {from} to the proxy's own principal; it is tried again"
            ),
            may_pass: true,
        }
    }

    pub(super) fn refused(route: &Route, error: i16, message: &str) -> Self {
        let (tp, to) = (&route.partition, route.from.other());
        let said = if message.is_empty() { String::new() } else { format!(" ({message})") };
        let what_to_do = match error {
            code::MESSAGE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE => {
                format!("raise max.message.bytes of the topic on the {to}")
            }
            code::INVALID_TIMESTAMP => {
                format!(
                    "raise message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic on the {to}"
                )
            }
            code::INVALID_RECORD => format!(
                "the {to} takes no such record: one without a key where cleanup.policy is compact, or of a time that it does not allow"
            ),
            code::TOPIC_AUTHORIZATION_FAILED | code::CLUSTER_AUTHORIZATION_FAILED => {
                format!("allow WRITE of the topic on the {to} to the proxy's own principal")
            }
            _ => format!("look at the brokers of the {to}"),
        };
        Self {
            code: "refused",
            message: format!("the {to} does not take the copy of {tp}: {}{said}", code_name(error)),
            what_to_do: format!("{what_to_do}; it is tried again"),
            may_pass: true,
        }
    }

    pub(super) fn not_set(route: &Route, why: &str) -> Self {
        let (topic, to) = (&route.partition.topic, route.from.other());
        Self {
            code: "configs",
            message: format!("topic {topic} of the {to} cannot be set to keep what is copied: {why}"),
            what_to_do: format!(
                "allow ALTER_CONFIGS of the topic on the {to} to the proxy's own principal; it is tried again"
            ),
            may_pass: true,
        }
    }

    pub fn no_ledger(route: &Route, why: &str) -> Self {
        let tp = &route.partition;
        Self::for_good(
            "ledger",
            format!("the ledger of {tp} cannot go on: {why}"),
            format!("mend the state directory and start again; if it is lost, {ANEW}"),
        )
    }
}
