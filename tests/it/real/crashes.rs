//! A proxy that ends in the middle of a seal, at named places and at moments that nobody has chosen, and one that has
//! forgotten a seal. Clients and the next process go on as if nothing was.
#![cfg(feature = "crash-points")]

use std::ops::Range;
use std::time::Duration;

use kafka_cutover::crash::SEAL;
use kafka_cutover::ids::Side;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::crowd::{Crowd, LINGER};
use crate::support::proxy::{MIGRATION, Proxy, copy};
use crate::support::rig::Rig;
use crate::support::unique;

const SWITCHED: &str = "producers-switched";
const PARTITIONS: i32 = 3;
/// Records of each producer between two ends of the process.
const FURTHER: u64 = 100;

/// Of one story, with one topic and one crowd.
const KILLS: usize = 5;
/// In milliseconds: since the last sign of life, and since a seal began, which then takes some 50 to 500.
const AT_WORK: Range<u64> = 0..1_000;
const IN_A_SEAL: Range<u64> = 0..400;

/// A proxy, and clients that never stop.
struct Scene {
    topic: String,
    proxy: Proxy,
    crowd: Crowd,
}

/// Each point of a seal. Those before the commit end one process after the other of the same story, as its seal is
/// tried again and again; in the whole version each has a story of its own.
#[test]
fn a_seal_survives_the_end_of_the_process_at_any_point() {
    let rig = Rig::connect();
    let committed = committed();
    let stories: Vec<&[&str]> = if Rig::full() {
        SEAL.chunks(1).collect()
    } else {
        std::iter::once(&SEAL[..=committed]).chain(SEAL[committed + 1..].chunks(1)).collect()
    };
    for points in stories {
        crash_at(&rig, points);
    }
}

/// The first place where the commit is durable.
fn committed() -> usize {
    SEAL.iter().position(|p| *p == "seal.committed").expect("a point")
}

fn crash_at(rig: &Rig, points: &[&str]) {
    let mut scene = Scene::new(rig, |proxy| proxy.start_to_crash_at(points[0]));
    scene.proxy.prepare();
    for (number, point) in points.iter().enumerate() {
        let proxy = &mut scene.proxy;
        let output = proxy.command(&["switch", MIGRATION, "producers"]);
        assert!(!output.status.success(), "{point}: the process should have ended");
        let status = proxy.wait_for_end();
        assert!(status.code().is_none(), "{point}: ended by {status}, not by the crash point\n{}", proxy.tail());

        match points.get(number + 1) {
            Some(next) => proxy.start_to_crash_at(next),
            None => proxy.start(),
        }
        let found = proxy.migration().step;
        // From the moment when the commit is durable there is no way back; before it, none forward without the
        // operator.
        let switched = SEAL.iter().position(|p| p == point) >= Some(committed());
        assert_eq!(found == SWITCHED, switched, "{point}: at step {found} after the restart");
        scene.crowd.wait_for_producers(FURTHER);
    }
    scene.end(rig, &format!("{points:?}"));
}

/// `SIM_SEED=N` draws the same moments again.
#[test]
fn a_seal_survives_kills_at_any_moment() {
    let rig = Rig::connect();
    let seed = std::env::var("SIM_SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("a number"));
    println!("SIM_SEED={seed}");
    let mut moments = StdRng::seed_from_u64(seed);
    for story in 0..if Rig::full() { 10 } else { 1 } {
        kill_at(&rig, &mut moments, &format!("SIM_SEED={seed}, story {story}"));
    }
}

/// Once before the switch, once at least in a seal, and after it.
fn kill_at(rig: &Rig, moments: &mut StdRng, told: &str) {
    let mut scene = Scene::new(rig, Proxy::start);
    scene.proxy.prepare();
    let mut switched = false;
    for kill in 0..KILLS {
        let begun = kill > 0 && !switched;
        let after = Duration::from_millis(moments.random_range(if begun { IN_A_SEAL } else { AT_WORK }));
        let proxy = &mut scene.proxy;
        if begun {
            proxy.kill_in_the_seal(after);
        } else {
            proxy.kill_after(after);
        }
        proxy.start();
        let found = proxy.migration().step;
        println!("{told}, kill {kill} {after:?} into {}: then {found}", if begun { "a seal" } else { "its work" });
        assert!(begun || (found == SWITCHED) == switched, "{told}, kill {kill}: {found} after the restart");
        switched = found == SWITCHED;
        scene.crowd.wait_for_producers(FURTHER);
    }
    scene.end(rig, told);
}

impl Scene {
    fn new(rig: &Rig, start: impl FnOnce(&mut Proxy)) -> Self {
        let topic = unique("crash");
        rig.create(&topic, PARTITIONS);
        let mut proxy = Proxy::new(rig, &[&topic]);
        start(&mut proxy);
        let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt", "allow-restart.txt"]);
        let all = (0..PARTITIONS).map(|p| p.to_string()).collect::<Vec<_>>().join(",");
        for lib in ["java", "confluent"] {
            // Not in a group: a rebalance while the proxy is down reads again what was not committed, as it would on
            // Kafka.
            let flags = ["--assign", &all, "--from", "earliest", "--commit", "none"];
            crowd.reader(lib, &format!("{lib}-reader"), true, &flags);
        }
        crowd.producer("java", "java", &["--rate", "300", "--compression", "lz4"]);
        crowd.producer("confluent", "confluent", &["--rate", "300", "--idempotent", "true", "-X", LINGER]);
        crowd.wait_for_producers(FURTHER);
        Self { topic, proxy, crowd }
    }

    /// Switches if that has not been done, and has everything judged.
    fn end(self, rig: &Rig, told: &str) {
        let Self { topic, mut proxy, mut crowd } = self;
        if proxy.migration().step != SWITCHED {
            proxy.switch();
        }
        assert_eq!(proxy.migration().step, SWITCHED, "{told}");
        crowd.wait_for_producers(FURTHER);
        crowd.stop_producers();
        crowd.wait_for_readers();
        let (verdict, log) = crowd.judge(rig);
        assert!(verdict.ok(), "{told}: {topic}: {verdict:#?}\n{}", proxy.tail());
        assert_eq!(verdict.records_sent, verdict.records_acked, "{told}");
        for side in Side::BOTH {
            assert!(log.records(side) > 0, "{told}: nothing lies on the {side}");
        }
        proxy.stop();
    }
}

/// "The worst accident": a proxy that does not know of a seal must not serve. And two must not serve as one.
#[test]
fn who_has_forgotten_a_seal_does_not_start() {
    let rig = Rig::connect();
    let topic = unique("forgotten");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);

    // One of the same name comes and goes before there is anything to remember.
    let mut foreign = proxy.another(&rig);
    foreign.name = proxy.name.clone();
    foreign.start();
    foreign.stop();

    proxy.start();
    proxy.prepare();
    let older = proxy.path("older");
    copy(&proxy.state, &older);
    proxy.switch();

    let mut second = proxy.another(&rig);
    second.name = proxy.name.clone();
    second.state = proxy.state.clone();
    refused(&mut second, "in use by another kafka-cutover");
    let mut on_its_port = proxy.another(&rig);
    on_its_port.port = proxy.port;
    refused(&mut on_its_port, "cannot be listened on");
    proxy.stop();

    let whole = proxy.state.clone();
    proxy.state = proxy.path("empty");
    refused(&mut proxy, "another kafka-cutover");
    proxy.state = older;
    refused(&mut proxy, "older than the last seal");
    proxy.state = foreign.state.clone();
    refused(&mut proxy, "another kafka-cutover");
    // None of that has done any harm to the one that remembers.
    proxy.state = whole;
    proxy.start();
    assert_eq!(proxy.migration().step, SWITCHED);
    proxy.stop();
}

fn refused(proxy: &mut Proxy, why: &str) {
    match proxy.try_start(None) {
        Ok(()) => panic!("it serves, though {why}"),
        Err(said) => assert!(said.contains(why), "not refused because `{why}`:\n{said}"),
    }
}
