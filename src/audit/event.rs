//! What clients say: one JSON object per line, printed by a driver in any language, or made in process.
//!
//! `t` is the driver's monotonic clock in seconds, `c` the client's name, `e` the kind:
//!
//! | e | fields | meaning |
//! |---|---|---|
//! | `ready` | `lib`? | the client is up; `lib` names its library for the allow-list |
//! | `send` | `s` `k` `id` | a record was handed to the client library (may be left out altogether) |
//! | `ack` | `s` `k` `id` `pt` `o` | acknowledged; `o` is -1 where the library does not say |
//! | `fail` | `s` `k` `error`, `id`? | the library gave up on it: its fate is unknown |
//! | `recv` | `pt` `o` `v`, `k`? | a record arrived; `v` is its value without padding, `k` its key as it came |
//! | `assign`, `revoke` | `parts`, `lost`? | partitions given to or taken from this consumer |
//! | `commit` | `ok`, `error`?, `offsets`? | a commit ended |
//! | `log` | `level` `text` | a line of the library's log |
//! | `done` | `sent` `acked` `failed`, or `received`; `exit`? | the client has ended; its own tally |
//!
//! `pt` is a partition: a number where the run has one topic, else a string such as `"orders-3"`; one form per run.
//! Unknown kinds and unknown fields are errors: a driver and the judge must not misunderstand each other quietly.

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use super::record;

#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Seconds on the driver's monotonic clock.
    pub t: f64,
    pub client: String,
    pub what: What,
}

#[derive(Clone, PartialEq, Debug)]
pub enum What {
    Ready { lib: Option<String> },
    Send { seq: u64, key: String, id: u64 },
    Ack { seq: u64, key: String, id: u64, partition: String, offset: Option<i64> },
    Fail { seq: u64, key: String, id: Option<u64>, error: String },
    Recv { partition: String, offset: i64, value: String, key: Option<String> },
    Assign { partitions: Vec<String> },
    Revoke { partitions: Vec<String> },
    Commit { ok: bool, error: String },
    Log { level: String, text: String },
    Done(Tally),
}

/// What a client counted itself: lines lost on the way to the judge show as a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub sent: Option<u64>,
    pub acked: Option<u64>,
    pub failed: Option<u64>,
    pub received: Option<u64>,
}

#[derive(Error, Debug)]
pub enum EventError {
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    #[error("unknown kind of event `{0}`")]
    Kind(String),
    #[error("event `{kind}` lacks or garbles `{field}`")]
    Field { kind: String, field: &'static str },
}

/// A line as it is written: every field any kind has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    t: f64,
    e: String,
    c: String,
    lib: Option<String>,
    s: Option<u64>,
    k: Option<String>,
    id: Option<String>,
    pt: Option<Partition>,
    o: Option<i64>,
    v: Option<String>,
    parts: Option<Vec<Partition>>,
    ok: Option<bool>,
    error: Option<String>,
    level: Option<String>,
    text: Option<String>,
    sent: Option<u64>,
    acked: Option<u64>,
    failed: Option<u64>,
    received: Option<u64>,
    // Said for people who read the lines, and not judged: where a commit went, that partitions were taken and not given
    // back, a command line client's exit code.
    #[serde(rename = "offsets")]
    _offsets: Option<IgnoredAny>,
    #[serde(rename = "lost")]
    _lost: Option<bool>,
    #[serde(rename = "exit")]
    _exit: Option<i32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Partition {
    Number(i32),
    Name(String),
}

impl Partition {
    fn label(self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Name(name) => name,
        }
    }
}

impl Event {
    pub fn new(t: f64, client: impl Into<String>, what: What) -> Self {
        Self { t, client: client.into(), what }
    }

    /// Reads one line of a driver.
    pub fn parse(line: &str) -> Result<Self, EventError> {
        let line: Line = serde_json::from_str(line)?;
        let kind = line.e;
        let lacks = |field| EventError::Field { kind: kind.clone(), field };
        let id = match line.id {
            Some(text) => Some(record::parse_hex(&text).ok_or_else(|| lacks("id"))?),
            None => None,
        };
        let labels = |parts: Option<Vec<Partition>>| {
            parts.map(|list| list.into_iter().map(Partition::label).collect()).ok_or_else(|| lacks("parts"))
        };
        let what = match kind.as_str() {
            "ready" => What::Ready { lib: line.lib },
            "send" => What::Send {
                seq: line.s.ok_or_else(|| lacks("s"))?,
                key: line.k.ok_or_else(|| lacks("k"))?,
                id: id.ok_or_else(|| lacks("id"))?,
            },
            "ack" => What::Ack {
                seq: line.s.ok_or_else(|| lacks("s"))?,
                key: line.k.ok_or_else(|| lacks("k"))?,
                id: id.ok_or_else(|| lacks("id"))?,
                partition: line.pt.ok_or_else(|| lacks("pt"))?.label(),
                offset: line.o.map(|o| (o >= 0).then_some(o)).ok_or_else(|| lacks("o"))?,
            },
            "fail" => What::Fail {
                seq: line.s.ok_or_else(|| lacks("s"))?,
                key: line.k.ok_or_else(|| lacks("k"))?,
                id,
                error: line.error.ok_or_else(|| lacks("error"))?,
            },
            "recv" => What::Recv {
                partition: line.pt.ok_or_else(|| lacks("pt"))?.label(),
                offset: line.o.filter(|o| *o >= 0).ok_or_else(|| lacks("o"))?,
                value: line.v.ok_or_else(|| lacks("v"))?,
                key: line.k,
            },
            "assign" => What::Assign { partitions: labels(line.parts)? },
            "revoke" => What::Revoke { partitions: labels(line.parts)? },
            "commit" => What::Commit { ok: line.ok.ok_or_else(|| lacks("ok"))?, error: line.error.unwrap_or_default() },
            "log" => What::Log {
                level: line.level.ok_or_else(|| lacks("level"))?,
                text: line.text.ok_or_else(|| lacks("text"))?,
            },
            "done" => {
                let tally = Tally { sent: line.sent, acked: line.acked, failed: line.failed, received: line.received };
                if tally == Tally::default() {
                    return Err(lacks("sent, acked, failed or received"));
                }
                What::Done(tally)
            }
            _ => return Err(EventError::Kind(kind)),
        };
        Ok(Self { t: line.t, client: line.c, what })
    }
}
