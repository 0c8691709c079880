//! Produce (0), v3 to v13: where each partition's batch goes, and how the answers become one. Pure; the driver is
//! `connection::produce`.
//!
//! Planned from the snapshots of the moment in which it is sent, with nothing awaited in between: that is what lets a
//! seal trust that a worker which has seen a hold forwards nothing behind it.
//!
//! From v12 on a batch begins its transaction of itself (KIP-890): then its id may have to cross first (`beginning`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ProducerId;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::beginning::{Beginning, Begun, Protocol, Ready};
use super::{Context, transactions};
use crate::error::{code, is_retriable};
use crate::ids::{NodeId, Side, TopicName, VOffset, Virtual, VirtualPid};
use crate::producers::homes::Claim;
use crate::producers::{Order, Stamp, Verdict, order};
use crate::routing::Live;
use crate::wire::batch::{self, BatchHead};
use crate::wire::produce::{
    PartitionProduced, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic, TopicProduced,
};
use crate::wire::records::Records;
use crate::wire::rewrite;

/// acks=all waits for the replicas; such a request has a timeout of its own.
pub const ALL: i16 = -1;
/// From which version on a batch adds its partition to its transaction.
const BEGINS: i16 = 12;
/// A hold never costs a client more than a third of its own timeout (CVE-2026-35554), but this much always.
const SHORTEST_HOLD: Duration = Duration::from_millis(300);

/// A batch on its way: what its outcome has to be told to.
#[derive(Clone, Debug)]
pub struct Part {
    /// Index into the request: topic, partition.
    pub at: (usize, usize),
    pub topic: TopicName,
    pub topic_id: Uuid,
    pub index: i32,
    pub side: Side,
    pub node: NodeId,
    pub records: Records,
    pub count: i64,
    /// Virtual minus native. `None`: what is appended there has no virtual offset yet.
    pub delta: Option<i64>,
    pub stamp: Option<Stamp>,
    /// No batch of a transaction passes the gate, and none is ever sent again by us: it might come after the end of its
    /// transaction.
    pub transactional: bool,
    pub tracked: Option<Arc<Live>>,
}

impl Part {
    /// What the gate knows it by.
    pub fn gated(&self) -> Option<Stamp> {
        self.stamp.filter(|_| !self.transactional)
    }

    /// Its place in the order of what its client sends; a batch without a stamp has none.
    pub fn order(&self) -> Option<(order::Key, Stamp, order::At)> {
        let stamp = self.stamp?;
        Some(((self.topic.clone(), self.index, stamp.pid), stamp, (self.side, self.node)))
    }
}

/// What is known before anything is sent: errors, and what the gate acknowledges.
#[derive(Clone, Debug)]
pub struct Local {
    pub at: (usize, usize),
    pub answer: PartitionProduced,
}

#[derive(Debug)]
pub enum Plan {
    Send {
        parts: Vec<Part>,
        local: Vec<Local>,
        unchanged: bool,
        refused: Refusals,
        /// Its transactional id does not move before all have an outcome.
        share: Option<Rc<Claim>>,
    },
    /// Its transaction may have to begin on the other side: once it is known, it is planned again with the answer.
    Begin(Beginning),
    /// Some partition is held: the whole request waits.
    Held,
    /// The gate waits for something on its way.
    Gated,
    /// The gate wants to know whether the open side knows the producer.
    Ask { side: Side, node: NodeId, topic: TopicName, index: i32, seals: u32, pid: VirtualPid, live: Arc<Live> },
}

/// How long a produce request can be held: the budget, or a third of what its client still waits.
pub fn patience(request: &ProduceRequest, waited: Duration, budget: Duration) -> Duration {
    if request.acks != ALL {
        return budget;
    }
    let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let third = patience.saturating_sub(waited) / 3;
    third.max(SHORTEST_HOLD).min(budget)
}

/// `order`: what this client connection has sent before. `impatient`: what a gate keeps waiting comes back to the client.
/// `begun`: what its `Beginning` has said.
pub fn plan(
    cx: &Context<'_>,
    request: &ProduceRequest,
    order: &RefCell<Order>,
    impatient: bool,
    begun: Option<Begun>,
) -> Plan {
    let mut parts = Vec::with_capacity(1);
    let mut local = Vec::new();
    let mut refused = Vec::new();
    let mut unchanged = true;
    let mut share = None;
    if let Some(beginning) = beginning_of(cx, request) {
        match begun {
            Some(Begun::Go) | None => {}
            Some(Begun::Spans) => {
                let elsewhere = beginning.elsewhere(cx);
                elsewhere.iter().for_each(|topic| transactions::refuse(cx, beginning.id(), topic));
                let first = elsewhere.first().map_or("its topics", |topic| &**topic);
                return refuse_all(cx, request, order, code::TRANSACTION_ABORTABLE, &goes_on_elsewhere(first));
            }
            Some(Begun::NotTaken) => {
                let why = "the other cluster does not take its transactional id over: see the log of the proxy";
                return refuse_all(cx, request, order, code::TRANSACTION_ABORTABLE, why);
            }
            Some(Begun::Refused(error)) => return refuse_all(cx, request, order, error, ""),
        }
        share = match beginning.is_ready(cx, begun.is_some()) {
            Ready::Held => return Plan::Held,
            Ready::Yes => cx.shared.transactional_homes.share(beginning.id()).map(Rc::new),
            Ready::No => None,
        };
        if share.is_none() {
            return match impatient {
                true => refuse_all(cx, request, order, code::CONCURRENT_TRANSACTIONS, ""),
                false => Plan::Begin(beginning),
            };
        }
    }
    for (t, topic) in request.topics.iter().enumerate() {
        let name = topic_name(cx, topic);
        for (p, partition) in topic.partitions.iter().enumerate() {
            let at = (t, p);
            let refuse = |error: i16| Local { at, answer: PartitionProduced::refused(partition.index, error) };
            let Some(name) = &name else {
                cx.shared.refresh(Side::Source);
                local.push(refuse(unknown_topic(cx.version)));
                continue;
            };
            let id = request.transactional_id.as_deref();
            match plan_partition(cx, name, (topic.id, id), partition, &mut order.borrow_mut(), impatient) {
                Placed::Part(part, same) => {
                    unchanged &= same;
                    parts.push(Part { at, ..*part });
                }
                Placed::Answer(answer) => local.push(Local { at, answer }),
                Placed::Refused(by_gate) => {
                    local.push(refuse(by_gate.error));
                    refused.push(*by_gate);
                }
                Placed::Wait(plan) => return *plan,
            }
        }
    }
    unchanged &= local.is_empty() && parts.windows(2).all(|w| (w[0].side, w[0].node) == (w[1].side, w[1].node));
    Plan::Send { parts, local, unchanged, refused: Refusals(refused), share }
}

/// Of a transaction that begins of itself, if the request is of one.
fn beginning_of(cx: &Context<'_>, request: &ProduceRequest) -> Option<Beginning> {
    let id = request.transactional_id.as_deref().filter(|_| cx.version >= BEGINS)?;
    let mut partitions = request.topics.iter().flat_map(|t| &t.partitions);
    let client = partitions.find_map(|partition| {
        let head = BatchHead::parse(&partition.records.to_bytes()).ok().filter(BatchHead::is_transactional)?;
        Some((head.producer_id, head.producer_epoch))
    })?;
    let known = request.topics.iter().filter_map(|topic| Some((topic_name(cx, topic)?, topic)));
    let each = known.flat_map(|(name, topic)| topic.partitions.iter().map(move |p| (name.clone(), p.index)));
    Some(Beginning::new(id.to_owned(), client, each.collect(), Protocol::Second))
}

/// Nothing of it is sent.
fn refuse_all(cx: &Context<'_>, request: &ProduceRequest, order: &RefCell<Order>, error: i16, why: &str) -> Plan {
    // But for this one no client knows coordinators' words for "in a moment" here.
    let passes = is_retriable(error);
    let error = if passes && error != code::CONCURRENT_TRANSACTIONS { code::NOT_LEADER_OR_FOLLOWER } else { error };
    let why = (!why.is_empty()).then(|| StrBytes::from_string(why.to_owned()));
    let mut local = Vec::new();
    for (t, topic) in request.topics.iter().enumerate() {
        let name = topic_name(cx, topic);
        for (p, partition) in topic.partitions.iter().enumerate() {
            let head = BatchHead::parse(&partition.records.to_bytes()).ok().filter(|_| passes);
            if let (Some(name), Some(stamp)) = (&name, head.as_ref().and_then(Stamp::of)) {
                order.borrow_mut().refused(&(name.clone(), partition.index, stamp.pid), &stamp, error);
            }
            let error = if name.is_some() { error } else { unknown_topic(cx.version) };
            let answer = PartitionProduced::refused(partition.index, error);
            local.push(Local { at: (t, p), answer: PartitionProduced { error_message: why.clone(), ..answer } });
        }
    }
    Plan::Send { parts: vec![], local, unchanged: false, refused: Refusals(vec![]), share: None }
}

/// What gates have refused of a request.
#[derive(Debug)]
pub struct Refusals(Vec<Refused>);

impl Refusals {
    /// Once it is known that the request goes: a plan that is given up asks the gates again.
    pub fn tell(self, order: &RefCell<Order>) {
        for by_gate in self.0 {
            let Refused { live, key, stamp, error } = by_gate;
            live.gate().refused(stamp.pid);
            if is_retriable(error) {
                order.borrow_mut().refused(&key, &stamp, error);
            }
        }
    }
}

fn unknown_topic(version: i16) -> i16 {
    if version >= 13 { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION }
}

fn topic_name(cx: &Context<'_>, topic: &ProduceTopic) -> Option<TopicName> {
    let source = cx.topology.side(Side::Source)?;
    if cx.version >= 13 {
        return source.names.get(&topic.id).cloned();
    }
    source.topics.get_key_value(topic.name.as_str()).map(|(name, _)| name.clone())
}

enum Placed {
    Part(Box<Part>, bool),
    Answer(PartitionProduced),
    Refused(Box<Refused>),
    Wait(Box<Plan>),
}

/// By the gate.
#[derive(Debug)]
struct Refused {
    live: Arc<Live>,
    key: order::Key,
    stamp: Stamp,
    error: i16,
}

fn plan_partition(
    cx: &Context<'_>,
    name: &TopicName,
    (id, transactional_id): (Uuid, Option<&str>),
    partition: &ProducePartition,
    order: &mut Order,
    impatient: bool,
) -> Placed {
    let index = partition.index;
    let refuse = |error: i16| Placed::Answer(PartitionProduced::refused(index, error));
    let records = partition.records.to_bytes();
    let Ok(head) = BatchHead::parse(&records) else { return refuse(code::CORRUPT_MESSAGE) };
    let (stamp, transactional) = (Stamp::of(&head), head.is_transactional());
    let count = i64::from(head.last_offset_delta) + 1;
    let state = cx.partitions.get(name, index);
    let transactional_id = transactional_id.unwrap_or_default();
    let open = state.map_or(cx.shared.config.default_side, |s| s.map.open_side());
    // A transaction ends on the side that it began on: its id is at home there until the next one begins elsewhere.
    let side = match transactional {
        true => cx.shared.transactional_homes.of(transactional_id),
        false => open,
    };
    let takes = side == open || state.is_some_and(|s| s.map.takes_old_transactions(side));
    let leader = cx.topology.leader(side, name, index);
    let mut part = Part {
        at: (0, 0),
        topic: name.clone(),
        topic_id: id,
        index,
        side,
        node: leader.map_or(-1, |l| l.leader),
        records: Records::One(records.clone()),
        count,
        delta: Some(0),
        stamp,
        transactional,
        tracked: None,
    };
    let mut unchanged = side == Side::Source || cx.version < 13;
    if side == Side::Target && cx.version >= 13 {
        part.topic_id = cx.topology.topic(side, name).map_or(Uuid::nil(), |t| t.id);
    }
    if state.is_some_and(|s| s.held) {
        return Placed::Wait(Box::new(Plan::Held));
    }
    if transactional {
        let id = transactional_id;
        if !takes {
            transactions::refuse(cx, id, name);
            return Placed::Answer(spans(cx.version, index, name));
        }
        // Its coordinator's own number, whatever the partition has been through (DESIGN.md section 7).
        let client = (ProducerId(head.producer_id), head.producer_epoch);
        let (native, epoch) = match transactions::native(cx, id, client, i16::MAX) {
            Ok((native, epoch)) => (native.0, epoch),
            Err(error) => return refuse(error),
        };
        if (native, epoch) != (head.producer_id, head.producer_epoch) {
            unchanged = false;
            match renamed(&records, native, epoch) {
                Some(renamed) => part.records = renamed,
                None => return refuse(code::CORRUPT_MESSAGE),
            }
        }
        if state.is_some() {
            cx.shared.transactions.writes(id, VirtualPid(head.producer_id), name, cx.now_ms);
        }
    }
    if let Some((key, stamp, at)) = part.order()
        && let Some(error) = order.refuses(&key, &stamp, at)
    {
        return refuse(error);
    }
    if let Some(state) = state {
        let delta = state.map.tail_start().0 - state.map.native_tail_start().0;
        part.delta = Some(delta).filter(|_| side == state.map.tail_side());
        part.tracked = Some(state.live.clone());
        if let Some(stamp) = &part.gated() {
            let gate = state.live.gate();
            let verdict = match crate::crash::gate_is_out() {
                true => Verdict::Forward,
                false => gate.judge(stamp, cx.now_ms),
            };
            cx.shared.metrics.gate(&verdict, state.map.seals());
            match verdict {
                Verdict::Forward => {}
                Verdict::Acknowledge(offset) => {
                    order.stored(&(name.clone(), index, stamp.pid), stamp);
                    return Placed::Answer(acknowledged(index, offset));
                }
                Verdict::Wait if !impatient => return Placed::Wait(Box::new(Plan::Gated)),
                Verdict::Wait => {
                    order.refused(&(name.clone(), index, stamp.pid), stamp, code::NOT_LEADER_OR_FOLLOWER);
                    return refuse(code::NOT_LEADER_OR_FOLLOWER);
                }
                Verdict::Later | Verdict::Refuse(_) => {
                    let error = match verdict {
                        Verdict::Refuse(error) => error,
                        _ => code::NOT_LEADER_OR_FOLLOWER,
                    };
                    let (live, key) = (state.live.clone(), (name.clone(), index, stamp.pid));
                    return Placed::Refused(Box::new(Refused { live, key, stamp: *stamp, error }));
                }
                Verdict::Ask => {
                    let Some(leader) = leader else {
                        cx.shared.refresh(side);
                        order.refused(&(name.clone(), index, stamp.pid), stamp, code::NOT_LEADER_OR_FOLLOWER);
                        return refuse(code::NOT_LEADER_OR_FOLLOWER);
                    };
                    return Placed::Wait(Box::new(Plan::Ask {
                        side,
                        node: leader.leader,
                        topic: name.clone(),
                        index,
                        seals: state.map.seals(),
                        pid: stamp.pid,
                        live: state.live.clone(),
                    }));
                }
            }
            drop(gate);
            let native = stamp.pid.upstream(state.map.seals());
            if native != head.producer_id {
                unchanged = false;
                match renamed(&records, native, head.producer_epoch) {
                    Some(renamed) => part.records = renamed,
                    None => return refuse(code::CORRUPT_MESSAGE),
                }
            }
        }
    }
    if leader.is_none() {
        cx.shared.refresh(side);
        if let Some((key, stamp, _)) = part.order() {
            order.refused(&key, &stamp, code::NOT_LEADER_OR_FOLLOWER);
        }
        let known =
            cx.topology.topic(side, name).is_some_and(|t| usize::try_from(index).is_ok_and(|i| i < t.partitions.len()));
        return refuse(if known || !cx.topology.reachable(side) {
            code::NOT_LEADER_OR_FOLLOWER
        } else {
            unknown_topic(cx.version)
        });
    }
    Placed::Part(Box::new(part), unchanged)
}

/// The batch of another producer id and epoch; `None`: it is broken.
fn renamed(records: &Bytes, native: i64, epoch: i16) -> Option<Records> {
    // The checksum is computed anew: what came in broken must not go out whole.
    batch::produce_batch(records).ok()?;
    rewrite::with_producer(records, native, epoch).ok().map(Records::Two)
}

/// The other side's by now: every client aborts the transaction, and goes on (PROTOCOL.md rule 27). Clients learnt the code for
/// it with v11; before, one that all of them know, with its reason in words.
fn spans(version: i16, index: i32, topic: &TopicName) -> PartitionProduced {
    let error = if version >= 11 { code::TRANSACTION_ABORTABLE } else { code::POLICY_VIOLATION };
    let why = StrBytes::from_string(goes_on_elsewhere(topic));
    PartitionProduced { error_message: Some(why), ..PartitionProduced::refused(index, error) }
}

fn goes_on_elsewhere(topic: &str) -> String {
    format!("the log of {topic} goes on on the other cluster: the next transaction will be written there")
}

/// A retry of what the sealed side has: success, as a broker's own duplicate detection answers it.
fn acknowledged(index: i32, offset: Option<VOffset>) -> PartitionProduced {
    PartitionProduced { base_offset: offset.map_or(-1, |o| o.0), ..PartitionProduced::refused(index, code::NONE) }
}

/// The request for one broker, encoded from its parts.
pub fn request_for(request: &ProduceRequest, parts: &[Part]) -> ProduceRequest {
    let mut topics: Vec<ProduceTopic> = Vec::new();
    let mut last = usize::MAX;
    for part in parts {
        let partition = ProducePartition { index: part.index, records: part.records.clone() };
        let t = part.at.0;
        match topics.last_mut().filter(|_| last == t) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                let name = request.topics.get(t).map(|topic| topic.name.clone()).unwrap_or_default();
                topics.push(ProduceTopic { name, id: part.topic_id, partitions: vec![partition] });
                last = t;
            }
        }
    }
    ProduceRequest {
        transactional_id: request.transactional_id.clone(),
        acks: request.acks,
        timeout_ms: request.timeout_ms,
        topics,
    }
}

/// The answer of one part in an upstream answer, in virtual terms.
pub fn translate(part: &Part, mut answer: PartitionProduced) -> PartitionProduced {
    if answer.base_offset >= 0 {
        // Clients take -1 as "no offset".
        answer.base_offset = part.delta.map_or(-1, |delta| answer.base_offset.saturating_add(delta));
    }
    if part.tracked.is_some() && answer.log_start_offset >= 0 && part.delta != Some(0) {
        answer.log_start_offset = -1;
    }
    answer
}

/// The virtual offset that a part was appended at, if it was and the broker said so.
pub fn appended_at(answer: &PartitionProduced) -> Option<VOffset> {
    (answer.error_code == code::NONE && answer.base_offset >= 0).then_some(Virtual(answer.base_offset))
}

/// A part's answer within an upstream answer.
pub fn find<'a>(answer: &'a ProduceResponse, part: &Part, version: i16) -> Option<&'a PartitionProduced> {
    let topic = answer.topics.iter().find(|t| match version {
        13.. => t.id == part.topic_id,
        _ => *t.name == *part.topic,
    })?;
    topic.partitions.iter().find(|p| p.index == part.index)
}

/// All answers in the order of the request, topics echoed as they were asked.
pub fn merge(
    request: &ProduceRequest,
    answers: Vec<((usize, usize), PartitionProduced)>,
    throttle_ms: i32,
) -> ProduceResponse {
    let mut topics: Vec<TopicProduced> = request
        .topics
        .iter()
        .map(|t| TopicProduced {
            name: t.name.clone(),
            id: t.id,
            partitions: t
                .partitions
                .iter()
                .map(|p| PartitionProduced::refused(p.index, code::NOT_LEADER_OR_FOLLOWER))
                .collect(),
        })
        .collect();
    for ((t, p), answer) in answers {
        if let Some(slot) = topics.get_mut(t).and_then(|topic| topic.partitions.get_mut(p)) {
            *slot = answer;
        }
    }
    ProduceResponse { topics, throttle_time_ms: throttle_ms }
}

/// The records of a part in one piece, as they were sent: a copy, which keeps no client's whole frame in memory.
pub fn sent_bytes(part: &Part) -> Bytes {
    Bytes::copy_from_slice(&part.records.to_bytes())
}
