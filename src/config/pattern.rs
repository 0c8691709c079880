//! A topic pattern: a regular expression that must match the whole name.

use std::borrow::Cow;
use std::fmt;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Compiled once, when the config is read.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    whole: Regex,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        // On its own first: `a)|(b` would compile once wrapped.
        Regex::new(text)?;
        let whole = Regex::new(&format!(r"\A(?:{text})\z"))?;
        Ok(Self { text: text.to_owned(), whole })
    }

    pub fn matches(&self, topic: &str) -> bool {
        self.whole.is_match(topic)
    }

    /// As the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The parser's own drawing takes several lines; the last says what is wrong.
        Self::new(&text).map_err(|e| {
            let e = e.to_string();
            let last = e.lines().last().unwrap_or_default().trim();
            format!("`{text}` is not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
        })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "a regular expression, matched against the whole name" })
    }
}
