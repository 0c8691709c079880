//! A retry over the seam: the source has appended a batch, nobody was told, the seal follows, the client tries again.
//!
//! No client can lose one answer on purpose, and neither can Kafka: a source of one node advertises a relay, which passes
//! everything on in both directions until it is armed, and then keeps the answer to one produce for itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_cutover::ids::Side;
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, ProduceRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::embedded::raw::{Plan, Raw, encode, idempotent, produce};
use crate::support::own::Own;
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;
use crate::support::whole_log::WholeLog;
use crate::support::{PATIENCE, unique};

#[test]
fn a_retry_over_the_seam_is_stored_once() {
    let runtime = Runtime::new().expect("a runtime");
    let rig = Rig::connect();
    let (relay, _source) = runtime.block_on(Relay::before_a_source(&rig));
    let rig = rig.with(Side::Source, &relay.address);
    cut_over_with_a_lost_answer(&runtime, &relay, &rig, true);
    // What the gate is for, shown by a proxy without it.
    if cfg!(feature = "crash-points") {
        cut_over_with_a_lost_answer(&runtime, &relay, &rig, false);
    }
}

fn cut_over_with_a_lost_answer(runtime: &Runtime, relay: &Relay, rig: &Rig, gate: bool) {
    let topic = unique("lost-answer");
    rig.create(&topic, 1);
    let mut proxy = Proxy::new(rig, &[&topic]);
    if !gate {
        proxy.environment = vec![("KAFKA_CUTOVER_NO_GATE", "1")];
    }
    proxy.start();
    proxy.prepare();
    let pid = runtime.block_on(soon(producer(&proxy)));

    let first = batch(pid, 0);
    relay.arm();
    let answer = runtime.block_on(soon(async {
        let mut raw = Raw::connect(&proxy.bootstrap()).await;
        raw.send(&produce(&topic, 0, first.clone()), 9).await;
        raw.receive::<ProduceRequest>(9).await
    }));
    assert!(answer.is_none(), "the answer is lost, but came: {answer:?}");
    assert!(relay.has_cut(), "the connection ended before the source had answered");
    assert_eq!(stored(rig, &topic), (1, 0), "the source has appended");

    proxy.switch();
    let again = |batch: Bytes| {
        runtime.block_on(soon(async { Raw::connect(&proxy.bootstrap()).await.produce(&topic, 0, batch).await }))
    };
    assert_eq!(again(first).0, 0, "gate: {gate}: a success, as it was one");
    let copies = if gate { 0 } else { 1 };
    assert_eq!(stored(rig, &topic), (1, copies), "gate: {gate}");
    assert_eq!(again(batch(pid, 1)), (0, 1 + copies as i64), "gate: {gate}: and on it goes");
    assert_eq!(stored(rig, &topic), (1, copies + 1), "gate: {gate}");
    proxy.stop();
}

/// Records on the source and on the target.
fn stored(rig: &Rig, topic: &str) -> (usize, usize) {
    let log = WholeLog::read(rig, topic);
    (log.records(Side::Source), log.records(Side::Target))
}

/// One record, of today: real Kafka deletes what is older than its retention.
fn batch(pid: i64, sequence: i32) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    encode(Plan { timestamp: now as i64, ..idempotent(pid, 0, sequence, 1) })
}

/// A producer id, as the proxy gives it.
async fn producer(proxy: &Proxy) -> i64 {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1_000);
    let mut raw = Raw::connect(&proxy.bootstrap()).await;
    loop {
        let answer = raw.ask(&request, 4).await;
        // What a broker says until the controller has given it its first block of ids.
        if answer.error_code != E::CoordinatorLoadInProgress.code() {
            assert_eq!(answer.error_code, 0);
            return answer.producer_id.0;
        }
    }
}

/// Ends a test that would wait for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}

/// Between the proxy and the source.
struct Relay {
    address: String,
    armed: Arc<AtomicBool>,
    cuts: mpsc::Receiver<()>,
}

impl Relay {
    /// The relay's address is known before the cluster's, and is what the cluster advertises.
    async fn before_a_source(rig: &Rig) -> (Self, Own) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let advertised = format!("advertised.listeners=PLAINTEXT://{address}");
        let cluster = Own::start(rig, Side::Source, 1, &[advertised]);
        let source = cluster.bootstrap();
        let (armed, (tell, cuts)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let relay = Self { address, armed: armed.clone(), cuts };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, source.clone(), armed.clone(), tell.clone()));
            }
        });
        (relay, cluster)
    }

    /// The next produce that comes is the one.
    fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether it has kept an answer for itself since the last time.
    fn has_cut(&self) -> bool {
        self.cuts.try_recv().is_ok()
    }
}

/// One connection, until either side ends it, or the relay both.
async fn pass(client: TcpStream, source: String, armed: Arc<AtomicBool>, tell: mpsc::Sender<()>) {
    let Ok(broker) = TcpStream::connect(&source).await else { return };
    let ((mut requests, mut to_client), (mut answers, mut to_broker)) = (client.into_split(), broker.into_split());
    // The correlation id of the request whose answer is to be lost.
    let lost = Mutex::new(None);
    let there = async {
        while let Some(frame) = frame(&mut requests).await {
            if key(&frame) == ApiKey::Produce as i16 && armed.swap(false, Ordering::SeqCst) {
                *lost.lock().unwrap() = Some(frame[4..8].to_vec());
            }
            if !send(&mut to_broker, &frame).await {
                break;
            }
        }
    };
    let back = async {
        while let Some(frame) = frame(&mut answers).await {
            if lost.lock().unwrap().as_deref() == Some(&frame[..4]) {
                let _ = tell.send(()); // the test may have failed already
                return;
            }
            if !send(&mut to_client, &frame).await {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

fn key(request: &[u8]) -> i16 {
    i16::from_be_bytes([request[0], request[1]])
}

async fn frame(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).ok()?];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), frame: &[u8]) -> bool {
    to.write_i32(frame.len() as i32).await.is_ok() && to.write_all(frame).await.is_ok()
}
