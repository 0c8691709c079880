//! Two clusters as a snapshot: `orders` is in a migration, `plain` is not. Ids, hosts and epochs of real brokers are
//! such that one in an answer shows.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use futures_util::FutureExt;
use kafka_cutover::api::{self, Answers, Ask, Context, Input, Machine, Step, Unanswered};
use kafka_cutover::config::{Config, Migration, Pattern};
use kafka_cutover::groups::shadow::Told;
use kafka_cutover::ids::{Native, NodeId, Side};
use kafka_cutover::monitor::Metrics;
use kafka_cutover::offsets::SpliceMap;
use kafka_cutover::routing::{PartitionState, Partitions, Shared};
use kafka_cutover::store::event::{PreparedPartition, PreparedTopic};
use kafka_cutover::store::{Event, State};
use kafka_cutover::upstream::topology::Broker;
use kafka_cutover::upstream::{ClusterView, Lost, PartitionView, TopicView, Topology};
use kafka_cutover::virtual_cluster::{Nodes, Versions, VirtualCluster};
use kafka_protocol::messages::{RequestKind, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

/// A source's broker is 1,600,000,000 + n, a target's 1,700,000,000 + n.
pub const SOURCE: NodeId = 1_600_000_000;
pub const TARGET: NodeId = 1_700_000_000;
/// Leader epochs of real brokers.
pub const EPOCHS: [i32; 2] = [0x0051_5151, 0x0061_6161];
/// The source's end of `orders`, and where it goes on on the target.
pub const SEAM: i64 = 100;
pub const TARGET_START: i64 = 7;

pub struct World {
    pub shared: Shared,
    pub nodes: Nodes,
    pub now: Instant,
    told: RefCell<mpsc::UnboundedReceiver<Told>>,
}

impl World {
    /// Nothing is sealed yet.
    pub fn new() -> Self {
        Self::of(Self::config(), Arc::new(Metrics::new()))
    }

    /// Migration `shop` has `orders` and whatever begins so.
    pub fn config() -> Config {
        Config {
            migrations: vec![Migration {
                name: "shop".to_owned(),
                topics: vec![Pattern::new("orders.*").unwrap()],
                ..Migration::default()
            }],
            ..Config::default()
        }
    }

    pub fn of(config: Config, metrics: Arc<Metrics>) -> Self {
        let cluster = VirtualCluster { cluster_id: "source-cluster".to_owned(), versions: Versions::default() };
        let topology = Arc::new(ArcSwap::from_pointee(Topology {
            sides: [Some(Arc::new(cluster_view(Side::Source))), Some(Arc::new(cluster_view(Side::Target)))],
        }));
        let (deadlines, (shadows, told)) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel());
        let shared = Shared::new(config, cluster, topology, deadlines, shadows, mpsc::unbounded_channel().0, metrics);
        let state = || PartitionState {
            map: SpliceMap::whole(Side::Source),
            held: false,
            consumers_held: false,
            live: Arc::default(),
        };
        let orders = Arc::new((0..3).map(|_| state()).collect::<Vec<_>>());
        shared.publish_partitions(Partitions {
            topics: HashMap::from([("orders".into(), orders)]),
            ..Partitions::default()
        });
        let nodes = Nodes::new([("proxy-1".to_owned(), 9092), ("proxy-2".to_owned(), 9092)]);
        Self { shared, nodes, now: Instant::now(), told: RefCell::new(told) }
    }

    /// Every partition of `orders` goes on on the target.
    pub fn sealed() -> Self {
        let world = Self::new();
        world.seal();
        world
    }

    pub fn seal(&self) {
        self.prepare();
        self.alter(|state| state.map = sealed());
    }

    /// As the journal has it after `prepare shop`.
    pub fn prepare(&self) {
        let mut state = State::default();
        let topic = PreparedTopic {
            name: "orders".into(),
            partitions: (0..3).map(|partition| PreparedPartition { partition, target_start: 0 }).collect(),
            source_id: Uuid::from_u128(11),
            target_id: Uuid::from_u128(11),
            mirror: None,
        };
        let (migration, scheme) = ("shop".to_owned(), "producers-first".to_owned());
        state.apply(&Event::Prepared { migration, scheme, topics: vec![topic] }).unwrap();
        self.shared.set_prepared(&state);
    }

    /// A topic that matches the migration and came after its `prepare`.
    pub fn add_unprepared(&self, name: &str) {
        let mut next = Partitions::clone(&self.shared.partitions.load());
        let state = PartitionState {
            map: SpliceMap::whole(Side::Source),
            held: false,
            consumers_held: false,
            live: Arc::default(),
        };
        next.topics.insert(name.into(), Arc::new(vec![state]));
        self.shared.publish_partitions(next);
    }

    /// The source has another topic, of one partition.
    pub fn show(&self, name: &str) {
        let mut topology = Topology::clone(&self.shared.topology.load());
        let mut view = cluster_view(Side::Source);
        view.topics.insert(name.into(), view.topics["plain"].clone());
        topology.sides[0] = Some(Arc::new(view));
        self.shared.topology.store(Arc::new(topology));
    }

    /// The source's brokers create topics that clients ask for.
    pub fn create_topics(&self) {
        let mut topology = Topology::clone(&self.shared.topology.load());
        let mut view = cluster_view(Side::Source);
        view.creates_topics = true;
        topology.sides[0] = Some(Arc::new(view));
        self.shared.topology.store(Arc::new(topology));
    }

    pub fn alter(&self, change: impl Fn(&mut PartitionState)) {
        let mut next = Partitions::clone(&self.shared.partitions.load());
        next.alter("orders", |_, state| change(state));
        self.shared.publish_partitions(next);
    }

    pub fn hold(&self, held: bool) {
        self.alter(|state| state.held = held);
    }

    /// The side cannot be reached: what is known of it is old, and its partitions have no leader.
    pub fn lose(&self, side: Side) {
        let mut topology = Topology::clone(&self.shared.topology.load());
        let mut view = cluster_view(side);
        view.reachable = false;
        for topic in view.topics.values_mut() {
            let mut leaderless = TopicView::clone(topic);
            leaderless.partitions.iter_mut().for_each(|p| p.leader = -1);
            *topic = Arc::new(leaderless);
        }
        topology.sides[side.index()] = Some(Arc::new(view));
        self.shared.topology.store(Arc::new(topology));
    }

    /// The source takes so many bytes of a commit's metadata.
    pub fn take_metadata(&self, most: usize) {
        let mut topology = Topology::clone(&self.shared.topology.load());
        let mut view = cluster_view(Side::Source);
        view.commit_metadata = Some(most);
        topology.sides[0] = Some(Arc::new(view));
        self.shared.topology.store(Arc::new(topology));
    }

    /// A new snapshot shows that this topic is one of our own.
    pub fn hide(&self, topic_id: u128) {
        let mut topology = Topology::clone(&self.shared.topology.load());
        let mut view = cluster_view(Side::Source);
        view.hidden.insert(Uuid::from_u128(topic_id));
        topology.sides[0] = Some(Arc::new(view));
        self.shared.topology.store(Arc::new(topology));
    }

    /// The side was looked at, and nothing has changed.
    pub fn pass_generation(&self, side: Side) {
        let mut topology = Topology::clone(&self.shared.topology.load());
        let mut view = ClusterView::clone(topology.side(side).expect("both are there"));
        view.generation += 1;
        view.began = Some(self.now);
        topology.sides[side.index()] = Some(Arc::new(view));
        self.shared.topology.store(Arc::new(topology));
    }

    /// Whether a fresh look at the side was asked for since the last time.
    pub fn was_refreshed(&self, side: Side) -> bool {
        self.shared.refresh[side.index()].notified().now_or_never().is_some()
    }

    /// What the writer of shadows was told since the last time.
    pub fn told_shadows(&self) -> Vec<Told> {
        std::iter::from_fn(|| self.told.borrow_mut().try_recv().ok()).collect()
    }

    pub fn cx(&self, version: i16) -> Context<'_> {
        Context {
            shared: &self.shared,
            topology: self.shared.topology.load_full(),
            partitions: self.shared.partitions.load_full(),
            nodes: &self.nodes,
            version,
            now: self.now,
            now_ms: 1_700_000_000_000,
        }
    }

    pub fn machine(&self, version: i16, request: impl Into<RequestKind>) -> Running<'_> {
        let machine = api::machine(&self.cx(version), request.into()).expect("an API of the table");
        Running { world: self, version, machine }
    }
}

/// A machine with the version of its request.
pub struct Running<'a> {
    pub world: &'a World,
    version: i16,
    machine: Box<dyn Machine>,
}

impl Running<'_> {
    pub fn step(&mut self, input: Input) -> Step {
        let step = self.machine.step(&self.world.cx(self.version), input);
        if let Step::Answer(answer) = &step {
            shows_nobody(answer, self.version);
        }
        step
    }

    pub fn asks(&mut self) -> Vec<Ask> {
        self.asks_after(Input::Start)
    }

    /// What is decided before is durable at once.
    pub fn asks_after(&mut self, input: Input) -> Vec<Ask> {
        match self.step(input) {
            Step::Ask(asks) => asks,
            Step::Decide(..) => self.asks_after(Input::Woken),
            other => panic!("asks were expected, not {}", name(&other)),
        }
    }

    pub fn ends(&mut self, input: Input) -> ResponseKind {
        match self.step(input) {
            Step::Answer(answer) => answer,
            other => panic!("an answer was expected, not {}", name(&other)),
        }
    }

    /// Who waits for the clusters to show what was done waits in vain: this world does not change.
    pub fn answer(&mut self, answers: Answers) -> ResponseKind {
        match self.step(Input::Answers(answers)) {
            Step::AwaitTopology { deadline, .. } => {
                let late = Context { now: deadline, ..self.world.cx(self.version) };
                match self.machine.step(&late, Input::Woken) {
                    Step::Answer(answer) => {
                        shows_nobody(&answer, self.version);
                        answer
                    }
                    other => panic!("an answer was expected, not {}", name(&other)),
                }
            }
            Step::Answer(answer) => answer,
            other => panic!("an answer was expected, not {}", name(&other)),
        }
    }

    /// The machine alone, for a world that is to change.
    pub fn detached(self) -> Box<dyn Machine> {
        self.machine
    }
}

pub fn name(step: &Step) -> String {
    match step {
        Step::Ask(asks) => format!("{asks:?}"),
        Step::AwaitTopology { side, .. } => format!("a wait for the {side}"),
        Step::AwaitRoutes { newer_than, .. } => format!("a wait for routes newer than {newer_than}"),
        Step::AwaitMoveEnd { newer_than, .. } => format!("a wait until more than {newer_than} moves have ended"),
        Step::Decide(event, _) => format!("a decision: {event:?}"),
        Step::Answer(answer) => format!("{answer:?}"),
        Step::Close(text) => format!("the end: {text}"),
    }
}

/// The answer can be encoded, and no number or name in it is a real broker's.
pub fn shows_nobody(answer: &ResponseKind, version: i16) {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap_or_else(|e| panic!("v{version} cannot say {answer:?}: {e}"));
    let mut secrets: Vec<Vec<u8>> = EPOCHS.iter().map(|e| e.to_be_bytes().to_vec()).collect();
    for id in [SOURCE, TARGET].into_iter().flat_map(|base| (1..=3).map(move |n| base + n)) {
        secrets.push(id.to_be_bytes().to_vec());
        secrets.push(id.to_string().into_bytes());
    }
    secrets.push(b".real".to_vec());
    for secret in secrets {
        let shown = bytes.windows(secret.len()).any(|w| w == secret);
        assert!(!shown, "v{version} shows {:?}: {answer:?}", String::from_utf8_lossy(&secret));
    }
}

/// Virtual 0..100 on the source, the rest on the target from 7 on.
pub fn sealed() -> SpliceMap {
    SpliceMap::whole(Side::Source).sealed(Native(SEAM), EPOCHS[0], (Side::Target, Native(TARGET_START))).unwrap()
}

fn cluster_view(side: Side) -> ClusterView {
    let base = [SOURCE, TARGET][side.index()];
    let broker = |n: i32| (base + n, Broker { host: format!("b{n}.{side}.real"), port: 40_000 + n as u16 });
    let partition = |i: i32| PartitionView { leader: base + 1 + i, epoch: EPOCHS[side.index()] };
    let topic = |id: u128, count: i32| {
        Arc::new(TopicView {
            id: Uuid::from_u128(id),
            internal: false,
            partitions: (0..count).map(partition).collect(),
        })
    };
    let topics = HashMap::from([("orders".into(), topic(11, 3)), ("plain".into(), topic(12, 2))]);
    ClusterView {
        began: None,
        told_by: String::new(),
        cluster_id: format!("{side}-cluster"),
        controller: base + 1,
        brokers: (1..=3).map(broker).collect(),
        names: HashMap::from([(Uuid::from_u128(11), "orders".into()), (Uuid::from_u128(12), "plain".into())]),
        hidden: HashSet::from([Uuid::from_u128(99)]),
        topics,
        generation: 5,
        reachable: true,
        creates_topics: false,
        commit_metadata: None,
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn lost() -> Result<ResponseKind, Unanswered> {
    Err(Lost::Unknown("gone".to_owned()).into())
}

pub fn not_sent() -> Result<ResponseKind, Unanswered> {
    Err(Lost::NotSent("refused".to_owned()).into())
}
