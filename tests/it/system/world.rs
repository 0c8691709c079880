//! Two embedded clusters, a proxy between them, and what a test asks of all three.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::config::{Address, Cluster as At, Config, Listener, Migration, Pattern, Scheme};
use kafka_cutover::control::client::{Client, ClientError};
use kafka_cutover::control::protocol::{MigrationStatus, Outcome, Refusal, StepBody, SwitchBody, What};
use kafka_cutover::embedded::batch::Header;
use kafka_cutover::embedded::{Cluster, ClusterSpec, Produced};
use kafka_cutover::ids::Side;
use kafka_cutover::migration::seed::TRIAL_PRODUCER;
use kafka_cutover::proxy::{self, Running};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceResponse};
use kafka_protocol::protocol::Decodable;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::relay::Relay;

pub use crate::embedded::raw::{ONE, Plan, Raw, encode, idempotent, produce, text};

/// The one migration, and the topics that it matches begin with it.
pub const MIGRATION: &str = "moved";
/// The marker topic of a proxy with the default name.
pub const MARKERS: &str = "__kafka_cutover.default";
/// A test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(90);
/// Between two looks at what cannot be awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Ends a test that would wait for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("not within {} s: {what}", DEADLINE.as_secs()),
    }
}

/// Until it holds: for what no event tells.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {} s: {what}", DEADLINE.as_secs());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub struct World {
    // Dropped in this order: the proxy before what it talks to.
    pub proxy: Option<Running>,
    /// Clients come through it: no test's client may be told who the brokers are.
    pub relay: Option<Relay>,
    pub config: Config,
    pub source: Cluster,
    pub target: Cluster,
    pub dir: TempDir,
}

impl World {
    /// One node each, one topic `moved` of so many partitions on the source.
    pub fn new(partitions: i32) -> Self {
        Self::with(partitions, |_| {})
    }

    pub fn with(partitions: i32, change: impl FnOnce(&mut Config)) -> Self {
        let mut world = Self::stopped(partitions, change);
        world.start().expect("the proxy starts");
        world
    }

    pub fn stopped(partitions: i32, change: impl FnOnce(&mut Config)) -> Self {
        Self::of_nodes(1, partitions, change)
    }

    /// A source of so many nodes, and a target of one; stopped.
    pub fn of_nodes(nodes: usize, partitions: i32, change: impl FnOnce(&mut Config)) -> Self {
        Self::of_features(nodes, partitions, &[], change)
    }

    /// The same with features finalized on both.
    pub fn of_features(
        nodes: usize,
        partitions: i32,
        features: &[(&'static str, i16)],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let cluster = |name: &str, node_id_base, nodes| {
            let features = features.to_vec();
            let spec = ClusterSpec { name: name.into(), node_id_base, nodes, features, ..ClusterSpec::default() };
            Cluster::start(spec).expect("an embedded cluster starts")
        };
        let (source, target) = (cluster("source", 1_600_000_001, nodes), cluster("target", 1_700_000_001, 1));
        source.create_topic("moved", partitions, &[]).unwrap();
        let dir = TempDir::new().unwrap();
        let mut config = config(&source, &target, dir.path());
        change(&mut config);
        Self { proxy: None, relay: None, config, source, target, dir }
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        let relay = Relay::new(Side::BOTH.map(|side| self.cluster(side).bootstrap()));
        let mut config = self.config.clone();
        config.listeners[0].advertise.0 = vec![relay.address.parse().expect("an address")];
        let proxy = proxy::start(config)?;
        relay.lead_to(&proxy.listeners[0].to_string());
        (self.proxy, self.relay) = (Some(proxy), Some(relay));
        Ok(())
    }

    /// Stops the proxy and starts it on the same state, on another port.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        drop(self.proxy.take());
        self.start()
    }

    pub fn cluster(&self, side: Side) -> &Cluster {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    fn running(&self) -> &Running {
        self.proxy.as_ref().expect("the proxy runs")
    }

    /// Where clients go.
    pub fn address(&self) -> String {
        self.relay.as_ref().expect("the proxy runs").address.clone()
    }

    /// Where the proxy itself listens.
    pub fn bound(&self) -> SocketAddr {
        self.running().listeners[0]
    }

    pub async fn client(&self) -> Raw {
        Raw::connect(&self.address()).await
    }

    /// A producer id, as the proxy gives it.
    pub async fn producer(&self) -> i64 {
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1_000);
        let answer = self.client().await.ask(&request, 4).await;
        assert_eq!(answer.error_code, 0);
        answer.producer_id.0
    }

    pub fn control(&self) -> Client {
        Client::new(&self.config.control.socket)
    }

    pub async fn prepare(&self) {
        soon("prepare", self.control().prepare(MIGRATION, &StepBody::default())).await.expect("prepared");
    }

    pub async fn switch(&self) -> Result<Outcome, ClientError> {
        soon("switch", switch(self.control())).await
    }

    /// Prepares and switches; both must do.
    pub async fn cut_over(&self) {
        self.prepare().await;
        self.switch().await.expect("switched");
    }

    /// The switch on a task of its own, for tests that look at it from outside.
    pub fn begin_switch(&self) -> tokio::task::JoinHandle<Result<Outcome, ClientError>> {
        tokio::spawn(switch(self.control()))
    }

    pub async fn step(&self) -> String {
        self.control().migration(MIGRATION).await.expect("a status").step
    }

    /// Records that lie on the source and on the target. (`prepare` may have begun the target's logs at 1.)
    pub fn stored(&self, partition: i32) -> (i64, i64) {
        let of = |c: &Cluster| c.log("moved", partition).iter().map(|b| i64::from(b.header.count)).sum();
        (of(&self.source), of(&self.target))
    }

    /// What came to a side for a partition of `moved`, whether it was taken or not, but for `prepare`'s own trial.
    pub fn came(&self, side: Side, partition: i32) -> Vec<Produced> {
        let mut came = self.cluster(side).faults().produced("moved", partition);
        came.retain(|p| p.producer_id != TRIAL_PRODUCER.id);
        came
    }

    /// A line of /metrics, name and labels given; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.page("/metrics").await;
        let value = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        value.map_or(0.0, |n| n.trim().parse().unwrap())
    }

    /// The status code and body of a page of the monitor.
    pub async fn page(&self, path: &str) -> (u16, String) {
        Self::page_at(self.running().monitor.expect("a monitor"), path).await
    }

    pub async fn page_at(monitor: SocketAddr, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(monitor).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Produce requests that a hold or a gate keeps waiting.
    pub async fn held(&self) -> usize {
        let (_, page) = self.page("/metrics").await;
        let line = page.lines().find_map(|l| l.strip_prefix("kafka_cutover_held_requests "));
        line.map_or(0, |n| n.trim().parse::<f64>().unwrap() as usize)
    }

    pub async fn until_held(&self, requests: usize) {
        eventually("requests are held", async || self.held().await == requests).await;
    }

    /// Produces to `moved` one record at a time until the hold of a seal keeps one waiting: that one is not answered yet.
    /// The sequence that it has, from `sequence` on.
    pub async fn produce_into_hold(
        &self,
        raw: &mut Raw,
        partition: i32,
        pid: i64,
        sequence: i32,
        timeout_ms: i32,
    ) -> i32 {
        // A hold that cannot be met in so many tries is none.
        for sequence in sequence..sequence + 100_000 {
            let one = produce("moved", partition, encode(idempotent(pid, 0, sequence, 1))).with_timeout_ms(timeout_ms);
            raw.send(&one, 9).await;
            let held = eventually("held, or answered", async || self.held().await > 0);
            tokio::select! {
                biased;
                answer = raw.receive::<kafka_protocol::messages::ProduceRequest>(9) => {
                    let answer = answer.expect("an answer");
                    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
                }
                () = held => return sequence,
            }
        }
        panic!("no hold came")
    }
}

async fn switch(control: Client) -> Result<Outcome, ClientError> {
    let body = SwitchBody {
        what: What::Producers,
        to: Side::Target,
        force: false,
        hold_consumers: false,
        expect_step: None,
        dry_run: false,
    };
    control.switch(MIGRATION, &body).await
}

fn config(source: &Cluster, target: &Cluster, dir: &Path) -> Config {
    let at = |c: &Cluster| At::at(c.bootstrap().iter().map(|a| a.parse::<Address>().unwrap()));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut config = Config {
        source: at(source),
        target: at(target),
        listeners: vec![Listener::at(any)],
        workers: 2,
        migrations: vec![Migration {
            name: MIGRATION.to_owned(),
            topics: vec![Pattern::new("moved.*").unwrap()],
            scheme: Scheme::ProducersFirst,
            ..Migration::default()
        }],
        ..Config::default()
    };
    config.control.socket = dir.join("control.sock");
    config.state.dir = dir.join("state");
    config.monitor.bind = Some(any);
    config.seal.settle_time = Duration::from_millis(50);
    config.timeouts.wind_down = Duration::from_millis(200);
    config
}

/// Error and base offset of so many pipelined produce requests of version 9, in the order of their answers.
pub async fn produced(raw: &mut Raw, requests: usize) -> Vec<(i16, i64)> {
    let mut answers = Vec::new();
    for _ in 0..requests {
        let mut frame = soon("a produce is answered", raw.frame()).await.expect("an answer").slice(5..);
        let answer = ProduceResponse::decode(&mut frame, 9).unwrap();
        let part = &answer.responses[0].partition_responses[0];
        answers.push((part.error_code, part.base_offset));
    }
    answers
}

/// What the operator sees of the one migration.
pub async fn status(world: &World) -> MigrationStatus {
    world.control().migration(MIGRATION).await.expect("a status")
}

/// What the command line does with the proxy's socket: exit code, stdout, stderr.
pub async fn command_line(world: &World, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kafka-cutover"));
    command.args(args).env("KAFKA_CUTOVER_SOCKET", &world.config.control.socket).stdin(Stdio::null());
    let output = soon("the command ends", command.output()).await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The refusal of a control call that must be refused.
pub fn refused(outcome: Result<Outcome, ClientError>) -> Refusal {
    match outcome {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

/// One record of a log: where it lies and what it was produced as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub timestamp: i64,
}

/// The records from `from` on (raw batches are not compressed, record i of one has timestamp + i).
pub fn records(bytes: &Bytes, from: i64) -> Vec<Seen> {
    let mut rest = &bytes[..];
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let head = Header::read(rest).expect("whole batches");
        assert_eq!(head.leader_epoch, -1, "no epoch of a broker reaches a client");
        let all = (0..i64::from(head.count))
            .map(|i| Seen { offset: head.base_offset + i, timestamp: head.base_timestamp + i });
        seen.extend(all.filter(|s| s.offset >= from));
        rest = &rest[head.size..];
    }
    seen
}

/// A fetch of version 12 of some partitions of `moved`, each at an offset.
pub fn fetch(partitions: &[(i32, i64)], max_wait: Duration, max_bytes: i32) -> FetchRequest {
    let partition = |&(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(max_bytes)
            .with_current_leader_epoch(-1)
    };
    FetchRequest::default()
        .with_max_wait_ms(max_wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(text("moved").into())
                .with_partitions(partitions.iter().map(partition).collect()),
        ])
}

/// Longer than any test may take: who waits it out instead of being woken has failed.
pub const PATIENT: Duration = Duration::from_secs(120);
pub const NO_WAIT: Duration = Duration::ZERO;

/// The partitions of an answer to `fetch`, by topic and number.
pub async fn fetched(raw: &mut Raw) -> Vec<PartitionData> {
    let mut topics = fetched_in_order(raw).await;
    topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    for topic in &mut topics {
        topic.partitions.sort_by_key(|p| p.partition_index);
    }
    topics.into_iter().flat_map(|t| t.partitions).collect()
}

/// An answer to `fetch` as it came.
pub async fn fetched_in_order(raw: &mut Raw) -> Vec<FetchableTopicResponse> {
    let answer = soon("a fetch is answered", raw.receive::<FetchRequest>(12)).await.expect("an answer");
    assert_eq!(answer.error_code, 0);
    answer.responses
}

pub async fn fetch_one(raw: &mut Raw, partition: i32, offset: i64, max_wait: Duration) -> PartitionData {
    raw.send(&fetch(&[(partition, offset)], max_wait, 1 << 20), 12).await;
    fetched(raw).await.remove(0)
}

/// Everything of one partition from an offset to the virtual end `to`: contiguous, or the test fails.
pub async fn read(raw: &mut Raw, partition: i32, from: i64, to: i64, max_bytes: i32) -> Vec<Seen> {
    let (mut at, mut all) = (from, Vec::new());
    while at < to {
        raw.send(&fetch(&[(partition, at)], PATIENT, max_bytes), 12).await;
        let part = fetched(raw).await.remove(0);
        assert_eq!(part.error_code, 0, "at {at}");
        for seen in records(&part.records.unwrap_or_default(), at) {
            assert_eq!(seen.offset, at, "no gap, nothing twice");
            at += 1;
            all.push(seen);
        }
    }
    all
}

/// `(error, timestamp, offset)` of one partition of `moved`.
pub async fn list_offset(raw: &mut Raw, partition: i32, timestamp: i64) -> (i16, i64, i64) {
    raw.send(&list_offsets(partition, timestamp), 7).await;
    listed(raw).await
}

pub fn list_offsets(partition: i32, timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![
        ListOffsetsTopic::default().with_name(text("moved").into()).with_partitions(vec![
            ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_timestamp(timestamp)
                .with_current_leader_epoch(-1),
        ]),
    ])
}

pub async fn listed(raw: &mut Raw) -> (i16, i64, i64) {
    let answer = soon("ListOffsets is answered", raw.receive::<ListOffsetsRequest>(7)).await.expect("an answer");
    let part = &answer.topics[0].partitions[0];
    (part.error_code, part.timestamp, part.offset)
}

/// Appends one plain record with this timestamp; it must be taken, at this offset.
pub async fn append(raw: &mut Raw, partition: i32, timestamp: i64, offset: i64) {
    let done = soon("a produce is answered", raw.produce("moved", partition, encode(Plan { timestamp, ..ONE }))).await;
    assert_eq!(done, (0, offset));
}

/// The proxy as a process of its own, for what only a process can have. It ends with this.
#[cfg(feature = "crash-points")]
pub struct Process {
    pub address: String,
    child: std::process::Child,
}

#[cfg(feature = "crash-points")]
impl Process {
    /// On a port of its own choice, with the world's clusters, state and socket.
    pub async fn start(world: &mut World, environment: &[(&str, &str)]) -> Self {
        // JSON is YAML.
        let file = world.dir.path().join("config.yaml");
        std::fs::write(&file, serde_json::to_string(&world.config).unwrap()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-cutover"));
        command.args(["--log-format", "json", "run", "--config"]).arg(&file).envs(environment.iter().copied());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("the binary runs");
        let (tell, told) = tokio::sync::oneshot::channel();
        let log = std::io::BufReader::new(child.stderr.take().unwrap());
        // Reads to the end: a full pipe would stop the process.
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            for line in std::io::BufRead::lines(log).map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) = event["fields"]["address"].as_str().or(event["address"].as_str())
                    && let Some(tell) = tell.take()
                {
                    let _ = tell.send(address.to_owned()); // the test may have given up
                }
            }
        });
        let address = soon("the process listens", told).await.expect("it listens");
        Self { address, child }
    }
}

#[cfg(feature = "crash-points")]
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
