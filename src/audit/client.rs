//! A real client library under audit: librdkafka's settings, and a context through which it says everything it has to
//! say as events. The proof must not come from our own code, so nothing here retries, hides or repairs.
#![expect(clippy::disallowed_methods, reason = "io: stamps events with the clock")]

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{Message, Offset};

use super::event::{Event, What};
use super::record;

/// What librdkafka is called in the allow-list.
pub const LIB: &str = "librdkafka";

/// Totals that a progress line shows while a run goes on.
#[derive(Default, Debug)]
pub struct Counters {
    pub sent: AtomicU64,
    pub acked: AtomicU64,
    pub failed: AtomicU64,
    pub received: AtomicU64,
    /// The longest produce pause so far, in microseconds: see [`Voice::waited`].
    pub pause_us: AtomicU64,
}

/// One client's way to the judge.
pub struct Voice {
    pub name: String,
    events: Sender<Event>,
    start: Instant,
    pub counters: Arc<Counters>,
    /// Set before the client is closed: what it logs from then on is its ordinary end.
    closing: AtomicBool,
    first_ack: OnceLock<Instant>,
    /// The first record's fate is known.
    pub warm: AtomicBool,
}

impl Voice {
    pub fn new(name: String, events: Sender<Event>, start: Instant, counters: Arc<Counters>) -> Arc<Self> {
        let voice = Self {
            name,
            events,
            start,
            counters,
            closing: AtomicBool::new(false),
            first_ack: OnceLock::new(),
            warm: AtomicBool::new(false),
        };
        voice.say(What::Ready { lib: Some(LIB.to_owned()) });
        Arc::new(voice)
    }

    pub fn say(&self, what: What) {
        let event = Event::new(self.start.elapsed().as_secs_f64(), self.name.clone(), what);
        // The judge goes last; without it there is nobody left to tell.
        let _ = self.events.send(event);
    }

    pub fn error(&self, text: String) {
        self.say(What::Log { level: "ERROR".to_owned(), text });
    }

    /// From now on the client is on its way out.
    pub fn closing(&self) {
        self.closing.store(true, Relaxed);
    }

    /// The produce pause is the longest that any record waited for its acknowledgement since it was due, not since it
    /// was sent (open loop: a record that a full queue kept back has waited too). Records due before their producer's
    /// first acknowledgement are left out: they waited for connections and metadata.
    fn waited(&self, due: Instant) {
        let now = Instant::now();
        let first = *self.first_ack.get_or_init(|| now);
        if due >= first {
            let waited = now.saturating_duration_since(due).as_micros();
            self.counters.pause_us.fetch_max(u64::try_from(waited).unwrap_or(u64::MAX), Relaxed);
        }
    }
}

/// The context of a client: its voice.
#[derive(Clone)]
pub struct Speaking(pub Arc<Voice>);

impl ClientContext for Speaking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let loud = matches!(
            level,
            RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error
                | RDKafkaLogLevel::Warning
        );
        // CONFWARN speaks of the caller's own settings (`-X`), not of the cluster.
        let loud = loud && facility != "CONFWARN";
        let level = if loud && !self.0.closing.load(Relaxed) { format!("{level:?}") } else { "INFO".to_owned() };
        self.0.say(What::Log { level, text: format!("{facility}: {text}") });
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let level = if self.0.closing.load(Relaxed) { "INFO" } else { "ERROR" };
        self.0.say(What::Log { level: level.to_owned(), text: format!("{error}: {reason}") });
    }
}

/// What a delivery report needs to know of its record.
pub struct Sent {
    pub seq: u64,
    pub key: u64,
    pub id: u64,
    pub due: Instant,
}

impl ProducerContext for Speaking {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        self.0.warm.store(true, Relaxed);
        let (seq, id, key) = (sent.seq, sent.id, record::key(sent.key));
        match result {
            Ok(message) => {
                self.0.waited(sent.due);
                self.0.counters.acked.fetch_add(1, Relaxed);
                let (partition, offset) = (message.partition().to_string(), message.offset());
                self.0.say(What::Ack { seq, key, id, partition, offset: (offset >= 0).then_some(offset) });
            }
            Err((error, _)) => {
                self.0.counters.failed.fetch_add(1, Relaxed);
                self.0.say(What::Fail { seq, key, id: Some(id), error: error.to_string() });
            }
        }
    }
}

impl ConsumerContext for Speaking {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            // What was received is committed before somebody else gets the partition.
            self.committed(consumer.commit_consumer_state(CommitMode::Sync));
            self.0.say(What::Revoke { partitions: labels(list) });
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.0.say(What::Assign { partitions: labels(list) }),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => self.0.error(format!("rebalance: {error}")),
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        self.committed(result);
    }
}

impl Speaking {
    /// Reports a commit; that there was nothing to commit is no failure.
    pub fn committed(&self, result: Result<(), KafkaError>) {
        let error = match result {
            Ok(()) => None,
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset) => return,
            Err(error) => Some(error),
        };
        let (ok, error) = (error.is_none(), error.map(|e| e.to_string()).unwrap_or_default());
        self.0.say(What::Commit { ok, error });
    }
}

fn labels(list: &TopicPartitionList) -> Vec<String> {
    list.elements().iter().map(|e| e.partition().to_string()).collect()
}

/// Settings that every client of a run shares, the caller's own last.
pub fn settings(bootstrap: &str, name: &str, properties: &[(String, String)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("client.id", name);
    // Warnings and errors are judged; librdkafka's chatter below is not even formatted.
    config.set_log_level(RDKafkaLogLevel::Notice);
    for (key, value) in properties {
        config.set(key, value);
    }
    config
}

/// A list of all partitions of a topic, each at an offset.
pub fn positions(topic: &str, offsets: &[i64]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(topic, partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}
