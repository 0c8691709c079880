//! Audit traffic: producers in an open loop and one consumer group, all librdkafka, judged as it flows.
//!
//! One thread per client and one for the judge. `start` returns when the whole group has its partitions, so that
//! what follows is a stream and not a start; `finish` when the readers have everything, or wait in vain.
#![expect(clippy::disallowed_methods, reason = "io: drives clients in real time")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::check::Checker;
use super::client::{Counters, Sent, Speaking, Voice, settings};
use super::event::{Event, Tally, What};
use super::expect::{Expectations, Producing, Reading};
use super::record::{self, Record};

/// Keys of each producer.
const KEYS: u64 = 64;
/// Size of a value, padding included.
const VALUE_SIZE: usize = 128;
/// Between two records of a producer that waits for its release.
const TRICKLE: Duration = Duration::from_millis(20);
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// After the last record was received: time for one too many to show.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub struct Plan {
    pub bootstrap: String,
    pub topic: String,
    pub partitions: usize,
    /// Codec of each producer.
    pub producers: Vec<&'static str>,
    pub members: usize,
    pub group: String,
    /// Records per second, all producers together.
    pub rate: f64,
    pub records: u64,
    /// How many of them, at the end of the stream, only trickle until [`Traffic::release`]: what happens in its middle must not find
    /// it over, however slow the clusters are.
    pub held_back: u64,
    /// Properties of every client, over everything set here.
    pub properties: Vec<(String, String)>,
    /// The topic holds records of others: what is not ours is passed over.
    pub shared_topic: bool,
    /// How long the group, and then the readers, may stand still.
    pub patience: Duration,
}

pub struct Traffic {
    plan: Plan,
    pub counters: Arc<Counters>,
    judge: JoinHandle<Checker>,
    events: Sender<Event>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
    reading_ends: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
    /// Dropped to stop the producers before they are through.
    go_on: Vec<Sender<()>>,
}

impl Plan {
    /// Names tell runs on one topic apart.
    pub fn producer_names(&self) -> Vec<String> {
        (0..self.producers.len()).map(|i| format!("{}-p{i}", self.group)).collect()
    }

    fn member_names(&self) -> Vec<String> {
        (0..self.members).map(|i| format!("{}-c{i}", self.group)).collect()
    }

    /// What the settings promise: the caller's own properties may have weakened them.
    pub fn promise(&self) -> Producing {
        let last = |names: &[&str]| self.properties.iter().rev().find(|(k, _)| names.contains(&k.as_str()));
        let acks = last(&["acks", "request.required.acks"]).map_or("all", |(_, v)| v.as_str());
        let idempotent = last(&["enable.idempotence"]).is_none_or(|(_, v)| v != "false");
        match (acks, idempotent) {
            ("0", _) => Producing::acks_none(false),
            ("1", _) => Producing::acks_one(false),
            (_, false) => Producing::acks_all(),
            _ => Producing::idempotent(),
        }
    }

    fn expectations(&self) -> Expectations {
        let mut expect = Expectations::default();
        for name in self.producer_names() {
            expect = expect.producing(&name, self.promise());
        }
        for name in self.member_names() {
            expect = expect.reading(&name, Reading::group(&self.group));
        }
        expect
    }
}

impl Traffic {
    pub fn start(plan: Plan) -> Result<Self> {
        let (events, heard) = channel::<Event>();
        let mut checker = Checker::new(plan.expectations());
        let judge = std::thread::Builder::new().name("judge".into()).spawn(move || {
            for event in heard {
                checker.event(&event);
            }
            checker
        })?;
        let counters = Arc::new(Counters::default());
        let mut traffic = Self {
            counters: counters.clone(),
            judge,
            events,
            producers: Vec::new(),
            consumers: Vec::new(),
            reading_ends: Arc::default(),
            released: Arc::default(),
            go_on: Vec::new(),
            plan,
        };
        let start = Instant::now();
        match traffic.start_group(start).and_then(|()| traffic.start_producers(start)) {
            Ok(()) => Ok(traffic),
            Err(error) => {
                // The threads that run already end by themselves.
                traffic.reading_ends.store(true, Relaxed);
                Err(error)
            }
        }
    }

    fn start_group(&mut self, start: Instant) -> Result<()> {
        let plan = &self.plan;
        let ours: Arc<HashSet<String>> = Arc::new(plan.producer_names().into_iter().collect());
        let assigned: Vec<Arc<AtomicUsize>> = (0..plan.members).map(|_| Arc::default()).collect();
        for (name, assigned) in plan.member_names().into_iter().zip(&assigned) {
            let mut config = settings(&plan.bootstrap, &name, &[]);
            config.set("group.id", &plan.group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
            for (key, value) in &plan.properties {
                config.set(key, value);
            }
            let voice = Voice::new(name.clone(), self.events.clone(), start, self.counters.clone());
            let consumer = config.create_with_context(Speaking(voice)).context("a consumer")?;
            let member = Member {
                consumer,
                ours: ours.clone(),
                shared_topic: plan.shared_topic,
                assigned: assigned.clone(),
                ends: self.reading_ends.clone(),
            };
            member.consumer.subscribe(&[&plan.topic]).context("subscribing")?;
            self.consumers.push(std::thread::Builder::new().name(name).spawn(move || member.read())?);
        }
        // Members come one by one and the group rebalances as they do: the stream begins when that is over.
        let (deadline, step) = (Instant::now() + plan.patience, Duration::from_millis(20));
        let busy = plan.members.min(plan.partitions);
        loop {
            let counts: Vec<usize> = assigned.iter().map(|a| a.load(Relaxed)).collect();
            let members = counts.iter().filter(|n| **n > 0).count();
            if counts.iter().sum::<usize>() == plan.partitions && members == busy {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the consumer group did not come together: partitions per member {counts:?}");
            }
            std::thread::sleep(step);
        }
    }

    fn start_producers(&mut self, start: Instant) -> Result<()> {
        let plan = &self.plan;
        let count = plan.producers.len() as u64;
        for ((number, name), codec) in (0..).zip(plan.producer_names()).zip(&plan.producers) {
            let mut config = settings(&plan.bootstrap, &name, &[]);
            config.set("enable.idempotence", "true").set("acks", "all").set("compression.type", *codec);
            config.set("message.timeout.ms", "60000").set("linger.ms", "5");
            for (key, value) in &plan.properties {
                config.set(key, value);
            }
            let voice = Voice::new(name.clone(), self.events.clone(), start, self.counters.clone());
            let producer: ThreadedProducer<Speaking> =
                config.create_with_context(Speaking(voice.clone())).context("a producer")?;
            let (go_on, stopped) = channel();
            self.go_on.push(go_on);
            let records = plan.records / count + u64::from(number < plan.records % count);
            let writer = Writer {
                producer,
                voice,
                topic: plan.topic.clone(),
                records,
                trickles_from: records - (plan.held_back / count).min(records),
                released: self.released.clone(),
                every: Duration::from_secs_f64(count as f64 / plan.rate),
                stopped,
                patience: plan.patience,
            };
            self.producers.push(std::thread::Builder::new().name(name).spawn(move || writer.write())?);
        }
        Ok(())
    }

    pub fn is_producing(&self) -> bool {
        self.producers.iter().any(|p| !p.is_finished())
    }

    /// The records that were held back may come as fast as the others.
    pub fn release(&self) {
        self.released.store(true, Relaxed);
    }

    /// Ends the stream early; what was sent is still judged.
    pub fn stop_producing(&mut self) {
        self.go_on.clear();
    }

    /// Waits for the producers and the readers, lets `more` add what it knows (dumps), and judges.
    pub fn finish(self, more: impl FnOnce(&mut Checker) -> Result<()>) -> Result<super::Verdict> {
        for producer in self.producers {
            producer.join().map_err(|_| anyhow!("a producer's thread panicked"))?;
        }
        let acked = self.counters.acked.load(Relaxed);
        let mut last = (0, Instant::now());
        loop {
            let received = self.counters.received.load(Relaxed);
            if received != last.0 {
                last = (received, Instant::now());
            }
            let patience = if received >= acked { QUIET } else { self.plan.patience };
            if last.1.elapsed() > patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.reading_ends.store(true, Relaxed);
        for consumer in self.consumers {
            consumer.join().map_err(|_| anyhow!("a consumer's thread panicked"))?;
        }
        drop(self.events);
        let mut checker = self.judge.join().map_err(|_| anyhow!("the judge's thread panicked"))?;
        more(&mut checker)?;
        Ok(checker.finish())
    }
}

struct Writer {
    producer: ThreadedProducer<Speaking>,
    voice: Arc<Voice>,
    topic: String,
    records: u64,
    trickles_from: u64,
    released: Arc<AtomicBool>,
    /// Time between two records.
    every: Duration,
    stopped: Receiver<()>,
    patience: Duration,
}

impl Writer {
    fn write(self) {
        let mut sent = 0;
        let mut begin = Instant::now();
        'stream: for seq in 0..self.records {
            if seq >= self.trickles_from && !self.released.load(Relaxed) {
                begin += TRICKLE.saturating_sub(self.every);
            }
            let due = begin + Duration::from_secs_f64(self.every.as_secs_f64() * seq as f64);
            loop {
                let early = due.saturating_duration_since(Instant::now());
                if early.is_zero() {
                    break;
                }
                match self.stopped.recv_timeout(early) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break 'stream,
                }
            }
            self.send(seq, due);
            sent += 1;
            if seq == 0 {
                self.warm_up();
                begin = Instant::now();
            }
        }
        // An error only says that some are left: their outcome, or its absence, is judged.
        let _ = self.producer.flush(self.patience);
        self.voice.closing();
        drop(self.producer); // its thread ends with the last delivery report
        self.voice.say(What::Done(Tally { sent: Some(sent), ..Tally::default() }));
    }

    /// The stream begins when the first record's fate is known: connections, metadata and producer id are there then.
    fn warm_up(&self) {
        let deadline = Instant::now() + self.patience;
        while !self.voice.warm.load(Relaxed) && Instant::now() < deadline {
            if let Err(RecvTimeoutError::Disconnected) = self.stopped.recv_timeout(Duration::from_millis(2)) {
                return;
            }
        }
    }

    /// Hands one record over; a full queue is waited for, and the wait counts from when the record was due.
    fn send(&self, seq: u64, due: Instant) {
        let (number, id) = (seq % KEYS, rand::random::<u64>());
        let key = record::key(number);
        let value = Record { producer: &self.voice.name, seq, key: &key, id }.encode(VALUE_SIZE);
        self.voice.say(What::Send { seq, key: key.clone(), id });
        self.voice.counters.sent.fetch_add(1, Relaxed);
        let sent = Box::new(Sent { seq, key: number, id, due });
        let mut record = BaseRecord::with_opaque_to(&self.topic, sent).key(&key).payload(&value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, back)) => {
                    let error = error.to_string();
                    self.voice.counters.failed.fetch_add(1, Relaxed);
                    self.voice.say(What::Fail { seq, key: record::key(back.delivery_opaque.key), id: Some(id), error });
                    return;
                }
            }
        }
    }
}

struct Member {
    consumer: BaseConsumer<Speaking>,
    ours: Arc<HashSet<String>>,
    shared_topic: bool,
    assigned: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Member {
    fn read(self) {
        let speaking = Speaking(self.consumer.context().0.clone());
        let voice = &speaking.0;
        let mut received = 0;
        let mut commit = Instant::now() + COMMIT_EVERY;
        while !self.ends.load(Relaxed) {
            match self.consumer.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    let payload = message.payload().unwrap_or_default();
                    let record = Record::parse(payload);
                    let ours = matches!(&record, Ok(r) if self.ours.contains(r.producer));
                    if !ours && self.shared_topic {
                        continue;
                    }
                    // The padding has been looked at by `parse`; damaged values go to the judge as they are.
                    let value =
                        record.map_or_else(|_| String::from_utf8_lossy(payload).into_owned(), |r| r.to_string());
                    let key = message.key().map(|k| String::from_utf8_lossy(k).into_owned());
                    received += 1;
                    voice.counters.received.fetch_add(1, Relaxed);
                    let partition = message.partition().to_string();
                    voice.say(What::Recv { partition, offset: message.offset(), value, key });
                }
                Some(Err(error)) => voice.error(format!("poll: {error}")),
                None => {
                    let count = self.consumer.assignment().map_or(0, |a| a.count());
                    self.assigned.store(count, Relaxed);
                }
            }
            if Instant::now() >= commit {
                commit = Instant::now() + COMMIT_EVERY;
                if let Err(error) = self.consumer.commit_consumer_state(CommitMode::Async) {
                    speaking.committed(Err(error));
                }
            }
        }
        speaking.committed(self.consumer.commit_consumer_state(CommitMode::Sync));
        voice.closing();
        drop(self.consumer);
        voice.say(What::Done(Tally { received: Some(received), ..Tally::default() }));
    }
}
