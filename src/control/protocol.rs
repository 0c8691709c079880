//! What is said over the control socket (DESIGN.md section 12), and the handle through which the proxy is asked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::config::Scheme;
use crate::ids::Side;

/// What may be put into a migration's `next`, as far as `cutover` runs it.
pub const NEXT_PREPARE: &str = "prepare";
pub const NEXT_SWITCH_PRODUCERS: &str = "switch producers";

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
        }
    }
}

/// The body of `POST …/prepare`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrepareBody {
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_step: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

fn to_target() -> Side {
    Side::Target
}

/// What a switch moves. Consumers and groups are not built yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Producers,
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
        let hint = if known.is_empty() { "the config has no migration".to_owned() } else { format!("there is: {known}") };
        Self::new("unknown_migration", format!("no migration is named `{name}`"), hint)
    }

    pub fn status(&self) -> u16 {
        match self.code.as_str() {
            "bad_request" => 400,
            "not_found" | "unknown_migration" => 404,
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
    /// Records, since the last seal.
    pub stragglers: u64,
    pub groups: Vec<GroupStatus>,
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

/// Who is at the other end of the socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` if the kernel does not say.
    pub uid: Option<u32>,
}

/// A command on its way to the proxy, with where its answer goes. Who drops `answer` answers `unavailable`.
#[derive(Debug)]
pub struct Ask {
    pub command: Command,
    pub peer: Peer,
    pub answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

/// The proxy, as its operator reaches it.
#[derive(Clone)]
pub struct Operator {
    commands: mpsc::Sender<Ask>,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    events: broadcast::Sender<Event>,
}

impl Operator {
    pub fn new(
        commands: mpsc::Sender<Ask>,
        status: impl Fn() -> Status + Send + Sync + 'static,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self { commands, status: Arc::new(status), events }
    }

    pub fn status(&self) -> Status {
        (self.status)()
    }

    pub fn migration(&self, name: &str) -> Result<MigrationStatus, Refusal> {
        let status = self.status();
        let found = status.migrations.iter().find(|m| m.name == name).cloned();
        found.ok_or_else(|| Refusal::unknown_migration(name, status.migrations.iter().map(|m| m.name.as_str())))
    }

    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Returns when the step is done or refused. A caller that goes away does not stop the step.
    pub async fn ask(&self, command: Command, peer: Peer) -> Result<Outcome, Refusal> {
        let gone = || Refusal::new("unavailable", "the proxy is winding down", "try again once it runs");
        let (answer, answered) = oneshot::channel();
        self.commands.send(Ask { command, peer, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
