//! One upstream connection: requests out in order, answers back in order, and what became of each request even if
//! its client is gone. Acks=0 produce has no answer: a small request behind it proves that it was processed.
#![expect(clippy::disallowed_methods, reason = "io: connects, spawns its own task and reads the clock")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Config;
use crate::wire::chain::{Chain, ChainWriter};
use crate::wire::frame;
use crate::wire::io::{FrameReader, Step, write_chains};

/// What a connection to a broker may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest answer, in bytes.
    pub frame: usize,
    /// An attempt to connect.
    pub connect: Duration,
    /// Without a request for this long it is closed.
    pub idle: Duration,
}

impl Limits {
    pub fn of(config: &Config) -> Self {
        Self {
            frame: usize::try_from(config.limits.frame.as_u64()).unwrap_or(usize::MAX),
            connect: config.timeouts.connect,
            idle: config.timeouts.upstream_idle,
        }
    }
}

/// How long an answer may take that does not wait for anything: longer than any client's own timeout.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(125);

/// A request that got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Not one byte of it left: it may be sent again.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been processed, or still be processed later.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// What happens with the outcome of one request. Called exactly once, on the connection's thread, also when the
/// client that asked is gone.
pub trait Completion {
    fn complete(self: Box<Self>, outcome: Result<Bytes, Lost>);
}

impl<F: FnOnce(Result<Bytes, Lost>)> Completion for F {
    fn complete(self: Box<Self>, outcome: Result<Bytes, Lost>) {
        self(outcome);
    }
}

/// A request on its way out. The body is encoded for `version`; the head is written here.
pub struct Outgoing {
    pub api_key: i16,
    pub version: i16,
    pub client_id: Option<StrBytes>,
    pub body: Chain,
    /// False for Produce with acks=0.
    pub answered: bool,
    /// A broker that is silent for longer when this is the next to be answered is given up.
    pub patience: Duration,
    pub completion: Box<dyn Completion>,
}

struct Pending {
    correlation: i32,
    api_key: i16,
    version: i16,
    answered: bool,
    sent: Instant,
    patience: Duration,
    completion: Option<Box<dyn Completion>>,
}

#[derive(Default)]
struct InFlight {
    queue: VecDeque<Pending>,
    /// When the last bytes came.
    heard: Option<Instant>,
    /// An answer is due, and none was before.
    begun: Rc<Notify>,
    /// A flush is on its way; at most one.
    flushing: bool,
}

impl InFlight {
    fn push(&mut self, pending: Pending) {
        if pending.answered && self.due().is_none() {
            self.begun.notify_one();
        }
        self.queue.push_back(pending);
    }

    /// Until when the broker has to say something, and how long it was given: by the answer that comes next (acks=0
    /// produce in front of it has none). A broker that has just said something is not silent.
    fn due(&self) -> Option<(Instant, Duration)> {
        let next = self.queue.iter().find(|p| p.answered)?;
        let since = self.heard.map_or(next.sent, |heard| heard.max(next.sent));
        Some((since + next.patience, next.patience))
    }
}

/// The sending end. Dropping it lets the connection end once everything has its outcome.
#[derive(Debug)]
pub struct Connection {
    requests: mpsc::UnboundedSender<Outgoing>,
}

impl Connection {
    /// Starts to connect; requests sent meanwhile wait for it.
    pub fn open(address: String, limits: Limits) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        tokio::task::spawn_local(run(address, limits, receiver));
        Self { requests }
    }

    /// Gives the request back if the connection has ended.
    pub fn send(&self, request: Outgoing) -> Result<(), Box<Outgoing>> {
        self.requests.send(request).map_err(|e| Box::new(e.0))
    }

    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

async fn run(address: String, limits: Limits, mut requests: mpsc::UnboundedReceiver<Outgoing>) {
    let in_flight = Rc::new(RefCell::new(InFlight::default()));
    let reason = match connect(&address, limits.connect).await {
        Ok(stream) => serve(stream, limits, &mut requests, &in_flight).await,
        Err(error) => format!("cannot connect to {address}: {error}"),
    };
    requests.close();
    // Completions run after the borrow has ended: they may look at other connections.
    let pending = std::mem::take(&mut in_flight.borrow_mut().queue);
    for request in pending {
        if let Some(completion) = request.completion {
            completion.complete(Err(Lost::Unknown(format!("{address}: {reason}"))));
        }
    }
    while let Ok(request) = requests.try_recv() {
        request.completion.complete(Err(Lost::NotSent(reason.clone())));
    }
}

async fn connect(address: &str, within: Duration) -> std::io::Result<TcpStream> {
    let stream = timeout(within, TcpStream::connect(address)).await.map_err(|_| {
        std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer in {} ms", within.as_millis()))
    })??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Works until the connection ends; says why.
async fn serve(
    mut stream: TcpStream,
    limits: Limits,
    requests: &mut mpsc::UnboundedReceiver<Outgoing>,
    in_flight: &Rc<RefCell<InFlight>>,
) -> String {
    let (read, write) = stream.split();
    let flush = Notify::new();
    tokio::select! {
        reason = read_answers(FrameReader::new(read, limits.frame), in_flight, &flush) => reason,
        reason = write_requests(write, limits.idle, requests, in_flight, &flush) => reason,
    }
}

async fn write_requests(
    mut write: tokio::net::tcp::WriteHalf<'_>,
    idle: Duration,
    requests: &mut mpsc::UnboundedReceiver<Outgoing>,
    in_flight: &Rc<RefCell<InFlight>>,
    flush: &Notify,
) -> String {
    let mut next_correlation = 0i32;
    let mut out: VecDeque<Chain> = VecDeque::new();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => out.push_back(queue(request, in_flight, &mut next_correlation)),
                None => {
                    // Nobody will ask any more; what is unanswered keeps the connection until it is settled.
                    while !in_flight.borrow().queue.is_empty() {
                        flush.notified().await;
                        if let Some(chain) = queue_flush(in_flight, &mut next_correlation) {
                            out.push_back(chain);
                            if let Err(error) = write_chains(&mut write, &mut out).await {
                                return error.to_string();
                            }
                        }
                    }
                    return "no longer needed".to_owned();
                }
            },
            () = flush.notified() => {}
            () = tokio::time::sleep(idle), if in_flight.borrow().queue.is_empty() => return "idle".to_owned(),
        }
        while let Ok(request) = requests.try_recv() {
            out.push_back(queue(request, in_flight, &mut next_correlation));
        }
        out.extend(queue_flush(in_flight, &mut next_correlation));
        if let Err(error) = write_chains(&mut write, &mut out).await {
            return error.to_string();
        }
    }
}

fn queue(request: Outgoing, in_flight: &RefCell<InFlight>, next_correlation: &mut i32) -> Chain {
    let correlation = *next_correlation;
    *next_correlation = next_correlation.wrapping_add(1);
    let mut out = ChainWriter::frame();
    frame::put_request_head(
        &mut out,
        request.api_key,
        request.version,
        correlation,
        request.client_id.as_ref().map(StrBytes::as_str),
    );
    in_flight.borrow_mut().push(Pending {
        correlation,
        api_key: request.api_key,
        version: request.version,
        answered: request.answered,
        sent: Instant::now(),
        patience: request.patience,
        completion: Some(request.completion),
    });
    out.put_chain(request.body);
    framed(out)
}

/// A request whose answer proves that the acks=0 produce in front of it was processed; one at a time.
fn queue_flush(in_flight: &RefCell<InFlight>, next_correlation: &mut i32) -> Option<Chain> {
    let mut state = in_flight.borrow_mut();
    if state.flushing || state.queue.back().is_none_or(|p| p.answered) {
        return None;
    }
    state.flushing = true;
    let correlation = *next_correlation;
    *next_correlation = next_correlation.wrapping_add(1);
    let api_key = ApiKey::ApiVersions as i16;
    state.push(Pending {
        correlation,
        api_key,
        version: 0,
        answered: true,
        sent: Instant::now(),
        patience: ANSWER_PATIENCE,
        completion: None,
    });
    let mut out = ChainWriter::frame();
    frame::put_request_head(&mut out, api_key, 0, correlation, None);
    Some(framed(out))
}

/// Heads of ours always encode; a body that does not was refused before it came here.
fn framed(out: ChainWriter) -> Chain {
    out.finish().unwrap_or_default()
}

/// At the deadline; never if nothing is due.
async fn overdue(due: Option<(Instant, Duration)>) -> Duration {
    match due {
        Some((deadline, patience)) => {
            sleep_until(deadline).await;
            patience
        }
        None => std::future::pending().await,
    }
}

async fn read_answers(
    mut frames: FrameReader<tokio::net::tcp::ReadHalf<'_>>,
    in_flight: &Rc<RefCell<InFlight>>,
    flush: &Notify,
) -> String {
    let begun = in_flight.borrow().begun.clone();
    loop {
        let due = in_flight.borrow().due();
        let mut answer = tokio::select! {
            biased;
            read = frames.step() => {
                in_flight.borrow_mut().heard = Some(Instant::now());
                match read {
                    Ok(Step::Frame(frame)) => frame,
                    Ok(Step::Part) => continue,
                    Ok(Step::End) => return "the broker closed the connection".to_owned(),
                    Err(error) => return error.to_string(),
                }
            }
            patience = overdue(due) => return format!("no answer in {} s", patience.as_secs()),
            () = begun.notified(), if due.is_none() => continue,
        };
        // Answers come in request order; what stands in front without an answer (acks=0) is processed by now.
        loop {
            let Some(pending) = in_flight.borrow_mut().queue.pop_front() else {
                return "the broker answered what nobody asked".to_owned();
            };
            if !pending.answered {
                if let Some(completion) = pending.completion {
                    completion.complete(Ok(Bytes::new()));
                }
                continue;
            }
            let head = frame::response_head(&mut answer, pending.api_key, pending.version);
            match head {
                Ok(correlation) if correlation == pending.correlation => {}
                other => {
                    let said = other.map_or_else(|e| e.to_string(), |c| format!("correlation id {c}"));
                    if let Some(completion) = pending.completion {
                        completion.complete(Err(Lost::Unknown("answers out of order".to_owned())));
                    }
                    return format!("expected the answer to request {}, got {said}", pending.correlation);
                }
            }
            match pending.completion {
                Some(completion) => completion.complete(Ok(answer)),
                None => in_flight.borrow_mut().flushing = false,
            }
            break;
        }
        flush.notify_one();
    }
}
