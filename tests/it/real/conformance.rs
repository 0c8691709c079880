//! Clients' own tests, against the proxy in front of real Kafka. What does not pass is on a list beside them, with the reason,
//! and what is on the list does not pass: so it stays true.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use kafka_cutover::ids::Side;

use crate::support::own::Own;
use crate::support::proxy::Proxy;
use crate::support::rig::Rig;

/// Those of every run: what a record, a group and a topic go through most, and none that gives the machine a second only.
const FEW: [&str; 3] = [
    "test_producer_integration.py::test_end_to_end",
    "test_consumer_integration.py::test_kafka_consumer_offsets_for_time",
    "test_admin_integration.py::test_create_delete_topics",
];
/// Newest on both sides: what is not offered is then the proxy's doing.
const VERSION: &str = "4.3.1";
/// What the tests expect of a broker beside its defaults.
const PROPERTIES: [&str; 4] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=true",
    "super.users=User:ANONYMOUS",
    "group.min.session.timeout.ms=1000",
];
const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/conformance");

#[test]
fn clients_pass_their_own_tests() {
    let rig = Rig::connect();
    if !Rig::full() {
        let mut proxy = Proxy::new(&rig, &["none"]);
        proxy.start();
        let came = run("kafka-python", &proxy.bootstrap(), rig.version(Side::Source), "--only", &FEW);
        let passed = came.values().filter(|end| end.passed).count();
        assert!(passed == came.len() && passed >= FEW.len(), "{came:#?}\n{}", proxy.tail());
        proxy.stop();
        return;
    }
    let properties = PROPERTIES.map(str::to_owned);
    let clusters = [(); 2].map(|()| Own::of_version(&rig, VERSION, 1, &properties));
    let of = |side: Side| clusters[side.index()].bootstrap();
    let rig = Side::BOTH.into_iter().fold(rig, |rig, side| rig.with(side, &of(side)));
    let mut proxy = Proxy::new(&rig, &["none"]);
    proxy.start();
    let mut wrong = Vec::new();
    for suite in ["kafka-python", "franz-go"] {
        wrong.extend(judge(suite, &proxy.bootstrap(), &of(Side::Source)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", proxy.tail());
    proxy.stop();
}

/// What came of one test.
#[derive(Debug)]
struct End {
    passed: bool,
    line: String,
}

/// All that is not as it should be.
fn judge(suite: &str, proxy: &str, direct: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{HOME}/{suite}.txt")).expect("the list");
    let mut list = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let [test, place, _why] = line.split('\t').collect::<Vec<_>>().try_into().expect("three columns");
        assert!(["proxy", "kafka"].contains(&place), "{line}");
        assert!(list.insert(test, place == "proxy").is_none(), "{test} is there twice");
    }
    let listed: Vec<&str> = list.keys().copied().collect();
    let others = run(suite, proxy, VERSION, "--without", &listed);
    println!("{suite}: {} pass, {} are on the list", others.values().filter(|e| e.passed).count(), list.len());
    let mut wrong: Vec<String> =
        others.values().filter(|e| !e.passed).map(|e| format!("{suite}: {}", e.line)).collect();
    for (test, on_kafka) in list {
        for (place, bootstrap, passes) in [("through the proxy", proxy, false), ("on plain Kafka", direct, on_kafka)] {
            let came = run(suite, bootstrap, VERSION, "--only", &[test]);
            assert_eq!(came.len(), 1, "{test}: {came:#?}");
            let as_said = came.values().filter(|end| end.passed != passes);
            wrong.extend(as_said.map(|end| format!("{suite}: {place} not as the list says: {}", end.line)));
        }
    }
    wrong
}

fn run(suite: &str, bootstrap: &str, version: &str, which: &str, tests: &[&str]) -> BTreeMap<String, End> {
    let mut command = Command::new(format!("{HOME}/run"));
    command.args([suite, "--bootstrap", bootstrap, "--version", version]);
    if which == "--only" {
        command.args(["--seconds", "120"]);
    }
    // Its own limits of time end it.
    let output =
        command.arg(which).args(tests).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("it runs");
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    let ends = String::from_utf8(output.stdout).expect("text");
    let ends: BTreeMap<String, End> = ends
        .lines()
        .map(|line| {
            let end: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let test = end["test"].as_str().expect("a name").to_owned();
            (test, End { passed: end["result"] == "passed", line: line.to_owned() })
        })
        .collect();
    assert!(!ends.is_empty(), "{command:?} ran no test");
    ends
}
