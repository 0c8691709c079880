//! Faults on demand. A fault is a rule that counts the requests it takes, or a gate that holds them until its guard lets go:
//! tests wait for what happened, never for time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use kafka_protocol::messages::ApiKey;
use tokio::sync::{Notify, watch};

/// How many produced batches, and answers to fetches, are remembered.
const REMEMBERED: usize = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The connection ends before the request does anything.
    DropBefore,
    /// The request is done, its answer is not sent and the connection ends.
    DropAfter,
    /// Produce: every partition is answered with this code, nothing is appended.
    Refuse(i16),
    /// The answer's body is overwritten with bytes that mean nothing.
    Garble,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// Received, not yet done. It will be done after the gate opens, also if its connection has gone by then.
    Process,
    /// Done, not yet answered.
    Answer,
}

/// A batch as it came in a Produce request, before any check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    pub topic: String,
    pub partition: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

/// An answer to a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// That the request names.
    pub partitions: usize,
    /// Of records that the request allows.
    pub max_bytes: i32,
    /// Of records that it got.
    pub bytes: usize,
}

struct Rule {
    api: i16,
    topic: Option<String>,
    left: usize,
    effect: Effect,
}

struct Gate {
    api: i16,
    topic: Option<String>,
    point: Point,
    held: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

/// By topic and partition: the leader's node id, and its epoch.
pub type Leaders = HashMap<(String, i32), (i32, i32)>;

#[derive(Default)]
struct Inner {
    rules: Vec<Rule>,
    gates: Vec<Arc<Gate>>,
    denied: HashSet<(String, i32)>,
    unknown: HashSet<(usize, String)>,
    old_leaders: HashMap<usize, Leaders>,
    throttle_ms: i32,
    seen: HashMap<(i16, usize), usize>,
    produced: VecDeque<Produced>,
    fetched: VecDeque<Fetched>,
}

#[derive(Default)]
pub struct Faults {
    inner: Mutex<Inner>,
    changed: Notify,
}

/// Holds requests until it is dropped or released.
pub struct Hold {
    faults: Arc<Faults>,
    gate: Arc<Gate>,
}

impl Hold {
    /// Until `n` requests have come to this gate (those released do not count back).
    pub async fn wait_until_held(&self, n: usize) {
        let mut held = self.gate.held.subscribe();
        // The sender lives in the gate, which this borrows.
        let _ = held.wait_for(|&count| count >= n).await;
    }
    pub fn held(&self) -> usize {
        *self.gate.held.borrow()
    }
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.faults.lock().gates.retain(|g| !Arc::ptr_eq(g, &self.gate));
        self.gate.open.send_replace(true);
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }

    /// `effect` for the next `n` requests of `api` that name `topic` (`None`: any).
    pub fn next(&self, n: usize, api: ApiKey, topic: Option<&str>, effect: Effect) {
        let rule = Rule { api: api as i16, topic: topic.map(str::to_owned), left: n, effect };
        self.lock().rules.push(rule);
    }
    pub fn drop_after_append(&self, n: usize, topic: Option<&str>) {
        self.next(n, ApiKey::Produce, topic, Effect::DropAfter);
    }
    pub fn drop_before_append(&self, n: usize, topic: Option<&str>) {
        self.next(n, ApiKey::Produce, topic, Effect::DropBefore);
    }
    pub fn refuse_produce(&self, n: usize, topic: Option<&str>, code: i16) {
        self.next(n, ApiKey::Produce, topic, Effect::Refuse(code));
    }
    /// Takes back every rule that is not used up. Gates, throttle and denials stay.
    pub fn forget_rules(&self) {
        self.lock().rules.clear();
    }

    /// Holds every request of `api` that names `topic` (`None`: any) at `point`.
    pub fn hold(self: &Arc<Self>, api: ApiKey, topic: Option<&str>, point: Point) -> Hold {
        let gate = Arc::new(Gate {
            api: api as i16,
            topic: topic.map(str::to_owned),
            point,
            held: watch::Sender::new(0),
            open: watch::Sender::new(false),
        });
        self.lock().gates.push(gate.clone());
        Hold { faults: self.clone(), gate }
    }
    pub fn hold_answers(self: &Arc<Self>, api: ApiKey) -> Hold {
        self.hold(api, None, Point::Answer)
    }
    /// "A batch that lands after its client and connection are gone".
    pub fn hold_produce(self: &Arc<Self>, topic: Option<&str>) -> Hold {
        self.hold(ApiKey::Produce, topic, Point::Process)
    }

    /// `throttle_time_ms` of every answer that has one.
    pub fn set_throttle_ms(&self, ms: i32) {
        self.lock().throttle_ms = ms;
    }
    /// An empty answer although there is data, as a Fetch whose byte budget went to other partitions has it.
    pub fn deny_partition(&self, topic: &str, partition: i32, deny: bool) {
        let mut inner = self.lock();
        let key = (topic.to_owned(), partition);
        if deny {
            inner.denied.insert(key)
        } else {
            inner.denied.remove(&key)
        };
    }

    /// A node whose metadata lags behind the cluster's: it does not know this topic, or does again.
    pub fn set_unknown(&self, node: usize, topic: &str, unknown: bool) {
        let mut inner = self.lock();
        let key = (node, topic.to_owned());
        if unknown {
            inner.unknown.insert(key)
        } else {
            inner.unknown.remove(&key)
        };
    }

    /// A node that hears of no election any more: these leaders are all that its metadata names.
    pub fn set_old_leaders(&self, node: usize, leaders: Leaders) {
        self.lock().old_leaders.insert(node, leaders);
    }
    pub(super) fn old_leaders(&self, node: usize) -> Option<Leaders> {
        self.lock().old_leaders.get(&node).cloned()
    }

    /// Requests of `api` that came to any node.
    pub fn seen(&self, api: ApiKey) -> usize {
        self.lock().seen.iter().filter(|((key, _), _)| *key == api as i16).map(|(_, n)| n).sum()
    }
    pub fn seen_by(&self, node: usize, api: ApiKey) -> usize {
        self.lock().seen.get(&(api as i16, node)).copied().unwrap_or(0)
    }
    pub async fn wait_until_seen(&self, api: ApiKey, n: usize) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.seen(api) >= n {
                return;
            }
            changed.await;
        }
    }
    /// The newest batches that came for this partition, oldest first.
    pub fn produced(&self, topic: &str, partition: i32) -> Vec<Produced> {
        self.lock().produced.iter().filter(|p| p.topic == topic && p.partition == partition).cloned().collect()
    }
    /// The newest answers to fetches, oldest first.
    pub fn fetched(&self) -> Vec<Fetched> {
        self.lock().fetched.iter().cloned().collect()
    }

    // What the nodes ask.

    pub(super) fn saw(&self, node: usize, api: i16) {
        *self.lock().seen.entry((api, node)).or_default() += 1;
        self.changed.notify_waiters();
    }
    pub(super) fn saw_batch(&self, batch: Produced) {
        remember(&mut self.lock().produced, batch);
    }
    pub(super) fn saw_fetch(&self, fetched: Fetched) {
        remember(&mut self.lock().fetched, fetched);
    }
    pub(super) fn throttle_ms(&self) -> i32 {
        self.lock().throttle_ms
    }
    pub(super) fn is_denied(&self, topic: &str, partition: i32) -> bool {
        let inner = self.lock();
        !inner.denied.is_empty() && inner.denied.contains(&(topic.to_owned(), partition))
    }
    /// The topics that a node's metadata lacks.
    pub(super) fn unknown_to(&self, node: usize) -> HashSet<String> {
        let inner = self.lock();
        inner.unknown.iter().filter(|(n, _)| *n == node).map(|(_, topic)| topic.clone()).collect()
    }
    /// Does somebody ask for the topics of this API's requests?
    pub(super) fn watches(&self, api: i16) -> bool {
        let inner = self.lock();
        inner.rules.iter().any(|r| r.api == api) || inner.gates.iter().any(|g| g.api == api)
    }
    pub(super) fn take(&self, api: i16, topics: &[String]) -> Option<Effect> {
        let mut inner = self.lock();
        let at = inner.rules.iter().position(|r| r.api == api && r.left > 0 && names(&r.topic, topics))?;
        let rule = &mut inner.rules[at];
        rule.left -= 1;
        let effect = rule.effect;
        if rule.left == 0 {
            inner.rules.remove(at);
        }
        Some(effect)
    }
    pub(super) async fn pass(&self, point: Point, api: i16, topics: &[String]) {
        let gates: Vec<_> = {
            let inner = self.lock();
            let mine = |g: &&Arc<Gate>| g.api == api && g.point == point && names(&g.topic, topics);
            inner.gates.iter().filter(mine).cloned().collect()
        };
        for gate in gates {
            gate.held.send_modify(|n| *n += 1);
            // The sender lives in the gate, which this holds.
            let _ = gate.open.subscribe().wait_for(|&open| open).await;
        }
    }
}

fn names(wanted: &Option<String>, topics: &[String]) -> bool {
    wanted.as_ref().is_none_or(|w| topics.contains(w))
}

fn remember<T>(newest: &mut VecDeque<T>, one: T) {
    if newest.len() == REMEMBERED {
        newest.pop_front();
    }
    newest.push_back(one);
}
