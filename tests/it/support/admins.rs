//! One administrator of each library, one after another at work while a cutover runs: what each is told is what one
//! cluster would say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use kafka_cutover::audit::AllowList;
use serde_json::{Value, json};

use super::PATIENCE;
use super::crowd::{allow_list, run};

/// Who has no way to ask for what. kcat's questions are about records only: it is not asked.
const LACKS: [(&str, &[&str]); 1] = [("confluent-2.0", &["delete-records", "offsets-left"])];
/// What a library gets wrong on plain Kafka as well: who, of what, and its words.
const OWN_FAULTS: [(&str, &str, &str); 1] = [
    // It takes a field of version 1 out of an answer of version 0, which is all that brokers before 3.7 have.
    ("kafka-python", "describe-cluster", "KeyError('endpoint_type')"),
];
/// In the order in which they are asked.
const QUESTIONS: [&str; 20] = [
    "describe-cluster",
    "moving-partitions",
    "moving-offsets",
    "moving-group",
    "create-topic",
    "partitions",
    "create-partitions",
    "more-partitions",
    "alter-config",
    "describe-config",
    "produce",
    "offsets",
    "delete-records",
    "offsets-left",
    "commit",
    "groups",
    "committed",
    "delete-group",
    "delete-topic",
    "topics",
];

pub struct Admins {
    bootstrap: String,
    topic: String,
    partitions: i32,
    /// Who has nothing to do.
    admins: Vec<Admin>,
    work: Option<JoinHandle<Vec<Told>>>,
    allow: Arc<AllowList>,
    rounds: u32,
    /// The first that was told; there is no other.
    cluster: Option<Value>,
}

struct Admin {
    lib: String,
    name: String,
    /// Of its library's group.
    members: usize,
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
    /// The moving topic's end when it asked last.
    latest: i64,
}

/// An administrator, its answers by question, and what it said besides that.
type Told = (Admin, BTreeMap<String, Value>, Vec<String>);

impl Admins {
    /// `groups`: each library with the members that its group has, which is named after the topic and the library.
    pub fn new(bootstrap: &str, topic: &str, partitions: i32, groups: &[(&str, usize)]) -> Self {
        let able = groups.iter().filter(|(lib, _)| *lib != "kcat");
        let admins = able.map(|(lib, members)| Admin::start(bootstrap, topic, lib, *members)).collect();
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let allow = Arc::new(allow_list(&["allow.txt".to_owned()]));
        Self { bootstrap, topic, partitions, admins, work: None, allow, rounds: 0, cluster: None }
    }

    /// Each of them asks everything, one after another, while the caller goes on: they leave the machine to the others.
    pub fn begin(&mut self) {
        self.rounds += 1;
        let (admins, allow, round) = (std::mem::take(&mut self.admins), self.allow.clone(), self.rounds);
        self.work = Some(std::thread::spawn(move || admins.into_iter().map(|a| a.ask(round, &allow)).collect()));
    }

    /// Until all have been told everything, and rightly. `end`: of the moving topic, when nobody writes to it.
    pub fn told(&mut self, end: Option<u64>) {
        let work = self.work.take().expect("they have begun");
        let mut wrong = Vec::new();
        for (mut admin, answers, said) in work.join().expect("it waits for them") {
            wrong.extend(said);
            let own = format!("{}-{}-{}", self.topic, admin.name, self.rounds);
            for question in QUESTIONS.iter().filter(|q| !lacks(&admin.lib, q)) {
                let answer = answers.get(*question).cloned().unwrap_or(json!("no answer"));
                let right = match *question {
                    "describe-cluster" => {
                        let id = self.cluster.get_or_insert_with(|| answer["v"]["id"].clone());
                        id.is_string() && answer["v"] == json!({"id": id, "nodes": [self.bootstrap]})
                    }
                    "moving-offsets" => {
                        let before = std::mem::replace(&mut admin.latest, answer["v"]["latest"].as_i64().unwrap_or(-1));
                        let end = end.map_or(admin.latest, |end| i64::try_from(end).expect("an offset"));
                        answer["v"]["earliest"] == 0 && before <= admin.latest && admin.latest == end
                    }
                    "moving-partitions" => answer["v"] == self.partitions,
                    "moving-group" => answer["v"] == admin.members,
                    "partitions" => answer["v"] == 1,
                    "more-partitions" | "delete-records" => answer["v"] == 2,
                    "describe-config" => answer["v"] == "3600000",
                    "offsets" => answer["v"] == json!({"earliest": 0, "latest": 3}),
                    "offsets-left" => answer["v"] == json!({"earliest": 2, "latest": 3}),
                    "groups" => answer["v"] == json!([own]),
                    "committed" => answer["v"] == 3,
                    // Those of earlier rounds are gone, too.
                    "topics" => answer["v"] == json!([]),
                    _ => answer["v"].is_null() && answer.get("error").is_none(),
                };
                let fault = |(lib, of, words): &(&str, &str, &str)| {
                    (*lib, *of) == (admin.lib.as_str(), *question) && answer["error"] == *words
                };
                if !right && !OWN_FAULTS.iter().any(fault) {
                    wrong.push(format!("{} in round {}: {question}: {answer}", admin.lib, self.rounds));
                }
            }
            self.admins.push(admin);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// They end well.
    pub fn stop(self) {
        for mut admin in self.admins {
            admin.stdin.write_all(b"stop\n").expect("it listens");
            let left: Vec<String> = std::iter::from_fn(|| admin.said.recv_timeout(PATIENCE).ok()).collect();
            let status = admin.child.wait().expect("a child of ours");
            assert!(status.success(), "{} ended with {status}: {left:#?}", admin.lib);
        }
    }
}

fn lacks(lib: &str, question: &str) -> bool {
    LACKS.iter().any(|(who, what)| *who == lib && what.contains(&question))
}

impl Admin {
    fn start(bootstrap: &str, topic: &str, lib: &str, members: usize) -> Self {
        let (name, group) = (format!("{lib}-admin"), format!("{topic}-{lib}"));
        let mut driver = run();
        driver.args([lib, "admin", "--bootstrap", bootstrap, "--topic", topic, "--group", &group, "--name", &name]);
        driver.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = driver.spawn().expect("a driver");
        let (tell, said) = mpsc::channel();
        let stdin = child.stdin.take().expect("piped");
        hear(child.stdout.take().expect("piped"), tell.clone());
        hear(child.stderr.take().expect("piped"), tell);
        Self { lib: lib.to_owned(), name, members, child, stdin, said, latest: 0 }
    }

    fn ask(mut self, round: u32, allow: &AllowList) -> Told {
        let (mut answers, mut wrong) = (BTreeMap::new(), Vec::new());
        self.stdin.write_all(b"round\n").expect("it listens");
        while let Ok(line) = self.said.recv_timeout(PATIENCE) {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let text = event["text"].as_str().unwrap_or_default();
            match (event["e"].as_str(), event["q"].as_str()) {
                (Some("ready"), _) => {}
                (Some("answer"), Some("end")) => return (self, answers, wrong),
                (Some("answer"), Some(question)) if event["round"] == round => {
                    answers.insert(question.to_owned(), event);
                }
                (Some("log"), _) if allow.allows(&self.lib, text) => {}
                _ => wrong.push(format!("{}: {line}", self.lib)),
            }
        }
        wrong.push(format!("{} says no more in round {round}", self.lib));
        (self, answers, wrong)
    }
}

fn hear(lines: impl Read + Send + 'static, tell: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            drop(tell.send(line)); // a test that has failed listens no more
        }
    });
}

impl Drop for Admin {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
