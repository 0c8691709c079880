//! What lanes write to the copy: one Produce for many of them, to each of its brokers, a few at a time, in order.
#![expect(clippy::disallowed_methods, reason = "io: writes to brokers")]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::lane::Outcome;
use crate::error::code;
use crate::ids::{Native, NodeId, Side, TopicPartition};
use crate::routing::Shared;
use crate::upstream::connection::ANSWER_PATIENCE;
use crate::upstream::{Lane, Lost, Node, Outgoing, Pool};
use crate::wire::chain::ChainWriter;
use crate::wire::produce::{self, PartitionProduced, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic};
use crate::wire::records::Records;

/// Requests to one broker without an answer: more and it would not keep idempotent batches apart.
const AT_ONCE: usize = 5;
/// Bytes of one request, unless one batch has more.
const MUCH: usize = 1024 * 1024;
/// A broker's word for longer is not believed.
const MOST_THROTTLED: Duration = Duration::from_mins(1);
/// The broker's own wait for the followers.
const TIMEOUT_MS: i32 = 30_000;

pub struct Parcel {
    pub side: Side,
    pub leader: NodeId,
    pub partition: TopicPartition,
    pub topic_id: Uuid,
    pub batch: Vec<Bytes>,
    pub size: usize,
}

struct Given {
    parcel: Parcel,
    answer: oneshot::Sender<Outcome>,
}

pub struct Outlet {
    shared: Arc<Shared>,
    pool: Rc<RefCell<Pool>>,
    given: RefCell<HashMap<(Side, NodeId), mpsc::UnboundedSender<Given>>>,
}

/// Batches that wait for their turn.
#[derive(Default)]
struct Waiting {
    of: HashMap<TopicPartition, VecDeque<Given>>,
    turns: VecDeque<TopicPartition>,
}

impl Waiting {
    fn push(&mut self, given: Given) {
        let partition = given.parcel.partition.clone();
        let queue = self.of.entry(partition.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(partition);
        }
        queue.push_back(given);
    }

    /// One of its batches was not stored: those behind it are not sent.
    fn give_up(&mut self, partition: &TopicPartition) {
        for given in self.of.remove(partition).unwrap_or_default() {
            drop(given.answer.send(Some(Err((code::NETWORK_EXCEPTION, "one before it was not stored".to_owned())))));
        }
        self.turns.retain(|turn| turn != partition);
    }

    /// One batch of each partition, until there are enough bytes. Those that nobody wants any more are left out.
    fn take(&mut self) -> Vec<Given> {
        let (mut taken, mut bytes) = (vec![], 0);
        for _ in 0..self.turns.len() {
            if bytes >= MUCH {
                break;
            }
            let Some(partition) = self.turns.pop_front() else { break };
            let Some(queue) = self.of.get_mut(&partition) else { continue };
            while queue.front().is_some_and(|given| given.answer.is_closed()) {
                queue.pop_front();
            }
            if let Some(given) = queue.pop_front() {
                bytes += given.parcel.size;
                taken.push(given);
            }
            match queue.is_empty() {
                true => drop(self.of.remove(&partition)),
                false => self.turns.push_back(partition),
            }
        }
        taken
    }
}

impl Outlet {
    pub fn new(shared: Arc<Shared>, pool: Rc<RefCell<Pool>>) -> Self {
        Self { shared, pool, given: RefCell::default() }
    }

    /// Of one partition in this order. What is not sent yet when this is dropped never will be.
    pub fn write(self: &Rc<Self>, parcel: Parcel) -> oneshot::Receiver<Outcome> {
        let (answer, receiver) = oneshot::channel();
        let place = (parcel.side, parcel.leader);
        let mut all = self.given.borrow_mut();
        let new = || {
            let (tell, given) = mpsc::unbounded_channel();
            tokio::task::spawn_local(self.clone().serve(place, given));
            tell
        };
        // It serves for as long as this lives.
        drop(all.entry(place).or_insert_with(new).send(Given { parcel, answer }));
        receiver
    }

    async fn serve(self: Rc<Self>, (side, node): (Side, NodeId), mut given: mpsc::UnboundedReceiver<Given>) {
        let mut waiting = Waiting::default();
        let mut sent = FuturesUnordered::new();
        let mut not_before = Instant::now();
        loop {
            tokio::select! {
                one = given.recv() => match one {
                    Some(one) => waiting.push(one),
                    None => return,
                },
                answered = sent.next(), if !sent.is_empty() => {
                    let (throttled, failed): (Duration, Vec<TopicPartition>) = answered.unwrap_or_default();
                    not_before = not_before.max(Instant::now() + throttled);
                    failed.iter().for_each(|partition| waiting.give_up(partition));
                }
                () = sleep_until(not_before), if Instant::now() < not_before => {}
            }
            while let Ok(more) = given.try_recv() {
                waiting.push(more);
            }
            while sent.len() < AT_ONCE && Instant::now() >= not_before {
                let all = waiting.take();
                if all.is_empty() {
                    break;
                }
                sent.push(self.produce(side, node, all));
            }
        }
    }

    /// Sends it at once; the answer's throttle time, and the partitions of which a batch was not stored.
    fn produce(
        &self,
        side: Side,
        node: NodeId,
        all: Vec<Given>,
    ) -> impl Future<Output = (Duration, Vec<TopicPartition>)> + use<> {
        let version = self.shared.cluster.versions.max(ApiKey::Produce);
        let shared = self.shared.clone();
        let (done, answer) = oneshot::channel::<Result<Bytes, Lost>>();
        let mut body = ChainWriter::new();
        let (batches, answers): (Vec<Parcel>, Vec<_>) =
            all.into_iter().map(|given| (given.parcel, given.answer)).unzip();
        let names: Vec<_> = batches.iter().map(|parcel| (named(parcel, version), parcel.partition.partition)).collect();
        let partitions: Vec<TopicPartition> = batches.iter().map(|parcel| parcel.partition.clone()).collect();
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: TIMEOUT_MS,
            topics: by_topic(batches, version),
        };
        request.encode(version, &mut body);
        match body.finish() {
            Ok(body) => {
                let outgoing = Outgoing {
                    api_key: produce::API_KEY,
                    version,
                    client_id: Some(StrBytes::from_static_str(super::CLIENT_ID)),
                    body,
                    answered: true,
                    patience: ANSWER_PATIENCE,
                    completion: Box::new(move |outcome| drop(done.send(outcome))),
                };
                shared.metrics.upstream(produce::API_KEY, side);
                self.pool.borrow_mut().send(side, Node::Id(node), Lane::Produce, outgoing);
            }
            Err(error) => drop(done.send(Err(Lost::NotSent(error.to_string())))),
        }
        async move {
            let outcome = answer.await.unwrap_or_else(|_| Err(Lost::Unknown("the connection ended".to_owned())));
            let outcome = outcome.inspect_err(|lost| shared.metrics.lost(side, lost));
            let outcome = outcome.and_then(|bytes| {
                ProduceResponse::decode(bytes, version).map_err(|error| Lost::Unknown(error.to_string()))
            });
            let throttled = outcome.as_ref().map_or(0, |answer| answer.throttle_time_ms);
            let mut parts = HashMap::new();
            match &outcome {
                Ok(answer) => {
                    for topic in &answer.topics {
                        for part in &topic.partitions {
                            parts.insert(((topic.name.clone(), topic.id), part.index), part);
                        }
                    }
                }
                Err(_) => shared.refresh(side),
            }
            let mut failed = vec![];
            for ((name, partition), to) in names.iter().zip(partitions).zip(answers) {
                let known = match &outcome {
                    Err(Lost::NotSent(why)) => Some(Err((code::NETWORK_EXCEPTION, why.clone()))),
                    Err(Lost::Unknown(_)) => None,
                    Ok(_) => parts.get(name).map(|part| produced(part)),
                };
                if !matches!(known, Some(Ok(_))) {
                    failed.push(partition);
                }
                // A lane that nobody drives any more wants no answer.
                drop(to.send(known));
            }
            (Duration::from_millis(u64::try_from(throttled).unwrap_or(0)).min(MOST_THROTTLED), failed)
        }
    }
}

fn produced(part: &PartitionProduced) -> Result<crate::ids::NOffset, (i16, String)> {
    match part.error_code {
        code::NONE => Ok(Native(part.base_offset)),
        error => Err((error, part.error_message.as_ref().map_or_else(String::new, ToString::to_string))),
    }
}

fn named(parcel: &Parcel, version: i16) -> (StrBytes, Uuid) {
    if version < super::PRODUCE_BY_ID {
        return (StrBytes::from_string(parcel.partition.topic.to_string()), Uuid::nil());
    }
    (StrBytes::new(), parcel.topic_id)
}

fn by_topic(batches: Vec<Parcel>, version: i16) -> Vec<ProduceTopic> {
    let mut topics: Vec<ProduceTopic> = vec![];
    for parcel in batches {
        let (name, id) = named(&parcel, version);
        let partition = ProducePartition { index: parcel.partition.partition, records: Records::Many(parcel.batch) };
        match topics.iter_mut().find(|topic| (&topic.name, topic.id) == (&name, id)) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(ProduceTopic { name, id, partitions: vec![partition] }),
        }
    }
    topics
}
