//! A directory for one play's state and socket, gone when the play is over.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub struct Scratch(PathBuf);

impl Scratch {
    /// Readable by its owner only. The name is short: a socket's path has little room.
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kafka-cutover-{:08x}", rand::random::<u32>()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the directory {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what is left in the temporary directory is the system's to sweep
    }
}
