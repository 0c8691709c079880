//! Topics that belong together because one transaction may touch them.

use std::collections::BTreeSet;

use kafka_cutover::config::Migration;
use kafka_cutover::ids::{Side, TopicName};
use kafka_cutover::preflight::{self, Facts, Finding, Seen, Severity, writers};
use kafka_cutover::upstream::discovery;

use super::{Pair, admin, local, pair};
use crate::system::transactions::Producer;

const THREE: &[(&str, &[&str])] = &[("a", &["a-.*"]), ("b", &["b-.*"]), ("c", &["c-.*"])];

fn topics(names: &[&str]) -> BTreeSet<TopicName> {
    names.iter().map(|name| TopicName::from(*name)).collect()
}

/// What is found of these writers, by those who ask for some of the migrations.
fn judged(pair: &Pair, asked: &[&str], writers: &[(&str, &[&str])]) -> Vec<Finding> {
    let writers = writers.iter().map(|(id, names)| ((*id).to_owned(), topics(names))).collect();
    let facts = Facts { writers, ..Facts::default() };
    let asked: Vec<&Migration> = pair.config.migrations.iter().filter(|m| asked.contains(&m.name.as_str())).collect();
    let mut found = preflight::judge(&pair.config, &asked, &facts);
    found.retain(|f| f.code == "transactions_span");
    assert!(found.iter().all(|f| f.severity == Severity::Warning));
    found
}

#[test]
fn migrations_that_a_transaction_may_touch_both_are_named() {
    let pair = pair(THREE);
    let all = ["a", "b", "c"];
    assert_eq!(judged(&pair, &all, &[("x", &["a-1", "a-2"]), ("y", &["b-1"]), ("z", &["elsewhere", "other"])]), []);
    let found = judged(&pair, &all, &[("x", &["a-1", "b-1"]), ("y", &["b-1", "b-2"])]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].where_, "migrations a, b");
    assert!(found[0].message.contains("transactions of x touch a-1 of migration a, b-1 of migration b"), "{found:?}");
    assert!(found[0].action.contains("merge"), "{found:?}");
    // Over one that both touch they are one.
    let chain: &[(&str, &[&str])] = &[("x", &["a-1", "b-1"]), ("y", &["b-2", "c-1"])];
    let found = judged(&pair, &all, chain);
    assert_eq!(found.iter().map(|f| f.where_.as_str()).collect::<Vec<_>>(), ["migrations a, b, c"]);
    assert!(found[0].message.contains("x, y touch"), "{found:?}");
    assert_eq!(judged(&pair, &["c"], chain).len(), 1, "who asks for one of them is told");
    assert_eq!(judged(&pair, &["c"], &[("x", &["a-1", "b-1"])]), []);
    // What is in no migration stays on the source.
    let found = judged(&pair, &all, &[("x", &["a-1", "audit"]), ("y", &["b-1", "audit"])]);
    assert_eq!(found.iter().map(|f| f.where_.as_str()).collect::<Vec<_>>(), ["migration a", "migration b"]);
    assert!(found[0].message.contains("audit of none") && found[0].action.contains("take these topics"), "{found:?}");
    // What Kafka keeps for itself is no topic of anybody's.
    assert_eq!(judged(&pair, &all, &[("x", &["a-1", "__consumer_offsets"])]), []);
}

#[test]
fn the_source_says_who_writes_what_and_the_proxy_whose_positions_are_carried() {
    let pair = pair(THREE);
    for name in ["a-1", "b-1", "c-1"] {
        pair.source.create_topic(name, 2, &[]).unwrap();
    }
    let address = pair.source.bootstrap()[0].clone();
    local(async || {
        let mut tx = Producer::begin(&address, "x").await;
        for topic in ["a-1", "b-1"] {
            tx.sequence = 0;
            tx.write(topic, 1, true).await;
        }
        let mut pipeline = Producer::begin(&address, "pipeline").await;
        assert_eq!(pipeline.add(&[("c-1", 1)]).await, [0]);
        assert_eq!(pipeline.produce("c-1", 1, 1).await.0, 0);
        assert_eq!(pipeline.commit_positions("g", "a-1", 0, 1).await, [0, 0]);
        assert_eq!(pipeline.end(true).await, 0);
        let source = admin(Side::Source, &pair.source);
        let view = discovery::look(&source, &[]).await.unwrap();
        let names: Vec<TopicName> = topics(&["a-1", "b-1", "c-1"]).into_iter().collect();
        let of = async |names: &[TopicName], seen: &Seen| {
            let (writers, missing) = writers::gather(&source, &view, names, seen).await;
            assert_eq!(missing, None);
            writers.into_iter().collect::<Vec<_>>()
        };
        let known = [("pipeline".to_owned(), topics(&["c-1"])), ("x".to_owned(), topics(&["a-1", "b-1"]))];
        assert_eq!(of(&names, &Seen::default()).await, known);
        // One of them leads to the others.
        assert_eq!(of(&names[..1], &Seen::default()).await, known);
        assert_eq!(of(&[], &Seen::default()).await, []);
        let seen = Seen {
            topics: [("x".to_owned(), topics(&["c-1"])), (String::new(), topics(&["b-1"]))].into(),
            carried: vec![("pipeline".to_owned(), "g".to_owned())],
            ..Seen::default()
        };
        let known =
            [("pipeline".to_owned(), topics(&["a-1", "c-1"])), ("x".to_owned(), topics(&["a-1", "b-1", "c-1"]))];
        assert_eq!(of(&names, &seen).await, known);
        let nobody = Seen { carried: vec![("x".to_owned(), "unknown".to_owned())], ..Seen::default() };
        assert_eq!(of(&[], &nobody).await, [("x".to_owned(), topics(&[]))]);
    });
    let found = preflight::check(&pair.config).unwrap().findings;
    assert_eq!(found.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["transactions_span"], "{found:?}");
}
