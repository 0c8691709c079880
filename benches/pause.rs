//! How long does a switch hold produce? An open-loop producer and a consumer of a topic of 100 partitions, through the
//! proxy; latencies count from the moment a record was meant to be sent, so that a wait shows in all that it delayed.
//!
//! On in-memory clusters, or with `KAFKA_CUTOVER_RIG=DIR` on the clusters `source` and `target` that `tests/kafka/rig`
//! started in DIR. There the load is a fifth, and each partition has one replica unless `REPLICAS` says otherwise:
//! librdkafka sends a request for each partition, so 100 partitions make as many requests as records, and what is
//! measured is to be the switch and not brokers that fall behind. A pause is told beside the longest wait of a window
//! of the same length without a switch.
#![expect(clippy::disallowed_methods, reason = "io: measures")]

#[path = "bed/load.rs"]
mod load;
#[path = "bed/proxy.rs"]
mod proxy;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use serde_json::Value;

use load::{Load, Record, Seen};
use proxy::Proxy;

const PARTITIONS: i32 = 100;
/// Each of a topic of its own.
const SWITCHES: usize = 5;
/// Warmed up once the longest waits of this many seconds, one after the other, lie within a factor of each other.
const STEADY_SECONDS: usize = 3;
const STEADY: f64 = 2.0;
/// Milliseconds. Longer waits without a switch are a queue before the brokers, and hide what a switch does.
const CALM: f64 = 100.0;
/// After so long it begins all the same, and says so.
const WARM_UP: Duration = Duration::from_secs(60);
/// Without a switch, for comparison; then around the switch.
const WINDOW: Duration = Duration::from_secs(5);
const BEFORE_SWITCH: Duration = Duration::from_millis(500);
const AFTER_SWITCH: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let rig = std::env::var_os("KAFKA_CUTOVER_RIG");
    let rate = number("RATE", if rig.is_some() { 200 } else { 1_000 })?;
    let size = number("SIZE", 1_024)?;
    let switches = number("SWITCHES", SWITCHES)?;
    let replicas = number("REPLICAS", if rig.is_some() { 1 } else { 3 })?;
    let linger = number("LINGER_MS", 5)?;
    let (clusters, bootstraps) = match &rig {
        Some(dir) => (Vec::new(), [rig_bootstrap(Path::new(dir), "source")?, rig_bootstrap(Path::new(dir), "target")?]),
        None => {
            let start = |name: &str, node_id_base| {
                Cluster::start(ClusterSpec { name: name.to_owned(), nodes: 3, node_id_base, ..ClusterSpec::default() })
            };
            let clusters = vec![start("source", 1_600_000_001)?, start("target", 1_600_000_101)?];
            let bootstraps = [clusters[0].bootstrap(), clusters[1].bootstrap()];
            (clusters, bootstraps)
        }
    };
    let run = std::process::id();
    let names: Vec<String> = (0..switches).map(|i| format!("pause-{run}-{i}")).collect();
    create(&bootstraps[0], &names, replicas)?;
    let migrations: Vec<(String, String)> = names.iter().map(|name| (name.clone(), name.clone())).collect();
    let proxy = Proxy::start(&bootstraps[0], &bootstraps[1], &migrations)?;

    println!(
        "{PARTITIONS} partitions of {replicas} replicas on {}, {rate} records/s of {size} bytes, linger.ms={linger}, \
         acks=all, idempotent; milliseconds",
        if rig.is_some() { "real Kafka" } else { "in-memory clusters" }
    );
    println!(
        "| switch | produce p50 | p99 | max, same window without a switch | max at the switch | gap between answers | \
         hold, by `status` | consumer's gap | at the switch |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut calm, mut pauses) = (Vec::new(), Vec::new());
    for name in &names {
        let load = Load::new(&proxy.address, name, PARTITIONS, rate, size, linger)?;
        let (without, with) = one(&proxy, name, Arc::new(load))?;
        calm.push(without);
        pauses.push(with);
    }
    println!();
    for (what, seen) in [("at a switch", &mut pauses), ("in such a window without a switch", &mut calm)] {
        seen.sort_by(f64::total_cmp);
        let (least, median, most) = (seen[0], seen[seen.len() / 2], seen[seen.len() - 1]);
        println!("longest wait {what}: median {median:.0} ms, {least:.0} to {most:.0} ms over {} switches", seen.len());
    }
    drop(proxy);
    drop(clusters);
    Ok(())
}

/// One switch under load; prints its row. The longest wait of the calm window, and of the switch's.
fn one(proxy: &Proxy, name: &str, load: Arc<Load>) -> Result<(f64, f64)> {
    proxy.prepare(name)?;
    let running = load.clone().start();
    let steady = warm_up(&load);
    let calm = load.elapsed();
    sleep(WINDOW);
    let began = load.elapsed();
    proxy.switch(name)?;
    let ended = load.elapsed();
    sleep(WINDOW);
    let Seen { produced, received, errors } = running.stop()?;
    ensure!(errors.is_empty(), "{name}: {} records failed, the first with {}", errors.len(), errors[0]);

    let status: Value = serde_json::from_str(&proxy.operate(&["status", name, "--json"])?)?;
    let hold = status["migrations"][0]["hold_ms"].as_f64().unwrap_or(f64::NAN);
    let calm_until = began - BEFORE_SWITCH;
    let around = calm_until..ended + AFTER_SWITCH;
    let waits_in = |window: Range<Duration>| -> Vec<f64> {
        produced.iter().filter(|r| window.contains(&r.meant)).map(Record::waited).collect()
    };
    let most = |waits: Vec<f64>| waits.into_iter().fold(0.0, f64::max);
    let mut waits = waits_in(calm..calm_until);
    waits.sort_by(f64::total_cmp);
    // As long as the switch's, and the last such before it: as many records had their chance to wait.
    let same = most(waits_in(calm_until.saturating_sub(around.end - around.start).max(calm)..calm_until));
    let pause = most(waits_in(around.clone()));
    let gap = |seen: Vec<Duration>, from: Duration, to: Duration| load::longest_gap(seen, from, to);
    let answered = produced.iter().map(|r| r.done).collect();
    println!(
        "| {name}{} | {:.1} | {:.1} | {same:.1} | {pause:.1} | {:.1} | {hold:.0} | {:.1} | {:.1} |",
        if steady && same <= CALM { "" } else { " (not steady)" },
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        gap(answered, around.start, around.end),
        gap(received.clone(), calm, calm_until),
        gap(received, around.start, around.end),
    );
    Ok((same, pause))
}

/// Until waits are as they will be, or it has taken too long.
fn warm_up(load: &Load) -> bool {
    let until = load.elapsed() + WARM_UP;
    let mut longest = Vec::new();
    while load.elapsed() < until {
        let from = load.elapsed();
        sleep(Duration::from_secs(1));
        longest.push(load.longest_wait_since(from));
        let last = &longest[longest.len().saturating_sub(STEADY_SECONDS)..];
        let (least, most) = last.iter().fold((f64::MAX, 0.0f64), |(low, high), x| (low.min(*x), high.max(*x)));
        if last.len() == STEADY_SECONDS && least > 0.0 && most <= CALM.min(STEADY * least) {
            return true;
        }
    }
    false
}

fn create(bootstrap: &[String], names: &[String], replicas: usize) -> Result<()> {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap.join(",")).create()?;
    let replicas = bootstrap.len().min(replicas) as i32;
    let topics: Vec<NewTopic> =
        names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(replicas))).collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for made in runtime.block_on(admin.create_topics(&topics, &options))? {
        made.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    // Leaders are elected a moment later.
    let until = Instant::now() + Duration::from_secs(60);
    for name in names {
        loop {
            let seen = admin.inner().fetch_metadata(Some(name), Duration::from_secs(10))?;
            let led = seen.topics().iter().flat_map(|t| t.partitions()).filter(|p| p.leader() >= 0).count();
            if led == PARTITIONS as usize {
                break;
            }
            ensure!(Instant::now() < until, "{name}: {led} partitions have a leader");
            sleep(Duration::from_millis(100));
        }
    }
    // Metadata runs ahead of the leaders themselves, and preflight asks these.
    sleep(Duration::from_secs(3));
    Ok(())
}

fn rig_bootstrap(dir: &Path, name: &str) -> Result<Vec<String>> {
    let file = dir.join(name).join("cluster.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let cluster: Value = serde_json::from_str(&text)?;
    Ok(serde_json::from_value(cluster["bootstrap"].clone())?)
}

fn number(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}
