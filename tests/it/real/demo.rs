//! The demo on real clusters: exit code 0 and zeros.

use crate::support::proxy::{Proxy, program, run_to_end};
use crate::support::rig::Rig;

#[test]
fn the_demo_on_real_clusters() {
    let rig = Rig::connect();
    // Only its config is of use: the demo has a proxy of its own, in its own process.
    let config = Proxy::new(&rig, &["unused"]);
    let records = if Rig::full() { "200000" } else { "50000" };
    let mut demo = program();
    demo.args(["demo", "--json", "--records", records, "--config"]).arg(config.config());
    let output = run_to_end(demo);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}", String::from_utf8_lossy(&output.stdout));
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(outcome["result"], "ok", "{outcome}");
    for zero in ["lost", "duplicated", "reordered", "client_errors"] {
        assert_eq!(outcome[zero], 0, "{outcome}");
    }
    assert_eq!(outcome["records_received"].to_string(), records, "{outcome}");
    let on = |side: &str| outcome[side].as_u64().expect("a count");
    assert_eq!((on("source_records") + on("target_records")).to_string(), records, "{outcome}");
}
