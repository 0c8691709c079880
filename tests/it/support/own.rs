//! A cluster of a test's own, beside those of tests/run: it may be taken down.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::proxy::run_to_end;
use super::rig::Rig;
use super::unique;
use kafka_cutover::ids::Side;

/// Ends with this.
pub struct Own {
    name: String,
    /// That of tests/run's clusters: it stops also what a killed test leaves behind.
    dir: PathBuf,
    nodes: Vec<String>,
    ids: Vec<String>,
    cluster_id: String,
}

impl Own {
    /// Of the side's version; `properties` of its brokers as `key=value`.
    pub fn start(rig: &Rig, side: Side, nodes: usize, properties: &[String]) -> Self {
        Self::of_version(rig, rig.version(side), nodes, properties)
    }

    pub fn of_version(rig: &Rig, version: &str, nodes: usize, properties: &[String]) -> Self {
        let (name, dir) = (unique("own"), rig.dir.clone());
        let mut start = rig_command(&["start", &name, "--version", version, "--nodes", &nodes.to_string()]);
        start.arg("--dir").arg(&dir);
        for property in properties {
            start.args(["--property", property]);
        }
        // From here on it is to be stopped, whatever came of its start.
        let mut own = Self { name, dir, nodes: Vec::new(), ids: Vec::new(), cluster_id: String::new() };
        let told: serde_json::Value = serde_json::from_slice(&done(run_to_end(start)).stdout).expect("JSON");
        let nodes = told["nodes"].as_array().expect("nodes");
        own.nodes = nodes.iter().map(|n| n["addr"].as_str().expect("an address").to_owned()).collect();
        own.ids = nodes.iter().map(|n| n["id"].to_string()).collect();
        own.cluster_id = told["cluster_id"].as_str().expect("an id").to_owned();
        own
    }

    /// What clients must not see of it: hosts and node ids, and of a target its cluster id.
    pub fn identities(&self, side: Side) -> Vec<String> {
        let hosts = self.nodes.iter().filter_map(|addr| addr.rsplit_once(':')).map(|(host, _)| host.to_owned());
        let cluster = (side == Side::Target).then(|| self.cluster_id.clone());
        hosts.chain(self.ids.iter().cloned()).chain(cluster).collect()
    }

    /// The number of the node that calls itself so.
    pub fn index(&self, id: i32) -> usize {
        self.ids.iter().position(|known| *known == id.to_string()).expect("a node of ours")
    }

    /// Where its nodes listen.
    pub fn bootstrap(&self) -> String {
        self.nodes.join(",")
    }

    /// SIGKILL for all nodes.
    pub fn kill(&self) {
        for index in 0..self.nodes.len() {
            self.node("kill-node", index, &[]);
        }
    }

    /// SIGKILL for one.
    pub fn kill_node(&self, index: usize) {
        self.node("kill-node", index, &[]);
    }

    /// One again, with what it had, until it serves.
    pub fn start_node_again(&self, index: usize) {
        self.node("start-node", index, &[]);
    }

    /// All nodes again, with what they had. Whoever needs them waits for what it needs.
    pub fn start_again(&self) {
        for index in 0..self.nodes.len() {
            self.node("start-node", index, &["--no-wait"]);
        }
    }

    fn node(&self, what: &str, index: usize, flags: &[&str]) {
        let mut command = rig_command(&[what]);
        done(run_to_end({
            command.arg(&self.dir).args([&self.name, &index.to_string()]).args(flags);
            command
        }));
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let stopped = rig_command(&["stop"]).arg(&self.dir).arg(&self.name).output();
        if !std::thread::panicking() {
            done(stopped.expect("it runs"));
            std::fs::remove_dir_all(self.dir.join(&self.name)).expect("nobody uses its files");
        }
    }
}

fn rig_command(args: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/rig"));
    command.args(args);
    command
}

fn done(output: Output) -> Output {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
