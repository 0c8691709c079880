//! One cluster is away before a switch, at it, and after it: clients wait, `/readyz`, the metric and the log say which,
//! nothing is lost, and all goes on by itself. Clients of a healthy cluster notice nothing.

use kafka_cutover::ids::Side;

use crate::support::crowd::{Crowd, LINGER};
use crate::support::own::Own;
use crate::support::proxy::{MIGRATION, Proxy};
use crate::support::rig::Rig;
use crate::support::{eventually, unique};

const SWITCHED: &str = "producers-switched";
const PARTITIONS: i32 = 3;
const FURTHER: u64 = 100;

/// The whole version: each side, of three nodes.
#[test]
fn a_cluster_that_goes_away_comes_back_to_its_clients() {
    let (sides, nodes): (&[Side], _) = if Rig::full() { (&Side::BOTH, 3) } else { (&[Side::Target], 1) };
    for side in sides {
        go_away(*side, nodes);
    }
}

fn go_away(side: Side, nodes: usize) {
    let rig = Rig::connect();
    let cluster = Own::start(&rig, side, nodes, &[]);
    let rig = rig.with(side, &cluster.bootstrap());
    let topic = unique("outage");
    rig.create(&topic, PARTITIONS);
    let mut proxy = Proxy::new(&rig, &[&topic]);
    proxy.more = "timeouts: { metadata_max_age: 1s, straggling_part: 20s }"; // so soon it looks whether a side that nobody uses is there
    proxy.start();
    let mut crowd = Crowd::new(&proxy.bootstrap(), &topic, &["allow.txt"]);
    let all = (0..PARTITIONS).map(|p| p.to_string()).collect::<Vec<_>>().join(",");
    for lib in ["java", "confluent"] {
        let flags = ["--assign", &all, "--from", "earliest", "--commit", "none"];
        crowd.reader(lib, &format!("{lib}-reader"), true, &flags);
    }
    if side == Side::Target {
        // Its coordinator is the source: it has nothing to complain of.
        crowd.member("java", "member", &format!("{topic}-group"), &[]);
        crowd.wait_for_groups(PARTITIONS as usize);
    }
    crowd.producer("java", "java", &["--rate", "200", "--compression", "lz4"]);
    crowd.producer("confluent", "confluent", &["--rate", "200", "--idempotent", "true", "-X", LINGER]);
    crowd.wait_for_producers(FURTHER);
    proxy.prepare();

    // Before.
    cluster.kill();
    is_away(&proxy, side, Side::Source);
    let refused = proxy.command(&["switch", MIGRATION, "producers"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains(&side.to_string()), "{why}");
    assert_ne!(proxy.migration().step, SWITCHED);
    if side == Side::Target {
        crowd.wait_for_producers(FURTHER);
    }
    cluster.start_again();
    is_back(&proxy);
    crowd.wait_for_producers(FURTHER);
    if side == Side::Target {
        assert_eq!(crowd.complaints(), Vec::<String>::new(), "a healthy source's clients notice nothing");
    }
    crowd.allow("allow-outage.txt");

    // At it. It may have come too late to be in the way.
    let switch = proxy.switch_until_the_seal();
    cluster.kill();
    let output = switch.join().expect("the command ends");
    let switched = proxy.migration().step == SWITCHED;
    assert_eq!(output.status.success(), switched, "{}", String::from_utf8_lossy(&output.stderr));
    cluster.start_again();
    crowd.wait_for_producers(FURTHER);
    is_back(&proxy);
    // A cluster that answers may still be electing leaders: the operator tries again.
    eventually("the switch", || {
        proxy.migration().step == SWITCHED || proxy.command(&["switch", MIGRATION, "producers"]).status.success()
    });
    crowd.wait_for_producers(FURTHER);

    // After it.
    cluster.kill();
    is_away(&proxy, side, Side::Target);
    if side == Side::Source {
        crowd.wait_for_producers(FURTHER);
    }
    cluster.start_again();
    is_back(&proxy);
    crowd.wait_for_producers(FURTHER);
    crowd.stop_producers();
    crowd.wait_for_readers();

    let (verdict, _) = crowd.judge(&rig);
    println!("{side}: {} records; switched although it went away: {switched}", verdict.records_sent);
    assert!(verdict.ok(), "{side}: {verdict:#?}\n{}", proxy.tail());
    assert_eq!(verdict.records_sent, verdict.records_acked);
    proxy.stop();
}

/// Until the proxy says that it cannot reach this side, wherever it says that. `open`: where the partitions' logs end.
fn is_away(proxy: &Proxy, side: Side, open: Side) {
    eventually("the proxy knows that a cluster is away", || {
        let (status, ready) = proxy.readiness();
        let health = [&ready.source, &ready.target];
        assert!(health[side.other().index()].reachable, "the other one is there: {ready:?}");
        assert!(health[open.index()].needed, "{ready:?}");
        // The rest of the source's topics is elsewhere: with a dead target, the proxy is still of use to them.
        let of_use = health.iter().any(|h| h.needed && h.reachable);
        assert_eq!((status, ready.ready), (if of_use { 200 } else { 503 }, of_use), "{ready:?}");
        !health[side.index()].reachable && health[side.index()].error.is_some()
    });
    let (_, metrics) = proxy.page("/metrics");
    let line = format!("kafka_cutover_cluster_reachable{{side=\"{side}\"}} 0");
    assert!(metrics.contains(&line), "{metrics}");
    let said = |line: &str| line.contains("a cluster cannot be reached") && line.contains(&format!("\"{side}\""));
    assert!(proxy.has_said(said), "{}", proxy.tail());
}

fn is_back(proxy: &Proxy) {
    eventually("the proxy reaches both clusters again", || {
        let (status, ready) = proxy.readiness();
        status == 200 && ready.source.reachable && ready.target.reachable
    });
}
