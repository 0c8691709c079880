//! Drives Fetch: one client fetch at a time, standing fetches on lanes of their own.
#![allow(clippy::disallowed_methods, reason = "io: waits for answers, within a time")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, ListOffsetsRequest, ResponseKind, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep_until;

use super::driver::Reply;
use super::session::Session;
use crate::api::fetch::{Gather, LaneKey, Lanes, Next, Question, settle};
use crate::error::code;
use crate::ids::{CONSUMER, EARLIEST, NOffset, Native};
use crate::routing::Shared;
use crate::upstream::{Lane, Lost, Node, Outgoing};
use crate::wire::chain::ChainWriter;
use crate::wire::fetch::{FetchRequest, FetchResponse};
use crate::wire::frame::{self, RequestHead};
use crate::wire::{decode, encode};

const FETCH: i16 = 1;
/// A broker that is silent for so long after it should have answered is given up, and its leaders are looked up anew.
const SILENCE: Duration = Duration::from_secs(10);

/// What outlives one fetch of this client.
pub struct Standing {
    lanes: Rc<RefCell<Lanes>>,
    arrived: Rc<Notify>,
    /// Pipelined fetches have their turn one after another, as on a broker.
    turn: Rc<Mutex<()>>,
}

impl Standing {
    pub fn new(shared: &Shared) -> Self {
        let lanes = Rc::new(RefCell::new(Lanes::new(shared.read_ahead.clone())));
        Self { lanes, arrived: Rc::default(), turn: Rc::default() }
    }
}

pub async fn run(session: Rc<Session>, head: RequestHead, request: FetchRequest) -> Reply {
    let turn = session.fetch.turn.clone();
    let _turn = turn.lock().await;
    let version = head.api_version;
    let mut gather = Gather::new(&session.context(version), request);
    let mut routes = session.shared.routes_changed.subscribe();
    loop {
        let (sends, next) = {
            let cx = session.context(version);
            gather.step(&cx, &mut session.fetch.lanes.borrow_mut())
        };
        for send in sends {
            send_on(&session, &head, send.key, &send.request);
        }
        for question in gather.questions() {
            ask(&session, &head, question);
        }
        match next {
            Next::Answer(answer) => {
                let mut out = ChainWriter::frame();
                frame::put_response_head(&mut out, FETCH, version, head.correlation_id);
                answer.encode(version, &mut out);
                return Reply::of(out.finish());
            }
            Next::Wait(until) => tokio::select! {
                () = session.fetch.arrived.notified() => {}
                _ = routes.changed() => {}
                () = sleep_until(until) => {}
            },
        }
    }
}

fn send_on(session: &Rc<Session>, head: &RequestHead, key: LaneKey, request: &FetchRequest) {
    let version = head.api_version;
    let mut out = ChainWriter::new();
    request.encode(version, &mut out);
    let (lanes, arrived) = (session.fetch.lanes.clone(), session.fetch.arrived.clone());
    let (shared, turn) = (session.shared.clone(), session.fetch.turn.clone());
    let client = Rc::downgrade(session);
    let completion = move |outcome: Result<Bytes, Lost>| {
        if let Err(lost) = &outcome {
            shared.metrics.lost(key.side, lost);
        }
        let answer = outcome.ok().and_then(|body| FetchResponse::decode(body, version).ok());
        lanes.borrow_mut().arrived(key, answer);
        if let (Ok(_), Some(client)) = (turn.try_lock(), client.upgrade()) {
            settle(&client.context(version), &mut lanes.borrow_mut());
        }
        arrived.notify_one();
    };
    match out.finish() {
        Ok(body) => {
            let client_id = head.client_id.clone();
            let completion = Box::new(completion);
            let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)) + SILENCE;
            let outgoing = Outgoing { api_key: FETCH, version, client_id, body, answered: true, patience, completion };
            session.shared.metrics.upstream(FETCH, key.side);
            session.pool.borrow_mut().send(key.side, Node::Id(key.node), key.lane(), outgoing);
        }
        Err(error) => completion(Err(Lost::NotSent(error.to_string()))),
    }
}

/// Where a log begins.
fn ask(session: &Session, head: &RequestHead, question: Question) {
    let key = ApiKey::ListOffsets as i16;
    let version = session.shared.cluster.versions.max(ApiKey::ListOffsets);
    let partition = ListOffsetsPartition::default().with_partition_index(question.partition).with_timestamp(EARLIEST);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(question.topic.to_string())))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(CONSUMER)).with_topics(vec![topic]);
    let mut out = ChainWriter::new();
    encode::request(&request.into(), version, &mut out);
    let (side, node) = (question.side, question.node);
    let (lanes, arrived) = (session.fetch.lanes.clone(), session.fetch.arrived.clone());
    let completion = move |outcome: Result<Bytes, Lost>| {
        let answer = outcome.ok().and_then(|body| decode::response(key, version, body).ok());
        lanes.borrow_mut().told(question, answer.and_then(log_start));
        arrived.notify_one();
    };
    match out.finish() {
        Ok(body) => {
            let client_id = head.client_id.clone();
            let completion = Box::new(completion);
            let outgoing =
                Outgoing { api_key: key, version, client_id, body, answered: true, patience: SILENCE, completion };
            session.shared.metrics.upstream(key, side);
            session.pool.borrow_mut().send(side, Node::Id(node), Lane::Ordinary, outgoing);
        }
        Err(error) => completion(Err(Lost::NotSent(error.to_string()))),
    }
}

fn log_start(answer: ResponseKind) -> Option<NOffset> {
    let ResponseKind::ListOffsets(answer) = answer else { return None };
    let partition = answer.topics.first()?.partitions.first()?;
    (partition.error_code == code::NONE && partition.offset >= 0).then_some(Native(partition.offset))
}
