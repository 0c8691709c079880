//! What lanes read of the origin: one Fetch for many of them, to each of its brokers.
//!
//! A broker serves one request of a connection at a time, so those who wait for something to be written have a connection of their
//! own, and who knows that there is more does not wait behind them.
#![expect(clippy::disallowed_methods, reason = "io: asks brokers, waits for the rate")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::error::code;
use crate::ids::{NOffset, NodeId, Side, TopicPartition};
use crate::routing::Shared;
use crate::upstream::connection::ANSWER_PATIENCE;
use crate::upstream::{Lane, Lost, Node, Outgoing, PartitionView, Pool};
use crate::wire::chain::ChainWriter;
use crate::wire::fetch::{
    self, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionFetched, READ_COMMITTED,
};

/// How long a broker may wait for something to be written.
const MAX_WAIT_MS: i32 = 500;
/// Those who ask soon after each other are asked for together.
const GATHER: Duration = Duration::from_millis(4);
/// Bytes of one answer, where there is more and where it is waited for; of one partition in it.
const MUCH: usize = 8 * 1024 * 1024;
const LITTLE: usize = 1024 * 1024;
const EACH: i32 = 1024 * 1024;
/// A broker's word for longer is not believed.
const MOST_THROTTLED: Duration = Duration::from_mins(1);
/// Memory is counted in these.
const UNIT: usize = 1024;

/// Where and from where on a partition is read.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub side: Side,
    pub leader: PartitionView,
    pub partition: TopicPartition,
    pub topic_id: Uuid,
    pub from: NOffset,
    pub how: How,
    /// Nothing came although there is more: it is asked for by itself, so that a batch has room however large it is (KIP-74).
    pub alone: bool,
}

/// Each goes on a connection of its own: none waits behind another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum How {
    /// For something to be written.
    Waits,
    /// There is more than what was read: nothing is waited for.
    HasMore,
    /// Somebody waits in a hold: not even for the rate.
    Hurried,
}

impl How {
    fn lane(self) -> Lane {
        match self {
            How::Waits => Lane::Fetch,
            How::HasMore => Lane::FetchAhead,
            How::Hurried => Lane::Probe,
        }
    }
}

/// What a broker said of one partition, and the memory that it takes.
pub struct Part {
    pub fetched: PartitionFetched,
    pub memory: OwnedSemaphorePermit,
}

struct Asked {
    wanted: Wanted,
    answer: oneshot::Sender<Result<Part, Lost>>,
}

type Place = (Side, NodeId, How);

pub struct Intake {
    shared: Arc<Shared>,
    pool: Rc<RefCell<Pool>>,
    asked: RefCell<HashMap<Place, mpsc::UnboundedSender<Asked>>>,
    memory: Arc<Semaphore>,
    units: usize,
    /// Bytes a second, and when the next may be read.
    rate: Option<u64>,
    not_before: Cell<Instant>,
}

impl Intake {
    pub fn new(shared: Arc<Shared>, pool: Rc<RefCell<Pool>>) -> Self {
        let mirror = &shared.config.mirror;
        let units = usize::try_from(mirror.buffer.as_u64()).unwrap_or(usize::MAX) / UNIT;
        let rate = mirror.bytes_per_second.map(|bytes| bytes.as_u64());
        let memory = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        let (asked, not_before) = (RefCell::default(), Cell::new(Instant::now()));
        Self { shared, pool, asked, memory, units, rate, not_before }
    }

    /// What lies there. Whoever drops this wants it no more.
    pub fn read(self: &Rc<Self>, wanted: Wanted) -> oneshot::Receiver<Result<Part, Lost>> {
        let (answer, receiver) = oneshot::channel();
        let place = (wanted.side, wanted.leader.leader, wanted.how);
        let mut all = self.asked.borrow_mut();
        let new = || {
            let (tell, asked) = mpsc::unbounded_channel();
            tokio::task::spawn_local(self.clone().serve(place, asked));
            tell
        };
        let known = all.entry(place).or_insert_with(new);
        // It serves for as long as this lives.
        drop(known.send(Asked { wanted, answer }));
        receiver
    }

    async fn serve(self: Rc<Self>, (side, node, how): Place, mut asked: mpsc::UnboundedReceiver<Asked>) {
        while let Some(first) = asked.recv().await {
            if how == How::Waits {
                sleep(GATHER).await;
            }
            let mut all = vec![first];
            while let Ok(more) = asked.try_recv() {
                all.push(more);
            }
            all.retain(|one| !one.answer.is_closed());
            let (alone, together): (Vec<Asked>, Vec<Asked>) = all.into_iter().partition(|one| one.wanted.alone);
            for one in alone {
                self.fetch(side, node, how, vec![one]).await;
            }
            if !together.is_empty() {
                self.fetch(side, node, how, together).await;
            }
        }
    }

    async fn fetch(&self, side: Side, node: NodeId, how: How, all: Vec<Asked>) {
        let most = if how == How::HasMore { MUCH } else { LITTLE };
        let units = (most / UNIT).min(self.units / 4).max(1);
        if how != How::Hurried {
            sleep_until(self.not_before.get()).await;
        }
        let permit = self.memory.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await;
        // Nobody closes it.
        let Ok(mut memory) = permit else { return };
        let version = self.shared.cluster.versions.max(ApiKey::Fetch);
        let request = FetchRequest {
            max_wait_ms: if how == How::Waits { MAX_WAIT_MS } else { 0 },
            min_bytes: 1,
            max_bytes: i32::try_from(units * UNIT).unwrap_or(i32::MAX),
            isolation_level: READ_COMMITTED,
            topics: by_topic(&all, version),
            ..FetchRequest::default()
        };
        let answer = match self.exchange(side, node, how, version, &request).await {
            Ok(answer) => answer,
            Err(lost) => {
                self.shared.refresh(side);
                return all.into_iter().for_each(|one| drop(one.answer.send(Err(lost.clone()))));
            }
        };
        self.pay(answer.record_bytes(), answer.throttle_time_ms);
        let mut parts = HashMap::new();
        for topic in answer.topics {
            for part in topic.partitions {
                parts.insert((topic.name.clone(), topic.id, part.index), part);
            }
        }
        for Asked { wanted, answer: to } in all {
            let (name, id) = named(&wanted, version);
            let found = parts.remove(&(name, id, wanted.partition.partition));
            // Above a quota there is nothing in it; a refusal of all says why.
            let refused = (answer.error_code != code::NONE)
                .then(|| PartitionFetched::empty(wanted.partition.partition, answer.error_code));
            let Some(fetched) = found.or(refused) else {
                drop(to.send(Err(Lost::NotSent("the answer does not tell of it".to_owned()))));
                continue;
            };
            let units = (fetched.records.len() / UNIT).min(memory.num_permits());
            let Some(memory) = memory.split(units) else { continue };
            drop(to.send(Ok(Part { fetched, memory })));
        }
    }

    /// What was read counts against the rate.
    fn pay(&self, bytes: usize, throttle_time_ms: i32) {
        let now = Instant::now();
        let mut next = self.not_before.get().max(now);
        if let Some(rate) = self.rate {
            next += Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        }
        let throttled = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0)).min(MOST_THROTTLED);
        self.not_before.set(next.max(now + throttled));
    }

    async fn exchange(
        &self,
        side: Side,
        node: NodeId,
        how: How,
        version: i16,
        request: &FetchRequest,
    ) -> Result<FetchResponse, Lost> {
        let mut body = ChainWriter::new();
        request.encode(version, &mut body);
        let unsent = |error: crate::wire::WireError| Lost::NotSent(error.to_string());
        let (done, answer) = oneshot::channel::<Result<Bytes, Lost>>();
        let outgoing = Outgoing {
            api_key: fetch::API_KEY,
            version,
            client_id: Some(StrBytes::from_static_str(super::CLIENT_ID)),
            body: body.finish().map_err(unsent)?,
            answered: true,
            patience: ANSWER_PATIENCE.min(self.shared.config.timeouts.request),
            completion: Box::new(move |outcome| drop(done.send(outcome))),
        };
        self.shared.metrics.upstream(fetch::API_KEY, side);
        self.pool.borrow_mut().send(side, Node::Id(node), how.lane(), outgoing);
        let bytes = answer.await.unwrap_or_else(|_| Err(Lost::Unknown("the connection ended".to_owned())));
        let bytes = bytes.inspect_err(|lost| self.shared.metrics.lost(side, lost))?;
        FetchResponse::decode(bytes, version).map_err(|error| Lost::Unknown(error.to_string()))
    }
}

fn named(wanted: &Wanted, version: i16) -> (StrBytes, Uuid) {
    if version < super::FETCH_BY_ID {
        return (StrBytes::from_string(wanted.partition.topic.to_string()), Uuid::nil());
    }
    (StrBytes::new(), wanted.topic_id)
}

/// In the order in which they were asked for: the first has room.
fn by_topic(all: &[Asked], version: i16) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = vec![];
    for Asked { wanted, .. } in all {
        let (name, id) = named(wanted, version);
        let partition = FetchPartition {
            index: wanted.partition.partition,
            current_leader_epoch: wanted.leader.epoch,
            fetch_offset: wanted.from.0,
            max_bytes: EACH,
            ..FetchPartition::default()
        };
        match topics.iter_mut().find(|topic| (&topic.name, topic.id) == (&name, id)) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic { name, id, partitions: vec![partition] }),
        }
    }
    topics
}
