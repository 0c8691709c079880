//! Drives Fetch: one client fetch at a time, standing fetches on lanes of their own.
#![allow(clippy::disallowed_methods, reason = "io: waits for answers, within a time")]

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep_until;

use super::driver::Reply;
use super::session::Session;
use crate::api::fetch::{Gather, LaneKey, Lanes, Next};
use crate::upstream::{Lost, Node, Outgoing};
use crate::wire::chain::ChainWriter;
use crate::wire::fetch::{FetchRequest, FetchResponse};
use crate::wire::frame::{self, RequestHead};

const FETCH: i16 = 1;

/// What outlives one fetch of this client.
#[derive(Default)]
pub struct Standing {
    lanes: Rc<RefCell<Lanes>>,
    arrived: Rc<Notify>,
    /// Pipelined fetches have their turn one after another, as on a broker.
    turn: Rc<Mutex<()>>,
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

fn send_on(session: &Session, head: &RequestHead, key: LaneKey, request: &FetchRequest) {
    let version = head.api_version;
    let mut out = ChainWriter::new();
    request.encode(version, &mut out);
    let (lanes, arrived) = (session.fetch.lanes.clone(), session.fetch.arrived.clone());
    let completion = move |outcome: Result<Bytes, Lost>| {
        let answer = outcome.ok().and_then(|body| FetchResponse::decode(body, version).ok());
        lanes.borrow_mut().arrived(key, answer);
        arrived.notify_one();
    };
    match out.finish() {
        Ok(body) => {
            let client_id = head.client_id.clone();
            let completion = Box::new(completion);
            let outgoing = Outgoing { api_key: FETCH, version, client_id, body, answered: true, completion };
            session.shared.metrics.upstream(FETCH, key.side);
            session.pool.borrow_mut().send(key.side, Node::Id(key.node), key.lane(), outgoing);
        }
        Err(error) => completion(Err(Lost::NotSent(error.to_string()))),
    }
}
