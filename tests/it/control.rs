//! The control socket, against an operator that is not the proxy.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_cutover::config::Scheme;
use kafka_cutover::control::client::{Client, ClientError};
use kafka_cutover::control::protocol::{
    Action, Clusters, Event, GroupStatus, Guard, MigrationStatus, Outcome, PartitionBehind, ProxyStatus, Refusal,
    Status, StepBody, SwitchBody, Terms, TranslateQuery, WaiveBody, Waived, What,
};
use kafka_cutover::control::server::{BindError, ControlSocket, serve};
use kafka_cutover::control::{Ask, Operator, render};
use kafka_cutover::ids::{Side, TopicPartition};
use kafka_cutover::store::event::WaiverKind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::translated::decided;

/// A control server whose proxy has one migration, `orders`, at step `prepared`; what is journalled is `decided`.
struct Fake {
    dir: tempfile::TempDir,
    events: broadcast::Sender<Event>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    asked: mpsc::UnboundedReceiver<Ask2>,
}

/// What the proxy saw of an [`Ask`].
#[derive(Debug, PartialEq)]
struct Ask2 {
    action: Action,
    dry_run: bool,
    uid: Option<u32>,
}

fn status() -> Status {
    Status {
        proxy: ProxyStatus { version: "0".into(), ready: true },
        clusters: Clusters::default(),
        migrations: vec![MigrationStatus {
            name: "orders".into(),
            scheme: Scheme::ProducersFirst,
            step: "prepared".into(),
            next: Some("switch producers".into()),
            guard: Guard { ok: false, reason: Some("hanging transaction".into()) },
            topics: vec!["orders".into()],
            partitions: 3,
            groups: vec![group()],
            ..MigrationStatus::default()
        }],
    }
}

fn group() -> GroupStatus {
    let (id, state, home) = ("g".into(), "Stable".into(), Side::Source);
    GroupStatus { id, home, state, behind: None, uncommitted: 0, waived: None, partitions: vec![] }
}

async fn proxy(mut commands: mpsc::Receiver<Ask>, seen: mpsc::UnboundedSender<Ask2>) {
    while let Some(Ask { command, peer, answer }) = commands.recv().await {
        let _ = seen.send(Ask2 { action: command.action.clone(), dry_run: command.dry_run, uid: peer.uid });
        let result = command.check_step("prepared").and_then(|()| match command.action {
            Action::Prepare => Err(Refusal::new("already_prepared", "it is prepared\nalready", "go on")),
            Action::Waive { name, why, .. } => Ok(Outcome {
                migration: command.migration.clone(),
                step: "prepared".into(),
                done: vec![format!("waived group {name}: {why}")],
                dry_run: command.dry_run,
                ..Outcome::default()
            }),
            Action::Abort => Ok(Outcome {
                migration: command.migration.clone(),
                step: "configured".into(),
                done: vec!["forgot 1 topics".into()],
                dry_run: command.dry_run,
                ..Outcome::default()
            }),
            Action::Complete => Err(Refusal::new("not_drained", "group g has 3 records left", "wait for it")),
            Action::Skip { partition, why, .. } => Ok(Outcome {
                migration: command.migration.clone(),
                step: "prepared".into(),
                done: vec![format!("skipped {partition}: {why}")],
                dry_run: command.dry_run,
                ..Outcome::default()
            }),
            Action::SwitchConsumers { .. } => Err(Refusal::new("not_prepared", "it is not prepared", "prepare it")),
            Action::SwitchGroups { .. } => Err(Refusal::new("groups_left", "1 of 2 groups did not move", "again")),
            Action::SwitchProducers { .. } => Ok(Outcome {
                migration: command.migration.clone(),
                step: "switched".into(),
                done: vec!["3 partitions sealed".into()],
                dry_run: command.dry_run,
                hold_ms: Some(12),
                details: json!({ "seal": 1 }).as_object().unwrap().clone(),
            }),
        });
        let _ = answer.send(result);
    }
}

impl Fake {
    fn start() -> Self {
        let (commands, received) = mpsc::channel(8);
        let (seen, asked) = mpsc::unbounded_channel();
        tokio::spawn(proxy(received, seen));
        Self::with(commands, asked)
    }

    fn with(commands: mpsc::Sender<Ask>, asked: mpsc::UnboundedReceiver<Ask2>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (events, _) = broadcast::channel(8);
        let operator = Operator::new(commands, status, || Arc::new(decided()), events.clone());
        let stop = CancellationToken::new();
        let socket = ControlSocket::bind(&dir.path().join("made/control.sock")).unwrap();
        let server = tokio::spawn(serve(socket, operator, stop.clone()));
        Self { dir, events, stop, server, asked }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("made/control.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.path())
    }

    /// Status code and JSON, as `curl --unix-socket` would see them.
    async fn http(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.path()).await.unwrap();
        let n = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {n}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{body}"
        );
        // A server that refuses a body may close before all of it is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}")))
    }
}

#[tokio::test]
async fn status_has_the_shape_of_the_contract() {
    let fake = Fake::start();
    let (code, body) = fake.http("GET", "/v1/status", "").await;
    assert_eq!(code, 200);
    let expected = json!({
        "proxy": { "version": "0", "ready": true },
        "clusters": {
            "source": { "id": null, "reachable": false },
            "target": { "id": null, "reachable": false },
        },
        "migrations": [{
            "name": "orders", "scheme": "producers-first", "step": "prepared", "next": "switch producers",
            "guard": { "ok": false, "reason": "hanging transaction" },
            "topics": ["orders"], "partitions": 3, "sealed_at": null, "hold_ms": null, "stragglers": 0,
            "groups": [{ "id": "g", "home": "source", "state": "Stable", "behind": null }],
        }],
    });
    assert_eq!(body, expected);
    assert_eq!(fake.http("GET", "/v1/migrations", "").await, (200, expected["migrations"].clone()));
    assert_eq!(fake.http("GET", "/v1/migrations/orders", "").await, (200, expected["migrations"][0].clone()));
    assert_eq!(fake.client().status().await.unwrap(), status());
    assert_eq!(fake.client().migration("orders").await.unwrap(), status().migrations[0]);
}

#[tokio::test]
async fn a_switch_is_done_and_says_who_asked() {
    let mut fake = Fake::start();
    let (code, body) = fake.http("POST", "/v1/migrations/orders/switch", r#"{"what":"producers"}"#).await;
    assert_eq!(code, 200);
    let expected = json!({
        "migration": "orders", "step": "switched", "done": ["3 partitions sealed"], "dry_run": false,
        "hold_ms": 12, "seal": 1,
    });
    assert_eq!(body, expected);
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(fake.path()).unwrap());
    let action = Action::SwitchProducers { to: Side::Target, force: false, hold_consumers: false };
    assert_eq!(fake.asked.recv().await.unwrap(), Ask2 { action, dry_run: false, uid: Some(uid) });

    let body = SwitchBody {
        what: What::Producers,
        to: Side::Source,
        force: true,
        hold_consumers: true,
        expect_step: None,
        dry_run: true,
    };
    let outcome = fake.client().switch("orders", &body).await.unwrap();
    assert!(outcome.dry_run);
    assert_eq!(outcome.details["seal"], 1);
    let action = Action::SwitchProducers { to: Side::Source, force: true, hold_consumers: true };
    assert_eq!(fake.asked.recv().await.unwrap(), Ask2 { action, dry_run: true, uid: Some(uid) });
}

#[tokio::test]
async fn consumers_are_held_and_switched_the_same_way() {
    let mut fake = Fake::start();
    let held = r#"{"what":"producers","hold_consumers":true}"#;
    assert_eq!(fake.http("POST", "/v1/migrations/orders/switch", held).await.0, 200);
    let action = Action::SwitchProducers { to: Side::Target, force: false, hold_consumers: true };
    assert_eq!(fake.asked.recv().await.unwrap().action, action);
    let (code, _, err) = command_line(&fake.path(), &["switch", "orders", "producers", "--hold-consumers"]).await;
    assert_eq!((code, err.as_str(), fake.asked.recv().await.unwrap().action), (Some(0), "", action));
    let (code, _, err) = command_line(&fake.path(), &["switch", "orders", "consumers"]).await;
    assert_eq!((code, err.as_str()), (Some(1), "kafka-cutover: it is not prepared; prepare it\n"));
    assert_eq!(fake.asked.recv().await.unwrap().action, Action::SwitchConsumers { to: Side::Target });
}

#[tokio::test]
async fn an_abort_goes_the_same_way() {
    let mut fake = Fake::start();
    let (code, body) = fake.http("POST", "/v1/migrations/orders/abort", "").await;
    assert_eq!((code, &body["step"], &body["done"][0]), (200, &json!("configured"), &json!("forgot 1 topics")));
    assert_eq!(fake.asked.recv().await.unwrap().action, Action::Abort);
    let (code, _) = fake.http("POST", "/v1/migrations/orders/abort", r#"{"expect_step":"configured"}"#).await;
    assert_eq!(code, 409, "a compare and set too");
    let (code, out, err) = command_line(&fake.path(), &["abort", "orders", "--dry-run"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("forgot 1 topics\n") && out.contains("dry run, nothing changed"), "{out}");
}

#[tokio::test]
async fn a_skip_goes_the_same_way() {
    let mut fake = Fake::start();
    let path = "/v1/migrations/orders/skip";
    let (code, body) = fake.http("POST", path, r#"{"topic":"orders","partition":2,"why":"it burnt down"}"#).await;
    assert_eq!((code, &body["done"][0]), (200, &json!("skipped orders-2: it burnt down")));
    let (partition, why) = (TopicPartition::new("orders", 2), "it burnt down".to_owned());
    let skip = |force| Action::Skip { partition: partition.clone(), why: why.clone(), force };
    assert_eq!(fake.asked.recv().await.unwrap().action, skip(false));
    let args =
        ["skip", "orders", "--partition", "orders:2", "--why", "it burnt down", "--force", "--dry-run", "--json"];
    let (code, out, err) = command_line(&fake.path(), &args).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(serde_json::from_str::<Outcome>(&out).unwrap().dry_run, "{out}");
    assert_eq!(fake.asked.recv().await.unwrap().action, skip(true));
    for body in ["", r#"{"topic":"orders","partition":"2","why":"x"}"#, r#"{"topic":"orders","partition":2}"#] {
        let (code, answer) = fake.http("POST", path, body).await;
        assert_eq!((code, &answer["error"]["code"]), (400, &json!("bad_request")), "{body}");
    }
}

#[tokio::test]
async fn a_waiver_goes_the_same_way() {
    let mut fake = Fake::start();
    let path = "/v1/migrations/orders/waive";
    let (code, body) = fake.http("POST", path, r#"{"kind":"group","name":"g","why":"it is history"}"#).await;
    assert_eq!((code, &body["done"][0]), (200, &json!("waived group g: it is history")));
    let waive = |kind| Action::Waive { kind, name: "g".into(), why: "it is history".into() };
    assert_eq!(fake.asked.recv().await.unwrap().action, waive(WaiverKind::Group));
    let body = WaiveBody {
        kind: WaiverKind::Finding,
        name: "g".into(),
        why: "it is history".into(),
        expect_step: Some("configured".into()),
        dry_run: true,
    };
    assert!(fake.client().waive("orders", &body).await.is_err(), "a compare and set too");
    assert_eq!(fake.asked.recv().await.unwrap().action, waive(WaiverKind::Finding));
    let args = ["waive", "orders", "group", "g", "--why", "it is history", "--json", "--dry-run"];
    let (code, out, err) = command_line(&fake.path(), &args).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(serde_json::from_str::<Outcome>(&out).unwrap().dry_run, "{out}");
    for usage in [&["waive", "orders", "group", "g"] as &[&str], &["waive", "orders", "topic", "g", "--why", "x"]] {
        assert_eq!(command_line(&fake.path(), usage).await.0, Some(2), "{usage:?}");
    }
    for body in ["", "{}", r#"{"kind":"group","name":"g"}"#, r#"{"kind":"topic","name":"g","why":"x"}"#] {
        let (code, answer) = fake.http("POST", path, body).await;
        assert_eq!((code, &answer["error"]["code"]), (400, &json!("bad_request")), "{body}");
    }
}

#[test]
fn groups_that_have_not_read_up_to_the_seam_are_named_with_why_not() {
    let partition =
        |partition, position| PartitionBehind { topic: "orders".into(), partition, position, behind: Some(4) };
    let mut known = status();
    let m = &mut known.migrations[0];
    m.groups = vec![
        GroupStatus { behind: Some(0), ..group() },
        GroupStatus {
            id: "late\u{1b}[2J".into(),
            behind: Some(8),
            uncommitted: 1,
            partitions: vec![partition(0, Some(6)), partition(1, None)],
            ..group()
        },
        GroupStatus { id: "waived".into(), behind: Some(9), waived: Some("it is history".into()), ..group() },
        GroupStatus { id: "unknown".into(), ..group() },
    ];
    m.groups_not_heard = vec!["which groups b:1 coordinates is not known".into()];
    let at = "2026-01-01T00:00:00.000Z".to_owned();
    m.waived = vec![Waived { kind: WaiverKind::Group, name: "waived".into(), why: "it is history".into(), at }];
    let text = render::status(&known, Some("orders"), false);
    for line in [
        "orders: 2 of 4 groups have not read up to the seam\n",
        "orders: which groups b:1 coordinates is not known\n",
        "no position on 1 partitions",
        "waived: it is history",
        "[2J: orders-0 at 6, 4 behind the seam\n",
        "[2J: orders-1 no position, 4 behind the seam\n",
        "waived at 2026-01-01T00:00:00.000Z: group waived: it is history\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "a group's id is its client's: {text:?}");
    let all = render::status(&known, None, false);
    assert!(all.contains("2 of 4 groups") && !all.contains("orders-0"), "{all}");
    let back: Status = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
    assert_eq!(back, known);
}

#[tokio::test]
async fn an_offset_is_translated() {
    let fake = Fake::start();
    let path = "/v1/offsets/translate?topic=orders&partition=0&offset=3&from=target";
    let expected = json!({
        "topic": "orders", "partition": 0, "migration": "m", "virtual": 11, "native": 3,
        "segment": { "number": 1, "side": "target", "virtual": 10, "native": 2, "length": null },
        "source": { "native": 10, "exact": false }, "target": { "native": 3, "exact": true }, "read_up_to": 11,
    });
    assert_eq!(fake.http("GET", path, "").await, (200, expected.clone()));
    let asked = TranslateQuery { topic: "orders".into(), partition: 0, offset: 3, from: Terms::Target };
    let translation = fake.client().translate(&asked).await.unwrap();
    assert_eq!(serde_json::to_value(&translation).unwrap(), expected);
    // Virtual where nothing is said, and any name is a question.
    let (code, body) = fake.http("GET", "/v1/offsets/translate?topic=a%26b%2Fc&partition=7&offset=5", "").await;
    let expected = json!({
        "topic": "a&b/c", "partition": 7, "migration": null, "virtual": 5, "native": 5,
        "segment": { "number": 0, "side": "source", "virtual": 0, "native": 0, "length": null },
        "source": { "native": 5, "exact": true }, "target": null, "read_up_to": 5,
    });
    assert_eq!((code, &body), (200, &expected));
    let asked = TranslateQuery { topic: "a&b/c".into(), partition: 7, offset: 5, from: Terms::Virtual };
    assert_eq!(serde_json::to_value(fake.client().translate(&asked).await.unwrap()).unwrap(), expected);

    let ask = ["offsets", "translate", "--topic", "orders", "--partition", "0", "--offset", "11"];
    let (code, out, err) = command_line(&fake.path(), &ask).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = "orders-0: virtual 11 is target 3, in segment 1 (open since virtual 10)\n\
                    who reads the source alone goes on at source 10\n";
    assert_eq!(out, expected);
    let (code, out, err) = command_line(&fake.path(), &[&ask[..], &["--from", "source"]].concat()).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = "kafka-cutover: orders-0: source offset 11 is not in the log that clients see: the source's part of it \
                    ended at 10, what came later is a straggler; who has read all before it stands at source 10: ask for that\n";
    assert_eq!(err, expected);
    let (code, _, err) = command_line(Path::new("none.sock"), &ask).await;
    assert!(code == Some(1) && err.contains("is the proxy running?") && err.contains("--state DIR"), "{err}");
}

#[tokio::test]
async fn a_guard_refuses_with_409_and_its_reason() {
    let fake = Fake::start();
    let (code, body) = fake.http("POST", "/v1/migrations/orders/prepare", "").await;
    let error = json!({ "code": "already_prepared", "message": "it is prepared\nalready", "hint": "go on" });
    assert_eq!((code, body), (409, json!({ "error": error })));
    let refused = fake.client().prepare("orders", &StepBody::default()).await.unwrap_err();
    let ClientError::Refused(refusal) = refused else { panic!("{refused}") };
    // One line on stderr.
    assert_eq!(render::refusal(&refusal), "it is prepared already; go on");
}

#[tokio::test]
async fn expect_step_is_a_compare_and_set() {
    let fake = Fake::start();
    let path = "/v1/migrations/orders/switch";
    let (code, body) = fake.http("POST", path, r#"{"what":"producers","expect_step":"new"}"#).await;
    assert_eq!((code, &body["error"]["code"]), (409, &json!("step_changed")));
    let (code, _) = fake.http("POST", path, r#"{"what":"producers","expect_step":"prepared"}"#).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let mut fake = Fake::start();
    for (method, path, body, code, error) in [
        ("GET", "/v1/migrations/none", "", 404, "unknown_migration"),
        ("POST", "/v1/migrations/none/prepare", "", 404, "unknown_migration"),
        ("POST", "/v1/migrations/orders/rollback", "{}", 404, "not_found"),
        ("GET", "/v1/migrations/orders/complete", "", 405, "method_not_allowed"),
        ("GET", "/v1/migrations/orders/report", "", 409, "not_prepared"),
        ("GET", "/v1/migrations/none/report", "", 404, "unknown_migration"),
        ("GET", "/", "", 404, "not_found"),
        ("DELETE", "/v1/status", "", 405, "method_not_allowed"),
        ("GET", "/v1/migrations/orders/switch", "", 405, "method_not_allowed"),
        ("POST", "/v1/migrations/orders/switch", "{", 400, "bad_request"),
        ("POST", "/v1/migrations/orders/switch", "", 400, "bad_request"),
        ("POST", "/v1/migrations/orders/switch", r#"{"what":"clients"}"#, 400, "bad_request"),
        ("POST", "/v1/migrations/orders/switch", r#"{"what":"consumers","hold_consumers":true}"#, 400, "bad_request"),
        ("POST", "/v1/migrations/orders/switch", r#"{"what":"producers","too":"source"}"#, 400, "bad_request"),
        ("POST", "/v1/migrations/orders/switch", r#"{"what":"producers","to":"both"}"#, 400, "bad_request"),
        ("POST", "/v1/migrations/orders/prepare", r#"{"dry_run":"yes"}"#, 400, "bad_request"),
        ("POST", "/v1/migrations/orders/prepare", "\u{0}", 400, "bad_request"),
        ("POST", "/v1/migrations/orders/abort", r#"{"force":true}"#, 400, "bad_request"),
        ("GET", "/v1/migrations/orders/abort", "", 405, "method_not_allowed"),
        ("POST", "/v1/offsets/translate?topic=orders&partition=0&offset=1", "", 405, "method_not_allowed"),
        ("GET", "/v1/offsets", "", 404, "not_found"),
        ("GET", "/v1/offsets/translate", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=0", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=&partition=0&offset=1", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=-1&offset=1", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=0&offset=-1", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=0&offset=first", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=0&offset=1&from=here", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=0&offset=1&of=source", "", 400, "bad_request"),
        ("GET", "/v1/offsets/translate?topic=orders&partition=0&offset=11&from=source", "", 404, "not_mapped"),
    ] {
        let (status, answer) = fake.http(method, path, body).await;
        assert_eq!((status, &answer["error"]["code"]), (code, &json!(error)), "{method} {path} {body}: {answer}");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    }
    let (_, answer) = fake.http("GET", "/v1/migrations/none", "").await;
    assert_eq!(answer["error"]["hint"], "there is: orders");
    let (_, answer) = fake.http("POST", "/v1/migrations/orders/rollback", "").await;
    assert!(answer["error"]["hint"].as_str().unwrap().contains("/v1/migrations/{name}/switch"), "{answer}");
    assert!(fake.asked.try_recv().is_err(), "the proxy was asked for what was refused");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let mut fake = Fake::start();
    let body = format!(r#"{{"expect_step":"{}"}}"#, "x".repeat(70_000));
    let (code, answer) = fake.http("POST", "/v1/migrations/orders/prepare", &body).await;
    assert_eq!((code, &answer["error"]["code"]), (413, &json!("too_large")));
    assert!(fake.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_proxy_that_is_gone_is_unavailable() {
    let (commands, received) = mpsc::channel(1);
    drop(received);
    let fake = Fake::with(commands, mpsc::unbounded_channel().1);
    let (code, answer) = fake.http("POST", "/v1/migrations/orders/prepare", "{}").await;
    assert_eq!((code, &answer["error"]["code"]), (503, &json!("unavailable")));
}

#[tokio::test]
async fn the_socket_is_for_its_user_and_goes_with_the_server() {
    let fake = Fake::start();
    assert_eq!(std::fs::metadata(fake.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let path = fake.path();
    // A second proxy is refused, and the first goes on.
    let second = ControlSocket::bind(&path).unwrap_err();
    assert!(matches!(second, BindError::InUse(_)), "{second}");
    assert!(second.to_string().contains("another proxy answers there"));
    fake.client().status().await.unwrap();
    fake.stop.cancel();
    fake.server.await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_dead_process_socket_is_taken_over_but_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind, as a killed process would");
    let error = Client::new(&path).status().await.unwrap_err().to_string();
    assert!(error.contains("nobody listens; is the proxy running?"), "{error}");
    let socket = ControlSocket::bind(&path).unwrap();
    // A successor's file is not removed.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    drop(socket);
    assert!(matches!(ControlSocket::bind(&path).unwrap_err(), BindError::NotASocket(_)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn without_a_socket_the_client_asks_whether_the_proxy_runs() {
    let error = Client::new(Path::new("/nonexistent/control.sock")).status().await.unwrap_err().to_string();
    assert!(error.contains("is the proxy running?"), "{error}");
}

#[tokio::test]
async fn events_are_streamed_until_the_server_stops() {
    let fake = Fake::start();
    let mut stream = UnixStream::connect(fake.path()).await.unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    // The head comes once the stream is subscribed.
    while !text.contains("\r\n\r\n") {
        let n = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let details = json!({ "step": "switched" }).as_object().unwrap().clone();
    fake.events.send(Event { kind: "step".into(), migration: Some("orders".into()), details }).unwrap();
    let data = r#"{"kind":"step","migration":"orders","step":"switched"}"#;
    while !text.contains(data) {
        let n = stream.read(&mut buffer).await.unwrap();
        assert_ne!(n, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    assert!(text.contains("event: step\n"), "{text}");
    // An open stream does not keep the server from stopping.
    fake.stop.cancel();
    fake.server.await.unwrap().unwrap();
}

#[test]
fn the_status_table_names_what_waits_and_has_no_colour_unless_asked() {
    let plain = render::status(&status(), None, false);
    assert!(plain.contains("orders") && plain.contains("switch producers waits: hanging transaction"), "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(render::status(&status(), Some("orders"), true).contains('\u{1b}'));
    assert!(render::status(&status(), Some("orders"), false).contains("Stable"));
}

/// The command line, as a process of its own, against a server of this one.
pub async fn command_line(socket: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_kafka-cutover"))
        .args(args)
        .env("KAFKA_CUTOVER_SOCKET", socket)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_command_line_exits_as_the_contract_says() {
    let fake = Fake::start();
    let path = fake.path();
    let (code, out, err) = command_line(&path, &["status", "--json"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Status>(&out).unwrap(), status());
    let (code, out, _) = command_line(&path, &["status", "orders"]).await;
    assert!(code == Some(0) && out.contains("producers-first") && !out.contains('\u{1b}'), "{out}");
    let (code, out, err) = command_line(&path, &["status", "none"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "kafka-cutover: no migration is named `none`; there is: orders\n");
    let (code, out, err) = command_line(&path, &["prepare", "orders"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "kafka-cutover: it is prepared already; go on\n");
    let (code, out, _) = command_line(&path, &["switch", "orders", "producers", "--json", "--dry-run"]).await;
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<Outcome>(&out).unwrap().dry_run);
    for usage in [&["switch", "orders", "clients"] as &[&str], &["rollback", "x"]] {
        assert_eq!(command_line(&path, usage).await.0, Some(2), "{usage:?}");
    }
    let (code, out, _) = command_line(&path, &["completions", "bash"]).await;
    assert!(code == Some(0) && out.contains("kafka-cutover"));
}

#[tokio::test]
async fn a_bad_config_ends_with_2_and_lists_everything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "source: { bootstrap: [a] }\nworkers: many\n").unwrap();
    let (code, out, err) = command_line(Path::new("none.sock"), &["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for text in ["4 problems", "source.bootstrap[0]", "target.bootstrap", "listeners", "workers"] {
        assert!(err.contains(text), "{text} is not in {err}");
    }
}

/// A proxy whose migration goes from `new` over `prepared` to `switched`, for `cutover`.
fn walking_proxy() -> (Operator, mpsc::UnboundedReceiver<Action>) {
    let (commands, mut received) = mpsc::channel::<Ask>(8);
    let (ran, runs) = mpsc::unbounded_channel();
    let step = Arc::new(std::sync::Mutex::new("new"));
    let now = step.clone();
    let status = move || {
        let (step, next) = match *now.lock().unwrap() {
            "new" => ("new", Some("prepare")),
            "prepared" => ("prepared", Some("switch producers")),
            "switched" => ("switched", Some("complete")),
            step => (step, Some("rollback")),
        };
        let guard = Guard { ok: true, reason: None };
        let next = next.map(str::to_owned);
        let m = MigrationStatus { name: "orders".into(), step: step.into(), next, guard, ..MigrationStatus::default() };
        Status { migrations: vec![m], ..Status::default() }
    };
    tokio::spawn(async move {
        while let Some(Ask { command, answer, .. }) = received.recv().await {
            let current = *step.lock().unwrap();
            let result = command.check_step(current).map(|()| {
                let next = match command.action {
                    Action::Prepare => "prepared",
                    Action::Complete => "completed",
                    _ => "switched",
                };
                if !command.dry_run {
                    *step.lock().unwrap() = next;
                    let _ = ran.send(command.action.clone());
                }
                let step = step.lock().unwrap().to_string();
                Outcome { migration: command.migration, step, dry_run: command.dry_run, ..Outcome::default() }
            });
            assert!(command.expect_step.is_some(), "cutover says which step it saw");
            let _ = answer.send(result);
        }
    });
    (Operator::new(commands, status, Arc::default, broadcast::channel(1).0), runs)
}

#[tokio::test]
async fn cutover_runs_step_by_step_and_stops_at_what_is_not_built() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (operator, mut runs) = walking_proxy();
    tokio::spawn(serve(ControlSocket::bind(&path).unwrap(), operator, CancellationToken::new()));
    let (code, out, _) = command_line(&path, &["cutover", "orders", "--dry-run"]).await;
    assert!(code == Some(0) && out.contains("dry run, nothing changed"), "{out}");
    let (code, _, err) = command_line(&path, &["cutover", "orders"]).await;
    assert!(code == Some(1) && err.contains("--yes"), "nobody to ask: {err}");
    assert!(runs.try_recv().is_err(), "neither ran anything");
    let (code, out, err) = command_line(&path, &["cutover", "orders", "--yes"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.ends_with("orders: at step `completed`; next is `rollback`, which is not built yet\n"), "{out}");
    assert_eq!(runs.recv().await.unwrap(), Action::Prepare);
    assert_eq!(
        runs.recv().await.unwrap(),
        Action::SwitchProducers { to: Side::Target, force: false, hold_consumers: false }
    );
    assert_eq!(runs.recv().await.unwrap(), Action::Complete);
    assert!(runs.try_recv().is_err());
}

#[tokio::test]
async fn cutover_stops_at_a_guard() {
    let mut fake = Fake::start();
    let (code, out, err) = command_line(&fake.path(), &["cutover", "orders", "--yes"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("`switch producers` may not run yet: hanging transaction"), "{err}");
    assert!(fake.asked.try_recv().is_err());
}
