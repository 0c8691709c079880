//! What came of a run, for people and for machines: the JSON line of DESIGN.md section 12, or a table.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::verdict::Verdict;

/// One line of `demo --json` or `canary --json`; the canary leaves out what it cannot know.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    pub records_sent: u64,
    pub records_received: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub client_errors: u64,
    pub produce_pause_ms: Pause,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_records: Option<u64>,
    pub result: &'static str,
    /// Why it is not ok, one line each.
    #[serde(skip)]
    pub reasons: Vec<String>,
}

/// Milliseconds. `max` is the longest that any record waited for its acknowledgement since it was due, records due
/// before their producer's first acknowledgement left out.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Pause {
    pub max: f64,
}

impl Outcome {
    pub fn new(verdict: &Verdict, pause_us: u64) -> Self {
        let reasons: Vec<String> = verdict.anomalies.iter().map(|a| format!("{}: {}", a.class, a.text)).collect();
        Self {
            scheme: None,
            records_sent: verdict.records_sent,
            records_received: verdict.records_received,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            reordered: verdict.reordered,
            client_errors: verdict.client_errors,
            produce_pause_ms: Pause { max: pause_us as f64 / 1000.0 },
            source_records: None,
            target_records: None,
            result: if verdict.ok() { "ok" } else { "failed" },
            reasons,
        }
    }

    /// Makes it a failure for a reason that the judge cannot see.
    pub fn fail(&mut self, reason: String) {
        self.result = "failed";
        self.reasons.push(reason);
    }

    pub fn ok(&self) -> bool {
        self.result == "ok"
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings always serialize")
    }

    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        if let Some(scheme) = &self.scheme {
            row("scheme", scheme.clone());
        }
        row("records sent", self.records_sent.to_string());
        row("records received", self.records_received.to_string());
        row("lost", self.lost.to_string());
        row("duplicated", self.duplicated.to_string());
        row("reordered", self.reordered.to_string());
        row("client errors", self.client_errors.to_string());
        row("longest produce pause", format!("{:.1} ms", self.produce_pause_ms.max));
        if let Some(records) = self.source_records {
            row("records on the source", records.to_string());
        }
        if let Some(records) = self.target_records {
            row("records on the target", records.to_string());
        }
        row("result", self.result.to_owned());
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// What a command prints: the result to stdout, the reasons of a failure to stderr.
    pub fn print(&self, json: bool) {
        println!("{}", if json { self.json() } else { self.table() });
        for reason in &self.reasons {
            eprintln!("{reason}");
        }
    }
}
