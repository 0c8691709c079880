//! `migration::topics` and `migration::seed`.

use std::collections::BTreeMap;

use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::ids::Side;
use kafka_cutover::migration::seed::TRIAL_PRODUCER;
use kafka_cutover::migration::topics::{self, PrepareError, Prepared};
use kafka_cutover::store::PreparedTopic;

use super::{Pair, admin, local, pair, pair_of, write};

const ORDERS: &[(&str, &[&str])] = &[("m", &["orders", r"orders\..+"])];

fn prepare(pair: &Pair, pinned: &[PreparedTopic], dry_run: bool) -> Result<Prepared, PrepareError> {
    local(async || {
        let (source, target) = (admin(Side::Source, &pair.source), admin(Side::Target, &pair.target));
        topics::prepare(&pair.config, &pair.config.migrations[0], &source, &target, (pinned, &BTreeMap::new()), dry_run)
            .await
    })
}

#[track_caller]
fn refused(done: Result<Prepared, PrepareError>, saying: &[&str]) {
    let Err(PrepareError::Refused(why)) = done else { panic!("{done:?}") };
    let text = why.join("\n");
    assert!(saying.iter().all(|s| text.contains(s)), "{text}");
}

fn starts(prepared: &Prepared) -> Vec<(&str, Vec<i64>)> {
    let of = |t: &PreparedTopic| t.partitions.iter().map(|p| p.target_start).collect();
    prepared.topics.iter().map(|t| (&*t.name, of(t))).collect()
}

fn ends(cluster: &Cluster, topic: &str) -> Vec<(i64, i64)> {
    let of = |p| Some((cluster.log_start(topic, p)?, cluster.log_end(topic, p)?));
    (0..).map_while(of).collect()
}

fn made(prepared: &Prepared) -> usize {
    prepared.done.iter().filter(|l| l.contains("created topic")).count()
}

#[test]
fn missing_topics_are_made_like_the_sources_and_once() {
    let pair = pair_of(
        ClusterSpec { nodes: 3, ..ClusterSpec::default() },
        ClusterSpec { nodes: 2, ..ClusterSpec::default() },
        ORDERS,
    );
    pair.source.create_topic("orders", 3, &[("retention.ms", "5000"), ("max.message.bytes", "2000000")]).unwrap();
    pair.source.create_topic("orders.eu", 1, &[("leader.replication.throttled.replicas", "0:1")]).unwrap();
    pair.source.create_topic("other", 1, &[]).unwrap();
    let tried = prepare(&pair, &[], true).unwrap();
    assert!(tried.topics.is_empty() && pair.target.topics().is_empty(), "a dry run");
    assert!(
        tried.done[0].contains("would create topic orders") && tried.done[0].contains("retention.ms=5000"),
        "{tried:?}"
    );

    let first = prepare(&pair, &[], false).unwrap();
    assert_eq!(pair.target.topics(), ["orders", "orders.eu"]);
    assert_eq!([made(&first), first.topics.len()], [2, 2]);
    assert!(first.done.iter().any(|l| l.contains("replication 2")), "as many as there are brokers: {first:?}");
    assert!(first.done.iter().any(|l| l.contains("without leader.replication")), "{first:?}");
    for topic in &first.topics {
        assert_eq!(Some(topic.source_id), pair.source.topic_id(&topic.name));
        assert_eq!(Some(topic.target_id), pair.target.topic_id(&topic.name));
    }
    local(async || {
        let target = admin(Side::Target, &pair.target);
        let view = kafka_cutover::upstream::discovery::look(&target, &[]).await.unwrap();
        let configs =
            kafka_cutover::upstream::ask::describe_topic_configs(&target, &view, &["orders".into()]).await.unwrap();
        let set = configs.values().flat_map(|c| c.as_ref().unwrap()).filter(|c| !c.is_default);
        let set: Vec<_> = set.map(|c| (c.name.as_str(), c.value.as_deref().unwrap())).collect();
        assert_eq!(set, [("max.message.bytes", "2000000"), ("retention.ms", "5000")]);
    });

    let again = prepare(&pair, &first.topics, false).unwrap();
    assert_eq!((made(&again), &again.topics), (0, &first.topics), "nothing moves what is pinned");
    let forgot = prepare(&pair, &[], false).unwrap();
    assert_eq!(made(&forgot), 0, "a prepare that crashed before its journal is repeated");
}

#[test]
fn a_later_topic_joins_and_leaves_the_others_alone() {
    let pair = pair(ORDERS);
    pair.source.create_topic("orders", 2, &[]).unwrap();
    let first = prepare(&pair, &[], false).unwrap();
    pair.source.create_topic("orders.eu", 2, &[]).unwrap();
    let second = prepare(&pair, &first.topics, false).unwrap();
    assert_eq!(starts(&second), [("orders", vec![1, 0]), ("orders.eu", vec![1, 0])]);
}

#[test]
fn a_migration_that_means_the_wrong_topics_is_refused() {
    let twice = pair(&[("m", &["orders"]), ("n", &["ord.*"])]);
    twice.source.create_topic("orders", 1, &[]).unwrap();
    refused(prepare(&twice, &[], false), &["orders", "m and n"]);
    let nothing = pair(ORDERS);
    nothing.source.create_topic("other", 1, &[]).unwrap();
    refused(prepare(&nothing, &[], false), &["matches no topic"]);
    let unequal = pair(ORDERS);
    unequal.source.create_topic("orders", 3, &[]).unwrap();
    unequal.target.create_topic("orders", 2, &[]).unwrap();
    refused(prepare(&unequal, &[], false), &["orders has 3 partitions on the source and 2 on the target"]);
    let collides = pair(&[("m", &["a.b"])]);
    collides.source.create_topic("a.b", 1, &[]).unwrap();
    collides.target.create_topic("a_b", 1, &[]).unwrap();
    refused(prepare(&collides, &[], false), &["collides"]);
    for pair in [&twice, &nothing, &collides] {
        assert!(!pair.target.topics().iter().any(|t| t == "orders"), "nothing is made before all is right");
    }
}

#[test]
fn a_target_that_others_write_to_is_refused() {
    let pair = pair(ORDERS);
    pair.source.create_topic("orders", 2, &[]).unwrap();
    pair.target.create_topic("orders", 2, &[]).unwrap();
    write(&pair.target, "orders", 1);
    refused(prepare(&pair, &[], false), &["orders-1", "holds records (0 to 1)"]);
    assert_eq!(ends(&pair.target, "orders")[0], (0, 0), "nothing was tried yet");
    pair.target.set_log_start("orders", 1, 1);
    let first = prepare(&pair, &[], false).unwrap();
    assert_eq!(starts(&first), [("orders", vec![1, 1])], "emptied is empty");
    write(&pair.target, "orders", 1);
    refused(prepare(&pair, &first.topics, false), &["orders-1", "holds records (1 to 2), it was prepared at 1"]);
    // Either of what it says to do is a way out: nothing is sealed yet.
    pair.target.set_log_start("orders", 1, 2);
    let second = prepare(&pair, &first.topics, false).unwrap();
    assert_eq!(starts(&second), [("orders", vec![1, 2])], "emptied, it begins elsewhere");
    write(&pair.target, "orders", 1);
    pair.target.delete_topic("orders");
    let third = prepare(&pair, &second.topics, false).unwrap();
    assert_eq!(starts(&third), [("orders", vec![1, 0])], "another topic, tried like any other");
    assert_eq!(Some(third.topics[0].target_id), pair.target.topic_id("orders"));
}

#[test]
fn what_the_source_has_no_more_leaves_and_what_it_has_anew_is_pinned_anew() {
    let pair = pair(ORDERS);
    pair.source.create_topic("orders", 2, &[]).unwrap();
    pair.source.create_topic("orders.eu", 1, &[]).unwrap();
    let first = prepare(&pair, &[], false).unwrap();
    pair.source.delete_topic("orders.eu");
    pair.source.delete_topic("orders");
    pair.source.create_topic("orders", 2, &[]).unwrap();
    let tried = prepare(&pair, &first.topics, true).unwrap();
    assert!(tried.done.iter().any(|l| l == "topic orders.eu would leave the migration"), "{tried:?}");
    let second = prepare(&pair, &first.topics, false).unwrap();
    assert_eq!(starts(&second), [("orders", vec![1, 1])], "tried again, where it is empty still");
    assert_eq!(Some(second.topics[0].source_id), pair.source.topic_id("orders"));
    assert!(second.done.iter().any(|l| l.starts_with("topic orders.eu has left the migration")), "{second:?}");
    assert!(pair.target.topics().contains(&"orders.eu".to_owned()), "nothing is deleted");
}

#[test]
fn one_trial_is_enough_where_any_first_sequence_is_taken() {
    let pair = pair(ORDERS);
    pair.source.create_topic("orders", 3, &[]).unwrap();
    let prepared = prepare(&pair, &[], false).unwrap();
    assert_eq!(starts(&prepared), [("orders", vec![1, 0, 0])]);
    assert_eq!(ends(&pair.target, "orders"), [(1, 1), (0, 0), (0, 0)]);
    let tried = pair.target.faults().produced("orders", 0);
    let tried: Vec<_> = tried.iter().map(|p| (p.producer_id, p.base_sequence)).collect();
    assert_eq!(tried, [(TRIAL_PRODUCER.id, TRIAL_PRODUCER.sequence)]);
}

#[test]
fn a_target_that_wants_sequence_zero_on_empty_logs_gets_them_seeded() {
    let strict = || ClusterSpec { strict_first_sequence: true, ..ClusterSpec::default() };
    let pair = pair_of(ClusterSpec::default(), strict(), ORDERS);
    pair.source.create_topic("orders", 3, &[]).unwrap();
    let prepared = prepare(&pair, &[], false).unwrap();
    assert_eq!(starts(&prepared), [("orders", vec![1, 1, 1])]);
    assert_eq!(ends(&pair.target, "orders"), [(1, 1); 3], "one record each, deleted again");
    let again = prepare(&pair, &prepared.topics, false).unwrap();
    assert_eq!((again.topics, ends(&pair.target, "orders")), (prepared.topics, vec![(1, 1); 3]), "once");

    let compacted = pair_of(ClusterSpec::default(), strict(), ORDERS);
    compacted.source.create_topic("orders", 1, &[("cleanup.policy", "compact")]).unwrap();
    compacted.source.create_topic("orders.eu", 1, &[]).unwrap();
    refused(prepare(&compacted, &[], false), &["orders-0", "cleanup.policy=compact,delete"]);
    assert_eq!(ends(&compacted.target, "orders"), [(0, 0)]);
}

#[test]
fn compacted_topics_are_not_tried() {
    let pair = pair(ORDERS);
    pair.source.create_topic("orders", 1, &[("cleanup.policy", "compact")]).unwrap();
    let prepared = prepare(&pair, &[], false).unwrap();
    assert_eq!((starts(&prepared), ends(&pair.target, "orders")), (vec![("orders", vec![0])], vec![(0, 0)]));
    assert!(prepared.done.iter().any(|l| l.starts_with("warning") && l.contains("orders-0")), "{prepared:?}");
}
