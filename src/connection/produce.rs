//! Drives Produce: sends what `api::produce` planned, and gives every batch its outcome whether its client still waits
//! or not. The connection to the broker lives until then.
#![expect(clippy::disallowed_methods, reason = "io: waits for answers, within a time")]

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{DescribeProducersRequest, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::drive;
use super::driver::Reply;
use super::session::Session;
use crate::api::beginning::{Beginning, Begun};
use crate::api::produce::{self, Part, Plan};
use crate::clock;
use crate::error::{code, is_definite, is_retriable, is_stale_topology};
use crate::ids::{Side, VirtualPid};
use crate::producers::homes::Claim;
use crate::producers::unknown::Unknown;
use crate::producers::{Outcome, Sealed};
use crate::routing::{Live, Shared};
use crate::upstream::connection::ANSWER_PATIENCE;
use crate::upstream::{Completion, Lane, Lost, Node, Outgoing};
use crate::wire::chain::{Chain, ChainWriter};
use crate::wire::frame::{self, RequestHead};
use crate::wire::produce::{PartitionProduced, ProduceRequest, ProduceResponse};
use crate::wire::{WireError, decode, encode};

/// Where the transaction of a produce request may begin, once that was asked, and known.
pub type Asked = Option<Rc<Cell<Option<Begun>>>>;

/// What the dispatcher does with a produce request.
pub enum Dispatched {
    Sent(Sent),
    Held,
    Gated,
    /// A broker that it goes to reads no more of this client until then. What waits here is held, not outstanding, and no
    /// seal waits for it (DESIGN.md section 4).
    Throttled(tokio::time::Instant),
}

/// Sent: the answers to come.
pub struct Sent {
    head: RequestHead,
    request: ProduceRequest,
    ready: Vec<((usize, usize), PartitionProduced)>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    answer: oneshot::Receiver<Result<ProduceResponse, Lost>>,
    parts: Vec<Part>,
}

/// Plans and sends, without awaiting anything in between. `body` is the request as it came.
/// `impatient`: a gate has kept it for so long that it is sent back to its client. `asked`: the request's own.
pub fn dispatch(
    session: &Rc<Session>,
    head: &RequestHead,
    request: &ProduceRequest,
    body: &Bytes,
    impatient: bool,
    asked: &mut Asked,
) -> Dispatched {
    let version = head.api_version;
    let cx = session.context(version);
    let begun = asked.as_ref().and_then(|answer| answer.get());
    let plan = produce::plan(&cx, request, &session.order, impatient, begun);
    let (parts, local, unchanged, refused, share) = match plan {
        Plan::Send { parts, local, unchanged, refused, share } => (parts, local, unchanged, refused, share),
        Plan::Begin(beginning) => {
            if asked.is_none() || begun.is_some() {
                *asked = Some(begin(session, head, beginning));
            }
            return Dispatched::Gated;
        }
        Plan::Held => {
            // What was found may be another thing behind a seal.
            asked.take_if(|answer| answer.get().is_some());
            return Dispatched::Held;
        }
        Plan::Gated => return Dispatched::Gated,
        Plan::Ask { side, node, topic, index, seals, pid, live } => {
            live.gate().asks(pid);
            ask_gate(session, side, node, &topic, index, seals, pid, live);
            return Dispatched::Gated;
        }
    };
    if let Some(until) = session.throttled_until(parts.iter().map(|p| (p.side, p.node))) {
        return Dispatched::Throttled(until);
    }
    refused.tell(&session.order);
    for part in &parts {
        if let Some((key, stamp, at)) = part.order() {
            session.order.borrow_mut().forwarded(&key, &stamp, at);
        }
        if let Some(live) = &part.tracked {
            live.sent();
            if let Some(stamp) = &part.gated() {
                live.gate().forwarded(stamp, cx.now_ms);
            }
        }
    }
    let ready = local.into_iter().map(|l| (l.at, l.answer)).collect();
    let mut sent = Sent { head: head.clone(), request: request.clone(), ready, waiting: Vec::new() };
    for group in by_broker(parts) {
        let Some(first) = group.first() else { continue };
        let (side, node) = (first.side, first.node);
        let encoded = match unchanged {
            true => {
                let mut chain = Chain::new();
                chain.push(body.clone());
                Ok(chain)
            }
            false => {
                let mut out = ChainWriter::new();
                produce::request_for(request, &group).encode(version, &mut out);
                out.finish()
            }
        };
        let (reply, answer) = oneshot::channel();
        let completion = Outcomes {
            shared: session.shared.clone(),
            session: Rc::downgrade(session),
            version,
            acks: request.acks,
            parts: group.clone(),
            _share: share.clone(),
            reply,
        };
        sent.waiting.push(Waiting { answer, parts: group });
        match encoded {
            Ok(body) => {
                let outgoing = Outgoing {
                    api_key: 0,
                    version,
                    client_id: head.client_id.clone(),
                    body,
                    answered: request.acks != 0,
                    patience: ANSWER_PATIENCE,
                    completion: Box::new(completion),
                };
                session.shared.metrics.upstream(outgoing.api_key, side);
                session.pool.borrow_mut().send(side, Node::Id(node), Lane::Produce, outgoing);
            }
            Err(error) => Box::new(completion).complete(Err(Lost::NotSent(error.to_string()))),
        }
    }
    Dispatched::Sent(sent)
}

/// A task of its own: an id that is on its way is not given up in the midst of it, whatever becomes of its client.
fn begin(session: &Rc<Session>, head: &RequestHead, beginning: Beginning) -> Rc<Cell<Option<Begun>>> {
    let answer = Rc::new(Cell::new(None));
    let (session, head, told) = (session.clone(), head.clone(), answer.clone());
    tokio::task::spawn_local(async move {
        told.set(Some(drive::begin(&session, &head, beginning).await));
        session.shared.stir_gates();
    });
    answer
}

fn by_broker(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut groups: Vec<Vec<Part>> = Vec::with_capacity(1);
    for part in parts {
        let same = |g: &&mut Vec<Part>| g.first().is_some_and(|f| (f.side, f.node) == (part.side, part.node));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    groups
}

impl Sent {
    /// The answer to the client, once every broker has answered or one has been silent for too long.
    pub async fn answer(self, session: Rc<Session>) -> Reply {
        let Self { head, request, mut ready, waiting } = self;
        let straggling = session.shared.config.timeouts.straggling_part;
        let refuse = |p: &Part, error: i16| (p.at, PartitionProduced::refused(p.index, error));
        let mut throttle_ms = 0;
        let split = waiting.len() > 1;
        let mut open: Vec<Option<Vec<Part>>> = Vec::with_capacity(waiting.len());
        let mut answers = FuturesUnordered::new();
        for (i, Waiting { answer, parts }) in waiting.into_iter().enumerate() {
            open.push(Some(parts));
            answers.push(answer.map(move |outcome| (i, outcome)));
        }
        // One silent broker holds nobody else back: the clock runs from the first answer.
        let mut until = None;
        let mut given_up = false;
        while open.iter().any(Option::is_some) {
            let next = match until {
                Some(at) => tokio::time::timeout_at(at, answers.next()).await,
                None => Ok(answers.next().await),
            };
            let Ok(next) = next else {
                (until, given_up) = (None, true);
                // An idempotent client asks again and loses nothing; any other has to wait for what became of it.
                let idempotent = |parts: &mut Vec<Part>| parts.iter().all(|p| p.stamp.is_some());
                for late in open.iter_mut().filter_map(|parts| parts.take_if(idempotent)) {
                    ready.extend(late.iter().map(|p| refuse(p, code::REQUEST_TIMED_OUT)));
                }
                continue;
            };
            let Some((i, outcome)) = next else { break };
            if !given_up {
                until.get_or_insert_with(|| tokio::time::Instant::now() + straggling);
            }
            let Some(parts) = open.get_mut(i).and_then(Option::take) else { continue };
            match outcome {
                Ok(Ok(answer)) => {
                    throttle_ms = throttle_ms.max(answer.throttle_time_ms);
                    for part in &parts {
                        if let Some(found) = produce::find(&answer, part, head.api_version) {
                            ready.push((part.at, produce::translate(part, found.clone())));
                        }
                    }
                }
                Ok(Err(Lost::NotSent(_))) => {
                    ready.extend(parts.iter().map(|p| refuse(p, code::NOT_LEADER_OR_FOLLOWER)));
                }
                // The connection ends (`break_off`), but not before what the other brokers have said is told: what was taken
                // there would be sent again. This code says of the rest what a closed connection says.
                Ok(Err(Lost::Unknown(_))) if request.acks != 0 && split => {
                    ready.extend(parts.iter().map(|p| refuse(p, code::REQUEST_TIMED_OUT)));
                }
                Ok(Err(Lost::Unknown(reason))) => return Reply::Close(reason),
                Err(_) => return Reply::Close("the answer to a produce request was lost".to_owned()),
            }
        }
        if request.acks == 0 {
            let failed = ready.iter().any(|(_, answer)| answer.error_code != code::NONE);
            // As a broker does: without an answer a closed connection is the only way to say it.
            return if failed { Reply::Close("acks=0 produce failed".to_owned()) } else { Reply::Silent };
        }
        let answer = produce::merge(&request, ready, throttle_ms);
        let mut out = ChainWriter::frame();
        frame::put_response_head(&mut out, head.api_key, head.api_version, head.correlation_id);
        answer.encode(head.api_version, &mut out);
        Reply::of(out.finish())
    }
}

/// What an outcome says of all copies of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It is stored, or no copy of it ever will be.
    Settled,
    /// This copy is done with; an earlier one may still be on its way.
    Open,
    /// This copy may still land.
    Loose,
}

/// Tells everybody concerned what became of the batches of one upstream request.
struct Outcomes {
    shared: Arc<Shared>,
    session: Weak<Session>,
    version: i16,
    acks: i16,
    parts: Vec<Part>,
    /// Until they have their outcomes.
    _share: Option<Rc<Claim>>,
    reply: oneshot::Sender<Result<ProduceResponse, Lost>>,
}

impl Completion for Outcomes {
    fn complete(self: Box<Self>, outcome: Result<Bytes, Lost>) {
        let now_ms = clock::now_ms();
        let decoded = outcome.and_then(|body| match self.acks {
            0 => Ok(ProduceResponse { topics: vec![], throttle_time_ms: 0 }),
            _ => ProduceResponse::decode(body, self.version).map_err(|e: WireError| Lost::Unknown(e.to_string())),
        });
        let session = self.session.upgrade();
        if let (Some(session), Ok(answer), Some(part)) = (&session, &decoded, self.parts.first()) {
            session.throttle(part.side, part.node, answer.throttle_time_ms);
        }
        let mut stir = false;
        for part in &self.parts {
            let (outcome, fate) = match &decoded {
                Ok(_) if self.acks == 0 => (Outcome::Appended(None), Fate::Settled),
                Ok(answer) => match produce::find(answer, part, self.version) {
                    Some(found) => self.judge(part, found),
                    None => (Outcome::Lost, Fate::Loose),
                },
                Err(Lost::NotSent(_)) => (Outcome::Refused(code::NOT_LEADER_OR_FOLLOWER), Fate::Open),
                Err(Lost::Unknown(_)) => (Outcome::Lost, Fate::Loose),
            };
            if let Some(session) = &session {
                self.order(session, part, outcome);
            }
            stir |= self.tell(part, outcome, fate, now_ms);
        }
        if let Err(lost) = &decoded {
            for side in Side::BOTH.into_iter().filter(|s| self.parts.iter().any(|p| p.side == *s)) {
                self.shared.metrics.lost(side, lost);
                self.shared.refresh(side);
            }
        }
        if let (Err(lost), Some(session)) = (&decoded, session) {
            self.parts.iter().for_each(|part| session.no_longer_throttled(part.side, part.node));
            if matches!(lost, Lost::Unknown(_)) {
                session.break_off();
            }
        }
        if stir {
            self.shared.stir_gates();
        }
        // Nobody listens when the client is gone.
        drop(self.reply.send(decoded));
    }
}

impl Outcomes {
    fn judge(&self, part: &Part, answer: &PartitionProduced) -> (Outcome, Fate) {
        if answer.error_code == code::NONE || answer.error_code == code::DUPLICATE_SEQUENCE_NUMBER {
            let translated = produce::translate(part, answer.clone());
            return (Outcome::Appended(produce::appended_at(&translated)), Fate::Settled);
        }
        if is_stale_topology(answer.error_code) {
            self.shared.leaders_are_old(part.side);
        }
        match answer.error_code {
            // The leader has appended it; what is missing is its replicas.
            code::REQUEST_TIMED_OUT | code::NOT_ENOUGH_REPLICAS_AFTER_APPEND => (Outcome::Lost, Fate::Open),
            error if is_definite(error) => (Outcome::Refused(error), Fate::Settled),
            error => (Outcome::Refused(error), Fate::Open),
        }
    }

    /// What is behind a head that failed, on this connection, waits until the head comes again.
    fn order(&self, session: &Session, part: &Part, outcome: Outcome) {
        let Some((key, stamp, at)) = part.order() else { return };
        let gated = part.gated().is_some();
        let mut order = session.order.borrow_mut();
        if let Outcome::Appended(_) = outcome {
            return order.stored(&key, &stamp);
        }
        if let Outcome::Refused(error) = outcome
            && order.is_awaited(&key, &stamp, at)
            && (is_retriable(error) || gated && part.tracked.as_ref().is_some_and(|l| l.gate().awaits_head(stamp.pid)))
        {
            order.refused(&key, &stamp, error);
        }
        order.answered(&key, &stamp, at);
    }

    /// True if a gate may judge otherwise now.
    fn tell(&self, part: &Part, outcome: Outcome, fate: Fate, now_ms: i64) -> bool {
        let Some(live) = &part.tracked else { return false };
        let mut stir = false;
        if fate == Fate::Loose {
            self.lost(part, now_ms);
        }
        if let Outcome::Appended(Some(offset)) = outcome {
            live.show(crate::ids::Virtual(offset.0.saturating_add(part.count)));
        }
        if let Some(stamp) = &part.gated() {
            stir = live.gate().answered(stamp, outcome, now_ms);
            if fate == Fate::Settled {
                live.unknowns().resolved(stamp);
            }
        }
        live.outcome();
        stir
    }

    /// An idempotent batch is kept for the seal to resolve; anything else makes the partition wait.
    fn lost(&self, part: &Part, now_ms: i64) {
        let Some(live) = &part.tracked else { return };
        let settle = self.shared.config.seal.settle_time;
        let kept = part.gated().is_some_and(|stamp| {
            let records = produce::sent_bytes(part);
            let batch = Unknown { side: part.side, stamp, acks: self.acks, records, at_ms: now_ms };
            live.unknowns().keep(batch, settle)
        });
        if !kept {
            live.unsettle(now_ms, settle);
        }
    }
}

/// Asks the open side whether it knows a producer (PROTOCOL.md rule 19); the gate hears it and is stirred.
#[expect(clippy::too_many_arguments, reason = "the fields of `Plan::Ask`")]
fn ask_gate(
    session: &Session,
    side: Side,
    node: i32,
    topic: &str,
    index: i32,
    seals: u32,
    pid: VirtualPid,
    live: Arc<Live>,
) {
    let topic = TopicRequest::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_indexes(vec![index]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let mut out = ChainWriter::new();
    encode::request(&request.into(), 0, &mut out);
    let encoded = out.finish();
    let shared = session.shared.clone();
    let (done, answer) = oneshot::channel();
    let body = match encoded {
        Ok(body) => body,
        Err(_) => {
            live.gate().not_answered(pid);
            return shared.stir_gates();
        }
    };
    let outgoing = Outgoing {
        api_key: DESCRIBE_PRODUCERS,
        version: 0,
        client_id: None,
        body,
        answered: true,
        patience: ANSWER_PATIENCE,
        completion: Box::new(move |outcome: Result<Bytes, Lost>| drop(done.send(outcome))),
    };
    session.shared.metrics.upstream(DESCRIBE_PRODUCERS, side);
    session.pool.borrow_mut().send(side, Node::Id(node), Lane::Ordinary, outgoing);
    // A task of its own: all connections of this producer wait for the answer, whatever becomes of this one.
    tokio::task::spawn_local(async move {
        let answer = tokio::time::timeout(shared.config.timeouts.straggling_part, answer).await;
        let answer = answer.ok().and_then(Result::ok).and_then(Result::ok);
        match answer.and_then(|body| last_of(pid.upstream(seals), index, body)) {
            Some(last) => live.gate().known(pid, last, clock::now_ms()),
            None => {
                live.gate().not_answered(pid);
                shared.refresh(side);
            }
        }
        shared.stir_gates();
    });
}

/// The last batch of a producer by a DescribeProducers answer, if it has any; `None`: the answer does not say.
fn last_of(native: i64, index: i32, body: Bytes) -> Option<Option<Sealed>> {
    let ResponseKind::DescribeProducers(answer) = decode::response(DESCRIBE_PRODUCERS, 0, body).ok()? else {
        return None;
    };
    let mut partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    let partition = partitions.find(|p| p.partition_index == index && p.error_code == code::NONE)?;
    let found = partition.active_producers.iter().find(|p| p.producer_id.0 == native && p.last_sequence >= 0);
    Some(found.map(|p| Sealed { epoch: i16::try_from(p.producer_epoch).unwrap_or(-1), last_sequence: p.last_sequence }))
}

const DESCRIBE_PRODUCERS: i16 = 61;
