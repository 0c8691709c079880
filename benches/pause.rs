//! How long does a switch hold produce? An open-loop producer and a consumer of a topic of 100 partitions, through the
//! proxy; latencies count from the moment a record was meant to be sent, so that a wait shows in all that it delayed.
//!
//! On in-memory clusters, or with `KAFKA_CUTOVER_RIG=DIR` on the clusters `source` and `target` that `tests/kafka/rig`
//! started in DIR.
#![expect(clippy::disallowed_methods, reason = "io: measures")]

#[path = "bed/load.rs"]
mod load;
#[path = "bed/proxy.rs"]
mod proxy;

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use serde_json::Value;

use load::{Load, Seen};
use proxy::Proxy;

const PARTITIONS: i32 = 100;
/// Each of a topic of its own.
const SWITCHES: usize = 5;
const WARM_UP: Duration = Duration::from_secs(4);
/// Without a switch, for comparison; then around the switch.
const WINDOW: Duration = Duration::from_secs(5);
const BEFORE_SWITCH: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let rate = number("RATE", 1_000)?;
    let size = number("SIZE", 1_024)?;
    let switches = number("SWITCHES", SWITCHES)?;
    let rig = std::env::var_os("KAFKA_CUTOVER_RIG");
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
    create(&bootstraps[0], &names)?;
    let migrations: Vec<(String, String)> = names.iter().map(|name| (name.clone(), name.clone())).collect();
    let proxy = Proxy::start(&bootstraps[0], &bootstraps[1], &migrations)?;

    println!(
        "{PARTITIONS} partitions on {}, {rate} records/s of {size} bytes, acks=all, idempotent; milliseconds",
        if rig.is_some() { "real Kafka" } else { "in-memory clusters" }
    );
    println!(
        "| switch | produce p50 | p99 | max | max at the switch | gap between answers | hold, by `status` | consumer's gap | at the switch |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut pauses = Vec::new();
    for name in &names {
        pauses.push(one(&proxy, name, rate, size)?);
    }
    pauses.sort_by(f64::total_cmp);
    println!();
    println!(
        "longest produce pause at a switch: median {:.0} ms, {:.0} to {:.0} ms over {} switches",
        pauses[pauses.len() / 2],
        pauses[0],
        pauses[pauses.len() - 1],
        pauses.len()
    );
    drop(proxy);
    drop(clusters);
    Ok(())
}

/// One switch under load; prints its row, returns its pause.
fn one(proxy: &Proxy, name: &str, rate: usize, size: usize) -> Result<f64> {
    proxy.prepare(name)?;
    let load = Arc::new(Load::new(&proxy.address, name, PARTITIONS, rate, size)?);
    let running = load.clone().start();
    sleep(WARM_UP);
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
    let mut waits: Vec<f64> =
        produced.iter().filter(|r| (calm..began - BEFORE_SWITCH).contains(&r.meant)).map(|r| r.waited()).collect();
    waits.sort_by(f64::total_cmp);
    let around = began - BEFORE_SWITCH..ended + Duration::from_secs(1);
    let pause = produced.iter().filter(|r| around.contains(&r.meant)).map(|r| r.waited()).fold(0.0, f64::max);
    let gap = |seen: Vec<Duration>, from: Duration, to: Duration| load::longest_gap(seen, from, to);
    let answered = produced.iter().map(|r| r.done).collect();
    let calm_until = began - BEFORE_SWITCH;
    println!(
        "| {name} | {:.1} | {:.1} | {:.1} | {pause:.1} | {:.1} | {hold:.0} | {:.1} | {:.1} |",
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits[waits.len() - 1],
        gap(answered, around.start, around.end),
        gap(received.clone(), calm, calm_until),
        gap(received, around.start, around.end),
    );
    Ok(pause)
}

fn create(bootstrap: &[String], names: &[String]) -> Result<()> {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap.join(",")).create()?;
    let replicas = bootstrap.len().min(3) as i32;
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
