//! What all clients of a test have said so far, and a way to wait until they have said enough.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use kafka_cutover::audit::{Event, What};

use super::PATIENCE;

/// How many of one client's are shown.
const COMPLAINTS: usize = 10;

#[derive(Default)]
pub struct Board {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    events: Vec<Event>,
    commits: Vec<Committed>,
    tallies: Tallies,
}

/// A commit that its client was told to have been done: by partition, the next offset.
#[derive(Clone)]
pub struct Committed {
    pub t: f64,
    pub client: String,
    pub offsets: BTreeMap<String, i64>,
}

pub type Tallies = BTreeMap<String, Tally>;

/// One client.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    pub ready: bool,
    pub sent: u64,
    pub acked: u64,
    pub failed: u64,
    pub received: u64,
    /// Partitions that it has now.
    pub assigned: BTreeSet<String>,
    pub done: bool,
    /// Nothing comes any more.
    pub ended: bool,
    /// What its process said besides events.
    pub stderr: Vec<String>,
}

impl Board {
    /// Hears a driver to its end. What comes together is taken together.
    pub fn hear(&self, client: &str, stdout: impl Read) {
        let mut lines = BufReader::with_capacity(1 << 18, stdout);
        let mut line = String::new();
        let mut heard = Vec::new();
        while lines.read_line(&mut line).unwrap_or(0) > 0 {
            let event = Event::parse(&line).unwrap_or_else(|e| panic!("{client} says {line}: {e}"));
            if matches!(event.what, What::Commit { ok: true, .. }) {
                let told: serde_json::Value = serde_json::from_str(&line).expect("it was parsed");
                let offsets = serde_json::from_value(told["offsets"].clone()).unwrap_or_default();
                let committed = Committed { t: event.t, client: event.client.clone(), offsets };
                self.inner.lock().unwrap().commits.push(committed);
            }
            heard.push(event);
            line.clear();
            if lines.buffer().is_empty() || heard.len() > 5000 {
                self.take(std::mem::take(&mut heard));
            }
        }
        self.take(heard);
        self.note(client, |tally| tally.ended = true);
    }

    pub fn hear_stderr(&self, client: &str, stderr: impl Read) {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            self.note(client, |tally| tally.stderr.push(line));
        }
    }

    fn note(&self, client: &str, change: impl FnOnce(&mut Tally)) {
        change(self.inner.lock().unwrap().tallies.entry(client.to_owned()).or_default());
        self.changed.notify_all();
    }

    fn take(&self, events: Vec<Event>) {
        let mut inner = self.inner.lock().unwrap();
        for event in &events {
            let tally = inner.tallies.entry(event.client.clone()).or_default();
            match &event.what {
                What::Ready { .. } => tally.ready = true,
                What::Send { .. } => tally.sent += 1,
                What::Ack { .. } => tally.acked += 1,
                What::Fail { .. } => tally.failed += 1,
                What::Recv { .. } => tally.received += 1,
                What::Assign { partitions } => tally.assigned.extend(partitions.iter().cloned()),
                What::Revoke { partitions } => tally.assigned.retain(|p| !partitions.contains(p)),
                What::Done(_) => tally.done = true,
                What::Commit { .. } | What::Log { .. } => {}
            }
        }
        inner.events.extend(events);
        drop(inner);
        self.changed.notify_all();
    }

    /// Until `enough`. The end of one that should go on, or that did not say `done`, ends the test, and so does time
    /// that runs out. It begins anew whenever `grown` is more than it was.
    pub fn wait(
        &self,
        what: &str,
        going_on: &[&str],
        grown: impl Fn(&Tallies) -> u64,
        enough: impl Fn(&Tallies) -> bool,
    ) -> Tallies {
        let mut deadline = Instant::now() + PATIENCE;
        let mut inner = self.inner.lock().unwrap();
        let mut before = grown(&inner.tallies);
        loop {
            if enough(&inner.tallies) {
                return inner.tallies.clone();
            }
            let now = grown(&inner.tallies);
            if now > before {
                (before, deadline) = (now, Instant::now() + PATIENCE);
            }
            let is_dead = |name: &str, t: &Tally| t.ended && (!t.done || going_on.contains(&name));
            let dead = inner.tallies.iter().find(|(name, t)| is_dead(name, t)).map(|(name, _)| name.clone());
            let left = deadline.saturating_duration_since(Instant::now());
            if dead.is_some() || left.is_zero() {
                let why = dead.map_or("time is up".to_owned(), |name| format!("{name} has ended"));
                let table = inner.table();
                drop(inner); // readers go on
                panic!("waiting until {what}: {why}\n{table}");
            }
            inner = self.changed.wait_timeout(inner, left).unwrap().0;
        }
    }

    pub fn tally(&self, client: &str) -> Tally {
        self.inner.lock().unwrap().tallies.get(client).cloned().unwrap_or_default()
    }

    /// Its end is nobody's concern any more.
    pub fn forget(&self, client: &str) {
        self.inner.lock().unwrap().tallies.remove(client);
    }

    pub fn commits(&self) -> Vec<Committed> {
        self.inner.lock().unwrap().commits.clone()
    }

    /// All that was said, each client's in its order.
    pub fn events(&self) -> Vec<Event> {
        self.inner.lock().unwrap().events.clone()
    }
}

impl Inner {
    /// Who has come how far, and what each has to complain of.
    fn table(&self) -> String {
        let mut text = String::new();
        for (name, t) in &self.tallies {
            let parts: Vec<&str> = t.assigned.iter().map(String::as_str).collect();
            let state = if t.ended {
                "ended"
            } else if t.ready {
                "runs"
            } else {
                "starts"
            };
            let counts = format!("sent {}, acked {}, failed {}, received {}", t.sent, t.acked, t.failed, t.received);
            text.push_str(&format!("{name}: {state}: {counts}; has partitions {}\n", parts.join(" ")));
            let complaints = self.events.iter().filter(|e| e.client == *name).filter_map(complaint);
            for line in complaints.chain(t.stderr.iter().cloned()).take(COMPLAINTS) {
                text.push_str(&format!("    {line}\n"));
            }
        }
        text
    }
}

fn complaint(event: &Event) -> Option<String> {
    match &event.what {
        What::Log { level, text } => Some(format!("{level}: {text}")),
        What::Fail { error, .. } => Some(format!("failed: {error}")),
        What::Commit { ok: false, error } => Some(format!("commit failed: {error}")),
        _ => None,
    }
}
