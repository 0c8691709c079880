//! Drives an API's machine: asks what it wants asked, waits for what it wants to wait for.
#![allow(clippy::disallowed_methods, reason = "io: waits for answers, within a time")]

use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::driver::Reply;
use super::session::Session;
use crate::api::beginning::{Beginning, Begun, Turn};
use crate::api::{self, Ask, Input, Step, To, Unanswered};
use crate::error::code;
use crate::ids::{NodeId, Side};
use crate::store::Decision;
use crate::upstream::{Lane, Lost, Node, Outgoing};
use crate::virtual_cluster::versions::key_of;
use crate::wire::chain::ChainWriter;
use crate::wire::frame::{self, RequestHead};
use crate::wire::{decode, encode};

/// Requests to brokers that one request of a client has under way.
const AT_ONCE: usize = 64;

/// A request from its decoding to its answer.
pub async fn run(session: Rc<Session>, head: RequestHead, request: RequestKind) -> Reply {
    let version = head.api_version;
    let machine = api::machine(&session.context(version), request);
    let Some(mut machine) = machine else {
        return Reply::Close(format!("API key {} has no machine", head.api_key));
    };
    let mut input = Input::Start;
    loop {
        let step = machine.step(&session.context(version), input);
        input = match act(&session, &head, step).await {
            Ok(next) => next,
            Err(end) => return end,
        };
    }
}

/// What takes the transaction of a produce request to where it begins or goes on.
pub async fn begin(session: &Rc<Session>, head: &RequestHead, mut beginning: Beginning) -> Begun {
    let mut input = Input::Start;
    loop {
        let step = match beginning.step(&session.context(head.api_version), input) {
            Turn::Step(step) => step,
            Turn::Done(begun) => return begun,
        };
        input = match act(session, head, step).await {
            Ok(next) => next,
            Err(_) => return Begun::Refused(code::COORDINATOR_NOT_AVAILABLE),
        };
    }
}

/// Does what a step wants. `Err`: it was the last.
async fn act(session: &Rc<Session>, head: &RequestHead, step: Step) -> Result<Input, Reply> {
    Ok(match step {
        Step::Ask(asks) => {
            let asked = stream::iter(asks.into_iter().map(|a| ask(session, head, a)));
            Input::Answers(asked.buffered(AT_ONCE).collect().await)
        }
        Step::AwaitTopology { side, newer_than, deadline } => {
            await_topology(session, side, newer_than, deadline).await;
            Input::Woken
        }
        Step::AwaitRoutes { newer_than, deadline } => {
            let mut changes = session.shared.routes_changed.subscribe();
            while session.shared.partitions.load().version <= newer_than {
                if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                    break;
                }
            }
            Input::Woken
        }
        Step::AwaitMoveEnd { newer_than, deadline } => {
            let mut ends = session.shared.moves.ends();
            while *ends.borrow_and_update() <= newer_than {
                if !matches!(timeout_at(deadline, ends.changed()).await, Ok(Ok(()))) {
                    break;
                }
            }
            Input::Woken
        }
        Step::Decide(event, claim) => {
            let (done, durable) = oneshot::channel();
            let decision = Decision { event: *event, done: Some(done), claim };
            if session.shared.decisions.send(decision).is_err() || durable.await.is_err() {
                return Err(Reply::Close("what it decides could not be journalled".to_owned()));
            }
            Input::Woken
        }
        Step::Answer(answer) => return Err(encoded(head, &answer)),
        Step::Close(reason) => return Err(Reply::Close(reason)),
    })
}

async fn await_topology(session: &Session, side: Side, newer_than: u64, deadline: Instant) {
    let mut changes = session.shared.topology_changed.subscribe();
    while session.shared.topology.load().generation(side) <= newer_than {
        if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            break;
        }
    }
}

fn encoded(head: &RequestHead, answer: &ResponseKind) -> Reply {
    let mut out = ChainWriter::frame();
    frame::put_response_head(&mut out, head.api_key, head.api_version, head.correlation_id);
    encode::response(answer, head.api_version, &mut out);
    Reply::of(out.finish())
}

/// One request of a machine, to the broker that it names.
async fn ask(session: &Rc<Session>, head: &RequestHead, ask: Ask) -> Result<ResponseKind, Unanswered> {
    let side = ask.side;
    let mut place = None;
    let node = match ask.to {
        To::Any => return Ok(anybody(session, head, side, ask.lane, &ask.request).await?),
        To::Node(id) => Node::Id(id),
        To::Coordinator(group) => {
            let place = place.insert(session.group_order.enter(&group, ask.lane));
            let node = coordinator(session, head, side, KeyType::Group, &group).await?;
            place.turn().await;
            Node::Id(node)
        }
        To::TransactionCoordinator(id) => Node::Id(coordinator(session, head, side, KeyType::Transaction, &id).await?),
        To::Controller => {
            let topology = session.shared.topology.load();
            let view = topology.side(side);
            let controller = view.filter(|c| c.brokers.contains_key(&c.controller)).map(|c| c.controller);
            controller.map_or(Node::Any, Node::Id)
        }
    };
    Ok(exchange(session, head, side, node, ask.lane, &ask.request).await?)
}

/// What is coordinated, as FindCoordinator numbers it.
#[derive(Clone, Copy)]
enum KeyType {
    Group = 0,
    Transaction = 1,
}

/// The coordinator of a group or a transactional id: known, or asked for.
async fn coordinator(
    session: &Rc<Session>,
    head: &RequestHead,
    side: Side,
    key_type: KeyType,
    key: &str,
) -> Result<NodeId, Unanswered> {
    let coordinators = match key_type {
        KeyType::Group => &session.shared.coordinators,
        KeyType::Transaction => &session.shared.transaction_coordinators,
    };
    if let Some(node) = coordinators.get(side, key) {
        return Ok(node);
    }
    let name = StrBytes::from_string(key.to_owned());
    let version = session.shared.cluster.versions.max(ApiKey::FindCoordinator);
    let request = match version {
        4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec![name]),
        _ => FindCoordinatorRequest::default().with_key(name),
    };
    let request = request.with_key_type(key_type as i8);
    let answer = anybody(session, head, side, Lane::Ordinary, &request.into()).await?;
    let ResponseKind::FindCoordinator(answer) = answer else {
        return Err(Lost::NotSent("the coordinator is unknown".to_owned()).into());
    };
    let (error, node) = match answer.coordinators.first() {
        Some(found) => (found.error_code, found.node_id.0),
        None => (answer.error_code, answer.node_id.0),
    };
    if error != code::NONE {
        return Err(Unanswered::NoCoordinator(error));
    }
    coordinators.set(side, key, node);
    if !session.shared.topology.load().side(side).is_some_and(|c| c.brokers.contains_key(&node)) {
        session.shared.refresh(side);
    }
    Ok(node)
}

/// Asks any broker; after a while another, so that one which accepts and says nothing is not everybody's.
async fn anybody(
    session: &Rc<Session>,
    head: &RequestHead,
    side: Side,
    lane: Lane,
    request: &RequestKind,
) -> Result<ResponseKind, Lost> {
    let brokers = session.shared.topology.load().side(side).map_or(0, |c| c.brokers.len());
    for _ in 1..brokers {
        let Some(node) = session.pool.borrow_mut().any(side, lane) else { break };
        let patience = session.shared.config.timeouts.straggling_part;
        match timeout(patience, exchange(session, head, side, Node::Id(node), lane, request)).await {
            Ok(Err(Lost::NotSent(_))) | Err(_) => session.pool.borrow_mut().is_silent(side, node),
            Ok(done) => return done,
        }
    }
    exchange(session, head, side, Node::Any, lane, request).await
}

async fn exchange(
    session: &Rc<Session>,
    head: &RequestHead,
    side: Side,
    node: Node,
    lane: Lane,
    request: &RequestKind,
) -> Result<ResponseKind, Lost> {
    let (api_key, name) = key_of(request);
    // A client's own API goes on in its own version: both sides speak it, and the answer has the fields it expects.
    let version = match api_key == head.api_key {
        true => head.api_version,
        false => ApiKey::try_from(api_key).map_or(0, |k| session.shared.cluster.versions.max(k)),
    };
    let mut out = ChainWriter::new();
    encode::request(request, version, &mut out);
    let body = out.finish().map_err(|e| Lost::NotSent(format!("{name} v{version}: {e}")))?;
    let (done, answer) = oneshot::channel::<Result<Bytes, Lost>>();
    let outgoing = Outgoing {
        api_key,
        version,
        client_id: head.client_id.clone(),
        body,
        answered: true,
        patience: session.patience(request),
        completion: Box::new(move |outcome| drop(done.send(outcome))),
    };
    session.shared.metrics.upstream(api_key, side);
    session.pool.borrow_mut().send(side, node, lane, outgoing);
    let bytes = answer.await.unwrap_or_else(|_| Err(Lost::Unknown("the connection ended".to_owned())));
    let bytes = bytes.inspect_err(|lost| {
        session.shared.metrics.lost(side, lost);
        session.shared.refresh(side);
    })?;
    decode::response(api_key, version, bytes).map_err(|e| Lost::Unknown(format!("{name} v{version}: {e}")))
}
