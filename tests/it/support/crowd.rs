//! The clients of a test: drivers of real libraries as child processes, told apart by name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use kafka_cutover::audit::{AllowList, Checker, Event, Expectations, Producing, Reading, Verdict, What};

use super::board::{Board, Tallies};
use super::eventually;
use super::proxy::{run_to_end, signal};
use super::rig::Rig;
use super::whole_log::WholeLog;

const CLIENTS: &str = "tests/clients";
/// librdkafka's own 5 ms make hundreds of requests a second, each for one record of one partition. A broker works
/// through one of a connection at a time; on a busy machine it falls behind until the client's own timeouts, with the
/// proxy and without.
pub const LINGER: &str = "linger.ms=500";
/// librdkafka without idempotence puts no limit to what it has on its way: on a machine that is half as fast as its rate
/// needs, the same happens with `LINGER` too, a little later. With this limit, which is that of all other clients, what
/// waits goes into larger batches.
pub const IN_FLIGHT: &str = "max.in.flight.requests.per.connection=5";

pub struct Crowd {
    board: Arc<Board>,
    bootstrap: String,
    topic: String,
    drivers: BTreeMap<String, Driver>,
    allowed: Vec<String>,
    expect: Expectations,
    /// Records of each partition that were mirrored.
    pub copied: Vec<i64>,
}

struct Driver {
    role: Role,
    child: Child,
    /// Its end is the wish to stop.
    stdin: Option<ChildStdin>,
    readers: Vec<JoinHandle<()>>,
}

enum Role {
    Producer,
    /// So many in one process, by their names.
    Producers(Vec<String>),
    /// Its group is nobody's to wait for.
    Transformer,
    Member(String),
    /// Its groups, and their members.
    Herd(BTreeMap<String, Vec<String>>),
    /// Whether it reads everything, from the beginning.
    Assigned {
        complete: bool,
    },
}

impl Crowd {
    /// `allowed`: files of allow-lists beside the drivers.
    pub fn new(bootstrap: &str, topic: &str, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let allow = allow_list(&allowed);
        Self {
            board: Arc::default(),
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            drivers: BTreeMap::new(),
            allowed,
            expect: Expectations { allow, ..Expectations::default() },
            copied: Vec::new(),
        }
    }

    /// Without `--records` in its flags it goes on until it is stopped.
    pub fn producer(&mut self, lib: &str, name: &str, flags: &[&str]) {
        self.expect.producers.insert(name.to_owned(), Producing::idempotent());
        self.spawn(lib, "produce", name, flags, Role::Producer);
    }

    /// So many of franz-go in one process: `NAME-0` writes to topic `TOPIC-0`, with `--transactional-id ID` as `ID-0`, and so on;
    /// every second one at a fifth of the rate.
    pub fn producers(&mut self, name: &str, count: usize, flags: &[&str]) {
        let all: Vec<String> = (0..count).map(|n| format!("{name}-{n}")).collect();
        for one in &all {
            self.expect.producers.insert(one.clone(), Producing::idempotent());
            self.expect.libs.insert(one.clone(), "franz-go".to_owned());
        }
        let count = count.to_string();
        let flags = [&["--many", &count], flags].concat();
        self.spawn("franz-go", "produce", name, &flags, Role::Producers(all));
    }

    pub fn member(&mut self, lib: &str, name: &str, group: &str, flags: &[&str]) {
        self.expect.readers.insert(name.to_owned(), Reading::group(group));
        let flags = [&["--group", group], flags].concat();
        self.spawn(lib, "consume", name, &flags, Role::Member(group.to_owned()));
    }

    /// The same, where the proxy ends under a poll and its commit, or commits are not waited for: what was not committed
    /// comes again.
    pub fn redelivered_member(&mut self, lib: &str, name: &str, group: &str, flags: &[&str]) {
        self.member(lib, name, group, flags);
        self.expect.readers.insert(name.to_owned(), Reading::Group { name: group.to_owned(), redelivery: true });
    }

    /// Java's consume-transform-produce, exactly once, to another topic.
    pub fn transformer(&mut self, name: &str, group: &str, out: &str, id: &str, flags: &[&str]) {
        let flags = [&["--group", group, "--out", out, "--transactional-id", id], flags].concat();
        self.spawn("java", "transform", name, &flags, Role::Transformer);
    }

    /// Ends at once, as in a power cut; another may have its name.
    pub fn kill(&mut self, name: &str) {
        let mut driver = self.drivers.remove(name).expect("a client of ours");
        driver.child.kill().expect("it runs");
        driver.child.wait().expect("a child of ours");
        driver.readers.drain(..).for_each(|reader| reader.join().expect("every line is an event"));
        self.board.forget(name);
    }

    /// So many groups of franz-go, `GROUP-0` and so on, in one process; its members are `NAME-GROUP-MEMBER`, by numbers.
    pub fn herd(&mut self, name: &str, group: &str, groups: usize, members: usize) {
        let members_of = |g: usize| (0..members).map(|m| format!("{name}-{g}-{m}")).collect::<Vec<_>>();
        let all: BTreeMap<_, _> = (0..groups).map(|g| (format!("{group}-{g}"), members_of(g))).collect();
        for (group, members) in &all {
            for member in members {
                self.expect.readers.insert(member.clone(), Reading::group(group));
                self.expect.libs.insert(member.clone(), "franz-go".to_owned());
            }
        }
        let [groups, members] = [groups, members].map(|n| n.to_string());
        let flags = ["--group", group, "--groups", &groups, "--members", &members];
        self.spawn("franz-go", "herd", name, &flags, Role::Herd(all));
    }

    /// With `--assign` in its flags. `complete`: from the beginning to the end of all partitions.
    pub fn reader(&mut self, lib: &str, name: &str, complete: bool, flags: &[&str]) {
        self.expect.readers.insert(name.to_owned(), Reading::Assign { complete });
        self.spawn(lib, "consume", name, flags, Role::Assigned { complete });
    }

    /// A client of another topic, or straight at a cluster.
    pub fn producer_at(&mut self, (bootstrap, topic): (&str, &str), lib: &str, name: &str, flags: &[&str]) {
        let mine = (self.bootstrap.clone(), self.topic.clone());
        (self.bootstrap, self.topic) = (bootstrap.to_owned(), topic.to_owned());
        self.producer(lib, name, flags);
        (self.bootstrap, self.topic) = mine;
    }

    fn spawn(&mut self, lib: &str, command: &str, name: &str, flags: &[&str], role: Role) {
        self.expect.libs.insert(name.to_owned(), lib.to_owned());
        let mut driver = run();
        driver.args([lib, command, "--bootstrap", &self.bootstrap, "--topic", &self.topic, "--name", name]).args(flags);
        driver.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = driver.spawn().expect("a driver");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (boards, names) = ([self.board.clone(), self.board.clone()], [name.to_owned(), name.to_owned()]);
        let [(board, name_1), (board_2, name_2)] = [0, 1].map(|i| (boards[i].clone(), names[i].clone()));
        let readers = vec![
            std::thread::spawn(move || board.hear(&name_1, stdout)),
            std::thread::spawn(move || board_2.hear_stderr(&name_2, stderr)),
        ];
        let stdin = child.stdin.take();
        let driver = Driver { role, child, stdin, readers };
        assert!(self.drivers.insert(name.to_owned(), driver).is_none(), "{name} is there already");
    }

    /// By name; of many in one process, each.
    fn all_producers(&self) -> Vec<String> {
        let of = |(name, d): (&String, &Driver)| match &d.role {
            Role::Producer => vec![name.clone()],
            Role::Producers(all) => all.clone(),
            _ => vec![],
        };
        self.drivers.iter().flat_map(of).collect()
    }

    /// By group.
    pub fn members(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, driver) in &self.drivers {
            match &driver.role {
                Role::Member(group) => groups.entry(group.clone()).or_default().push(name.clone()),
                Role::Herd(all) => groups.extend(all.clone()),
                Role::Producer | Role::Producers(_) | Role::Transformer | Role::Assigned { .. } => {}
            }
        }
        groups
    }

    pub fn wait(&self, what: &str, enough: impl Fn(&Tallies) -> bool) -> Tallies {
        self.wait_while_it_grows(what, |_| 0, enough)
    }

    fn wait_while_it_grows(
        &self,
        what: &str,
        grown: impl Fn(&Tallies) -> u64,
        enough: impl Fn(&Tallies) -> bool,
    ) -> Tallies {
        // Producers may have a number of records after which they end by themselves.
        let of = |(name, d): (&'_ String, &Driver)| {
            (d.stdin.is_some() && !matches!(d.role, Role::Producer | Role::Producers(_))).then(|| name.clone())
        };
        let readers: Vec<String> = self.drivers.iter().filter_map(of).collect();
        let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
        self.board.wait(what, &readers, grown, enough)
    }

    /// Until every group that runs has all partitions, and each of its members some.
    pub fn wait_for_groups(&self, partitions: usize) {
        let groups = self.members();
        self.wait("every group has its partitions", |tallies| {
            groups.values().all(|members| {
                let parts: Vec<&BTreeSet<String>> =
                    members.iter().filter_map(|m| tallies.get(m)).filter(|t| !t.ended).map(|t| &t.assigned).collect();
                let alive = members.iter().filter(|m| tallies.get(*m).is_none_or(|t| !t.ended)).count();
                alive == 0
                    || parts.iter().all(|p| !p.is_empty()) && parts.iter().map(|p| p.len()).sum::<usize>() == partitions
            })
        });
    }

    /// Records of all producers so far.
    pub fn produced(&self) -> u64 {
        let now = self.wait("", |_| true);
        self.all_producers().iter().map(|name| self.progress(&now, name)).sum()
    }

    fn progress(&self, tallies: &Tallies, name: &str) -> u64 {
        let tally = tallies.get(name).cloned().unwrap_or_default();
        if self.expect.libs[name] == "kcat" { tally.sent } else { tally.acked }
    }

    /// Until every producer has come `further` than it is now: by what was acknowledged, or where a library keeps that
    /// to itself, sent.
    pub fn wait_for_producers(&self, further: u64) {
        let progress = |tallies: &Tallies, name: &String| self.progress(tallies, name);
        let now = self.wait("", |_| true);
        let goals: Vec<(String, u64)> =
            self.all_producers().into_iter().map(|name| (name.clone(), progress(&now, &name) + further)).collect();
        self.wait(&format!("every producer is {further} records further"), |tallies| {
            goals.iter().all(|(name, goal)| progress(tallies, name) >= *goal)
        });
    }

    /// Until every group, and every reader of everything, has as many records as were acknowledged to all producers, which
    /// have ended.
    pub fn wait_for_readers(&self) {
        let (groups, producers) = (self.members(), self.all_producers());
        let of = |(name, d): (&String, &Driver)| match d.role {
            Role::Assigned { complete: true } => Some(vec![name.clone()]),
            _ => None,
        };
        let readers: Vec<Vec<String>> = groups.into_values().chain(self.drivers.iter().filter_map(of)).collect();
        // How much there is to catch up with is the machine's affair: time is up when nobody is given anything any more.
        let given = |tallies: &Tallies| tallies.values().map(|t| t.received).sum();
        self.wait_while_it_grows("every reader has what was acknowledged", given, |tallies| {
            let tally = |name: &String| tallies.get(name).cloned().unwrap_or_default();
            let acked: u64 = producers.iter().map(|name| tally(name).acked).sum();
            readers.iter().all(|names| names.iter().map(|name| tally(name).received).sum::<u64>() >= acked)
        });
    }

    /// Records of one producer so far.
    pub fn acked(&self, name: &str) -> u64 {
        self.board.tally(name).acked
    }

    /// Until a client has ended by itself.
    pub fn wait_for_end(&mut self, name: &str) -> ExitStatus {
        eventually(&format!("{name} ends"), || self.board.tally(name).ended);
        let mut driver = self.drivers.remove(name).expect("a client of ours");
        driver.readers.drain(..).for_each(|reader| reader.join().expect("every line is an event"));
        let status = driver.child.wait().expect("a child of ours");
        self.board.forget(name);
        status
    }

    pub fn complaints_of(&self, name: &str) -> Vec<String> {
        let own = format!("{name}: ");
        self.complaints().into_iter().filter(|line| line.starts_with(&own)).collect()
    }

    /// What clients have complained of so far, and must not.
    pub fn complaints(&self) -> Vec<String> {
        let of = |event: &Event| match &event.what {
            What::Log { level, text } => {
                let lib = &self.expect.libs[&event.client];
                (!self.expect.allow.allows(lib, text)).then(|| format!("{}: {level}: {text}", event.client))
            }
            _ => None,
        };
        self.board.events().iter().filter_map(of).collect()
    }

    /// From here on these lines mean nothing, too.
    pub fn allow(&mut self, allowed: &str) {
        self.allowed.push(allowed.to_owned());
        self.expect.allow = allow_list(&self.allowed);
    }

    pub fn stop_producers(&mut self) {
        let of =
            |(name, d): (&String, &Driver)| matches!(d.role, Role::Producer | Role::Producers(_)).then(|| name.clone());
        self.stop(&self.drivers.iter().filter_map(of).collect::<Vec<_>>());
    }

    /// Ends clients, all at once, and waits until their processes have ended as they should.
    pub fn stop<T: AsRef<str>>(&mut self, names: &[T]) {
        for name in names {
            let driver = self.drivers.get_mut(name.as_ref()).expect("a client of ours");
            if let Some(mut stdin) = driver.stdin.take() {
                drop(stdin.write_all(b"stop\n")); // one that has ended by itself does not hear it
            }
        }
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        self.wait(&format!("{names:?} have ended"), |t| names.iter().all(|n| t.get(*n).is_some_and(|t| t.ended)));
        for name in names {
            let driver = self.drivers.get_mut(name).expect("a client of ours");
            let status = driver.child.wait().expect("a child of ours");
            for reader in driver.readers.drain(..) {
                reader.join().expect("every line is an event");
            }
            assert!(status.success(), "{name} ended with {status}: {:#?}", self.board.tally(name));
        }
    }

    /// A member with `--hold` in its flags, which stands still.
    pub fn go_on(&mut self, name: &str) {
        let driver = self.drivers.get_mut(name).expect("a client of ours");
        driver.stdin.as_mut().expect("it runs").write_all(b"go\n").expect("it listens");
    }

    /// SIGSTOP: a client that stands still with all it has.
    pub fn pause(&self, name: &str) {
        signal(self.drivers[name].child.id(), "STOP");
    }

    pub fn resume(&self, name: &str) {
        signal(self.drivers[name].child.id(), "CONT");
    }

    /// The offsets that `name` received, by partition, in the order in which they came.
    pub fn received(&self, name: &str) -> BTreeMap<i32, Vec<i64>> {
        let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for event in self.board.events() {
            if let What::Recv { partition, offset, .. } = &event.what
                && event.client == name
            {
                offsets.entry(partition.parse().expect("a number")).or_default().push(*offset);
            }
        }
        offsets
    }

    /// What all of these received, sorted.
    pub fn received_by(&self, names: &[String]) -> BTreeMap<i32, Vec<i64>> {
        let mut all: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for (partition, offsets) in names.iter().flat_map(|name| self.received(name)) {
            all.entry(partition).or_default().extend(offsets);
        }
        all.values_mut().for_each(|offsets| offsets.sort_unstable());
        all
    }

    /// The three longest waits for a record, and for the end of a transaction, of franz-go's producers that have ended, in ms.
    pub fn longest_waits(&self, name: &str) -> [Vec<u64>; 2] {
        let lines = self.board.tally(name).stderr;
        let number = |line: &str, of: &str| line.split_once(of)?.1.split_whitespace().next()?.parse().ok();
        ["wait for a record ", "for an end "].map(|of| {
            let mut all: Vec<u64> = lines.iter().filter_map(|line| number(line, of)).collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            all.truncate(3);
            all
        })
    }

    /// All that was said, each client's in its order.
    pub fn events(&self) -> Vec<Event> {
        self.board.events()
    }

    /// What a group was given although one of its members had been told before that its commit beyond it was done.
    pub fn given_again(&self) -> Vec<String> {
        let groups: BTreeMap<String, String> = self
            .members()
            .into_iter()
            .flat_map(|(group, names)| names.into_iter().map(move |n| (n, group.clone())))
            .collect();
        let mut told: Vec<(f64, String, String, i64, bool)> = Vec::new();
        for commit in self.board.commits() {
            told.extend(commit.offsets.into_iter().map(|(p, next)| (commit.t, commit.client.clone(), p, next, true)));
        }
        for event in self.board.events() {
            if let What::Recv { partition, offset, .. } = event.what {
                told.push((event.t, event.client, partition, offset, false));
            }
        }
        // What came together with a commit came before it.
        told.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.4.cmp(&b.4)));
        let mut committed: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let mut again = Vec::new();
        for (_, client, partition, offset, is_commit) in &told {
            let Some(group) = groups.get(client) else { continue };
            let next = committed.entry((group, partition)).or_default();
            if *is_commit {
                *next = (*next).max(*offset);
            } else if offset < next {
                again.push(format!("{client} was given {partition}:{offset}, {next} was committed"));
            }
        }
        again
    }

    /// What Java's admin client says of the topic's offsets.
    pub fn java_offsets(&self, spec: &str) -> BTreeMap<i32, i64> {
        let mut command = run();
        command.args([
            "java",
            "offsets",
            "--bootstrap",
            &self.bootstrap,
            "--topic",
            &self.topic,
            "--name",
            "ask",
            "--spec",
            spec,
        ]);
        let output = run_to_end(command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut offsets = BTreeMap::new();
        for line in String::from_utf8(output.stdout).expect("text").lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("an event");
            if event["e"] == "offset" {
                offsets
                    .insert(event["pt"].as_i64().expect("a partition") as i32, event["o"].as_i64().expect("an offset"));
            }
        }
        offsets
    }

    /// Ends whoever is left, reads both clusters, and judges everything that was said.
    pub fn judge(mut self, rig: &Rig) -> (Verdict, WholeLog) {
        let left: Vec<String> = self.drivers.keys().filter(|n| !self.board.tally(n).ended).cloned().collect();
        self.stop(&left);
        let log = WholeLog::read_with_copies(rig, &self.topic, &self.copied);
        let mut expect = std::mem::take(&mut self.expect);
        for (number, partition) in log.0.iter().enumerate() {
            expect.layout.insert(number.to_string(), partition.segments.clone());
        }
        let redelivered = |reading: &Reading| matches!(reading, Reading::Group { redelivery: true, .. });
        let redelivered = expect.readers.iter().filter(|(_, reading)| redelivered(reading));
        let redelivered: BTreeSet<String> = redelivered.map(|(name, _)| name.clone()).collect();
        let mut checker = Checker::new(expect);
        for event in self.board.events() {
            if !(redelivered.contains(&event.client) && is_late_commit(&event)) {
                checker.event(&event);
            }
        }
        log.tell(&mut checker);
        let verdict = checker.finish();
        if !verdict.ok() {
            let path = std::env::temp_dir().join(format!("{}.events", self.topic));
            let lines: Vec<String> = self.board.events().iter().map(|e| format!("{e:?}\n")).collect();
            std::fs::write(&path, lines.concat()).expect("the events are kept");
            eprintln!("events: {}", path.display());
        }
        (verdict, log)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for driver in self.drivers.values_mut() {
            if !matches!(driver.child.try_wait(), Ok(Some(_))) {
                drop(driver.child.kill());
                drop(driver.child.wait());
            }
        }
    }
}

/// A commit that nobody waits for, and that a rebalance overtook (27 is its code), or that the client kept to itself because
/// too many are on their way.
fn is_late_commit(event: &Event) -> bool {
    match &event.what {
        What::Commit { ok: false, error } => {
            let is_late = |words: &&str| error.to_lowercase().contains(words);
            ["rebalanc", "error code 27", "max_in_flight"].iter().any(is_late)
        }
        _ => false,
    }
}

pub(super) fn allow_list(files: &[String]) -> AllowList {
    let read = |name: &String| std::fs::read_to_string(here().join(name)).expect("an allow-list");
    AllowList::parse(&files.iter().map(read).collect::<String>()).expect("an allow-list")
}

/// cargo's LD_LIBRARY_PATH names the folder of its own librdkafka: kcat would take that one, and not the old one that
/// it is here for.
pub(super) fn run() -> Command {
    let mut command = Command::new(here().join("run"));
    command.env_remove("LD_LIBRARY_PATH");
    command
}

fn here() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(CLIENTS)
}
