//! A proxy that ends in the middle of a seal, and one that has forgotten it.
#![cfg(feature = "crash-points")]

use kafka_cutover::crash::POINTS;

use crate::support::crowd::Crowd;
use crate::support::proxy::{MIGRATION, Proxy, copy};
use crate::support::rig::Rig;
use crate::support::unique;

const SWITCHED: &str = "producers-switched";
const PARTITIONS: i32 = 3;
/// Before the intent is durable, after the markers, after the commit.
const SOME: [&str; 3] = ["seal.intent", "seal.before-commit", "seal.committed"];

/// The process ends at each point of a seal while producers and consumers run; they and the next process go on as if nothing was.
#[test]
#[ignore = "minutes long: tests/run --full"]
fn a_seal_survives_the_end_of_the_process_at_any_point() {
    let rig = Rig::connect();
    let points = if Rig::full() { POINTS } else { &SOME };
    for point in points {
        crash_at(&rig, point);
    }
}

fn crash_at(rig: &Rig, point: &str) {
    let topic = unique("crash");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(rig, &[&topic]);
    proxy.start_to_crash_at(point);
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt", "allow-restart.txt"]);
    for lib in ["java", "confluent"] {
        // Not in a group: a rebalance while the proxy is down reads again what was not committed, as it would on Kafka.
        let all = (0..PARTITIONS).map(|p| p.to_string()).collect::<Vec<_>>().join(",");
        crowd.reader(
            lib,
            &format!("{lib}-reader"),
            true,
            &["--assign", &all, "--from", "earliest", "--commit", "none"],
        );
    }
    crowd.producer("java", "java", &["--rate", "300", "--compression", "lz4"]);
    crowd.producer("confluent", "confluent", &["--rate", "300", "--idempotent", "true"]);
    crowd.wait_for_producers(300);

    proxy.prepare();
    let output = proxy.command(&["switch", MIGRATION, "producers"]);
    assert!(!output.status.success(), "{point}: the process should have ended");
    let status = proxy.wait_for_end();
    assert!(status.code().is_none(), "{point}: ended by {status}, not by the crash point\n{}", proxy.tail());

    proxy.start();
    let found = proxy.migration().step;
    // From the moment when the commit is durable there is no way back; before it, none forward without the operator.
    let committed = POINTS.iter().position(|p| *p == "seal.committed") <= POINTS.iter().position(|p| *p == point);
    assert_eq!(found == SWITCHED, committed, "{point}: at step {found} after the restart");
    crowd.wait_for_producers(300);
    if found != SWITCHED {
        proxy.switch();
    }
    assert_eq!(proxy.migration().step, SWITCHED);
    crowd.wait_for_producers(300);
    crowd.stop_producers();
    crowd.wait_for_readers();

    let (verdict, _) = crowd.judge(rig);
    assert!(verdict.ok(), "{point}: {verdict:#?}\n{}", proxy.tail());
    assert_eq!(verdict.records_sent, verdict.records_acked, "{point}");
    proxy.stop();
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
