//! Log lines of client libraries that mean nothing: one file, `lib<TAB>regex<TAB>why`, `#` for comments.
//! Every entry has a reason; a line at WARN or above that no entry allows is a client-visible error.

use regex::Regex;
use thiserror::Error;

#[derive(Clone, Debug, Default)]
pub struct AllowList {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    lib: String,
    line: Regex,
}

#[derive(Error, Debug)]
pub enum AllowError {
    #[error("line {0}: not `lib<TAB>regex<TAB>why`")]
    Shape(usize),
    #[error("line {0}: an entry needs its reason")]
    NoReason(usize),
    #[error("line {line}: {error}")]
    Regex { line: usize, error: regex::Error },
}

impl AllowList {
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        let mut entries = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut columns = line.splitn(3, '\t');
            let (Some(lib), Some(pattern), Some(why)) = (columns.next(), columns.next(), columns.next()) else {
                return Err(AllowError::Shape(number));
            };
            if lib.trim().is_empty() || pattern.is_empty() {
                return Err(AllowError::Shape(number));
            }
            if why.trim().is_empty() {
                return Err(AllowError::NoReason(number));
            }
            let line = Regex::new(pattern).map_err(|error| AllowError::Regex { line: number, error })?;
            entries.push(Entry { lib: lib.trim().to_owned(), line });
        }
        Ok(Self { entries })
    }

    /// Whether a line of this library means nothing; the library `*` stands for all.
    pub fn allows(&self, lib: &str, text: &str) -> bool {
        self.entries.iter().any(|e| (e.lib == "*" || e.lib == lib) && e.line.is_match(text))
    }
}
