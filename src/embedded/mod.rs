//! An in-memory Kafka cluster of one to many nodes, in process: what the demo, the sandbox and hermetic tests call.
//! It behaves as Apache Kafka 3.9 and 4.x do, or it does not speak the API; whatever it claims is tested against real brokers too.
//!
//! A request's way: [`server`] reads a frame and asks [`faults`], [`codec`] decodes it, the file of its API answers from
//! [`state`], the answer goes back before the next frame is read. One thread and one current-thread runtime per cluster.
//!
//! Left out: replication (replicas share one log, so the high watermark follows the end at once), the end of transactions by
//! time, fetch sessions (`session_id` 0 always), KIP-848 groups, quotas, ACLs (there is no authorizer), compaction.

pub mod batch;
pub mod codec;
pub mod faults;
pub mod log;
pub mod producer_state;

mod cluster_info;
mod configs;
mod fetch;
mod group;
mod group_admin;
mod list_offsets;
mod log_dirs;
mod membership;
mod metadata;
mod offsets;
mod produce;
mod producer_ids;
mod server;
mod state;
mod topics;
mod transactions;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use faults::{Effect, Faults, Fetched, Hold, Point, Produced};
pub use group::GroupState;
pub use log::StoredBatch;

use state::State;

#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// For the thread's name and the logs.
    pub name: String,
    pub nodes: usize,
    /// Where node 0 listens. The others take the same address, or with `ip_per_node` the ones after it.
    pub bind_ip: String,
    pub ip_per_node: bool,
    pub cluster_id: String,
    /// The id of node 0; far from what a proxy shows, so that a leak is seen.
    pub node_id_base: i32,
    /// Partitions of a topic that Metadata makes; `None`: `auto.create.topics.enable=false`.
    pub auto_create: Option<i32>,
    /// `num.partitions` and `default.replication.factor` (the latter at most the number of nodes).
    pub default_partitions: i32,
    pub default_replication: usize,
    /// Narrower version ranges by API key, to act as an older broker. An empty range takes the API away.
    pub api_limits: HashMap<i16, (i16, i16)>,
    /// The same of single nodes, in the middle of a rolling upgrade: only what ApiVersions says.
    pub node_api_limits: HashMap<(usize, i16), (i16, i16)>,
    /// What ApiVersions lists besides, without serving it: `(key, lowest, highest)`. As brokers do with an API whose
    /// feature is off.
    pub listed_only: Vec<(i16, i16, i16)>,
    /// Levels of finalized features, besides `metadata.version`.
    pub features: Vec<(&'static str, i16)>,
    /// What all nodes are set to besides, as DescribeConfigs shows it.
    pub broker_configs: Vec<(&'static str, String)>,
    /// An unknown idempotent producer must begin at sequence 0. Real brokers do not ask that.
    pub strict_first_sequence: bool,
    pub group_min_session_timeout_ms: i32,
    pub group_initial_rebalance_delay_ms: u64,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "embedded".into(),
            nodes: 1,
            bind_ip: "127.0.0.1".into(),
            ip_per_node: false,
            cluster_id: metadata::base64(Uuid::new_v4()),
            node_id_base: 1_600_000_001,
            auto_create: None,
            default_partitions: 1,
            default_replication: 3,
            api_limits: HashMap::new(),
            node_api_limits: HashMap::new(),
            listed_only: Vec::new(),
            features: Vec::new(),
            broker_configs: Vec::new(),
            strict_first_sequence: false,
            group_min_session_timeout_ms: 6_000,
            group_initial_rebalance_delay_ms: 0,
        }
    }
}

/// What every request sees of its cluster.
struct Shared {
    spec: ClusterSpec,
    state: Mutex<State>,
    faults: Arc<Faults>,
    /// A group has a new deadline.
    deadlines: Notify,
    /// Something that [`Cluster`]'s waits look at has changed.
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

pub struct Cluster {
    shared: Arc<Shared>,
    runtime: Handle,
    running: Mutex<Vec<Option<Running>>>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    pub fn start(spec: ClusterSpec) -> Result<Self> {
        let first: Ipv4Addr = spec.bind_ip.parse().with_context(|| format!("address {:?}", spec.bind_ip))?;
        let mut listeners = Vec::new();
        let mut state = State::default();
        for (id, nth) in (spec.node_id_base..).zip(0..spec.nodes as u32) {
            let ip = Ipv4Addr::from(u32::from(first) + if spec.ip_per_node { nth } else { 0 });
            let listener = server::listen(ip, 0)?;
            let port = listener.local_addr()?.port();
            state.nodes.push(state::Node { id, host: ip.to_string(), port, alive: true });
            listeners.push(listener);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let shutdown = CancellationToken::new();
        let stopped = shutdown.clone();
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            faults: Arc::default(),
            deadlines: Notify::new(),
            changed: Notify::new(),
            spec,
        });
        let thread = std::thread::Builder::new()
            .name(shared.spec.name.clone())
            .spawn(move || runtime.block_on(stopped.cancelled_owned()))?;
        handle.spawn(server::group_deadlines(shared.clone()));
        let cluster = Self { shared, runtime: handle, running: Mutex::default(), shutdown, thread: Some(thread) };
        let running = (0..).zip(listeners).map(|(node, l)| Some(cluster.run(node, l))).collect();
        *cluster.running() = running;
        Ok(cluster)
    }

    fn running(&self) -> MutexGuard<'_, Vec<Option<Running>>> {
        self.running.lock().expect("no holder of this lock panics")
    }

    fn run(&self, node: usize, listener: TcpListener) -> Running {
        let running = Running { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let serving = server::accept(self.shared.clone(), node, listener, running.stop.clone(), running.tasks.clone());
        running.tasks.spawn_on(serving, &self.runtime);
        running.tasks.close();
        running
    }

    pub fn bootstrap(&self) -> Vec<String> {
        self.shared.lock().nodes.iter().map(|n| format!("{}:{}", n.host, n.port)).collect()
    }
    pub fn cluster_id(&self) -> &str {
        &self.shared.spec.cluster_id
    }
    pub fn node_id(&self, node: usize) -> i32 {
        self.shared.lock().nodes[node].id
    }
    pub fn faults(&self) -> &Arc<Faults> {
        &self.shared.faults
    }

    /// Ends the node's connections at once and its leaderships with it; returns when the port is free.
    pub fn stop_node(&self, node: usize) {
        let Some(running) = self.running()[node].take() else { return };
        self.shared.lock().node_stopped(node);
        running.stop.cancel();
        let (done, wait) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            running.tasks.wait().await;
            let _ = done.send(()); // the other end waits just below
        });
        let _ = wait.recv(); // an error: the runtime has gone, and the tasks with it
        self.touch();
    }

    /// On the same port as before.
    pub fn start_node(&self, node: usize) -> Result<()> {
        if self.running()[node].is_some() {
            return Ok(());
        }
        let (host, port) =
            self.shared.lock().nodes.get(node).map(|n| (n.host.clone(), n.port)).context("no such node")?;
        let listener = server::listen(host.parse()?, port)?;
        self.shared.lock().node_started(node);
        let running = self.run(node, listener);
        self.running()[node] = Some(running);
        self.touch();
        Ok(())
    }

    /// A topic with a replica on every node.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<Uuid> {
        let configs: BTreeMap<_, _> = configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        if let Some(unknown) = configs.iter().find(|(k, v)| configs::refuse(k, v).is_some()) {
            return Err(anyhow!("topic config {unknown:?}"));
        }
        let mut state = self.shared.lock();
        let nodes = state.nodes.len();
        let id = state.create_topic(name, usize::try_from(partitions)?, nodes, configs)?;
        drop(state);
        self.touch();
        Ok(id)
    }
    pub fn delete_topic(&self, name: &str) {
        self.shared.lock().delete_topic(name);
        self.touch();
    }
    pub fn topic_id(&self, name: &str) -> Option<Uuid> {
        Some(self.shared.lock().topics.get(name)?.id)
    }
    pub fn topics(&self) -> Vec<String> {
        self.shared.lock().topics.keys().cloned().collect()
    }
    pub fn partition_count(&self, topic: &str) -> Option<usize> {
        Some(self.shared.lock().topics.get(topic)?.partitions.len())
    }

    fn of<T>(&self, topic: &str, partition: i32, f: impl FnOnce(&mut state::Partition) -> T) -> Option<T> {
        let found = self.shared.lock().partition_mut(topic, partition).map(f);
        self.touch();
        found
    }
    fn touch(&self) {
        self.shared.changed.notify_waiters();
    }

    /// What a reader from the log start would get, batch by batch.
    pub fn log(&self, topic: &str, partition: i32) -> Vec<StoredBatch> {
        let state = self.shared.lock();
        state.partition(topic, partition).map(|p| p.log.batches().cloned().collect()).unwrap_or_default()
    }
    pub fn log_start(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.shared.lock().partition(topic, partition)?.log.start)
    }
    pub fn log_end(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.shared.lock().partition(topic, partition)?.log.end)
    }
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<i64> {
        Some(self.shared.lock().partition(topic, partition)?.log.high_watermark())
    }
    /// Until the high watermark is at least `offset`.
    pub async fn wait_high_watermark(&self, topic: &str, partition: i32, offset: i64) {
        self.wait_until(|c| c.high_watermark(topic, partition).is_some_and(|hw| hw >= offset)).await;
    }
    /// Until `holds`, asked again after every request and every deadline of a group.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
    /// The index and the epoch of a partition's leader.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(usize, i32)> {
        let state = self.shared.lock();
        let found = state.partition(topic, partition)?;
        Some((found.leader?, found.epoch))
    }

    /// Retention: whole batches below `offset` go.
    pub fn set_log_start(&self, topic: &str, partition: i32, offset: i64) {
        self.of(topic, partition, |p| p.log.set_start(offset));
    }
    /// The high watermark stays at or below `at` until `None`.
    pub fn hold_high_watermark(&self, topic: &str, partition: i32, at: Option<i64>) {
        self.of(topic, partition, |p| {
            p.log.watermark_held_at = at;
            p.log.wake();
        });
    }
    /// From now on a node hears of no election any more.
    pub fn cut_off_from_controllers(&self, node: usize) {
        let state = self.shared.lock();
        let mut leaders = faults::Leaders::new();
        for (name, topic) in &state.topics {
            for (index, partition) in (0..).zip(&topic.partitions) {
                let leader = partition.leader.map_or(-1, |n| state.nodes[n].id);
                leaders.insert((name.clone(), index), (leader, partition.epoch));
            }
        }
        self.faults().set_old_leaders(node, leaders);
    }
    /// A new epoch under another node.
    pub fn move_leader(&self, topic: &str, partition: i32, node: usize) {
        self.shared.lock().move_leader(topic, partition, node);
        self.touch();
    }
    /// An unclean election: whole batches from `offset` on are gone, and another epoch begins there.
    pub fn lose_records(&self, topic: &str, partition: i32, offset: i64) {
        self.of(topic, partition, |p| {
            p.log.lose(offset);
            p.epoch += 1;
            p.log.begin_epoch(p.epoch);
        });
    }
    /// A batch that no request brought: a writer that bypasses everybody. Its base offset, or `None` if it is no v2 batch.
    pub fn append_directly(&self, topic: &str, partition: i32, batch: Bytes) -> Option<i64> {
        self.of(topic, partition, |p| p.log.append_unchecked(batch, p.epoch))?
    }

    pub fn groups(&self) -> Vec<String> {
        self.shared.lock().groups.keys().cloned().collect()
    }
    /// State, generation and members of a group.
    pub fn group(&self, group: &str) -> Option<(GroupState, i32, Vec<String>)> {
        let state = self.shared.lock();
        let found = state.groups.get(group)?;
        Some((found.state, found.generation, found.members.keys().cloned().collect()))
    }
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let state = self.shared.lock();
        Some(state.groups.get(group)?.offsets.get(&(topic.to_owned(), partition))?.offset)
    }
    /// The index of the node that coordinates this group or transactional id.
    pub fn coordinator(&self, key: &str) -> Option<usize> {
        self.shared.lock().coordinator(key)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic has been printed by then
        }
    }
}

/// One request's surroundings: where and when it came, and from whom.
struct Call<'a> {
    shared: &'a Shared,
    node: usize,
    version: i16,
    client_id: String,
    client_host: String,
    now: Instant,
    now_ms: i64,
    /// Rings when something that this connection waits for has changed.
    bell: &'a Arc<Notify>,
}
