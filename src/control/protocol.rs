//! What is said over the control socket (DESIGN.md section 12).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Scheme;
use crate::ids::{NOffset, Side, TopicPartition, VOffset};
use crate::store::event::WaiverKind;
use crate::store::{Check, GroupPosition};

/// What may be put into a migration's `next`, as far as `cutover` runs it.
pub const NEXT_PREPARE: &str = "prepare";
pub const NEXT_SWITCH_PRODUCERS: &str = "switch producers";
pub const NEXT_SWITCH_CONSUMERS: &str = "switch consumers";
pub const NEXT_SWITCH_GROUPS: &str = "switch groups";
pub const NEXT_COMPLETE: &str = "complete";

/// One mutating call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub migration: String,
    pub action: Action,
    /// Refused unless the migration's step is this one: compare and set.
    pub expect_step: Option<String>,
    /// Say what would be done; change nothing.
    pub dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Prepare,
    SwitchProducers {
        to: Side,
        /// Go on over what an operator may overrule.
        force: bool,
        /// Readers stay at the seam until consumers are switched.
        hold_consumers: bool,
    },
    SwitchConsumers {
        to: Side,
    },
    SwitchGroups {
        to: Side,
        /// Go on over what an operator may overrule.
        force: bool,
    },
    /// The log leaves its other side.
    Complete,
    Abort,
    /// The operator's word that something is accepted which would stop a step.
    Waive {
        kind: WaiverKind,
        name: String,
        why: String,
    },
    /// Readers skip what lies on the side that was left: it is lost.
    Skip {
        partition: TopicPartition,
        why: String,
        /// Also what can be read.
        force: bool,
    },
}

impl Command {
    /// For the one who runs the command, under the same lock or in the same task as the step itself.
    pub fn check_step(&self, step: &str) -> Result<(), Refusal> {
        match &self.expect_step {
            Some(expected) if expected != step => {
                let message = format!("migration {} is at step `{step}`, not `{expected}`", self.migration);
                Err(Refusal::new("step_changed", message, "look at `kafka-cutover status` and try again"))
            }
            _ => Ok(()),
        }
    }
}

impl Action {
    /// As in the log and on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Prepare => NEXT_PREPARE,
            Action::SwitchProducers { .. } => NEXT_SWITCH_PRODUCERS,
            Action::SwitchConsumers { .. } => NEXT_SWITCH_CONSUMERS,
            Action::SwitchGroups { .. } => NEXT_SWITCH_GROUPS,
            Action::Complete => NEXT_COMPLETE,
            Action::Abort => "abort",
            Action::Waive { .. } => "waive",
            Action::Skip { .. } => "skip",
        }
    }
}

/// The body of `POST …/prepare`, of `POST …/complete` and of `POST …/abort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_step: Option<String>,
    pub dry_run: bool,
}

/// The body of `POST …/switch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchBody {
    pub what: What,
    #[serde(default = "to_target")]
    pub to: Side,
    #[serde(default)]
    pub force: bool,
    /// Of producers: readers stay at the seam until consumers are switched.
    #[serde(default)]
    pub hold_consumers: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_step: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

fn to_target() -> Side {
    Side::Target
}

/// The body of `POST …/waive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaiveBody {
    pub kind: WaiverKind,
    /// The group's id.
    pub name: String,
    pub why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_step: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// The body of `POST …/skip`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkipBody {
    pub topic: String,
    pub partition: i32,
    pub why: String,
    #[serde(default)]
    pub force: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_step: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// What a switch moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Producers,
    Consumers,
    Groups,
}

impl What {
    /// The step, as the command line has it.
    pub fn step(self) -> &'static str {
        match self {
            What::Producers => NEXT_SWITCH_PRODUCERS,
            What::Consumers => NEXT_SWITCH_CONSUMERS,
            What::Groups => NEXT_SWITCH_GROUPS,
        }
    }
}

/// A step that is done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub migration: String,
    /// The step that the migration is at now.
    pub step: String,
    /// What was done, or with `dry_run` would be: one line each.
    pub done: Vec<String>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// What else the step has to tell, into the same JSON object.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// Why something was not done. Its code decides the HTTP status; what is not listed in `status` is a guard's: 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: String,
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Refusal {
    pub fn new(code: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: hint.into() }
    }

    pub fn unknown_migration<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        let hint =
            if known.is_empty() { "the config has no migration".to_owned() } else { format!("there is: {known}") };
        Self::new("unknown_migration", format!("no migration is named `{name}`"), hint)
    }

    pub fn status(&self) -> u16 {
        match self.code.as_str() {
            "bad_request" => 400,
            "not_found" | "unknown_migration" | "not_mapped" => 404,
            "method_not_allowed" => 405,
            "too_large" => 413,
            "failed" => 500,
            "unavailable" => 503,
            _ => 409,
        }
    }
}

/// Errors on the wire: `{"error":{"code","message","hint"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: Refusal,
}

/// `status --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub proxy: ProxyStatus,
    pub clusters: Clusters,
    pub migrations: Vec<MigrationStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    pub version: String,
    pub ready: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clusters {
    pub source: ClusterStatus,
    pub target: ClusterStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The native cluster id, once it is known.
    pub id: Option<String>,
    pub reachable: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MigrationStatus {
    pub name: String,
    pub scheme: Scheme,
    pub step: String,
    /// What the operator would do next, as on the command line; `None` after the last step.
    pub next: Option<String>,
    /// Whether `next` may run.
    pub guard: Guard,
    /// Names, as journalled at prepare; before it, those that match now.
    pub topics: Vec<String>,
    /// How many, over all topics.
    pub partitions: usize,
    /// RFC 3339, of the last seal.
    pub sealed_at: Option<String>,
    /// How long that seal held produce.
    pub hold_ms: Option<u64>,
    /// RFC 3339: since when its consumers are held at the seam, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers_held_since: Option<String>,
    /// Transactions of before the switch are still open: readers pass the seam when the last of them has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_seam: Option<LateSeam>,
    /// Left out where nothing is mirrored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorStatus>,
    /// Records, since the last seal.
    pub stragglers: u64,
    /// Topics that match, and that `prepare` has not taken in: they stay on the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unprepared: Vec<String>,
    /// Sealed sides that have lost records below their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<Truncated>,
    /// After a seal: the groups that have a position on one of its topics.
    pub groups: Vec<GroupStatus>,
    /// What the last look at the groups could not find out: there may be more groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups_not_heard: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<Waived>,
    /// What readers skip, since its side was lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedPart>,
}

/// A seam that has no place in the log yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateSeam {
    /// RFC 3339, when producers switched.
    pub since: String,
    /// What it waits for, as of the last look.
    #[serde(flatten)]
    pub waits_for: LateWaits,
}

/// The copy of a migration's topics on the other side, while it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// The side that is copied.
    pub from: Side,
    pub partitions: usize,
    /// Partitions that are as far as the side that is copied, but for what has just been written.
    pub caught_up: usize,
    /// Offsets that are still to be copied, as far as is known.
    pub lag: u64,
    /// For how long the slowest partition has been behind, in milliseconds.
    pub behind_ms: u64,
    /// Records and bytes copied since the proxy started.
    pub records: u64,
    pub bytes: u64,
    /// Partitions whose mirror stands still; the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<MirrorStopped>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStopped {
    pub topic: String,
    pub partition: i32,
    /// `foreign_writer`, `copy_lost`, `truncated`, `overtaken`, `topic_made_anew`, `corrupt_batch`, `refused`, `configs` or `ledger`.
    pub code: String,
    pub why: String,
    pub what_to_do: String,
}

/// What a seam waits for that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LateWaits {
    /// Transactions of before the switch.
    pub open: Vec<OpenTransaction>,
    /// Groups that have to move first, since transactions carry their positions; with what stood in the way last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// A transaction that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its transactional id; of one that no coordinator knows, its producer and partition.
    pub id: String,
    /// RFC 3339, by its coordinator; empty if that does not know it.
    pub since: String,
}

/// A part of a partition that readers skip: virtual offsets, `to` is the first that they get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedPart {
    pub topic: String,
    pub partition: i32,
    pub side: Side,
    pub from: VOffset,
    pub to: VOffset,
    pub why: String,
    /// RFC 3339.
    pub at: String,
}

/// The operator's word, on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    pub kind: WaiverKind,
    pub name: String,
    pub why: String,
    /// RFC 3339.
    pub at: String,
}

/// A sealed side has no records any more from `from` to `end`, native offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    pub topic: String,
    pub partition: i32,
    pub side: Side,
    pub from: i64,
    pub end: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    pub ok: bool,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    pub id: String,
    pub home: Side,
    pub state: String,
    /// Records before the seam that the group has not read; `None` while unknown.
    pub behind: Option<u64>,
    /// Partitions that have some, and no position of the group: it reads them, or is waived.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncommitted: usize,
    /// Why it is accepted as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<String>,
    /// Those that are not drained; the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionBehind>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBehind {
    pub topic: String,
    pub partition: i32,
    /// As the group's clients see it; `None`: it has none.
    pub position: Option<i64>,
    pub behind: Option<u64>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The certificate of a migration: `report --format json`, `GET /v1/migrations/{name}/report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub migration: String,
    pub scheme: String,
    pub step: String,
    /// The clusters' own ids, as far as they have any.
    pub source: Option<String>,
    pub target: Option<String>,
    /// RFC 3339, of the last seal.
    pub sealed_at: Option<String>,
    /// How long that seal held produce.
    pub hold_ms: Option<u64>,
    /// RFC 3339.
    pub completed_at: Option<String>,
    pub partitions: Vec<ReportedPartition>,
    pub groups: Vec<ReportedGroup>,
    /// What was looked at before it was completed.
    pub checks: Vec<Check>,
    pub waived: Vec<Waived>,
    /// What no reader gets any more, because its cluster was lost.
    pub skipped: Vec<SkippedPart>,
    pub result: ReportResult,
    /// What the operator may do now, in words.
    pub promise: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportResult {
    Ok,
    /// It was completed, and something is not as it should be.
    Failed,
    NotCompleted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedPartition {
    pub topic: String,
    pub partition: i32,
    /// In the order of the log as clients saw it: where one ends a side was sealed, where the next begins the other went on.
    pub segments: Vec<ReportedSegment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedSegment {
    pub side: Side,
    /// Its first offset.
    #[serde(rename = "virtual")]
    pub virtual_start: VOffset,
    #[serde(rename = "native")]
    pub native_start: NOffset,
    /// `None`: open.
    pub length: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedGroup {
    pub id: String,
    pub home: Side,
    /// RFC 3339, when it became at home there.
    pub moved_at: Option<String>,
    /// What it had committed when it moved.
    pub before: Vec<GroupPosition>,
    /// What both sides hold since the migration was completed.
    pub after: Vec<GroupPosition>,
}

/// `GET /v1/offsets/translate`, as its query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslateQuery {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(default)]
    pub from: Terms,
}

/// Whose an offset is: what clients of the proxy see, or what a cluster's own brokers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Terms {
    #[default]
    Virtual,
    Source,
    Target,
}

/// One offset in everybody's terms: `offsets translate --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation {
    pub topic: String,
    pub partition: i32,
    /// `None`: no migration has prepared the partition; it lies on the source, and virtual = native.
    pub migration: Option<String>,
    #[serde(rename = "virtual")]
    pub at: VOffset,
    /// On the side of `segment`.
    pub native: NOffset,
    /// The one that holds the record, or will.
    pub segment: SegmentOf,
    /// `None`: the side has no part of the log.
    pub source: Option<SidePosition>,
    pub target: Option<SidePosition>,
    /// Virtual: up to where a reader has read who stands at the native offset that was asked for, and has met that side alone. It is
    /// less than `virtual` only where a segment begins: what lies between is on the other side. Asked for a virtual offset: that.
    pub read_up_to: VOffset,
}

/// As in a report's list, with its number: counted from 0, the first that the log ever had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentOf {
    pub number: usize,
    pub side: Side,
    /// Its first offset.
    #[serde(rename = "virtual")]
    pub virtual_start: VOffset,
    #[serde(rename = "native")]
    pub native_start: NOffset,
    /// `None`: open.
    pub length: Option<i64>,
}

/// Where a reader of one side alone goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidePosition {
    /// The side's first record at or after the offset, else the end of its part.
    pub native: NOffset,
    /// It is the very record.
    pub exact: bool,
}

/// What happens, for `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The SSE event's name: `step`, `alarm`, …
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    #[serde(flatten)]
    pub details: Map<String, Value>,
}
