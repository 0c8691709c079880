//! The config: all problems at once, each at its place; the environment; the reference file.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_cutover::config::problem::Place;
use kafka_cutover::config::{Address, Config, Listener, Migration, Pattern, Problems, Scheme, load, parse};
use kafka_cutover::ids::Side;

const GOOD: &str = r"# … 本 text of many bytes before what is read by its place
source: { bootstrap: [a:9094, '[::1]:9094'] }
target: { bootstrap: [b:9095] }
listeners:
  - bind: 127.0.0.1:9092
    advertise: proxy:9092
migrations:
  - name: orders
    topics: [orders, 'orders\..+', 007, no, 1e3, ~x]
";

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn problems(text: &str) -> Problems {
    parse(text, "test.yaml", []).unwrap_err()
}

/// (key, line) of each problem.
fn places(problems: &Problems) -> Vec<(String, usize)> {
    let line = |p: &Place| if let Place::Line { line, .. } = p { *line } else { 0 };
    problems.list.iter().map(|p| (p.key.clone(), line(&p.place))).collect()
}

#[test]
fn a_good_config_is_read() {
    let config = parse(GOOD, "test.yaml", []).unwrap();
    assert_eq!(config.source.bootstrap, [Address::new("a", 9094), Address::new("::1", 9094)]);
    assert_eq!(config.cluster(Side::Target).bootstrap, [Address::new("b", 9095)]);
    assert_eq!(config.listeners[0].advertise.0, [Address::new("proxy", 9092)]);
    assert_eq!(config.migration("orders").unwrap().scheme, Scheme::ProducersFirst);
    // A name stays as it was written, also where YAML would see a number or a truth value.
    let written: Vec<_> = config.migrations[0].topics.iter().map(Pattern::as_str).collect();
    assert_eq!(written, ["orders", r"orders\..+", "007", "no", "1e3", "~x"]);
    assert_eq!(config.limits.frame.as_u64(), 100 << 20);
    assert_eq!(config.seal.hold_budget, Duration::from_secs(5));
    assert!(config.worker_threads() >= 1);
}

#[test]
fn patterns_match_whole_names_and_never_kafkas_own() {
    let topics = vec![Pattern::new("orders").unwrap(), Pattern::new("a|.*payments").unwrap()];
    let migration = Migration { name: "m".into(), topics, ..Migration::default() };
    for topic in ["orders", "a", "eu.payments"] {
        assert!(migration.matches(topic), "{topic}");
    }
    for topic in ["orders2", "my-orders", "ab", "__payments", "payments.x", "orders\n"] {
        assert!(!migration.matches(topic), "{topic:?}");
    }
    assert!(Pattern::new("a)|(b").is_err());
}

#[test]
fn every_mistake_of_types_is_listed_with_its_line() {
    let text = r"name: 007
sourc: { bootstrap: [a:1] }
source:
  bootstrap: [a:9094, nonsense, 'x:', b:9094]
  color: red
target: nothing
listeners:
  - bind: everywhere
    advertise: [p:9092, '?']
workers: many
limits:
  frame: huge
  connections: -1
timeouts: { connect: soon }
migrations:
  - name: m
    topics: ['(', ok, ')']
    scheme: sideways
    topic: x
";
    let found = problems(text);
    let mut places = places(&found);
    places.sort();
    let expected = [
        ("limits.connections", 13),
        ("limits.frame", 12),
        ("listeners[0].advertise[1]", 9),
        ("listeners[0].bind", 8),
        ("migrations[0].scheme", 18),
        ("migrations[0].topic", 19),
        ("migrations[0].topics[0]", 17),
        ("migrations[0].topics[2]", 17),
        ("sourc", 2),
        ("source.bootstrap[1]", 4),
        ("source.bootstrap[2]", 4),
        ("source.color", 5),
        ("target", 6),
        ("timeouts.connect", 14),
        ("workers", 10),
    ];
    assert_eq!(places, expected.map(|(k, l)| (k.to_owned(), l)), "{found}");
    let shown = found.to_string();
    assert!(shown.starts_with("test.yaml: 15 problems"), "{shown}");
    assert!(shown.contains("--> test.yaml:18:13\n    18 |     scheme: sideways"), "{shown}");
    assert!(shown.contains("`sideways` is none of: producers-first, dual-consume, consumers-first"), "{shown}");
    assert!(shown.contains("unknown key; known here: bootstrap, tls, sasl"), "{shown}");
}

#[test]
fn every_contradiction_is_listed() {
    let text = r"name: a b
source: { bootstrap: [a:9094] }
target: { bootstrap: [a:9094, 'b:0'] }
listeners:
  - bind: 0.0.0.0:9092
  - bind: 0.0.0.0:9092
    advertise: [p:1, p:1]
  - { bind: '127.0.0.1:9093', advertise: 'p:1' }
  - { bind: '127.0.0.1:9094', advertise: 'a:9094' }
control: { socket: '' }
limits: { frame: 1, in_flight_bytes: 1MiB, connections: 0 }
timeouts: { connect: 0s }
seal: { hold_budget: 1h }
migrations:
  - { name: m, topics: [x] }
  - { name: m, topics: [x, __y] }
  - { name: 'a/b' }
";
    let found = problems(text);
    let expected = [
        ("name", 1),
        ("target.bootstrap[1]", 3),
        ("target.bootstrap[0]", 3),
        ("listeners[3].advertise", 9),
        ("listeners[3].advertise", 9),
        ("listeners[0].advertise", 5),
        ("listeners[1].bind", 6),
        ("listeners[1].advertise", 7),
        ("listeners[2].advertise", 8),
        ("control.socket", 10),
        ("limits.frame", 11),
        ("limits.in_flight_bytes", 11),
        ("limits.connections", 11),
        ("timeouts.connect", 12),
        ("seal.hold_budget", 13),
        ("migrations[1].name", 16),
        ("migrations[1].topics[0]", 16),
        ("migrations[1].topics[1]", 16),
        ("migrations[2].name", 17),
        ("migrations[2].topics", 17),
    ];
    assert_eq!(places(&found), expected.map(|(k, l)| (k.to_owned(), l)), "{found}");
}

#[test]
fn nothing_at_all_says_what_is_required() {
    let keys: Vec<_> = problems("").list.into_iter().map(|p| p.key).collect();
    assert_eq!(keys, ["source.bootstrap", "target.bootstrap", "listeners"]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let text = r"
source: { bootstrap: [a:1], tls: {}, sasl: { mechanism: PLAIN } }
target: { bootstrap: [b:1], tls: { ca: x }, sasl: { mechanism: PLAIN } }
default_side: target
listeners: [{ bind: '127.0.0.1:1', advertise: 'c:1', tls: { cert: c, key: k } }]
migrations:
  - { name: a, topics: [a], scheme: dual-consume, mirror: reverse, stragglers: include }
  - { name: b, topics: [b], scheme: consumers-first }
";
    let found = problems(text);
    assert!(found.list.iter().all(|p| p.message.contains("not supported yet")), "{found}");
    let keys: Vec<_> = found.list.iter().map(|p| p.key.as_str()).collect();
    let expected = [
        "default_side",
        "source.sasl",
        "target.tls",
        "target.sasl",
        "listeners[0].tls",
        "migrations[0].scheme",
        "migrations[0].mirror",
        "migrations[0].stragglers",
        "migrations[1].scheme",
    ];
    // `tls: {}` is a wish for TLS too.
    let mut expected = expected.to_vec();
    expected.insert(1, "source.tls");
    assert_eq!(keys, expected);
}

#[test]
fn a_syntax_error_has_its_line() {
    let found = problems("source:\n  bootstrap: [a:1\ntarget: {}\n");
    assert_eq!(found.list.len(), 1, "{found}");
    assert!(matches!(found.list[0].place, Place::Line { .. }), "{found}");
    let found = problems("name: a\nname: b\n");
    assert_eq!(places(&found)[0].1, 2, "{found}");
}

#[test]
fn the_environment_goes_before_the_file() {
    let config = parse(
        GOOD,
        "test.yaml",
        env(&[
            ("KAFKA_CUTOVER_SOURCE__BOOTSTRAP", "x:1, [::1]:2,y:3"),
            ("KAFKA_CUTOVER_LIMITS__FRAME", "1MiB"),
            ("KAFKA_CUTOVER_WORKERS", "3"),
            ("KAFKA_CUTOVER_MONITOR__BIND", ""),
            ("KAFKA_CUTOVER_LISTENERS__0__ADVERTISE", "p:1,q:1"),
            ("KAFKA_CUTOVER_MIGRATIONS__1", "{ name: more, topics: [ 'x{1,3}' ] }"),
            ("KAFKA_CUTOVER_MIGRATIONS__0__TOPICS", "a,b"),
            ("KAFKA_CUTOVER_SEAL__HOLD_BUDGET", "2s"),
            ("KAFKA_CUTOVER_NAME", "0815"),
            // Not ours, or not for the config:
            ("KAFKA_CUTOVER_SOCKET", "s"),
            ("KAFKA_CUTOVER_LOG", "debug"),
            ("KAFKA_CUTOVER_SERVICE_HOST", "10.0.0.1"),
            ("KAFKA_CUTOVER_PORT_9094_TCP", "tcp://10.0.0.1:9094"),
            ("PATH", "/bin"),
        ]),
    )
    .unwrap();
    assert_eq!(config.source.bootstrap, [Address::new("x", 1), Address::new("::1", 2), Address::new("y", 3)]);
    assert_eq!(config.limits.frame.as_u64(), 1 << 20);
    assert_eq!(config.workers, 3);
    assert_eq!(config.monitor.bind, None);
    assert_eq!(config.listeners[0].advertise.0.len(), 2);
    assert_eq!(config.listeners[0].bind.port(), 9092);
    assert_eq!(config.seal.hold_budget, Duration::from_secs(2));
    assert_eq!(config.name, "0815");
    assert!(config.migrations[0].matches("b") && !config.migrations[0].matches("orders"));
    assert!(config.migrations[1].matches("xxx"));
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let found = parse(
        GOOD,
        "test.yaml",
        env(&[
            ("KAFKA_CUTOVER_WORKER", "3"),
            ("KAFKA_CUTOVER_SOURCE__BOOTSTRAPS", "a:1"),
            ("KAFKA_CUTOVER_LIMITS__FRAME", "much"),
            ("KAFKA_CUTOVER_MIGRATIONS__7__NAME", "x"),
            ("KAFKA_CUTOVER_TARGET__BOOTSTRAP", "b:0"),
        ]),
    )
    .unwrap_err();
    let places: Vec<_> = found.list.iter().map(|p| (p.key.as_str(), &p.place)).collect();
    let at = |name: &str| Place::Env(name.to_owned());
    let expected = [
        ("migrations[7].name", &at("KAFKA_CUTOVER_MIGRATIONS__7__NAME")),
        ("worker", &at("KAFKA_CUTOVER_WORKER")),
        ("source.bootstraps", &at("KAFKA_CUTOVER_SOURCE__BOOTSTRAPS")),
        ("limits.frame", &at("KAFKA_CUTOVER_LIMITS__FRAME")),
        ("target.bootstrap[0]", &at("KAFKA_CUTOVER_TARGET__BOOTSTRAP")),
    ];
    assert_eq!(places, expected, "{found}");
}

#[test]
fn advertised_addresses_take_the_bound_port() {
    let bound = "127.0.0.1:4711".parse().unwrap();
    let mut listener = Listener::at("127.0.0.1:0".parse().unwrap());
    assert_eq!(listener.advertised(bound), [Address::new("127.0.0.1", 4711)]);
    listener.advertise.0 = vec![Address::new("127.0.0.2", 0), Address::new("::1", 9)];
    assert_eq!(listener.advertised(bound), [Address::new("127.0.0.2", 4711), Address::new("::1", 9)]);
}

#[test]
fn addresses_are_host_and_port() {
    for text in ["a:1", "10.0.0.1:9092", "[::1]:65535", "a-b.c_d:0"] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }
    for text in ["a", ":1", "a:", "a:65536", "::1:9092", "[::1]", "[x]:1", "http://a:1", "a b:1", "a:1,b:1"] {
        assert!(text.parse::<Address>().is_err(), "{text}");
    }
}

#[test]
fn a_password_file_loses_its_line_end_and_stays_out_of_logs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "s3cret \r\n").unwrap();
    let secret = kafka_cutover::config::Secret::from_file(&path).unwrap();
    assert_eq!(secret.expose(), "s3cret ");
    assert_eq!(format!("{secret:?}"), "***");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_too() {
    let dir = tempfile::tempdir().unwrap();
    let found = load(&dir.path().join("none.yaml")).unwrap_err();
    assert!(found.to_string().contains("cannot be read"), "{found}");
}

fn repository(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_files_to_start_with_are_good() {
    parse(&repository("config/kafka-cutover.yaml"), "kafka-cutover.yaml", []).unwrap();
    parse(&repository("config/docker/kafka-cutover.yaml"), "docker/kafka-cutover.yaml", []).unwrap();
}

#[test]
fn the_reference_shows_every_key_with_its_default() {
    let text = repository("config/reference.yaml");
    // As it stands: the defaults, and nothing but them.
    let (config, tree, problems) = kafka_cutover::config::load::read(&text, []);
    assert_eq!(problems, []);
    assert_eq!(config, Config::default());
    // With its examples: every key of the schema.
    let whole = text.replace("#: ", "");
    let (example, all, problems) = kafka_cutover::config::load::read(&whole, []);
    assert_eq!(problems, [], "{whole}");
    let mut shown = BTreeSet::new();
    keys_of_tree(&all, "", &mut shown);
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let mut expected = BTreeSet::new();
    keys_of_schema(&schema, &schema, "", &mut expected);
    assert!(expected.len() > 50, "{expected:?}");
    assert_eq!(shown, expected);
    // A scalar with a default is set, not only shown.
    let mut set = BTreeSet::new();
    keys_of_tree(&tree, "", &mut set);
    for section in ["name", "control", "monitor", "state", "default_side", "limits", "workers", "timeouts", "seal"] {
        for key in expected.iter().filter(|k| *k == section || k.starts_with(&format!("{section}."))) {
            assert!(set.contains(key), "{key} has a default; config/reference.yaml must set it");
        }
    }
    // The examples of keys with a default show that default.
    let (shown, default) = (&example.migrations[0], Migration::default());
    assert_eq!((shown.scheme, shown.mirror, shown.stragglers), (default.scheme, default.mirror, default.stragglers));
}

fn keys_of_tree(node: &kafka_cutover::config::tree::Node, path: &str, keys: &mut BTreeSet<String>) {
    use kafka_cutover::config::tree::Value;
    match &node.value {
        Value::Map(map) => {
            for (key, node) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys.insert(path.clone());
                keys_of_tree(node, &path, keys);
            }
        }
        Value::List(list) => list.iter().for_each(|n| keys_of_tree(n, path, keys)),
        _ => {}
    }
}

fn keys_of_schema(schema: &serde_json::Value, root: &serde_json::Value, path: &str, keys: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        return keys_of_schema(&root["$defs"][name], root, path, keys);
    }
    for part in schema["anyOf"].as_array().into_iter().flatten() {
        keys_of_schema(part, root, path, keys);
    }
    if schema["items"].is_object() {
        keys_of_schema(&schema["items"], root, path, keys);
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        keys.insert(path.clone());
        keys_of_schema(schema, root, &path, keys);
    }
}
