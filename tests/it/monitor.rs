//! Metrics, health, the page.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use kafka_cutover::control::Operator;
use kafka_cutover::control::protocol::{MigrationStatus, Status};
use kafka_cutover::ids::{Side, TopicPartition};
use kafka_cutover::monitor::metrics::{Direction, GateOutcome, HoldOutcome, Metrics};
use kafka_cutover::monitor::seats::Seats;
use kafka_cutover::monitor::server::bind;
use kafka_cutover::monitor::{ClusterHealth, Monitor, Readiness, serve, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

#[test]
fn the_table_in_markdown_is_the_table_in_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/monitor/METRICS.md");
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(written, table::markdown(), "src/monitor/METRICS.md must be:\n{}", table::markdown());
}

/// A `Metrics` in which every metric has been touched.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.requests.of(0).increment(1);
    metrics.request_bytes(0, Direction::In).increment(100);
    metrics.request_bytes(0, Direction::Out).increment(50);
    metrics.upstream_requests(1, Side::Target).increment(1);
    metrics.request_duration.of(0).record(0.003);
    metrics.hold_duration.record(0.02);
    metrics.seal_duration.record(0.02);
    metrics.set_migration_step("orders", "prepared", &["new", "prepared"]);
    metrics.segments(&TopicPartition::new("orders", 2)).set(3.0);
    metrics.stragglers("orders").increment(4);
    metrics.group_lag("orders", "g").set(7.0);
    metrics.skipped("orders").set(8.0);
    metrics.mirrored(3, 300);
    metrics.mirror("orders", 2, Duration::from_secs(1), 0);
    metrics.holds.of(HoldOutcome::Undone).increment(2);
    metrics.sequence_gate.of(GateOutcome::Duplicate).increment(5);
    metrics
}

#[test]
fn what_is_rendered_is_what_the_table_says() {
    let text = touched().render();
    let mut kinds = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        kinds.insert(name.to_owned(), kind.to_owned());
    }
    let table: BTreeMap<_, _> = table::ALL.iter().map(|m| (m.name.to_owned(), m.kind.name().to_owned())).collect();
    assert_eq!(kinds, table, "{text}");
    for metric in table::ALL {
        assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{}", metric.name);
        assert_eq!(metric.kind == table::Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert!(metric.kind != table::Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
    }
    for line in [
        r#"kafka_cutover_requests_total{api="Produce"} 1"#,
        r#"kafka_cutover_request_bytes_total{api="Produce",direction="in"} 100"#,
        r#"kafka_cutover_request_bytes_total{api="Produce",direction="out"} 50"#,
        r#"kafka_cutover_upstream_requests_total{api="Fetch",side="target"} 1"#,
        r#"kafka_cutover_request_duration_seconds_bucket{api="Produce",le="0.005"} 1"#,
        r#"kafka_cutover_request_duration_seconds_bucket{api="Produce",le="0.0025"} 0"#,
        r#"kafka_cutover_migration_step{migration="orders",step="prepared"} 1"#,
        r#"kafka_cutover_migration_step{migration="orders",step="new"} 0"#,
        r#"kafka_cutover_segments{topic="orders",partition="2"} 3"#,
        r#"kafka_cutover_stragglers_total{migration="orders"} 4"#,
        r#"kafka_cutover_group_lag_to_seal_records{migration="orders",group="g"} 7"#,
        r#"kafka_cutover_holds_total{outcome="undone"} 2"#,
        r#"kafka_cutover_holds_total{outcome="sealed"} 0"#,
        r#"kafka_cutover_sequence_gate_total{outcome="duplicate"} 5"#,
        r#"kafka_cutover_cluster_reachable{side="source"} 0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn proxies_in_one_process_count_apart() {
    let (one, two) = (Metrics::new(), Metrics::new());
    one.connections_total.increment(7);
    assert!(one.render().contains("kafka_cutover_connections_total 7"));
    assert!(two.render().contains("kafka_cutover_connections_total 0"));
}

#[test]
fn keys_that_a_client_made_up_share_one_label() {
    let metrics = Metrics::new();
    for key in [i16::MIN, -1, 127, 128, 12_345, i16::MAX] {
        metrics.requests.of(key).increment(1);
    }
    let text = metrics.render();
    assert!(text.contains(r#"kafka_cutover_requests_total{api="unknown"} 6"#), "{text}");
}

fn reachable(reachable: bool, needed: bool) -> ClusterHealth {
    ClusterHealth { reachable, needed, error: (!reachable).then(|| "connection refused".to_owned()) }
}

#[test]
fn ready_means_that_a_cluster_with_an_open_tail_is_reachable() {
    assert!(!Readiness::starting().ready);
    for (source, target, ready) in [
        ((true, true), (true, false), true),
        ((true, true), (false, false), true),
        ((false, true), (true, false), false),
        ((false, true), (true, true), true),
        ((false, true), (false, true), false),
        ((true, false), (false, true), false),
    ] {
        let readiness = Readiness::serving(reachable(source.0, source.1), reachable(target.0, target.1));
        assert_eq!(readiness.ready, ready, "{source:?} {target:?}");
        assert!(!readiness.winding_down().ready);
    }
}

/// Status code and body.
async fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_monitor_serves_metrics_health_and_a_page() {
    let (readiness, watched) = watch::channel(Readiness::starting());
    let status = || Status {
        migrations: vec![MigrationStatus { name: "<b>&orders".into(), ..MigrationStatus::default() }],
        ..Status::default()
    };
    let operator = Operator::new(mpsc::channel(1).0, status, Arc::default, broadcast::channel(1).0);
    let monitor = Monitor { metrics: Arc::new(touched()), readiness: watched, operator };
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = bind(listener.local_addr().unwrap()).await.unwrap_err();
    assert!(taken.to_string().contains("monitor.bind"), "{taken}");
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, monitor, stop.clone()));

    assert_eq!(get(port, "/livez").await.0, 200);
    let (code, body) = get(port, "/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("starting"), "{body}");

    readiness.send_replace(Readiness::serving(reachable(true, true), reachable(false, false)));
    let (code, body) = get(port, "/readyz").await;
    assert_eq!(code, 200);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["ready"], &body["source"]["reachable"]), (&true.into(), &true.into()));
    assert_eq!(body["target"]["error"], "connection refused");

    readiness.send_modify(|r| *r = r.clone().winding_down());
    let (code, body) = get(port, "/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("winding down") && body.contains("target"), "{body}");
    assert_eq!(get(port, "/livez").await.0, 200);

    let (code, body) = get(port, "/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("kafka_cutover_connections"), "{body}");
    let (code, body) = get(port, "/").await;
    assert_eq!(code, 200);
    assert!(body.contains("&lt;b&gt;&amp;orders") && !body.contains("<b>&orders"), "{body}");
    assert_eq!(get(port, "/v1/status").await.0, 404);

    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_says_nothing_to_the_monitor_keeps_no_seat() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut seats = Seats::new(listener, 1, Duration::from_millis(50));
    let (_silent, _other) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    let (mut guest, _) = seats.accept().await;
    let accepted = {
        let mut next = Box::pin(seats.accept());
        assert!(futures_util::poll!(&mut next).is_pending(), "the one seat is taken");
        let error = guest.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        drop(guest);
        tokio::time::timeout(Duration::from_secs(30), next).await
    };
    assert!(accepted.is_ok());
}
