//! The proxy under test: the binary, as a child process with a name, a port, a state directory and a socket of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_cutover::control::protocol::{MigrationStatus, Outcome, Report, Status};
use kafka_cutover::ids::Side;
use kafka_cutover::monitor::health::Readiness;
use tempfile::TempDir;

use super::log::Log;
use super::relay::Relay;
use super::rig::Rig;
use super::{PATIENCE, eventually, unique};

/// The migration that every test's proxy has.
pub const MIGRATION: &str = "orders";
/// Other tests have left transactional ids on these clusters: none of them commits for a group of these tests.
pub const FORCED: [&str; 5] = ["switch", MIGRATION, "groups", "--force", "--json"];
/// What it says at WARN with reason: Kafka 4 refuses records from more than an hour ahead by default, 3.9 does not.
const DECLARED: [&str; 1] =
    ["message.timestamp.after.max.ms is 9223372036854775807 on the source and 3600000 on the target"];
const SEAL_BEGINS: &str = "\"message\":\"the seal begins\"";
/// Below Linux's ephemeral ports: nobody is given a proxy's port while it is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

pub struct Proxy {
    pub name: String,
    pub port: u16,
    pub state: PathBuf,
    /// Variables for its process.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Lines for its config.
    pub more: &'static str,
    pub hold_budget: &'static str,
    pub late_seam_max: &'static str,
    /// What the source holds is copied.
    pub is_mirrored: bool,
    /// Each topic is a migration of its own, named by `numbered`.
    pub one_by_one: bool,
    /// Clients come to it by themselves: more of them than are looked at.
    pub is_unwatched: bool,
    socket: PathBuf,
    monitor: u16,
    source: String,
    target: String,
    topics: Vec<String>,
    process: Option<(Child, Arc<Log>)>,
    /// Of the processes that have ended.
    earlier: Vec<Arc<Log>>,
    /// Clients come through it. At its end it fails a test whose clients were told who the brokers are.
    relay: Relay,
    home: TempDir,
}

impl Proxy {
    pub fn new(rig: &Rig, topics: &[&str]) -> Self {
        let port = free_port();
        let home = tempfile::Builder::new().prefix("kafka-cutover-").tempdir().expect("a directory");
        let relay = Relay::new(Side::BOTH.map(|side| rig.bootstrap(side).split(',').map(str::to_owned).collect()));
        relay.lead_to(&format!("127.0.0.1:{port}"));
        Self {
            name: unique("proxy"),
            port,
            state: home.path().join("state"),
            environment: Vec::new(),
            // Brokers, clients and the proxy share few cores: a broker may be silent for long, and is not dead.
            more: "timeouts: { straggling_part: 20s }",
            hold_budget: "20s",
            late_seam_max: "30s",
            is_mirrored: false,
            one_by_one: false,
            is_unwatched: false,
            socket: home.path().join("control.sock"),
            monitor: std::iter::repeat_with(free_port).find(|other| *other != port).expect("there is no end"),
            source: rig.bootstrap(Side::Source).to_owned(),
            target: rig.bootstrap(Side::Target).to_owned(),
            topics: topics.iter().map(|t| (*t).to_owned()).collect(),
            process: None,
            earlier: Vec::new(),
            relay,
            home,
        }
    }

    /// Another one for the same topics, which has nothing in common with this one until the test says so.
    pub fn another(&self, rig: &Rig) -> Self {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        Self::new(rig, &topics)
    }

    /// Where clients go: the relay, which leads to the proxy.
    pub fn bootstrap(&self) -> String {
        if self.is_unwatched { format!("127.0.0.1:{}", self.port) } else { self.relay.address.clone() }
    }

    /// Answers to clients that were looked at.
    pub fn answers(&self) -> usize {
        self.relay.answers()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes the config as it is now.
    pub fn config(&self) -> PathBuf {
        let (name, port, monitor, source, target) = (&self.name, self.port, self.monitor, &self.source, &self.target);
        let (socket, state, advertise) = (self.socket.display(), self.state.display(), self.bootstrap());
        let (hold_budget, late_seam_max) = (self.hold_budget, self.late_seam_max);
        let one = |name: &str, topics: &[String]| {
            let topics = topics.iter().map(|t| format!("'{t}'")).collect::<Vec<_>>().join(", ");
            let mirror = if self.is_mirrored { "forward" } else { "none" };
            format!("{{ name: {name}, topics: [{topics}], scheme: producers-first, mirror: {mirror} }}")
        };
        let migrations = match self.one_by_one {
            false => one(MIGRATION, &self.topics),
            true => {
                let each = self.topics.iter().enumerate().map(|(n, t)| one(&numbered(n), std::slice::from_ref(t)));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        let text = format!(
            "name: {name}\n\
             source: {{ bootstrap: [{source}] }}\n\
             target: {{ bootstrap: [{target}] }}\n\
             listeners: [{{ bind: '127.0.0.1:{port}', advertise: '{advertise}' }}]\n\
             control: {{ socket: {socket} }}\n\
             state: {{ dir: {state} }}\n\
             monitor: {{ bind: '127.0.0.1:{monitor}' }}\n\
             seal: {{ hold_budget: {hold_budget}, settle_time: 3s, grace_time: 1s, late_seam_max: {late_seam_max} }}\n\
             migrations: [{migrations}]\n{}\n",
            self.more
        );
        let path = self.path("config.yaml");
        std::fs::write(&path, text).expect("the config is written");
        path
    }

    pub fn start(&mut self) {
        self.try_start(None).unwrap_or_else(|said| panic!("the proxy did not start:\n{said}"));
    }

    /// One that ends by itself at a crash point.
    pub fn start_to_crash_at(&mut self, point: &str) {
        self.try_start(Some(point)).unwrap_or_else(|said| panic!("the proxy did not start:\n{said}"));
    }

    /// Returns when it listens, or with its last words when it has ended.
    pub fn try_start(&mut self, crash_at: Option<&str>) -> Result<(), String> {
        assert!(self.process.is_none(), "it runs");
        let mut command = program();
        command.arg("run").arg("--config").arg(self.config()).env("KAFKA_CUTOVER_LOG_FORMAT", "json");
        command.envs(self.environment.iter().copied());
        if let Some(point) = crash_at {
            command.env("KAFKA_CUTOVER_CRASH_AT", point);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let log = Log::of(child.stderr.take().expect("piped"));
        if log.wait(|line| line.contains("\"message\":\"listening\"")) {
            self.process = Some((child, log));
            return Ok(());
        }
        let ended = log.ended();
        if !ended {
            drop(child.kill());
        }
        let status = child.wait().expect("a child of ours");
        let said = log.text();
        self.earlier.push(log);
        assert!(ended, "it neither listened nor ended:\n{said}");
        assert!(!status.success(), "it ended as if all was well:\n{said}");
        Err(said)
    }

    /// SIGTERM, and all that follows from it.
    pub fn stop(&mut self) {
        let pid = self.process.as_ref().expect("it runs").0.id();
        signal(pid, "TERM");
        let status = self.wait_for_end();
        assert!(status.success(), "{status} after SIGTERM");
    }

    /// SIGKILL, as a power cut would have it.
    pub fn kill(&mut self) {
        let pid = self.process.as_ref().expect("it runs").0.id();
        signal(pid, "KILL");
        self.wait_for_end();
    }

    /// SIGKILL at a moment that nobody has chosen: `after` the seal of a switch began. What a seal waits for before it
    /// holds anything does not count.
    pub fn kill_in_the_seal(&mut self, after: Duration) {
        let switch = self.begin_switch();
        let log = self.log();
        let (mut at, _) = log.find(0, Instant::now() + PATIENCE, |l| l.contains(SEAL_BEGINS)).expect("a seal begins");
        let mut moment = Instant::now() + after;
        while let Some((number, line)) = log.find(at + 1, moment, |l| l.contains("\"wait_ms\"")) {
            let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
            // A u128, which JSON cannot have as a number.
            let waits = line["fields"]["wait_ms"].to_string().trim_matches('"').parse().expect("a number");
            (at, moment) = (number, Instant::now() + Duration::from_millis(waits) + after);
        }
        self.kill();
        drop(switch.join().expect("the command has ended, too"));
    }

    /// SIGKILL `after` now.
    pub fn kill_after(&mut self, after: Duration) {
        self.log().find(usize::MAX, Instant::now() + after, |_| false);
        self.kill();
    }

    /// A switch, and when its seal has begun.
    pub fn switch_until_the_seal(&self) -> JoinHandle<Output> {
        let until = Instant::now() + PATIENCE;
        loop {
            let switch = self.begin_switch();
            let ends = || switch.is_finished() || Instant::now() > until;
            eventually("a seal begins, or the command ends", || ends() || self.has_said(|l| l.contains(SEAL_BEGINS)));
            if self.has_said(|line| line.contains(SEAL_BEGINS)) {
                return switch;
            }
            // A cluster that has just come back may still be electing leaders: the operator tries again.
            let output = switch.join().expect("the command ends");
            assert!(Instant::now() < until, "no seal begins: {output:?}\n{}", self.tail());
        }
    }

    /// The switch, on a thread of its own.
    pub fn begin_switch(&self) -> JoinHandle<Output> {
        let mut command = program();
        command.arg("--socket").arg(&self.socket).args(["switch", MIGRATION, "producers"]);
        std::thread::spawn(move || run_to_end(command))
    }

    fn log(&self) -> Arc<Log> {
        self.process.as_ref().expect("it runs").1.clone()
    }

    /// What its monitor answers: the status, and the body.
    pub fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).expect("the monitor listens");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a question");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
    }

    pub fn readiness(&self) -> (u16, Readiness) {
        let (status, body) = self.page("/readyz");
        (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
    }

    /// Whether it has said this, since it began.
    pub fn has_said(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.log().lines().iter().any(|line| fits(line))
    }

    /// Until the process has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let (mut child, log) = self.process.take().expect("it runs");
        log.wait(|_| false);
        if !log.ended() {
            drop(child.kill());
            panic!("the proxy still runs:\n{}", log.text());
        }
        self.earlier.push(log);
        child.wait().expect("a child of ours")
    }

    /// A command of an operator at this proxy's socket.
    pub fn command(&self, args: &[&str]) -> Output {
        let mut command = program();
        command.arg("--socket").arg(&self.socket).args(args);
        run_to_end(command)
    }

    fn answer(&self, args: &[&str]) -> String {
        let output = self.command(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}\n{}", self.tail());
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn prepare(&self) -> Outcome {
        self.prepare_one(MIGRATION)
    }

    pub fn prepare_one(&self, migration: &str) -> Outcome {
        let outcome = serde_json::from_str(&self.answer(&["prepare", migration, "--json"])).expect("an outcome");
        self.relay.learn(); // of topics that the target has now
        outcome
    }

    pub fn switch(&self) -> Outcome {
        self.switch_one(MIGRATION)
    }

    pub fn switch_one(&self, migration: &str) -> Outcome {
        serde_json::from_str(&self.answer(&["switch", migration, "producers", "--json"])).expect("an outcome")
    }

    /// With what a test's topics leave on the source accepted, as soon as every group has committed behind the seam.
    pub fn complete(&self) -> Report {
        let run = |args: &[&str]| {
            let output = self.command(args);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(output.stdout) } else { Err(error) }
        };
        let done = |args: &[&str]| run(args).unwrap_or_else(|e| panic!("{args:?}: {e}\n{}", self.tail()));
        done(&["waive", MIGRATION, "finding", "history_without_copy", "--why", "a test"]);
        eventually("it is completed", || match run(&["complete", MIGRATION]) {
            Ok(_) => true,
            Err(e) => {
                assert!(e.contains("left to read below the seam"), "{e}\n{}", self.tail());
                false
            }
        });
        serde_json::from_slice(&done(&["report", MIGRATION, "--format", "json"])).expect("a report")
    }

    pub fn migration(&self) -> MigrationStatus {
        self.migrations().into_iter().find(|m| m.name == MIGRATION).expect("the migration of the config")
    }

    pub fn migrations(&self) -> Vec<MigrationStatus> {
        let status: Status = serde_json::from_str(&self.answer(&["status", "--json"])).expect("a status");
        status.migrations
    }

    /// A line of /metrics, name and labels given; 0 if it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.page("/metrics");
        let value = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.map_or(0.0, |n| n.trim().parse().expect("a number"))
    }

    /// Lines at WARN or above that are not declared, over all of its processes.
    pub fn complaints(&self) -> Vec<String> {
        let logs = self.earlier.iter().chain(self.process.as_ref().map(|(_, log)| log));
        let lines = logs.flat_map(|log| log.lines());
        lines.filter(|l| !l.contains("\"level\":\"INFO\"") && !DECLARED.iter().any(|d| l.contains(d))).collect()
    }

    /// The end of its log, for a test that fails.
    pub fn tail(&self) -> String {
        let logs = self.earlier.iter().chain(self.process.as_ref().map(|(_, log)| log));
        let texts: Vec<String> = logs.map(|log| log.text()).collect();
        texts.join("\n--- the next process ---\n")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.process {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- the log of {} ---\n{}\n---", self.name, self.tail());
        }
    }
}

/// The migration of a proxy's topic of this number, one by one.
pub fn numbered(topic: usize) -> String {
    format!("{MIGRATION}-{topic}")
}

/// The binary, without what this run's environment says.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-cutover"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAFKA_CUTOVER_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn run_to_end(mut command: Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    match told.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("a child of ours"),
        Err(_) => {
            signal(pid, "KILL");
            panic!("{command:?} does not end");
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill runs");
    assert!(sent.success(), "SIG{name} to {pid}");
}

/// All of a directory's files, as they are now.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for file in std::fs::read_dir(from).expect("a directory") {
        let file = file.expect("an entry");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a file is copied");
    }
}

fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut tries = std::iter::repeat_with(|| rand::random_range(PORTS)).take(1000);
    tries.find(free).expect("one of a thousand ports is free")
}
