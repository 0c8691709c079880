//! Passwords come from files, and never leave in a log line.
#![expect(clippy::disallowed_methods, reason = "io: reads password files")]

use std::fmt;
use std::path::Path;

/// Shown as `***` by `Debug`; there is no `Display` and no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The file's text without its last line end, which editors add.
    pub fn from_file(path: &Path) -> std::io::Result<Self> {
        let mut text = std::fs::read_to_string(path)?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(Self(text))
    }

    /// Say why at each call.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
