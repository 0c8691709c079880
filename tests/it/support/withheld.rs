//! A source whose answer to one produce is withheld: for ever, as when the connection is lost, or until the test lets it go,
//! and until then a seal has to wait. No client can do that on purpose, and neither can Kafka: the cluster's one node
//! advertises a relay between the proxy and it, which passes everything on in both directions until it is armed.

use std::sync::{Arc, Mutex, mpsc};

use kafka_cutover::ids::Side;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::own::Own;
use super::rig::Rig;

/// What becomes of the answer to the next produce.
enum Fate {
    Passed,
    /// Its connection ends instead.
    Lost,
    /// When this is true, or nobody is left to say so.
    Waits(watch::Receiver<bool>),
}

pub struct Withheld {
    pub address: String,
    next: Arc<Mutex<Next>>,
    kept: mpsc::Receiver<()>,
}

/// The fate of the next produce whose request has this in it.
struct Next {
    names: Vec<u8>,
    fate: Fate,
}

impl Withheld {
    /// The relay's address is known before the cluster's, and is what the cluster advertises.
    pub async fn before_a_source(rig: &Rig, properties: &[String]) -> (Self, Own) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let advertised = format!("advertised.listeners=PLAINTEXT://{address}");
        let cluster = Own::start(rig, Side::Source, 1, &[&[advertised], properties].concat());
        let source = cluster.bootstrap();
        let (next, (tell, kept)) =
            (Arc::new(Mutex::new(Next { names: Vec::new(), fate: Fate::Passed })), mpsc::channel());
        let relay = Self { address, next: next.clone(), kept };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, source.clone(), next.clone(), tell.clone()));
            }
        });
        (relay, cluster)
    }

    /// The answer to the next produce that comes is lost.
    pub fn lose(&self) {
        *self.next.lock().unwrap() = Next { names: Vec::new(), fate: Fate::Lost };
    }

    /// The answer to the next produce that comes for a topic waits until `true` is sent.
    pub fn withhold(&self, topic: &str) -> watch::Sender<bool> {
        let (release, released) = watch::channel(false);
        *self.next.lock().unwrap() = Next { names: topic.as_bytes().to_vec(), fate: Fate::Waits(released) };
        release
    }

    /// Whether it has kept an answer since the last time.
    pub fn has_kept(&self) -> bool {
        self.kept.try_recv().is_ok()
    }
}

/// One connection, until either side ends it, or the relay both.
async fn pass(client: TcpStream, source: String, next: Arc<Mutex<Next>>, tell: mpsc::Sender<()>) {
    let Ok(broker) = TcpStream::connect(&source).await else { return };
    let ((mut requests, mut to_client), (mut answers, mut to_broker)) = (client.into_split(), broker.into_split());
    // The correlation id of the request whose answer is to be kept, and what becomes of it.
    let kept = Mutex::new(None);
    let there = async {
        while let Some(frame) = frame(&mut requests).await {
            if key(&frame) == ApiKey::Produce as i16 {
                let mut next = next.lock().unwrap();
                let named = next.names.is_empty() || frame.windows(next.names.len()).any(|part| part == next.names);
                let fate = if named { std::mem::replace(&mut next.fate, Fate::Passed) } else { Fate::Passed };
                drop(next);
                if !matches!(fate, Fate::Passed) {
                    *kept.lock().unwrap() = Some((frame[4..8].to_vec(), fate));
                }
            }
            if !send(&mut to_broker, &frame).await {
                break;
            }
        }
    };
    let back = async {
        while let Some(frame) = frame(&mut answers).await {
            let this = |(id, _): &mut (Vec<u8>, Fate)| *id == frame[..4];
            let fate = kept.lock().unwrap().take_if(this).map_or(Fate::Passed, |(_, fate)| fate);
            if !matches!(fate, Fate::Passed) {
                let _ = tell.send(()); // the test may have failed already
            }
            match fate {
                Fate::Passed => {}
                Fate::Lost => return,
                Fate::Waits(mut released) => drop(released.wait_for(|so| *so).await),
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
