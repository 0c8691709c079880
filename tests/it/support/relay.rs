//! Between clients and the proxy: passes bytes on both ways as they come, and has every answer looked at (`identity`) on a
//! thread of its own. The proxy advertises the relay's address.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_cutover::ids::Side;
use kafka_cutover::wire::frame::peek;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use uuid::Uuid;

use super::identity::{Answer, Identities};

/// Read at once.
const CHUNK: usize = 64 * 1024;
/// Answers that nobody has looked at yet, in bytes: beyond that, clients wait.
const UNSEEN: usize = 64 * 1024 * 1024;
/// Of one run; the first say enough.
const MOST_LEAKS: usize = 20;
/// For a broker that is asked who it is, and may be away.
const BROKER: Duration = Duration::from_secs(2);

/// At its end it panics if anything was found.
pub struct Relay {
    pub address: String,
    /// Where the proxy listens; nothing is passed on while nobody knows.
    proxy: Arc<Mutex<Option<String>>>,
    tell: mpsc::UnboundedSender<Item>,
    runtime: Option<Runtime>,
}

enum Item {
    Answer(Answer, OwnedSemaphorePermit),
    /// An answer that cannot be one.
    Wrong(String),
    Learn(std_mpsc::Sender<()>),
    Report(std_mpsc::Sender<Vec<String>>),
    Count(std_mpsc::Sender<usize>),
}

impl Relay {
    /// `bootstrap`: where the clusters are, by side.
    pub fn new(bootstrap: [Vec<String>; 2]) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("an option of every socket");
        let address = listener.local_addr().expect("bound");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (tell, told) = mpsc::unbounded_channel();
        let proxy: Arc<Mutex<Option<String>>> = Arc::default();
        let looker = Looker {
            runtime: runtime.handle().clone(),
            bootstrap,
            identities: Identities::new(vec![(address.ip().to_string(), address.port())]),
            strange: BTreeMap::new(),
            leaks: Vec::new(),
            answers: 0,
        };
        std::thread::spawn(move || looker.run(told));
        let (to, tells) = (proxy.clone(), tell.clone());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let room = Arc::new(Semaphore::new(UNSEEN));
            while let Ok((client, _)) = listener.accept().await {
                let to = to.lock().expect("nobody panics with it").clone();
                tokio::spawn(pass(client, to, tells.clone(), room.clone()));
            }
        });
        Self { address: address.to_string(), proxy, tell, runtime: Some(runtime) }
    }

    pub fn lead_to(&self, proxy: &str) {
        *self.proxy.lock().expect("nobody panics with it") = Some(proxy.to_owned());
    }

    /// Asks the clusters who they are now. It does so by itself at the first answer, and when a topic is strange to it.
    pub fn learn(&self) {
        let (done, wait) = std_mpsc::channel();
        drop(self.tell.send(Item::Learn(done)));
        wait.recv().expect("who looks never stops");
    }

    /// What was found in all answers up to now, since the last time.
    pub fn leaks(&self) -> Vec<String> {
        let (done, wait) = std_mpsc::channel();
        drop(self.tell.send(Item::Report(done)));
        wait.recv().expect("who looks never stops")
    }

    /// How many answers have been looked at.
    pub fn answers(&self) -> usize {
        let (done, wait) = std_mpsc::channel();
        drop(self.tell.send(Item::Count(done)));
        wait.recv().expect("who looks never stops")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let leaks = if std::thread::panicking() { Vec::new() } else { self.leaks() };
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // also from within a test's own runtime
        }
        assert!(leaks.is_empty(), "clients were told who the brokers are:\n{}", leaks.join("\n"));
    }
}

// ------------------------------------------------------------------------------------------------------ looking

struct Looker {
    runtime: Handle,
    bootstrap: [Vec<String>; 2],
    identities: Identities,
    /// Topic ids that neither side knew when they came, and where they stood: their topics may have been deleted.
    strange: BTreeMap<Uuid, String>,
    leaks: Vec<String>,
    answers: usize,
}

impl Looker {
    fn run(mut self, mut told: mpsc::UnboundedReceiver<Item>) {
        while let Some(item) = told.blocking_recv() {
            match item {
                Item::Answer(answer, _room) => self.look(&answer),
                Item::Wrong(why) => self.found(why),
                Item::Learn(done) => {
                    self.learn();
                    let _ = done.send(()); // the test may have ended
                }
                Item::Count(done) => {
                    let _ = done.send(self.answers); // likewise
                }
                Item::Report(done) => {
                    self.learn();
                    drop(done.send(std::mem::take(&mut self.leaks)));
                }
            }
        }
    }

    fn look(&mut self, answer: &Answer) {
        self.answers += 1;
        if self.identities.native(Side::Source).cluster_id.is_none() {
            self.learn();
        }
        let seen = self.identities.check(answer);
        let api = ApiKey::try_from(answer.api_key).map_or_else(|_| answer.api_key.to_string(), |k| format!("{k:?}"));
        let name = |what: &str| format!("{api} v{}: {what}", answer.version);
        seen.leaks.iter().for_each(|leak| self.found(name(leak)));
        let before = self.strange.len();
        for (id, path) in seen.strange {
            self.strange.entry(id).or_insert_with(|| name(&path));
        }
        if self.strange.len() > before {
            self.learn();
        }
    }

    fn found(&mut self, leak: String) {
        if self.leaks.len() < MOST_LEAKS {
            self.leaks.push(leak);
        }
    }

    /// A cluster that is away stays as it was known.
    fn learn(&mut self) {
        let mut native = Side::BOTH.map(|side| self.identities.native(side).clone());
        for (side, addresses) in native.iter_mut().zip(&self.bootstrap) {
            for told in self.runtime.block_on(ask_each(addresses)) {
                side.learn(&told);
            }
        }
        self.identities.learn(native);
        let target = self.identities.native(Side::Target).topic_ids.clone();
        let source = self.identities.native(Side::Source).topic_ids.clone();
        for (id, wherever) in std::mem::take(&mut self.strange) {
            if target.contains(&id) && !source.contains(&id) {
                self.found(format!("{wherever} = {id}: the target's"));
            } else if !source.contains(&id) {
                self.strange.insert(id, wherever);
            }
        }
    }
}

async fn ask_each(addresses: &[String]) -> Vec<MetadataResponse> {
    let mut told = Vec::new();
    for address in addresses {
        if let Ok(Some(answer)) = tokio::time::timeout(BROKER, ask(address)).await {
            told.push(answer);
        }
    }
    told
}

/// Metadata of all topics: in this version with their ids, and spoken by every broker.
async fn ask(address: &str) -> Option<MetadataResponse> {
    const VERSION: i16 = 10;
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Metadata as i16)
        .with_request_api_version(VERSION)
        .with_client_id(Some("relay".into()));
    let mut out = BytesMut::new();
    out.put_i32(0);
    header.encode(&mut out, ApiKey::Metadata.request_header_version(VERSION)).ok()?;
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    request.encode(&mut out, VERSION).ok()?;
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    let mut broker = TcpStream::connect(address).await.ok()?;
    broker.write_all(&out).await.ok()?;
    let mut frame = vec![0; usize::try_from(broker.read_i32().await.ok()?).ok()?];
    broker.read_exact(&mut frame).await.ok()?;
    MetadataResponse::decode(&mut Bytes::from(frame).slice(5..), VERSION).ok()
}

// ------------------------------------------------------------------------------------------------------ passing on

/// What was asked on a connection and is not answered yet, in its order.
#[derive(Default)]
struct Asked {
    requests: VecDeque<(i32, i16, i16)>,
    /// The client sends something else than requests: what comes back is no answer to any.
    lost: bool,
}

async fn pass(client: TcpStream, proxy: Option<String>, tell: mpsc::UnboundedSender<Item>, room: Arc<Semaphore>) {
    let Some(proxy) = proxy else { return };
    let Ok(proxy) = TcpStream::connect(proxy).await else { return };
    for socket in [&client, &proxy] {
        drop(socket.set_nodelay(true)); // costs time only
    }
    let (requests, to_client) = client.into_split();
    let (answers, to_proxy) = proxy.into_split();
    let asked = Arc::new(Mutex::new(Asked::default()));
    let there = tokio::spawn(pass_requests(requests, to_proxy, asked.clone()));
    pass_answers(answers, to_client, &asked, &tell, &room).await;
    there.abort();
}

/// To the client's end, which the proxy is told.
async fn pass_requests(mut client: OwnedReadHalf, mut proxy: OwnedWriteHalf, asked: Arc<Mutex<Asked>>) {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    // The head of the next request as far as it has come, and what is left of the one before it.
    let (mut head, mut left) = (BytesMut::new(), 0);
    while let Ok(1..) = client.read_buf(&mut chunk).await {
        note_requests(&chunk, &mut head, &mut left, &mut asked.lock().expect("nobody panics with it"));
        if proxy.write_all(&chunk).await.is_err() {
            return;
        }
        chunk.clear();
    }
}

fn note_requests(mut bytes: &[u8], head: &mut BytesMut, left: &mut usize, asked: &mut Asked) {
    const HEAD: usize = 12; // the length, key, version, correlation id
    while !bytes.is_empty() && !asked.lost {
        if *left > 0 {
            let passed = (*left).min(bytes.len());
            bytes.advance(passed);
            *left -= passed;
            continue;
        }
        let more = (HEAD - head.len()).min(bytes.len());
        head.extend_from_slice(&bytes[..more]);
        bytes.advance(more);
        if head.len() == HEAD {
            let length = head.get_i32();
            match (usize::try_from(length), peek(head)) {
                (Ok(length @ 8..), Some((key, version, correlation))) => {
                    asked.requests.push_back((correlation, key, version));
                    *left = length - 8;
                }
                _ => asked.lost = true,
            }
            head.clear();
        }
    }
}

async fn pass_answers(
    mut proxy: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    asked: &Mutex<Asked>,
    tell: &mpsc::UnboundedSender<Item>,
    room: &Arc<Semaphore>,
) {
    let (mut chunk, mut bytes) = (BytesMut::with_capacity(CHUNK), BytesMut::new());
    while let Ok(1..) = proxy.read_buf(&mut chunk).await {
        // First told, then passed on: a test that has its answer can ask what was found.
        bytes.extend_from_slice(&chunk);
        while let Some(length) = bytes.first_chunk::<4>().map(|l| i32::from_be_bytes(*l)) {
            let Some(length) = usize::try_from(length).ok().filter(|l| *l >= 4) else {
                drop(tell.send(Item::Wrong(format!("an answer of {length} bytes"))));
                return;
            };
            if bytes.len() < 4 + length {
                break;
            }
            let frame = bytes.split_to(4 + length).freeze().slice(4..);
            let size = frame.len().min(UNSEEN) as u32;
            let Ok(permit) = room.clone().acquire_many_owned(size).await else { return };
            if let Some(item) = matched(frame, permit, &mut asked.lock().expect("nobody panics with it")) {
                drop(tell.send(item));
            }
        }
        if client.write_all(&chunk).await.is_err() {
            return;
        }
        chunk.clear();
    }
}

/// Answers come in the order of the requests; some of these have none (acks=0).
fn matched(frame: Bytes, room: OwnedSemaphorePermit, asked: &mut Asked) -> Option<Item> {
    let correlation = frame.clone().get_i32();
    while let Some((id, api_key, version)) = asked.requests.pop_front() {
        if id == correlation {
            return Some(Item::Answer(Answer { api_key, version, frame }, room));
        }
    }
    (!asked.lost).then(|| Item::Wrong(format!("an answer to nothing that was asked: {frame:02x?}")))
}
