//! `complete` (DESIGN.md section 9): what must be so before the side that a log has left may go, and what is kept on record of
//! it. Pure; `closing` does the asking.

use std::collections::BTreeMap;

use super::watch::Judged;
use crate::control::protocol::Refusal;
use crate::groups::drained::{Drain, not_drained};
use crate::ids::{Side, TopicName, TopicPartition};
use crate::store::event::WaiverKind;
use crate::store::{Check, CheckResult, MigrationState, State};

/// Findings that an operator may waive.
pub const WAIVABLE: [&str; 4] = [STRAGGLERS, TRUNCATED, HISTORY, COMPACTED];
pub const STRAGGLERS: &str = "stragglers";
pub const TRUNCATED: &str = "truncated";
pub const HISTORY: &str = "history_without_copy";
pub const COMPACTED: &str = "compacted_without_copy";
const DRAINED: &str = "drained";
const HOME: &str = "groups_at_home";
const SKIPPED: &str = "skipped";
const POSITIONS: &str = "positions";

/// What was found on the side that is to be left.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Where its logs end now, against where they were sealed.
    pub ends: BTreeMap<TopicPartition, Judged>,
    /// Topics with records below their seams that a new reader would miss.
    pub history: Vec<History>,
    /// Groups that are still at home there.
    pub groups: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    pub topic: TopicName,
    pub records: i64,
    /// It keeps the last record of each key for ever.
    pub is_compacted: bool,
}

/// What is on record if nothing stands in the way. `drain`: of a look that has begun since.
pub fn judge(state: &State, migration: &str, drain: Option<&Drain>, found: &Found) -> Result<Vec<Check>, Refusal> {
    let Some(known) = state.migrations.get(migration) else {
        let message = format!("migration {migration} is not prepared");
        return Err(Refusal::new("not_prepared", message, format!("run `kafka-cutover prepare {migration}` first")));
    };
    let left = not_drained(state, migration, drain);
    if !left.is_empty() {
        let hint = format!(
            "they go on reading through the proxy; who does not is accepted by `kafka-cutover waive {migration} group NAME --why TEXT`"
        );
        return Err(Refusal::new("not_drained", left.join("; "), hint));
    }
    let not_waived = |group: &&String| known.waiver(WaiverKind::Group, group).is_none();
    let away: Vec<&str> = found.groups.iter().filter(not_waived).map(String::as_str).collect();
    if !away.is_empty() {
        let message = format!("groups are still at home on the source: {}", away.join(", "));
        let hint = format!("run `kafka-cutover switch {migration} groups` again, or waive them");
        return Err(Refusal::new("groups_left", message, hint));
    }
    let mut checks = vec![
        Check { name: DRAINED.to_owned(), result: CheckResult::Ok, detail: drained(known, drain) },
        home(known, found),
        skipped(known),
    ];
    for (name, what, always_failed) in findings(found) {
        checks.push(finding(known, migration, name, what, always_failed)?);
    }
    Ok(checks)
}

/// The last of the checks.
/// `not_closed`: groups that were waived, and why they were not.
pub fn positions(groups: usize, positions: usize, not_closed: &[String]) -> Check {
    let mut detail = format!(
        "{positions} positions of {groups} groups were read back from both clusters, in each one's own offsets and without trailers"
    );
    let result = if not_closed.is_empty() { CheckResult::Ok } else { CheckResult::Waived };
    if !not_closed.is_empty() {
        detail.push_str(&format!("; not those of groups that were waived: {}", not_closed.join("; ")));
    }
    Check { name: POSITIONS.to_owned(), result, detail }
}

fn drained(known: &MigrationState, drain: Option<&Drain>) -> String {
    let groups = drain.map_or(0, |d| d.groups.len());
    match waived(known).len() {
        0 => format!(
            "none of {groups} groups has a record left to read below the seam; readers that commit nothing are not among them"
        ),
        n => format!(
            "of {groups} groups, those that were not waived ({n} were) have no record left to read below the seam"
        ),
    }
}

fn home(known: &MigrationState, found: &Found) -> Check {
    let (result, detail) = match found.groups.as_slice() {
        [] => (CheckResult::Ok, "every group that reads its topics is at home on the target".to_owned()),
        left => (CheckResult::Waived, format!("still at home on the source, and waived: {}", left.join(", "))),
    };
    debug_assert!(result == CheckResult::Ok || !waived(known).is_empty());
    Check { name: HOME.to_owned(), result, detail }
}

fn skipped(known: &MigrationState) -> Check {
    let parts: Vec<String> =
        known.skipped.iter().map(|s| format!("{} {} to {}", s.topic_partition(), s.from, s.to)).collect();
    let (result, detail) = match parts.as_slice() {
        [] => (CheckResult::Ok, "no part of the log was skipped".to_owned()),
        some => (CheckResult::Waived, format!("readers were moved on over {}", some.join(", "))),
    };
    Check { name: SKIPPED.to_owned(), result, detail }
}

fn waived(known: &MigrationState) -> Vec<&str> {
    known.waived.iter().filter(|w| w.kind == WaiverKind::Group).map(|w| w.name.as_str()).collect()
}

/// Name, what is wrong (`Err`: nothing, in words), and whether a waiver leaves it failed.
fn findings(found: &Found) -> [(&'static str, Result<String, String>, bool); 4] {
    let stragglers: u64 = found.ends.values().map(|judged| judged.stragglers).sum();
    let late = match stragglers {
        0 => Err("the source's logs end where they were sealed".to_owned()),
        n => Ok(format!(
            "{n} records were written to the sealed source by somebody who bypasses the proxy: readers do not see them"
        )),
    };
    let lost: Vec<String> =
        found.ends.iter().filter(|(_, j)| j.lost_from.is_some()).map(|(tp, _)| tp.to_string()).collect();
    let truncated = match lost.as_slice() {
        [] => Err("the source has all that it had when it was sealed".to_owned()),
        _ => Ok(format!("the source has lost records that were acknowledged: {}", lost.join(", "))),
    };
    let of = |compacted: bool| -> Vec<String> {
        let some = found.history.iter().filter(|h| h.is_compacted == compacted);
        some.map(|h| format!("{} ({})", h.topic, h.records)).collect()
    };
    let history = match of(false).as_slice() {
        [] => Err("no record below the seams is younger than its topic's retention".to_owned()),
        topics => Ok(format!(
            "records below the seam lie on the source alone, and new readers would miss them: {}",
            topics.join(", ")
        )),
    };
    let compacted = match of(true).as_slice() {
        [] => Err("no compacted topic has records below its seam".to_owned()),
        topics => Ok(format!(
            "compacted topics have records on the source alone, which they would have kept for ever: {}",
            topics.join(", ")
        )),
    };
    [(STRAGGLERS, late, false), (TRUNCATED, truncated, true), (HISTORY, history, false), (COMPACTED, compacted, false)]
}

fn finding(
    known: &MigrationState,
    migration: &str,
    name: &str,
    what: Result<String, String>,
    always_failed: bool,
) -> Result<Check, Refusal> {
    let check = |result, detail| Check { name: name.to_owned(), result, detail };
    match (what, known.waiver(WaiverKind::Finding, name)) {
        (Err(fine), _) => Ok(check(CheckResult::Ok, fine)),
        (Ok(wrong), Some(waiver)) => {
            let result = if always_failed { CheckResult::Failed } else { CheckResult::Waived };
            Ok(check(result, format!("{wrong}; waived: {}", waiver.why)))
        }
        (Ok(wrong), None) => {
            let hint = format!("if that is accepted: `kafka-cutover waive {migration} finding {name} --why TEXT`");
            Err(Refusal::new(name, wrong, hint))
        }
    }
}

/// The partitions of a migration that a seal has touched, with where the side that it is to leave was sealed.
pub fn sealed(state: &State, migration: &str, side: Side) -> BTreeMap<TopicPartition, super::watch::Sealed> {
    let topics = state.migrations.get(migration).map_or(&[][..], |m| &m.topics);
    let all = topics.iter().flat_map(|t| t.partitions.iter().map(|p| TopicPartition::new(t.name.clone(), p.partition)));
    all.filter_map(|tp| {
        let map = &state.partition(&tp)?.map;
        let last = map.segments().iter().rev().find(|s| s.side == side)?;
        let sealed = super::watch::Sealed { end: last.native_end().0, epoch: last.end_epoch };
        Some((tp, sealed))
    })
    .collect()
}

/// From where to where, native and exclusive, the source's partitions of a migration lie on the target, too.
pub fn copied(state: &State, migration: &str) -> BTreeMap<TopicPartition, (i64, i64)> {
    let topics = state.migrations.get(migration).map_or(&[][..], |m| &m.topics);
    let each = topics.iter().filter_map(|topic| Some((topic, topic.mirror.as_ref()?)));
    let all =
        each.flat_map(|(topic, mirror)| mirror.starts.iter().map(move |(partition, from)| (topic, *partition, *from)));
    all.filter_map(|(topic, partition, from)| {
        let tp = TopicPartition::new(topic.name.clone(), partition);
        let to = state.partition(&tp)?.copied_to?;
        Some((tp, (from.0, to.0)))
    })
    .collect()
}
