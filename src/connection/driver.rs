//! The pipeline of one client connection: reads frames, starts each as it comes, writes answers in request order.
//!
//! What starts together runs together, but per upstream connection in order. A produce request that has to wait (hold,
//! gate) keeps everything behind it waiting too; fetches that came before go on.
#![expect(clippy::disallowed_methods, reason = "io: the pipeline's clock")]

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use futures_util::{FutureExt, future};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::held::Held;
use super::produce::Dispatched;
use super::session::Session;
use super::{drive, fetch, produce};
use crate::api::{TABLE, api_versions, not_offered};
use crate::monitor::metrics::RejectReason;
use crate::routing::shared::HoldDeadline;
use crate::wire::chain::{Chain, ChainWriter};
use crate::wire::fetch::FetchRequest;
use crate::wire::frame::{self, RequestHead};
use crate::wire::io::{FIRST_READ, FrameError, FrameReader, Step, write_chains};
use crate::wire::produce::ProduceRequest;
use crate::wire::{WireError, decode, encode};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const API_VERSIONS: i16 = 18;
/// A client that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A frame that has begun has to grow by this within `timeouts.client_frame`, or be whole.
const LEAST_GROWTH: usize = 64 * 1024;
/// Answers are gathered for one write up to this.
const WRITE_AT_ONCE: usize = 1024 * 1024;
/// Requests that are under way at a time, produce apart: their answers wait here behind one that takes long.
const STARTED: usize = 16;
/// What an element of an array weighs once it is decoded, its part in the answer included.
const ELEMENT: usize = 256;
/// No client waits longer for data.
const LONGEST_WAIT_MS: i32 = 300_000;

/// What becomes of one request.
pub enum Reply {
    Frame(Chain),
    /// Produce with acks=0.
    Silent,
    /// The connection ends; the text is for the log.
    Close(String),
}

impl Reply {
    pub fn of(frame: Result<Chain, WireError>) -> Self {
        match frame {
            Ok(chain) => Reply::Frame(chain),
            Err(error) => Reply::Close(format!("an answer cannot be encoded: {error}")),
        }
    }
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client closed it")]
    Client,
    #[error("rejected: {1}")]
    Rejected(RejectReason, String),
    #[error("{0}")]
    Broken(String),
}

/// A request that was read and not started yet.
struct Arrived {
    head: RequestHead,
    body: Bytes,
    /// What is held for it.
    size: usize,
    since: Instant,
    /// Decoded once, however often it is tried.
    produce: Option<ProduceRequest>,
    asked: produce::Asked,
}

struct Pipeline {
    session: Rc<Session>,
    held: Rc<Held>,
    answers: FuturesOrdered<LocalBoxFuture<'static, (Reply, Finished)>>,
    backlog: VecDeque<Arrived>,
    /// The request at the head of the backlog waits for a hold, a gate or a throttled broker; since when.
    held_since: Option<Instant>,
    /// The same for the gate alone.
    gated_since: Option<Instant>,
    /// It waits for a throttled broker until then.
    throttled_until: Option<Instant>,
    /// The seal was told how long it can wait.
    told: bool,
    /// Of `answers`, those that are not for produce.
    started: usize,
}

/// For the books, once a request has its answer.
struct Finished {
    /// What is held for the request, and then for its answer too.
    held: usize,
    api_key: i16,
    since: Instant,
}

/// The frame that has begun to arrive, when it was last looked at.
struct HalfFrame {
    bytes: usize,
    since: Instant,
}

/// Serves a client until either side has enough.
pub async fn serve(stream: TcpStream, session: Rc<Session>) -> End {
    let limits = session.shared.config.limits.clone();
    let idle = session.shared.config.timeouts.client_idle;
    let straggling = session.shared.config.timeouts.straggling_part;
    let frame_limit = usize::try_from(limits.frame.as_u64()).unwrap_or(usize::MAX);
    let frame_patience = session.shared.config.timeouts.client_frame;
    let held = Rc::new(Held::new(session.shared.clone(), session.client));
    let (read, mut write) = stream.into_split();
    let mut frames = FrameReader::new(read, frame_limit);
    let mut routes = session.shared.routes_changed.subscribe();
    let mut gates = session.shared.gates_changed.subscribe();
    let mut topology = session.shared.topology_changed.subscribe();
    let mut line = Pipeline {
        session: session.clone(),
        held: held.clone(),
        answers: FuturesOrdered::new(),
        backlog: VecDeque::new(),
        held_since: None,
        gated_since: None,
        throttled_until: None,
        told: false,
        started: 0,
    };
    let mut half = HalfFrame { bytes: 0, since: Instant::now() };
    loop {
        let winding_down = session.shared.winding_down.is_cancelled();
        if winding_down && line.answers.is_empty() {
            return End::Broken("the proxy stops".to_owned());
        }
        let open = !winding_down
            && line.answers.len() + line.backlog.len() < limits.in_flight_requests
            && !(line.is_busy() && held.is_full());
        let begun = frames.unfinished();
        // A half frame holds what others wait for, and must not wait for them; whoever has answers to come can wait.
        let urgent = begun > FIRST_READ && !line.is_busy();
        let room = !open || held.may_read(urgent);
        let reads = open && room;
        let looked = Instant::now();
        let impatient_at = line.gated_since.unwrap_or(looked) + straggling;
        tokio::select! {
            biased;
            Some((reply, finished)) = line.answers.next(), if !line.answers.is_empty() => {
                if let Err(end) = line.write(&mut write, reply, finished).await {
                    return end;
                }
            }
            () = changed(&mut routes, &mut gates), if line.held_since.is_some() => {}
            () = tokio::time::sleep_until(impatient_at), if line.gated_since.is_some() && looked < impatient_at => {}
            () = at(line.throttled_until) => line.throttled_until = None,
            // Another broker may lead it by now.
            _ = topology.changed(), if line.throttled_until.is_some() => {}
            read = frames.step(), if reads => {
                held.half_read(frames.unfinished());
                let end = match read {
                    Ok(Step::Frame(frame)) => {
                        held.end_turn();
                        half = HalfFrame { bytes: frames.unfinished(), since: Instant::now() };
                        line.arrive(frame).err()
                    }
                    Ok(Step::Part) => {
                        if begun == 0 {
                            half = HalfFrame { bytes: frames.unfinished(), since: Instant::now() };
                        }
                        None
                    }
                    Ok(Step::End) => Some(End::Client),
                    Err(FrameError::Length { len, .. }) if is_another_protocol(len) => {
                        Some(End::Rejected(RejectReason::NotKafka, "another protocol than Kafka's".to_owned()))
                    }
                    Err(FrameError::Length { len, .. }) if len > 0 => {
                        Some(End::Rejected(RejectReason::TooLarge, format!("a frame of {len} bytes is over the limit")))
                    }
                    Err(error @ FrameError::Length { .. }) => {
                        Some(End::Rejected(RejectReason::Malformed, error.to_string()))
                    }
                    // Reset, or gone in the middle of a frame.
                    Err(error) => Some(End::Broken(error.to_string())),
                };
                if let Some(end) = end {
                    return end;
                }
            }
            () = session.shared.winding_down.cancelled(), if !winding_down => {}
            () = held.room(urgent), if !room => {}
            // A frame that is not read cannot go on: its clock stands still.
            () = tokio::time::sleep_until(half.since + frame_patience), if reads && begun > 0 => {
                if begun < half.bytes + LEAST_GROWTH {
                    return End::Broken(format!("a frame that does not go on for {} s", frame_patience.as_secs()));
                }
                half = HalfFrame { bytes: begun, since: Instant::now() };
            }
            () = tokio::time::sleep(idle), if line.answers.is_empty() && line.backlog.is_empty() => {
                return End::Broken(format!("idle for {} s", idle.as_secs()));
            }
        }
        if !reads {
            half.since += looked.elapsed();
        }
        if session.is_broken() {
            return End::Broken("a broker's connection was lost with produce on its way".to_owned());
        }
        if let Err(end) = line.start_all() {
            return end;
        }
    }
}

/// At that time; never if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => future::pending().await,
    }
}

async fn changed(routes: &mut watch::Receiver<u64>, gates: &mut watch::Receiver<u64>) {
    tokio::select! {
        _ = routes.changed() => {}
        _ = gates.changed() => {}
    }
}

impl Pipeline {
    /// Something is under way, or waits.
    fn is_busy(&self) -> bool {
        !self.answers.is_empty() || !self.backlog.is_empty()
    }

    /// What a request weighs beyond its bytes, once it is decoded.
    fn weigh(&self, arrived: &mut Arrived, elements: usize) {
        let weight = elements.saturating_mul(ELEMENT);
        arrived.size += weight;
        self.held.take(weight);
    }

    /// A frame was read: its head is taken off, its version checked.
    fn arrive(&mut self, frame: Bytes) -> Result<(), End> {
        let size = frame.len();
        let mut body = frame;
        let shared = &self.session.shared;
        let (api_key, version, correlation_id) = frame::peek(&body)
            .ok_or_else(|| End::Rejected(RejectReason::Malformed, "shorter than a head".to_owned()))?;
        let spoken = shared.cluster.versions.speaks(api_key, version);
        let head = if spoken || api_key == API_VERSIONS {
            frame::request_head(&mut body)
        } else {
            let known = TABLE.iter().any(|entry| entry.key as i16 == api_key);
            let reason = if known { RejectReason::UnsupportedVersion } else { RejectReason::UnknownApi };
            let why = not_offered::why(api_key).map(|api| format!(" ({}): {}", api.name, api.why)).unwrap_or_default();
            return Err(End::Rejected(reason, format!("API key {api_key} version {version} is not offered{why}")));
        };
        let head = match head {
            Ok(head) => head,
            // A future ApiVersions may have a head of its own (KIP-511).
            Err(_) if api_key == API_VERSIONS && !spoken => {
                RequestHead { api_key, api_version: version, correlation_id, client_id: None }
            }
            Err(error) => return Err(End::Rejected(RejectReason::Malformed, error.to_string())),
        };
        shared.metrics.request(api_key, size);
        self.held.take(size);
        self.backlog.push_back(Arrived { head, body, size, since: Instant::now(), produce: None, asked: None });
        Ok(())
    }

    /// Starts what can start, in order.
    fn start_all(&mut self) -> Result<(), End> {
        while let Some(mut arrived) = self.backlog.pop_front() {
            let produce = arrived.head.api_key == PRODUCE;
            // The answers of what is started wait in memory behind the first; produce has small ones, and frees much.
            let many = self.started >= STARTED || !self.answers.is_empty() && self.held.is_short();
            let started = if many && !produce { None } else { self.start(&mut arrived)? };
            match started {
                Some(reply) => {
                    let mut finished =
                        Finished { held: arrived.size, api_key: arrived.head.api_key, since: arrived.since };
                    self.started += usize::from(!produce);
                    self.told = false;
                    (self.gated_since, self.throttled_until) = (None, None);
                    if self.held_since.take().is_some() {
                        self.session.shared.metrics.held(false);
                    }
                    let held = self.held.clone();
                    self.answers.push_back(Box::pin(reply.map(move |reply| {
                        if let Reply::Frame(answer) = &reply {
                            held.take(answer.len());
                            finished.held += answer.len();
                        }
                        (reply, finished)
                    })));
                }
                None => {
                    self.backlog.push_front(arrived);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// `None`: it has to wait.
    fn start(&mut self, arrived: &mut Arrived) -> Result<Option<LocalBoxFuture<'static, Reply>>, End> {
        let session = self.session.clone();
        let head = arrived.head.clone();
        let rejected = |e: WireError| {
            End::Rejected(RejectReason::Malformed, format!("{} v{}: {e}", head.api_key, head.api_version))
        };
        Ok(Some(match head.api_key {
            PRODUCE => return self.start_produce(arrived),
            FETCH => {
                let request = FetchRequest::decode(arrived.body.clone(), head.api_version);
                let mut request = request.map_err(rejected)?;
                request.max_wait_ms = request.max_wait_ms.min(LONGEST_WAIT_MS);
                self.weigh(arrived, request.topics.iter().map(|t| 1 + t.partitions.len()).sum());
                fetch::run(session, head, request).boxed_local()
            }
            API_VERSIONS => {
                // Nothing in it matters, but half a request is none. What a future version holds nobody knows.
                if is_known_api_versions(&head) {
                    decode::request(API_VERSIONS, head.api_version, arrived.body.clone()).map_err(rejected)?;
                }
                future::ready(api_versions_reply(&session, &head)).boxed_local()
            }
            key => {
                let decoded = decode::weighed_request(key, head.api_version, arrived.body.clone());
                let (request, elements) = decoded.map_err(rejected)?;
                self.weigh(arrived, elements);
                drive::run(session, head, request).boxed_local()
            }
        }))
    }

    fn start_produce(&mut self, arrived: &mut Arrived) -> Result<Option<LocalBoxFuture<'static, Reply>>, End> {
        let head = &arrived.head;
        if arrived.produce.is_none() {
            let decoded = ProduceRequest::decode(arrived.body.clone(), head.api_version);
            let decoded = decoded
                .map_err(|e| End::Rejected(RejectReason::Malformed, format!("Produce v{}: {e}", head.api_version)))?;
            arrived.produce = Some(decoded);
        }
        let Some(request) = &arrived.produce else { return Ok(None) };
        let most = self.session.shared.config.timeouts.straggling_part;
        let impatient = self.gated_since.is_some_and(|since| since.elapsed() >= most);
        match produce::dispatch(&self.session, head, request, &arrived.body, impatient, &mut arrived.asked) {
            Dispatched::Sent(sent) => Ok(Some(sent.answer(self.session.clone()).boxed_local())),
            Dispatched::Held => {
                self.waits();
                (self.gated_since, self.throttled_until) = (None, None);
                let shared = &self.session.shared;
                if !self.told {
                    self.told = true;
                    let now = Instant::now();
                    // Its client has waited for a while already, if a broker's throttle or a gate kept it.
                    let waited = arrived.since.elapsed();
                    let budget = crate::api::produce::patience(request, waited, shared.config.seal.hold_budget);
                    let client_id = head.client_id.as_ref().map_or("", |id| id.as_str());
                    let client = format!("{client_id} at {}", self.session.peer);
                    // Nobody listens while no seal runs: then the hold is about to end anyway.
                    drop(shared.deadlines.send(HoldDeadline { at: now + budget, client }));
                }
                Ok(None)
            }
            Dispatched::Gated => {
                self.waits();
                self.gated_since.get_or_insert_with(Instant::now);
                (self.told, self.throttled_until) = (false, None);
                Ok(None)
            }
            Dispatched::Throttled(until) => {
                self.waits();
                self.told = false;
                (self.gated_since, self.throttled_until) = (None, Some(until));
                Ok(None)
            }
        }
    }

    fn waits(&mut self) {
        if self.held_since.is_none() {
            self.held_since = Some(Instant::now());
            self.session.shared.metrics.held(true);
        }
    }

    /// Writes an answer and whatever else is ready behind it, in one go.
    async fn write(&mut self, write: &mut OwnedWriteHalf, reply: Reply, finished: Finished) -> Result<(), End> {
        let mut out = VecDeque::with_capacity(1);
        let mut held = finished.held;
        let mut end = self.settle(reply, finished, &mut out).err();
        while end.is_none() && out.iter().map(Chain::len).sum::<usize>() < WRITE_AT_ONCE {
            match self.answers.next().now_or_never() {
                Some(Some((reply, finished))) => {
                    held += finished.held;
                    end = self.settle(reply, finished, &mut out).err();
                }
                _ => break,
            }
        }
        match timeout(WRITE_TIMEOUT, write_chains(write, &mut out)).await {
            Ok(Ok(())) => {
                self.held.give_back(held);
                end.map_or(Ok(()), Err)
            }
            Ok(Err(error)) => Err(End::Broken(error.to_string())),
            Err(_) => Err(End::Broken("the client takes no answers".to_owned())),
        }
    }

    fn settle(&mut self, reply: Reply, finished: Finished, out: &mut VecDeque<Chain>) -> Result<(), End> {
        self.started -= usize::from(finished.api_key != PRODUCE);
        let metrics = &self.session.shared.metrics;
        match reply {
            Reply::Frame(chain) => {
                metrics.answer(finished.api_key, chain.len(), finished.since.elapsed());
                out.push_back(chain);
                Ok(())
            }
            Reply::Silent => Ok(()),
            Reply::Close(reason) => Err(End::Broken(reason)),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Held requests of a closed connection are dropped: their client sends them again (PROTOCOL.md rule 18).
        if self.held_since.is_some() {
            self.session.shared.metrics.held(false);
        }
    }
}

/// What stands where a length would: HTTP, SSH, a TLS greeting.
fn is_another_protocol(length: i32) -> bool {
    const FIRST: [&[u8; 4]; 6] = [b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"SSH-"];
    let bytes = length.to_be_bytes();
    FIRST.contains(&&bytes) || bytes.starts_with(&[0x16, 3])
}

fn is_known_api_versions(head: &RequestHead) -> bool {
    (0..=api_versions::MAX).contains(&head.api_version)
}

fn api_versions_reply(session: &Session, head: &RequestHead) -> Reply {
    let (answer, version) = match is_known_api_versions(head) {
        true => (api_versions::answer(&session.shared.cluster.versions, head.api_version), head.api_version),
        false => (api_versions::fallback(), 0),
    };
    let mut out = ChainWriter::frame();
    frame::put_response_head(&mut out, API_VERSIONS, version, head.correlation_id);
    encode::response(&answer.into(), version, &mut out);
    Reply::of(out.finish())
}
