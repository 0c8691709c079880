//! Runs a case at one version through what the connection calls for a frame, in its order: head, decoder, machine,
//! encoder. The drivers' waiting is left out: answers come when they are asked for, and time passes when nothing else
//! happens.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::api::fetch::{Gather, LaneKind, Lanes, Next};
use kafka_cutover::api::produce::{self, Plan};
use kafka_cutover::api::{self, Context, Input, Step, TABLE, To, api_versions};
use kafka_cutover::ids::{Native, NodeId, Side};
use kafka_cutover::producers::Order;
use kafka_cutover::upstream::Lost;
use kafka_cutover::virtual_cluster::Versions;
use kafka_cutover::virtual_cluster::versions::key_of;
use kafka_cutover::wire::fetch::{FetchRequest, FetchResponse};
use kafka_cutover::wire::produce::{ProduceRequest, ProduceResponse};
use kafka_cutover::wire::{ChainWriter, WireError, decode, encode, frame};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest, RequestKind, ResponseKind};
use serde_json::Value;
use uuid::Uuid;

use super::case::{Asked, Case};
use super::stands::{NAMES, SECRET_IDS, World};
use super::{made, shape, text};
use crate::api::world::{EPOCHS, SOURCE, TARGET};

const CORRELATION: i32 = 7;
/// No case takes more.
const STEPS: usize = 500;

/// A frame without its length.
pub(crate) struct Frame {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) bytes: Bytes,
}

pub(crate) struct Run {
    pub(crate) title: String,
    /// For people.
    pub(crate) text: String,
    pub(crate) request: Frame,
    /// Of brokers.
    pub(crate) answers: Vec<Frame>,
}

/// Whom something of ours goes to.
struct Question {
    side: Side,
    to: String,
    node: Option<NodeId>,
    of: String,
    key: i16,
    version: i16,
    body: Bytes,
}

struct Runner<'a> {
    case: &'a Case,
    version: i16,
    world: World,
    /// Since the world began.
    passed: Duration,
    lossy: bool,
    asked: usize,
    request_body: Bytes,
    last_answer: Bytes,
    run: Run,
}

/// `lossy`: no broker answers anything.
pub(super) fn run(case: &Case, version: i16, lossy: bool) -> Run {
    let key = case.key as i16;
    let what = format!("{:?} request", case.key);
    let body = Bytes::from(made::body(&shape::of(key).request, version, &case.request, &what));
    let mut head = ChainWriter::new();
    frame::put_request_head(&mut head, key, version, CORRELATION, Some("golden"));
    let bytes: Bytes = [head.finish().unwrap().to_bytes(), body.clone()].concat().into();
    let title = format!("{}: {}", case.stand.says, case.what);
    let mut runner = Runner {
        case,
        version,
        world: (case.stand.make)(),
        passed: Duration::ZERO,
        lossy,
        asked: 0,
        request_body: body.clone(),
        last_answer: Bytes::new(),
        run: Run { title, text: String::new(), request: Frame { key, version, bytes }, answers: vec![] },
    };
    let head_version = case.key.request_header_version(version);
    runner.say(&format!("the client asks, request head {head_version}"), Some((key, version, true, &body)));
    let mut rest = runner.run.request.bytes.clone();
    let head = frame::request_head(&mut rest).expect("a head");
    assert_eq!((head.api_key, head.api_version, head.correlation_id), (key, version, CORRELATION));
    assert_eq!(rest, body);
    runner.drive(body);
    runner.run
}

/// What the connection makes of the body of a request, or why it ends.
pub(crate) fn decoded(key: i16, version: i16, body: Bytes) -> Result<(), WireError> {
    match key {
        0 => ProduceRequest::decode(body, version).map(|_| ()),
        1 => FetchRequest::decode(body, version).map(|_| ()),
        _ => decode::weighed_request(key, version, body).map(|_| ()),
    }
}

/// The same of a broker's answer.
pub(crate) fn heard(key: i16, version: i16, body: Bytes) -> Result<(), WireError> {
    match key {
        0 => ProduceResponse::decode(body, version).map(|_| ()),
        1 => FetchResponse::decode(body, version).map(|_| ()),
        _ => decode::response(key, version, body).map(|_| ()),
    }
}

impl Runner<'_> {
    fn cx(&self) -> Context<'_> {
        Context { now: self.world.now + self.passed, ..self.world.cx(self.version) }
    }

    fn drive(&mut self, body: Bytes) {
        match self.case.key {
            ApiKey::Produce => self.produce(body),
            ApiKey::Fetch => self.fetch(body),
            ApiKey::ApiVersions => self.api_versions(),
            _ => self.machine(body),
        }
    }

    fn api_versions(&mut self) {
        let ranges = TABLE.iter().map(|e| (e.key as i16, e.versions)).collect();
        let (answer, version) = match self.version {
            0..=api_versions::MAX => (api_versions::answer(&Versions { ranges }, self.version), self.version),
            _ => (api_versions::fallback(), 0),
        };
        self.answer(version, |out| encode::response(&answer.into(), version, out));
    }

    fn machine(&mut self, body: Bytes) {
        let (key, version) = (self.case.key as i16, self.version);
        let (request, _) = decode::weighed_request(key, version, body).expect("a request");
        let mut machine = api::machine(&self.cx(), request).expect("an API of the table");
        let mut input = Input::Start;
        for _ in 0..STEPS {
            let step = machine.step(&self.cx(), input);
            input = match step {
                Step::Ask(asks) => {
                    let questions = asks.iter().map(|ask| question(ask, key, version)).collect();
                    let answers = self.ask(questions).into_iter().zip(&asks).map(|(answer, ask)| {
                        let (key, version) = spoken(&ask.request, key, version);
                        let answer = answer.ok_or_else(|| Lost::Unknown("gone".to_owned()))?;
                        Ok(decode::response(key, version, answer).expect("a broker's answer"))
                    });
                    Input::Answers(answers.collect())
                }
                Step::AwaitTopology { side, deadline, .. } => {
                    self.wait(&format!("waits for a newer view of the {side}"), deadline);
                    Input::Woken
                }
                Step::AwaitRoutes { deadline, .. } => {
                    self.wait("waits, at most until routes change", deadline);
                    Input::Woken
                }
                Step::AwaitMoveEnd { deadline, .. } => {
                    self.wait("waits, at most until the group has moved", deadline);
                    Input::Woken
                }
                Step::Decide(event, _) => {
                    self.say(&format!("decides {event:?}"), None);
                    Input::Woken
                }
                Step::Answer(answer) => return self.answer(version, |out| encode::response(&answer, version, out)),
                Step::Close(why) => return self.say(&format!("the connection ends: {why}"), None),
            };
        }
        panic!("{:?} v{version} comes to no end", self.case.key);
    }

    fn produce(&mut self, body: Bytes) {
        let version = self.version;
        let request = ProduceRequest::decode(body.clone(), version).expect("a request");
        let plan = produce::plan(&self.cx(), &request, &RefCell::new(Order::default()), false, None);
        let Plan::Send { parts, local, unchanged, .. } = plan else { panic!("it waits: {plan:?}") };
        let mut brokers: Vec<_> = parts.iter().map(|p| (p.side, p.node)).collect();
        brokers.dedup();
        let mut ready: Vec<_> = local.into_iter().map(|l| (l.at, l.answer)).collect();
        let mut throttle_ms = 0;
        for (side, node) in brokers {
            let group: Vec<_> = parts.iter().filter(|p| (p.side, p.node) == (side, node)).cloned().collect();
            let sent = match unchanged {
                true => body.clone(),
                false => written(|out| produce::request_for(&request, &group).encode(version, out)),
            };
            let answer = self.ask(vec![Question::data(0, version, side, node, "", sent)]).remove(0);
            let Some(answer) = answer else { return };
            let answer = ProduceResponse::decode(answer, version).expect("a broker's answer");
            throttle_ms = throttle_ms.max(answer.throttle_time_ms);
            for part in &group {
                let found = produce::find(&answer, part, version).expect("each partition is answered");
                ready.push((part.at, produce::translate(part, found.clone())));
            }
        }
        let answer = produce::merge(&request, ready, throttle_ms);
        self.answer(version, |out| answer.encode(version, out));
    }

    fn fetch(&mut self, body: Bytes) {
        let version = self.version;
        let request = FetchRequest::decode(body, version).expect("a request");
        let mut gather = Gather::new(&self.cx(), request);
        let mut lanes = Lanes::new(self.world.shared.read_ahead.clone());
        for _ in 0..STEPS {
            let (sends, next) = gather.step(&self.cx(), &mut lanes);
            if let Next::Answer(answer) = next {
                // What is read ahead is not this answer's.
                return self.answer(version, |out| answer.encode(version, out));
            }
            let questions = gather.questions();
            let passes = sends.is_empty() && questions.is_empty();
            for send in sends {
                let how = match send.key.kind {
                    LaneKind::Standing => "",
                    LaneKind::Ahead => ", for what lies there already",
                    LaneKind::Probe => ", one partition alone",
                };
                let sent = written(|out| send.request.encode(version, out));
                let question = Question::data(1, version, send.key.side, send.key.node, how, sent);
                let answer = self.ask(vec![question]).remove(0);
                lanes.arrived(send.key, answer.map(|a| FetchResponse::decode(a, version).expect("an answer")));
            }
            for question in questions {
                let start = self.log_start(&question);
                lanes.told(question, start);
            }
            if let (true, Next::Wait(until)) = (passes, next) {
                self.passed = until - self.world.now;
            }
        }
        panic!("Fetch v{version} comes to no end");
    }

    /// As `connection::fetch` asks where a log begins.
    fn log_start(&mut self, question: &api::fetch::Question) -> Option<Native<i64>> {
        use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let partition = ListOffsetsPartition::default().with_partition_index(question.partition).with_timestamp(-2);
        let topic = ListOffsetsTopic::default()
            .with_name(crate::api::world::topic(&question.topic))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let (key, version) = spoken(&request.clone().into(), 1, self.version);
        let body = written(|out| encode::request(&request.into(), version, out));
        let asked = Question::data(key, version, question.side, question.node, "", body);
        let answer = self.ask(vec![asked]).remove(0)?;
        match decode::response(key, version, answer).expect("an answer") {
            ResponseKind::ListOffsets(a) => Some(Native(a.topics[0].partitions[0].offset)),
            _ => None,
        }
    }

    /// The bodies of the answers; `None`: lost.
    fn ask(&mut self, questions: Vec<Question>) -> Vec<Option<Bytes>> {
        let mut answers = vec![];
        for question in &questions {
            let Question { side, node, key, version, .. } = *question;
            let what = if (key, version) == (self.case.key as i16, self.version) {
                String::new()
            } else {
                format!(": {} v{version}", shape::of(key).name)
            };
            let asks = format!("asked is the {side}, {}{what}", question.to);
            self.say(&asks, Some((key, version, true, &question.body)));
            let of = question.of.clone();
            let api = ApiKey::try_from(key).expect("an API key");
            let asked = Asked { key: api, side, node, of, number: self.asked };
            self.asked += 1;
            let answer = if self.lossy { Value::Null } else { (self.case.broker)(&asked) };
            if answer.is_null() {
                self.say("it does not answer", None);
                answers.push(None);
                continue;
            }
            let body = made::body(&shape::of(key).response, version, &answer, &format!("{api:?} answer"));
            let body = Bytes::from(body);
            self.say("it answers", Some((key, version, false, &body)));
            let mut head = ChainWriter::new();
            frame::put_response_head(&mut head, key, version, CORRELATION);
            let bytes: Bytes = [head.finish().unwrap().to_bytes(), body.clone()].concat().into();
            let mut rest = bytes.clone();
            assert_eq!(frame::response_head(&mut rest, key, version), Ok(CORRELATION));
            self.run.answers.push(Frame { key, version, bytes });
            self.last_answer = body;
            answers.push(Some(rest));
        }
        answers
    }

    fn wait(&mut self, what: &str, deadline: tokio::time::Instant) {
        match self.case.meanwhile {
            Some(change) => {
                self.say(&format!("the proxy {what}, and it comes"), None);
                change(&self.world);
            }
            None => {
                self.say(&format!("the proxy {what}, in vain"), None);
                self.passed = deadline - self.world.now;
            }
        }
    }

    /// The answer to the client, in `version`: frame, head and body are looked at byte by byte.
    fn answer(&mut self, version: i16, encode: impl FnOnce(&mut ChainWriter)) {
        let key = self.case.key as i16;
        let mut out = ChainWriter::frame();
        frame::put_response_head(&mut out, key, version, CORRELATION);
        encode(&mut out);
        let frame = out.finish().expect("an answer can be encoded").to_bytes();
        assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
        assert_eq!(frame[4..8], CORRELATION.to_be_bytes());
        let head_version = self.case.key.response_header_version(version);
        let body = frame.slice(if head_version >= 1 { 9 } else { 8 }..);
        assert!(head_version < 1 || frame[8] == 0, "no tagged fields in the head");
        self.shows_nobody(&frame);
        self.say(&format!("the client gets, response head {head_version}"), Some((key, version, false, &body)));
    }

    fn say(&mut self, what: &str, message: Option<(i16, i16, bool, &Bytes)>) {
        self.run.text.push_str(what);
        self.run.text.push('\n');
        let Some((key, version, request, body)) = message else { return };
        let (again, as_what) = match request {
            true => (&self.request_body, "what the client asked"),
            false => (&self.last_answer, "what the broker answered"),
        };
        // Not the first of both, which says it.
        let first = what.starts_with("the client asks") || what == "it answers";
        if !first && again == body && (key, version) == (self.case.key as i16, self.version) {
            self.run.text.push_str(&format!("  {as_what}, unchanged\n"));
            return;
        }
        let api = shape::of(key);
        let message = if request { &api.request } else { &api.response };
        let lines = text::lines(message, version, body, NAMES, "  ");
        self.run.text.push_str(if lines.is_empty() { "  (an empty body)\n" } else { &lines });
    }

    /// No number or name of a real broker, no id of a topic on the target.
    fn shows_nobody(&self, frame: &[u8]) {
        let mut secrets: Vec<Vec<u8>> = EPOCHS.iter().map(|e| e.to_be_bytes().to_vec()).collect();
        for id in [SOURCE, TARGET].into_iter().flat_map(|base| (1..=3).map(move |n| base + n)) {
            secrets.extend([id.to_be_bytes().to_vec(), id.to_string().into_bytes()]);
        }
        secrets.extend(SECRET_IDS.map(|id| Uuid::parse_str(id).unwrap().as_bytes().to_vec()));
        secrets.extend([b".real".to_vec(), b"target-cluster".to_vec()]);
        for secret in secrets {
            let shown = frame.windows(secret.len()).any(|w| w == secret);
            assert!(!shown, "{:?} v{} shows {secret:?}:\n{}", self.case.key, self.version, self.run.text);
        }
    }
}

/// Key and version that a request of ours goes out in, as `connection::drive` has it: a client's own API in its own.
fn spoken(request: &RequestKind, key: i16, version: i16) -> (i16, i16) {
    let (own, name) = key_of(request);
    let newest = || TABLE.iter().find(|e| e.key as i16 == own).unwrap_or_else(|| panic!("{name}")).versions.max;
    (own, if own == key { version } else { newest() })
}

fn question(ask: &api::Ask, key: i16, version: i16) -> Question {
    let (key, version) = spoken(&ask.request, key, version);
    let body = written(|out| encode::request(&ask.request, version, out));
    let (to, node, of) = match &ask.to {
        To::Any => ("any broker".to_owned(), None, String::new()),
        To::Node(id) => (format!("node {id}"), Some(*id), String::new()),
        To::Coordinator(group) => (format!("coordinator of {group}"), None, group.clone()),
        To::TransactionCoordinator(id) => (format!("coordinator of {id}"), None, id.clone()),
        To::Controller => ("its controller".to_owned(), None, String::new()),
    };
    Question { side: ask.side, to, node, of, key, version, body }
}

impl Question {
    fn data(key: i16, version: i16, side: Side, node: NodeId, how: &str, body: Bytes) -> Self {
        Self { side, to: format!("node {node}{how}"), node: Some(node), of: String::new(), key, version, body }
    }
}

fn written(write: impl FnOnce(&mut ChainWriter)) -> Bytes {
    let mut out = ChainWriter::new();
    write(&mut out);
    out.finish().expect("it can be encoded").to_bytes()
}
