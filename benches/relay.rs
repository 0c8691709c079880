//! What does the proxy cost? The same requests straight to an in-memory cluster, through a bare TCP relay, and through
//! the proxy. README.md beside this file says how to read it.
#![expect(clippy::disallowed_methods, reason = "io: measures")]

#[path = "bed/client.rs"]
mod client;
#[path = "bed/cpu.rs"]
mod cpu;
#[path = "bed/hop.rs"]
mod hop;
#[path = "bed/proxy.rs"]
mod proxy;
#[path = "bed/rounds.rs"]
mod rounds;

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kafka_cutover::embedded::{Cluster, ClusterSpec};

use client::{Client, Produce, fetch};
use hop::Relay;
use proxy::Proxy;
use rounds::{Rounds, Run, Way};

const MEGABYTE: usize = 1_000_000;
/// Batches that are fetched, in turn.
const BATCHES: usize = 8;
/// Topics in no migration, and topics in one that is switched before anything is measured.
const STAYS: &str = "stays";
const MOVED: &str = "moved";

#[derive(Clone, Copy)]
enum What {
    /// Bytes of a request, requests in flight, requests in a run.
    Produce(usize, usize, usize),
    /// Fetches of 1 MB in a run.
    Fetch(usize),
}

struct Workload {
    name: &'static str,
    what: What,
    /// On the side that was switched to, where the proxy rewrites producer ids and offsets.
    moved: bool,
    /// Everything on one core: across cores a round trip is bimodal.
    pinned: bool,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "W1 produce 1 KiB, one at a time",
        what: What::Produce(1024, 1, 5_000),
        moved: false,
        pinned: true,
    },
    Workload {
        name: "W3 produce 64 KiB, 5 in flight",
        what: What::Produce(65_536, 5, 2_000),
        moved: false,
        pinned: false,
    },
    Workload {
        name: "W3 produce 1 MB, 5 in flight",
        what: What::Produce(MEGABYTE, 5, 200),
        moved: false,
        pinned: false,
    },
    Workload { name: "W4 fetch 1 MB", what: What::Fetch(300), moved: false, pinned: false },
    Workload { name: "W6 produce 1 KiB, rewritten", what: What::Produce(1024, 1, 5_000), moved: true, pinned: true },
    Workload {
        name: "W6 produce 64 KiB, rewritten",
        what: What::Produce(65_536, 5, 2_000),
        moved: true,
        pinned: false,
    },
    Workload { name: "W6 produce 1 MB, rewritten", what: What::Produce(MEGABYTE, 5, 200), moved: true, pinned: false },
    Workload { name: "W6 fetch 1 MB, rewritten", what: What::Fetch(300), moved: true, pinned: false },
];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(hop::FLAG) {
        return hop::relay(&args.next().context("where to?")?);
    }
    // cargo passes `--bench`.
    let only: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let bed = Bed::new()?;
    println!(
        "| workload | rounds kept | time, direct = 1: relay | proxy | proxy, relay = 1 | CPU of the relay | CPU of the proxy | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for workload in WORKLOADS.iter().filter(|w| only.is_empty() || only.iter().any(|o| w.name.contains(o.as_str()))) {
        bed.pin(workload.pinned)?;
        let rounds = bed.measure(workload).with_context(|| workload.name.to_owned())?;
        let per_request = matches!(workload.what, What::Produce(1024, ..));
        let (unit, scale) = match (per_request, workload.what) {
            (true, What::Produce(_, _, count)) => ("us/request", 1e6 / count as f64),
            (_, What::Produce(size, _, count)) => ("s/GB", 1e9 / (size * count) as f64),
            (_, What::Fetch(count)) => ("s/GB", 1e9 / (MEGABYTE * count) as f64),
        };
        let [relay, proxy] = rounds.cpu().map(|cpu| cpu * scale);
        println!(
            "| {} | {} | {} | {} | {} | {relay:.2} {unit} | {proxy:.2} {unit} | {:.2} |",
            workload.name,
            rounds.said(),
            rounds.spread(|[d, r, _]| r.seconds / d.seconds),
            rounds.spread(|[d, _, p]| p.seconds / d.seconds),
            rounds.spread(|[_, r, p]| p.seconds / r.seconds),
            proxy / relay,
        );
        if workload.pinned {
            let added = rounds.spread(|[d, r, p]| (p.seconds - d.seconds) / (r.seconds - d.seconds));
            println!("| ... latency added at the median, relay = 1 | | | | {added} | | | |");
        }
    }
    bed.pin(false)
}

/// Two clusters, a relay in front of each, the proxy in front of both.
struct Bed {
    clusters: [Cluster; 2],
    relays: [Relay; 2],
    proxy: Proxy,
    cores: usize,
    /// Offsets of the megabytes to fetch, as the cluster has them and as the proxy shows them; by side.
    stored: [Vec<(i64, i64)>; 2],
}

impl Bed {
    fn new() -> Result<Self> {
        let cluster = |name: &str, node_id_base| {
            Cluster::start(ClusterSpec { name: name.to_owned(), node_id_base, ..ClusterSpec::default() })
        };
        let clusters = [cluster("source", 1_600_000_001)?, cluster("target", 1_600_000_101)?];
        let [source, target] = [clusters[0].bootstrap(), clusters[1].bootstrap()];
        for way in ["direct", "relay", "proxy", "read"] {
            clusters[0].create_topic(&format!("{STAYS}-{way}"), 1, &[])?;
            clusters[0].create_topic(&format!("{MOVED}-{way}"), 1, &[])?;
        }
        let relays = [Relay::start(&source[0])?, Relay::start(&target[0])?];
        let proxy = Proxy::start(&source, &target, &[(MOVED.to_owned(), format!("{MOVED}-.*"))])?;
        let mut through = Client::connect(&proxy.address)?;
        // Something below the seam, so that offsets really differ behind it.
        for way in ["proxy", "read"] {
            store(&mut through, &format!("{MOVED}-{way}"), 3)?;
        }
        proxy.prepare(MOVED)?;
        proxy.switch(MOVED)?;
        let mut stored = [Vec::new(), Vec::new()];
        for (side, topic) in [STAYS, MOVED].map(|kind| format!("{kind}-read")).into_iter().enumerate() {
            let shown = store(&mut through, &topic, BATCHES)?;
            let native = clusters[side].log(&topic, 0).into_iter().map(|b| b.header.base_offset);
            stored[side] = native.zip(shown).collect();
            ensure!(stored[side].len() == BATCHES, "{topic}: {:?}", stored[side]);
        }
        ensure!(stored[1].iter().all(|(native, shown)| native != shown), "nothing is moved: {stored:?}");
        Ok(Self { clusters, relays, proxy, cores: std::thread::available_parallelism()?.get(), stored })
    }

    fn measure(&self, workload: &Workload) -> Result<Rounds> {
        let side = usize::from(workload.moved);
        let direct = self.clusters[side].bootstrap()[0].clone();
        let relay = &self.relays[side];
        let topic = |way: &str| format!("{}-{way}", if workload.moved { MOVED } else { STAYS });
        match workload.what {
            What::Produce(size, in_flight, count) => {
                let line = |address: &str, way: &str| -> Result<_> {
                    let mut client = Client::connect(address)?;
                    let producer = if workload.moved { Some(client.producer_id()?) } else { None };
                    Ok((client, Produce::new(&topic(way), size, producer)?, topic(way)))
                };
                let mut direct = line(&direct, "direct")?;
                let mut relayed = line(&relay.address, "relay")?;
                let mut proxied = line(&self.proxy.address, "proxy")?;
                Rounds::run(|way| {
                    let ((client, request, topic), hop) = match way {
                        Way::Direct => (&mut direct, None),
                        Way::Relay => (&mut relayed, Some(relay.pid())),
                        Way::Proxy => (&mut proxied, Some(self.proxy.pid())),
                    };
                    let run = metered(hop, || produce(client, request, in_flight, count))?;
                    // The logs lie in memory.
                    let end = self.clusters[side].log_end(topic, 0).context("no log")?;
                    self.clusters[side].set_log_start(topic, 0, end);
                    Ok(run)
                })
            }
            What::Fetch(count) => {
                let line = |address: &str, shown: bool| -> Result<_> {
                    let mut client = Client::connect(address)?;
                    let mut frames = Vec::new();
                    for (native, virtual_) in &self.stored[side] {
                        let offset = if shown { *virtual_ } else { *native };
                        let frame = fetch(&topic("read"), offset)?;
                        client.send(&frame)?;
                        client.fetched_from(offset)?;
                        frames.push(frame);
                    }
                    Ok((client, frames))
                };
                let mut direct = line(&direct, false)?;
                let mut relayed = line(&relay.address, false)?;
                let mut proxied = line(&self.proxy.address, true)?;
                Rounds::run(|way| {
                    let ((client, frames), hop) = match way {
                        Way::Direct => (&mut direct, None),
                        Way::Relay => (&mut relayed, Some(relay.pid())),
                        Way::Proxy => (&mut proxied, Some(self.proxy.pid())),
                    };
                    metered(hop, || {
                        let began = Instant::now();
                        for frame in frames.iter().cycle().take(count) {
                            client.send(frame)?;
                            client.fetched(MEGABYTE)?;
                        }
                        Ok(began.elapsed().as_secs_f64())
                    })
                })
            }
        }
    }

    /// Clients and clusters (this process), relays and proxy: to one core, or to all.
    fn pin(&self, pinned: bool) -> Result<()> {
        let set = if pinned { "0".to_owned() } else { format!("0-{}", self.cores - 1) };
        for pid in [std::process::id(), self.relays[0].pid(), self.relays[1].pid(), self.proxy.pid()] {
            let done =
                Command::new("taskset").args(["-a", "-c", "-p", &set, &pid.to_string()]).stdout(Stdio::null()).status();
            ensure!(done.context("taskset")?.success(), "taskset {set}");
        }
        Ok(())
    }
}

/// `hop` is the process in between.
fn metered(hop: Option<u32>, work: impl FnOnce() -> Result<f64>) -> Result<Run> {
    let before = hop.map_or(0.0, cpu::seconds);
    let seconds = work()?;
    Ok(Run { seconds, cpu: hop.map_or(0.0, cpu::seconds) - before })
}

/// One in flight: the median round trip. More: the whole run.
fn produce(client: &mut Client, request: &mut Produce, in_flight: usize, count: usize) -> Result<f64> {
    let began = Instant::now();
    if in_flight == 1 {
        let mut trips = Vec::with_capacity(count);
        for _ in 0..count {
            let frame = request.next();
            let sent = Instant::now();
            client.send(frame)?;
            client.produced()?;
            trips.push(sent.elapsed().as_secs_f64());
        }
        trips.sort_by(f64::total_cmp);
        return Ok(trips[count / 2]);
    }
    for sent in 0..count {
        if sent >= in_flight {
            client.produced()?;
        }
        client.send(request.next())?;
    }
    for _ in 0..in_flight.min(count) {
        client.produced()?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Puts megabytes into a topic; the offsets they were given.
fn store(client: &mut Client, topic: &str, count: usize) -> Result<Vec<i64>> {
    let mut request = Produce::new(topic, MEGABYTE, None)?;
    (0..count)
        .map(|_| {
            client.send(request.next())?;
            client.produced()
        })
        .collect()
}
