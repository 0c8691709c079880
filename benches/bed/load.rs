//! An open-loop producer and a consumer on librdkafka: record n is meant to leave at n / rate, whatever became of those
//! before it, and carries its number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, ClientContext};

/// A record, in time since the load began.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub meant: Duration,
    pub done: Duration,
}

impl Record {
    /// Milliseconds.
    pub fn waited(&self) -> f64 {
        self.done.saturating_sub(self.meant).as_secs_f64() * 1e3
    }
}

/// What came of it.
#[derive(Default, Debug)]
pub struct Seen {
    pub produced: Vec<Record>,
    /// When each record was read.
    pub received: Vec<Duration>,
    pub errors: Vec<String>,
}

pub struct Load {
    began: Instant,
    topic: String,
    partitions: i32,
    rate: usize,
    size: usize,
    producer: ThreadedProducer<Answers>,
    consumer: BaseConsumer,
    stop: AtomicBool,
}

pub struct Running {
    load: Arc<Load>,
    sender: JoinHandle<u64>,
    reader: JoinHandle<Result<Vec<(u64, Duration)>>>,
}

/// The producer's answers.
pub struct Answers {
    began: Instant,
    seen: Mutex<(Vec<Record>, Vec<String>)>,
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<Duration>;

    fn delivery(&self, result: &DeliveryResult<'_>, meant: Self::DeliveryOpaque) {
        let done = self.began.elapsed();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => seen.0.push(Record { meant: *meant, done }),
            Err((error, _)) => seen.1.push(error.to_string()),
        }
    }
}

impl Load {
    pub fn new(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        rate: usize,
        size: usize,
        linger_ms: usize,
    ) -> Result<Self> {
        let began = Instant::now();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms.to_string())
            .create_with_context(Answers { began, seen: Mutex::default() })?;
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "none")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let stop = AtomicBool::new(false);
        Ok(Self { began, topic: topic.to_owned(), partitions, rate, size, producer, consumer, stop })
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Milliseconds, of the records that were meant to leave since then and are through.
    pub fn longest_wait_since(&self, from: Duration) -> f64 {
        let seen = self.producer.context().seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0
            .iter()
            .rev()
            .take_while(|r| r.done >= from)
            .filter(|r| r.meant >= from)
            .map(Record::waited)
            .fold(0.0, f64::max)
    }

    pub fn start(self: Arc<Self>) -> Running {
        let (load, send, read) = (self.clone(), self.clone(), self);
        let sender = std::thread::spawn(move || send.send());
        let reader = std::thread::spawn(move || read.read());
        Running { load, sender, reader }
    }

    /// How many were sent.
    fn send(&self) -> u64 {
        let mut payload = vec![b'x'; self.size.max(8)];
        let mut n = 0u64;
        while !self.stop.load(Ordering::Relaxed) {
            let meant = Duration::from_secs_f64(n as f64 / self.rate as f64);
            sleep(meant.saturating_sub(self.began.elapsed()));
            payload[..8].copy_from_slice(&n.to_be_bytes());
            let mut record = BaseRecord::<(), [u8], _>::with_opaque_to(&self.topic, Box::new(meant))
                .partition((n % self.partitions as u64) as i32)
                .payload(&payload);
            while let Err((_, again)) = self.producer.send(record) {
                record = again; // its queue is full: what waits is late, and shows
                sleep(Duration::from_millis(1));
            }
            n += 1;
        }
        n
    }

    fn read(&self) -> Result<Vec<(u64, Duration)>> {
        let mut seen = Vec::new();
        let mut quiet = Instant::now();
        // After the stop: until nothing has come for a while.
        while !self.stop.load(Ordering::Relaxed) || quiet.elapsed() < Duration::from_secs(2) {
            let Some(message) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message?;
            let number = message.payload().and_then(|p| p.first_chunk()).context("a record without a number")?;
            seen.push((u64::from_be_bytes(*number), self.elapsed()));
            quiet = Instant::now();
        }
        Ok(seen)
    }
}

impl Running {
    /// Waits for every answer, and sees that each record was read once.
    pub fn stop(self) -> Result<Seen> {
        let Self { load, sender, reader } = self;
        load.stop.store(true, Ordering::Relaxed);
        let Ok(sent) = sender.join() else { bail!("the sender panicked") };
        load.producer.flush(Duration::from_secs(60))?;
        let Ok(read) = reader.join() else { bail!("the reader panicked") };
        let read = read?;
        let mut numbers: Vec<u64> = read.iter().map(|(n, _)| *n).collect();
        numbers.sort_unstable();
        ensure!(numbers.iter().copied().eq(0..sent), "{sent} sent, {} read: lost or doubled", numbers.len());
        let seen = std::mem::take(&mut *load.producer.context().seen.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Seen { produced: seen.0, received: read.into_iter().map(|(_, at)| at).collect(), errors: seen.1 })
    }
}

/// Milliseconds between two neighbours, looked for from `from` to `to`.
pub fn longest_gap(mut seen: Vec<Duration>, from: Duration, to: Duration) -> f64 {
    seen.sort_unstable();
    let ends = seen.windows(2).filter(|w| w[1] >= from && w[0] <= to);
    ends.map(|w| (w[1] - w[0]).as_secs_f64() * 1e3).fold(0.0, f64::max)
}
