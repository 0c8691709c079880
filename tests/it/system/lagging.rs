//! A broker's metadata is behind its cluster's: what is there does not seem to be gone.

use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest};

use super::world::*;

/// The answer for one topic by name: its code, and its partitions.
async fn described(raw: &mut Raw, topic: &str) -> (i16, usize) {
    let named = MetadataRequestTopic::default().with_name(Some(text(topic).into()));
    let answer = raw.ask(&MetadataRequest::default().with_topics(Some(vec![named])), 9).await;
    (answer.topics[0].error_code, answer.topics[0].partitions.len())
}

async fn listed(raw: &mut Raw) -> Vec<String> {
    let answer = raw.ask(&MetadataRequest::default().with_topics(None), 9).await;
    let mut names: Vec<String> = answer.topics.into_iter().flat_map(|t| t.name).map(|n| n.to_string()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_is_there_as_soon_as_one_broker_knows_it() {
    let mut world = World::of_nodes(3, 1, |_| {});
    // The proxy asks the first; the last has heard of it.
    for node in 0..2 {
        world.source.faults().set_unknown(node, "new", true);
    }
    world.source.create_topic("new", 2, &[]).unwrap();
    world.start().unwrap();
    let mut raw = world.client().await;
    assert_eq!(listed(&mut raw).await, ["moved"]);
    assert_eq!(described(&mut raw, "new").await, (0, 2));
    assert_eq!(listed(&mut raw).await, ["moved", "new"]);
    assert_eq!(described(&mut raw, "nowhere").await, (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_does_not_go_away_with_the_broker_that_told_of_it() {
    let mut world = World::of_nodes(3, 1, |c| c.timeouts.metadata_max_age = Duration::from_millis(20));
    for node in 1..3 {
        world.source.faults().set_unknown(node, "moved", true);
    }
    world.start().unwrap();
    let mut raw = world.client().await;
    assert_eq!(listed(&mut raw).await, ["moved"]);
    let before = world.source.faults().seen_by(1, ApiKey::Metadata);
    world.source.stop_node(0);
    eventually("the next one is asked", async || world.source.faults().seen_by(1, ApiKey::Metadata) > before + 1).await;
    assert_eq!(listed(&mut raw).await, ["moved"]);
    assert_eq!(described(&mut raw, "moved").await, (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knows_only_old_leaders_is_left() {
    let mut world = World::of_nodes(3, 1, |_| {});
    world.start().unwrap();
    let mut raw = world.client().await;
    assert_eq!(raw.produce("moved", 0, encode(ONE)).await, (0, 0));
    // The proxy asks the first: it names itself, and answers that it is not the leader.
    assert_eq!(world.source.leader("moved", 0).map(|(node, _)| node), Some(0));
    world.source.cut_off_from_controllers(0);
    world.source.move_leader("moved", 0, 1);
    let stored = async {
        loop {
            match raw.produce("moved", 0, encode(ONE)).await {
                (0, offset) => break offset,
                (error, _) => assert_eq!(error, 6, "the client comes back"),
            }
        }
    };
    assert_eq!(soon("the new leader is found", stored).await, 1);
}
