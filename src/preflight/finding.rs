//! One thing that was found, as `check --json` prints it.

use serde::{Deserialize, Serialize};

/// An error stops `prepare` and each switch; a warning is the operator's to judge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// `snake_case`, for ever.
    pub code: String,
    /// `source`, `topic orders`, `migration a`, …
    #[serde(rename = "where")]
    pub where_: String,
    pub message: String,
    /// What to do about it.
    pub action: String,
}

impl Finding {
    pub fn error(code: &str, where_: impl ToString, message: impl Into<String>, action: impl Into<String>) -> Self {
        let (where_, message, action) = (where_.to_string(), message.into(), action.into());
        Self { severity: Severity::Error, code: code.to_owned(), where_, message, action }
    }

    pub fn warning(code: &str, where_: impl ToString, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, where_, message, action) }
    }
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub findings: Vec<Finding>,
}

impl Findings {
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|f| f.severity == Severity::Error).count()
    }
}
