//! The proxy as users run it: the built binary as a process of its own, and the operator's commands to it.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_kafka-cutover");

pub struct Proxy {
    child: Child,
    /// Where it listens.
    pub address: String,
    socket: PathBuf,
    _state: tempfile::TempDir,
}

impl Proxy {
    /// Listening when it returns. Each migration: its name, and the pattern of its topics.
    pub fn start(source: &[String], target: &[String], migrations: &[(String, String)]) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let socket = state.path().join("socket");
        let migrations: Vec<Value> = migrations
            .iter()
            .map(|(name, topics)| json!({ "name": name, "topics": [topics], "scheme": "producers-first" }))
            .collect();
        // JSON is YAML.
        let config = json!({
            // Real clusters remember, by name, who has sealed on them.
            "name": format!("bench-{}", std::process::id()),
            "source": { "bootstrap": source },
            "target": { "bootstrap": target },
            "listeners": [{ "bind": "127.0.0.1:0" }],
            "control": { "socket": socket },
            "monitor": { "bind": null },
            "state": { "dir": state.path().join("state") },
            "migrations": migrations,
        });
        let file = state.path().join("config.yaml");
        std::fs::write(&file, config.to_string())?;
        let mut child = binary()
            .args(["run", "--log-format", "json", "--config"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {BINARY}"))?;
        let mut log = BufReader::new(child.stderr.take().context("its stderr is piped")?).lines();
        let address = loop {
            let Some(line) = log.next() else { bail!("the proxy ended: {}", child.wait()?) };
            let line = line?;
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            match said["fields"]["address"].as_str() {
                Some(address) if said["fields"]["message"] == "listening" => break address.to_owned(),
                _ if said["level"] != "INFO" => eprintln!("proxy: {line}"),
                _ => {}
            }
        };
        // The pipe must not fill up; what is not routine is worth a look.
        std::thread::spawn(move || {
            for line in log.map_while(Result::ok).filter(|line| !line.contains("\"level\":\"INFO\"")) {
                eprintln!("proxy: {line}");
            }
        });
        Ok(Self { child, address, socket, _state: state })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One command of the operator; what it printed.
    pub fn operate(&self, command: &[&str]) -> Result<String> {
        let done = binary().args(command).arg("--socket").arg(&self.socket).output()?;
        if !done.status.success() {
            bail!("{}: {}", command.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Prepare, without which there is no switch.
    pub fn prepare(&self, migration: &str) -> Result<()> {
        self.operate(&["prepare", migration]).map(drop)
    }

    pub fn switch(&self, migration: &str) -> Result<()> {
        self.operate(&["switch", migration, "producers"]).map(drop)
    }
}

/// Without the bench's own settings, which the proxy would take for its config.
fn binary() -> Command {
    let mut command = Command::new(BINARY);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("KAFKA_CUTOVER_")) {
        command.env_remove(key);
    }
    command
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to be done about either.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
