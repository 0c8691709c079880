//! What does a broker that says nothing any more cost the partitions of the others? One consumer of all partitions, first
//! straight at the source and then through the proxy; one of the source's brokers is stopped (SIGSTOP) for a while and
//! goes on. Told is how long records of the *other* brokers' partitions took from the moment they were sent until they
//! were read: at most the client's `fetch.wait.max.ms` and 100 ms more is the aim. They are sent straight to the source, so
//! that nothing but the reading waits.
//!
//! `KAFKA_CUTOVER_RIG=DIR` names clusters that `tests/kafka/rig` has started and nobody else is using.
#![expect(clippy::disallowed_methods, reason = "io: measures")]

#[path = "bed/proxy.rs"]
mod proxy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use proxy::Proxy;

const PARTITIONS: i32 = 30;
/// Records a second, over all partitions that are produced to.
const RATE: u64 = 200;
const MAX_WAIT: &str = "500";
const BEFORE: Duration = Duration::from_secs(5);
const STOPPED: Duration = Duration::from_secs(8);
/// For the partitions of the stopped one to come back.
const AFTER: Duration = Duration::from_secs(60);

static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> Result<()> {
    let Some(rig) = std::env::var_os("KAFKA_CUTOVER_RIG").map(PathBuf::from) else {
        println!("silent: needs KAFKA_CUTOVER_RIG=DIR, clusters that nobody else is using");
        return Ok(());
    };
    let source = cluster(&rig, "source")?;
    let [direct, target] = [bootstrap(&source)?, bootstrap(&cluster(&rig, "target")?)?];
    let proxy = Proxy::start(&direct, &target, &[])?;
    println!("{PARTITIONS} partitions, {RATE} records/s, fetch.wait.max.ms={MAX_WAIT}; milliseconds from sent to read");
    println!(
        "| | fetch.min.bytes | before: p50 | max | a broker stopped: p50 | max | its own partitions' first after it went on |"
    );
    println!("|---|---|---|---|---|---|---|");
    for min_bytes in ["1", "100000"] {
        for (way, address) in [("direct", direct.join(",")), ("proxy", proxy.address.clone())] {
            one(&source, way, &direct.join(","), &address, min_bytes)?;
        }
    }
    Ok(())
}

fn one(source: &Value, way: &str, direct: &str, address: &str, min_bytes: &str) -> Result<()> {
    let topic = format!("silent-{}-{way}-{min_bytes}", std::process::id());
    let leaders = create(direct, &topic)?;
    // Not the first: a combined node, and the active controller is likely to be that.
    let nodes = source["nodes"].as_array().context("nodes")?;
    let victim = nodes.last().context("no node")?;
    let (id, pid) = (victim["id"].as_i64().context("id")?, victim["pid"].as_i64().context("pid")?);
    let (theirs, others): (Vec<i32>, Vec<i32>) = (0..PARTITIONS).partition(|p| i64::from(leaders[p]) == id);
    ensure!(!theirs.is_empty() && !others.is_empty(), "leaders are not spread: {leaders:?}");

    STOP.store(false, Ordering::Relaxed);
    let began = Instant::now();
    let reader = read(began, topic.clone(), address, min_bytes)?;
    let sender = send(began, topic.clone(), direct, others)?;
    sleep(BEFORE);
    let stopped = began.elapsed();
    signal("STOP", pid)?;
    sleep(STOPPED);
    let went_on = began.elapsed();
    signal("CONT", pid)?;
    // One record for each of its partitions.
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", direct).create()?;
    for partition in &theirs {
        put(&producer, &topic, *partition, began.elapsed())?;
    }
    producer.flush(AFTER)?;
    sleep(Duration::from_secs(3));
    STOP.store(true, Ordering::Relaxed);
    let Ok(sent) = sender.join() else { bail!("the sender panicked") };
    let Ok(seen) = reader.join() else { bail!("the reader panicked") };
    let (sent, seen) = (sent?, seen?);
    let expected = sent + theirs.len();
    ensure!(seen.len() == expected, "{way}: {expected} sent, {} read", seen.len());
    let waits = |from: Duration, to: Duration| -> Vec<f64> {
        let meant = seen.iter().filter(|(p, at, _)| !theirs.contains(p) && *at >= from && *at < to);
        let mut waits: Vec<f64> = meant.map(|(_, at, read)| (*read - *at).as_secs_f64() * 1e3).collect();
        waits.sort_by(f64::total_cmp);
        waits
    };
    let calm = waits(Duration::from_secs(2), stopped);
    let without = waits(stopped, went_on);
    let own = seen.iter().filter(|(p, _, _)| theirs.contains(p)).map(|(_, _, read)| *read - went_on).min();
    println!(
        "| {way} | {min_bytes} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
        calm[calm.len() / 2],
        calm[calm.len() - 1],
        without[without.len() / 2],
        without[without.len() - 1],
        own.unwrap_or_default().as_secs_f64() * 1e3
    );
    Ok(())
}

/// Partition, sent, read.
type Read = JoinHandle<Result<Vec<(i32, Duration, Duration)>>>;

fn read(began: Instant, topic: String, address: &str, min_bytes: &str) -> Result<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", MAX_WAIT)
        .set("fetch.min.bytes", min_bytes)
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    Ok(std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut quiet = Instant::now();
        while !STOP.load(Ordering::Relaxed) || quiet.elapsed() < Duration::from_secs(3) {
            // Errors are the stopped broker's.
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let sent = message.payload().and_then(|p| p.first_chunk()).context("a record without its time")?;
            seen.push((message.partition(), Duration::from_micros(u64::from_be_bytes(*sent)), began.elapsed()));
            quiet = Instant::now();
        }
        Ok(seen)
    }))
}

fn send(began: Instant, topic: String, direct: &str, partitions: Vec<i32>) -> Result<JoinHandle<Result<usize>>> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", direct).set("linger.ms", "1").set("acks", "1").create()?;
    Ok(std::thread::spawn(move || {
        let mut n = 0;
        while !STOP.load(Ordering::Relaxed) {
            sleep(Duration::from_micros(n as u64 * 1_000_000 / RATE).saturating_sub(began.elapsed()));
            put(&producer, &topic, partitions[n % partitions.len()], began.elapsed())?;
            producer.poll(Duration::ZERO);
            n += 1;
        }
        producer.flush(AFTER)?;
        Ok(n)
    }))
}

fn put(producer: &BaseProducer, topic: &str, partition: i32, at: Duration) -> Result<()> {
    let mut payload = [b'x'; 100];
    payload[..8].copy_from_slice(&u64::try_from(at.as_micros())?.to_be_bytes());
    let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(&payload);
    producer.send(record).map_err(|(e, _)| e.into())
}

/// One replica each, so that a stopped broker is nobody else's follower. The leaders.
fn create(direct: &str, topic: &str) -> Result<BTreeMap<i32, i32>> {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", direct).create()?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for made in runtime.block_on(admin.create_topics(&[new], &options))? {
        made.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let leaders = seen.topics().iter().flat_map(|t| t.partitions()).filter(|p| p.leader() >= 0);
        let leaders: BTreeMap<i32, i32> = leaders.map(|p| (p.id(), p.leader())).collect();
        if leaders.len() == PARTITIONS as usize {
            return Ok(leaders);
        }
        ensure!(Instant::now() < until, "{topic}: {} partitions have a leader", leaders.len());
        sleep(Duration::from_millis(100));
    }
}

fn signal(signal: &str, pid: i64) -> Result<()> {
    let done = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status()?;
    ensure!(done.success(), "kill -{signal} {pid}");
    Ok(())
}

fn cluster(rig: &Path, name: &str) -> Result<Value> {
    let file = rig.join(name).join("cluster.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

fn bootstrap(cluster: &Value) -> Result<Vec<String>> {
    Ok(serde_json::from_value(cluster["bootstrap"].clone())?)
}
