//! What is wrong with a config: all of it, each with its key and, where there is one, its line.

use std::fmt;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `listeners[0].advertise`; empty for the file as a whole.
    pub key: String,
    pub message: String,
    pub place: Place,
}

/// Where the value came from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Place {
    /// Counted from 1.
    Line { line: usize, column: usize },
    /// An environment variable, by name.
    Env(String),
    /// It was not given at all.
    #[default]
    Nowhere,
}

impl Problem {
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), place: Place::Nowhere }
    }
}

/// Every problem of one config. Its `Display` is what the operator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file's name, as it was given.
    pub origin: String,
    pub list: Vec<Problem>,
    /// The file's text, for the snippets.
    pub text: String,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.list.len();
        write!(f, "{}: {n} problem{}", self.origin, if n == 1 { "" } else { "s" })?;
        for problem in &self.list {
            write!(f, "\n  ")?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message.replace('\n', "\n    "))?;
            match &problem.place {
                Place::Line { line, column } => {
                    write!(f, "\n    --> {}:{line}:{column}", self.origin)?;
                    if let Some(text) = self.text.lines().nth(line.saturating_sub(1)) {
                        write!(f, "\n    {line} | {}", text.trim_end())?;
                    }
                }
                Place::Env(name) => write!(f, "\n    --> environment variable {name}")?,
                Place::Nowhere => {}
            }
        }
        Ok(())
    }
}
