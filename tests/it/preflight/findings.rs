//! Each finding of preflight, with a case that has it and one that has not.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;

use kafka_cutover::config::{Advertise, Cluster as At, Config, Scheme};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::ids::{Side, TopicName, TopicPartition};
use kafka_cutover::migration::marker;
use kafka_cutover::preflight::facts::{GroupOnTarget, SideFacts, TopicFacts};
use kafka_cutover::preflight::{self, Facts, Finding, Seen, Severity};
use kafka_cutover::upstream::ask::groups::{self, Stored};
use kafka_cutover::upstream::discovery;
use kafka_cutover::upstream::topology::Broker;

use super::markers::marker_of;
use crate::embedded::raw::{Plan, encode, idempotent};

use super::{Pair, admin, local, pair, pair_of, write};

const ONE: &[(&str, &[&str])] = &[("m", &["t"])];

fn found(config: &Config) -> Vec<Finding> {
    preflight::check(config).unwrap().findings
}

fn codes(found: &[Finding]) -> Vec<(&str, &str)> {
    found.iter().map(|f| (f.code.as_str(), f.where_.as_str())).collect()
}

fn ready() -> Pair {
    let pair = pair(ONE);
    pair.source.create_topic("t", 2, &[]).unwrap();
    pair
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let pair = ready();
    assert_eq!(found(&pair.config), []);
    assert!(pair.target.topics().is_empty(), "check changes nothing");
    pair.target.create_topic("t", 2, &[]).unwrap();
    write(&pair.source, "t", 0);
    assert_eq!(found(&pair.config), []);
}

#[test]
fn a_cluster_that_does_not_answer_is_named_with_its_address_and_the_reason() {
    let mut pair = ready();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    pair.config.target = At::at([free.into()]);
    let found = found(&pair.config);
    assert_eq!(codes(&found), [("unreachable", "target")]);
    assert!(found[0].message.contains(&free.to_string()) && found[0].message.contains("refused"), "{found:?}");
}

#[test]
fn brokers_answer_where_they_say_they_are() {
    let mut facts = Facts::default();
    let broker = Broker { host: "far.example".to_owned(), port: 9092 };
    facts.sides[0].brokers.push((broker, Err("no such host".to_owned())));
    let found = preflight::judge(&Config::default(), &[], &facts);
    assert_eq!(codes(&found), [("broker_unreachable", "source broker far.example:9092")]);
}

#[test]
fn a_switch_is_about_what_was_pinned() {
    let pair = pair(&[("m", &["t.*"])]);
    pair.source.create_topic("t", 2, &[]).unwrap();
    pair.source.create_topic("t-later", 2, &[]).unwrap();
    pair.target.create_topic("t", 2, &[]).unwrap();
    pair.target.create_topic("t-later", 1, &[]).unwrap();
    let found = |pinned: Option<&[&str]>| {
        let pinned = pinned.map(|names| names.iter().map(|n| TopicName::from(*n)).collect());
        local(async || {
            let [source, target] =
                [(Side::Source, &pair.source), (Side::Target, &pair.target)].map(|(s, c)| admin(s, c));
            preflight::run(
                &pair.config,
                &source,
                &target,
                &[&pair.config.migrations[0]],
                pinned.as_ref(),
                &Seen::default(),
            )
            .await
        })
    };
    assert!(found(None).iter().any(|f| f.severity == Severity::Error && f.where_ == "topic t-later"));
    assert_eq!(found(Some(&["t"])), []);
    assert!(!found(Some(&["t", "t-later"])).is_empty());
}

#[test]
fn a_switch_needs_the_leaders_only() {
    let [leads, other] = [1, 2].map(|port| Broker { host: "b".to_owned(), port });
    let pair = ready();
    let mut view = local(async || discovery::look(&admin(Side::Source, &pair.source), &[]).await.unwrap());
    let leader = view.topics.values().next().unwrap().partitions[0].leader;
    view.brokers = [(leader, leads.clone())].into();
    let mut facts = Facts { switch: true, ..Facts::default() };
    facts.topics = view.topics.keys().map(|name| (name.clone(), TopicFacts::default())).collect();
    facts.sides[0].view = Some(Ok(view));
    facts.sides[0].brokers = [leads, other].map(|broker| (broker, Err("no answer".to_owned()))).to_vec();
    facts.groups_unknown = vec![("group g".to_owned(), "its coordinator loads".to_owned())];
    let found = preflight::judge(&Config::default(), &[], &facts);
    let seen: Vec<_> = found.iter().map(|f| (f.severity, f.code.as_str(), f.where_.as_str())).collect();
    let unreachable = "broker_unreachable";
    assert!(seen.contains(&(Severity::Error, unreachable, "source broker b:1")), "{seen:?}");
    assert!(seen.contains(&(Severity::Warning, unreachable, "source broker b:2")), "{seen:?}");
    assert!(seen.contains(&(Severity::Warning, "group_unknown", "group g")), "{seen:?}");
}

#[test]
fn an_old_broker_and_one_without_a_needed_api() {
    let old = ClusterSpec { api_limits: [(61, (1, 0))].into(), ..ClusterSpec::default() };
    let groupless = ClusterSpec { api_limits: [(11, (1, 0))].into(), ..ClusterSpec::default() };
    let pair = pair_of(old, groupless, ONE);
    pair.source.create_topic("t", 1, &[]).unwrap();
    let found = found(&pair.config);
    let old = format!("source broker {}", pair.source.bootstrap()[0]);
    assert_eq!(
        codes(&found),
        [("broker_too_old", old.as_str()), ("no_common_version", "source, target"), ("question_refused", "source")]
    );
    assert!(found[1].message.contains("JoinGroup") && found[1].message.contains("the target (nothing)"), "{found:?}");
    assert!(found[2].message.contains("DescribeProducers of t-0"), "{found:?}");
}

#[test]
fn one_cluster_on_both_sides_and_a_proxy_behind_itself() {
    let mut pair = ready();
    pair.config.target = pair.config.source.clone();
    assert_eq!(codes(&found(&pair.config)), [("same_cluster", "source, target")]);

    let mut pair = ready();
    let own = pair.config.target.bootstrap[0].clone();
    pair.config.listeners[0].advertise = Advertise(vec![own.clone()]);
    assert_eq!(codes(&found(&pair.config)), [("loop", format!("target broker {own}").as_str())]);
}

#[test]
fn patterns_that_mean_nothing_and_topics_that_two_mean() {
    let pair = pair(&[("m", &["t", "gone", "__.*"]), ("n", &["t|u"])]);
    pair.source.create_topic("t", 1, &[]).unwrap();
    pair.source.create_topic("u", 1, &[]).unwrap();
    let found = found(&pair.config);
    let expected = [
        ("topic_in_two_migrations", "topic t"),
        ("pattern_matches_nothing", "migration m"),
        ("pattern_matches_nothing", "migration m"),
    ];
    assert_eq!(codes(&found), expected);
    assert_eq!(
        found.iter().map(|f| f.severity).collect::<Vec<_>>(),
        [Severity::Error, Severity::Warning, Severity::Warning]
    );
    assert!(found[0].message.contains("m and n"), "{found:?}");
}

#[test]
fn topics_of_the_target_are_as_many_parts_and_empty() {
    let pair = ready();
    pair.target.create_topic("t", 3, &[]).unwrap();
    write(&pair.target, "t", 0);
    write(&pair.target, "t", 2);
    let found = found(&pair.config);
    assert_eq!(codes(&found), [("partitions_differ", "topic t"), ("target_not_empty", "topic t")]);
    assert!(found[1].message.contains("(0 to 1), and 1 more"), "{found:?}");
}

#[test]
fn what_a_seal_of_ours_has_begun_is_not_foreign() {
    let pair = ready();
    pair.target.create_topic("t", 2, &[]).unwrap();
    write(&pair.target, "t", 0);
    assert_eq!(codes(&found(&pair.config)), [("target_not_empty", "topic t")]);
    local(async || {
        let target = admin(Side::Target, &pair.target);
        marker::ensure_topic(&target, &pair.config.name).await.unwrap();
        // A part that has not begun yet stays foreign.
        let mut marker = marker_of(1, "t");
        let begun =
            std::mem::replace(&mut marker.partitions[0].2, kafka_cutover::offsets::SpliceMap::whole(Side::Source));
        marker::write(&target, &pair.config.name, Some(&marker)).await.unwrap();
        marker.partitions[0].2 = begun;
        let findings = preflight::run(
            &pair.config,
            &admin(Side::Source, &pair.source),
            &target,
            &[&pair.config.migrations[0]],
            None,
            &Seen::default(),
        )
        .await;
        assert_eq!(codes(&findings), [("target_not_empty", "topic t")]);
        marker::write(&target, &pair.config.name, Some(&marker)).await.unwrap();
    });
    assert_eq!(found(&pair.config), []);
    write(&pair.target, "t", 1);
    assert_eq!(codes(&found(&pair.config)), [("target_not_empty", "topic t")]);
}

#[test]
fn a_topic_that_the_target_would_not_make() {
    let pair = pair(&[("m", &["a.b"])]);
    pair.source.create_topic("a.b", 1, &[]).unwrap();
    pair.target.create_topic("a_b", 1, &[]).unwrap();
    let found = found(&pair.config);
    assert_eq!(codes(&found), [("topic_cannot_be_created", "topic a.b")]);
    assert!(found[0].message.contains("collides"), "{found:?}");
}

#[test]
fn configs_that_would_be_noticed() {
    // (key, source, target, found)
    let table = [
        ("max.message.bytes", "2000000", "1000000", true),
        ("max.message.bytes", "1000000", "2000000", false),
        ("retention.ms", "-1", "1000", true),
        ("retention.ms", "1000", "-1", false),
        ("retention.bytes", "5000", "4000", true),
        ("retention.bytes", "4000", "5000", false),
        ("message.timestamp.type", "CreateTime", "LogAppendTime", true),
        ("message.timestamp.before.max.ms", "9000", "8000", true),
        ("message.timestamp.after.max.ms", "8000", "9000", false),
        ("compression.type", "producer", "zstd", true),
        ("cleanup.policy", "delete", "compact", true),
        ("segment.bytes", "2000000", "1000000", false),
    ];
    for (key, source, target, expected) in table {
        let pair = pair(ONE);
        pair.source.create_topic("t", 1, &[(key, source)]).unwrap();
        pair.target.create_topic("t", 1, &[(key, target)]).unwrap();
        let found = found(&pair.config);
        let expected: Vec<_> = expected.then_some(("config_differs", "topic t")).into_iter().collect();
        assert_eq!(codes(&found), expected, "{key} {source} {target}");
        let says = |f: &Finding| {
            f.severity == Severity::Warning && [key, source, target].iter().all(|w| f.message.contains(w))
        };
        assert!(found.iter().all(says), "{found:?}");
    }
    let same = pair(ONE);
    let compacted = [("compact,delete", "delete,compact")];
    for (source, target) in compacted {
        same.source.create_topic("t", 1, &[("cleanup.policy", source)]).unwrap();
        same.target.create_topic("t", 1, &[("cleanup.policy", target)]).unwrap();
    }
    assert_eq!(
        codes(&found(&same.config)),
        [("compacted_without_copy", "topic t")],
        "the order of a list says nothing"
    );
}

#[test]
fn an_older_source_has_one_limit_of_timestamps_for_both_directions() {
    let configs = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>())
    };
    let judged = |source: &[(&str, &str)]| {
        let target =
            [("message.timestamp.after.max.ms", "3600000"), ("message.timestamp.before.max.ms", "9223372036854775807")];
        let topic = TopicFacts { configs: [configs(source), configs(&target)], ..TopicFacts::default() };
        let facts = Facts { topics: [("t".into(), topic)].into(), ..Facts::default() };
        preflight::judge(&Config::default(), &[], &facts)
    };
    // Kafka 2.8 to 3.5, then one that has both.
    let never = "9223372036854775807";
    let older = judged(&[("message.timestamp.difference.max.ms", never)]);
    assert_eq!(codes(&older), [("config_differs", "topic t")]);
    assert!(
        older[0].message.starts_with(&format!("message.timestamp.after.max.ms is {never} on the source")),
        "{older:?}"
    );
    assert_eq!(judged(&[("message.timestamp.difference.max.ms", "1000")]), []);
    let both = [("message.timestamp.difference.max.ms", "1000"), ("message.timestamp.after.max.ms", never)];
    assert_eq!(judged(&both), [], "the older one still counts");
}

#[test]
fn transactions_that_hang_on_the_source() {
    const TRANSACTIONAL: i16 = 1 << 4;
    let pair = ready();
    let plan = Plan { attributes: TRANSACTIONAL, ..idempotent(7, 0, 0, 1) };
    write(&pair.source, "t", 1);
    pair.source.append_directly("t", 1, encode(plan)).unwrap();
    let found = found(&pair.config);
    assert_eq!(codes(&found), [("hanging_transaction", "topic t")]);
    assert!(
        found[0].message.contains("partition 1") && found[0].message.contains("producer id 7, from offset 1"),
        "{found:?}"
    );
    assert!(found[0].action.contains("--topic t --partition 1 --start-offset 1"), "{found:?}");
}

#[test]
fn brokers_that_count_connections_by_address() {
    let limited = ClusterSpec {
        broker_configs: vec![
            ("max.connections.per.ip", "500".to_owned()),
            ("max.connection.creation.rate", "2147483647".to_owned()),
        ],
        ..ClusterSpec::default()
    };
    let pair = pair_of(ClusterSpec::default(), limited, ONE);
    pair.source.create_topic("t", 1, &[]).unwrap();
    let found = found(&pair.config);
    assert_eq!(codes(&found), [("connections_limited", "target")]);
    assert!(
        found[0].severity == Severity::Warning && found[0].message.contains("max.connections.per.ip is 500"),
        "{found:?}"
    );
}

#[test]
fn groups_of_the_same_name_on_the_target() {
    let pair = ready();
    pair.target.create_topic("t", 2, &[]).unwrap();
    pair.target.create_topic("other", 1, &[]).unwrap();
    pair.source.create_topic("other", 1, &[]).unwrap();
    let commit = |cluster: &Cluster, side: Side, group: &str, topic: &str| {
        let position = (TopicPartition::new(topic, 0), Stored { offset: 0, metadata: None });
        local(async || {
            let admin = admin(side, cluster);
            let address = groups::coordinator(&admin, &[], group).await.unwrap();
            groups::commit_simple(&admin, &address, group, &[position]).await.unwrap();
        });
    };
    commit(&pair.source, Side::Source, "g", "t");
    commit(&pair.source, Side::Source, "elsewhere", "other");
    commit(&pair.target, Side::Target, "elsewhere", "t");
    commit(&pair.target, Side::Target, "g", "other");
    assert_eq!(found(&pair.config), [], "they meet in no topic");
    commit(&pair.target, Side::Target, "g", "t");
    let known = found(&pair.config);
    assert_eq!((codes(&known), known[0].severity), (vec![("group_known", "group g")], Severity::Warning));

    let seen = |state: &str| GroupOnTarget { group: "g".to_owned(), state: state.to_owned(), committed: None };
    let judged = |state| {
        let facts = Facts { groups: vec![seen(state)], ..Facts::default() };
        preflight::judge(&Config::default(), &[], &facts)
    };
    assert_eq!([judged("Empty"), judged("")], [vec![], vec![]]);
    let in_use = judged("Stable");
    assert_eq!((codes(&in_use), in_use[0].severity), (vec![("group_in_use", "group g")], Severity::Error));
}

#[test]
fn more_replicas_in_sync_than_there_are() {
    let source = ClusterSpec { nodes: 2, ..ClusterSpec::default() };
    let pair = pair_of(source, ClusterSpec::default(), ONE);
    pair.source.create_topic("t", 1, &[("min.insync.replicas", "2")]).unwrap();
    assert_eq!(codes(&found(&pair.config)), [("min_insync_replicas", "topic t")], "as it would be made");
    pair.target.create_topic("t", 1, &[("min.insync.replicas", "2")]).unwrap();
    assert_eq!(codes(&found(&pair.config)), [("min_insync_replicas", "topic t")], "as it is");
}

#[test]
fn compacted_topics() {
    let mut pair = pair(ONE);
    pair.source.create_topic("t", 1, &[("cleanup.policy", "compact")]).unwrap();
    assert_eq!(codes(&found(&pair.config)), [("compacted_without_copy", "topic t")]);
    pair.config.migrations[0].scheme = Scheme::DualConsume;
    let both = [("compacted_without_copy", "topic t"), ("compacted_dual_consume", "topic t")];
    assert_eq!(codes(&found(&pair.config)), both);
    pair.config.migrations[0].scheme = Scheme::ConsumersFirst;
    assert_eq!(found(&pair.config), []);
}

#[test]
fn limits_of_brokers_that_are_tighter_on_the_target() {
    let side = |values: [i64; 4]| {
        let limits: BTreeMap<String, i64> =
            preflight::facts::LIMITS.iter().map(|k| (*k).to_owned()).zip(values).collect();
        SideFacts { limits, ..SideFacts::default() }
    };
    let judged = |source, target| {
        let facts = Facts { sides: [side(source), side(target)], ..Facts::default() };
        preflight::judge(&Config::default(), &[], &facts)
    };
    // LIMITS: min session, max session, group size, metadata
    assert_eq!(judged([6_000, 300_000, 100, 4096], [6_000, 300_000, 100, 4096]), []);
    assert_eq!(judged([6_000, 300_000, 100, 4096], [5_000, 400_000, 200, 8192]), []);
    let tighter = judged([6_000, 300_000, 100, 4096], [7_000, 200_000, 50, 1024]);
    assert_eq!(codes(&tighter), [("broker_limit", "target"); 4]);
}

#[test]
fn check_prints_findings_and_says_by_its_exit_code_whether_one_is_an_error() {
    let pair = ready();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    let write_config = |topics: &str| {
        let [source, target] = [&pair.source, &pair.target].map(|c: &Cluster| c.bootstrap()[0].clone());
        let text = format!(
            "source: {{ bootstrap: [\"{source}\"] }}\ntarget: {{ bootstrap: [\"{target}\"] }}\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
             migrations: [{{ name: m, topics: {topics} }}]\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-cutover"));
        let done = command.arg("check").arg("--config").arg(&file).args(arguments).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    write_config("[t]");
    assert_eq!(check(&["--json"]), (Some(0), "{\"findings\":[]}\n".to_owned()));
    write_config("[t, gone]");
    let (code, out) = check(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0), "a warning is no error");
    let keys: Vec<&String> = json["findings"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["severity", "code", "where", "message", "action"]);
    assert_eq!(
        (&json["findings"][0]["severity"], &json["findings"][0]["where"]),
        (&"warning".into(), &"migration m".into())
    );
    pair.target.create_topic("t", 5, &[]).unwrap();
    let (code, out) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("partitions_differ") && out.contains("1 error, 1 warning"), "{out}");
    assert!(!out.contains('\u{1b}'), "no colour where there is no terminal");
}
