//! What one look at a cluster may take from the one before.

use std::sync::Arc;
use std::time::Duration;

use kafka_cutover::upstream::memory::Memory;
use kafka_cutover::upstream::topology::PartitionView;
use kafka_cutover::upstream::{ClusterView, TopicView};
use tokio::time::Instant;
use uuid::Uuid;

fn view(id: u128, partitions: &[(i32, i32)]) -> ClusterView {
    let partitions = partitions.iter().map(|&(leader, epoch)| PartitionView { leader, epoch }).collect();
    let topic = TopicView { id: Uuid::from_u128(id), partitions, ..TopicView::default() };
    ClusterView { topics: [("orders".into(), Arc::new(topic))].into(), ..ClusterView::default() }
}

fn seen(view: &ClusterView) -> Vec<(i32, i32)> {
    view.topics["orders"].partitions.iter().map(|p| (p.leader, p.epoch)).collect()
}

#[test]
fn a_broker_that_knows_less_does_not_bring_old_leaders_back() {
    let earlier = view(1, &[(1, 7), (2, 3), (-1, 9)]);
    let mut now = view(1, &[(3, 6), (3, 4), (2, 9), (1, 0)]);
    now.keep_newer(&earlier);
    assert_eq!(seen(&now), [(1, 7), (3, 4), (2, 9), (1, 0)]);
}

#[test]
fn a_topic_made_anew_begins_anew() {
    for id in [2, 0] {
        let mut now = view(id, &[(3, 0)]);
        now.keep_newer(&view(if id == 0 { 0 } else { 1 }, &[(1, 7)]));
        assert_eq!(seen(&now), [(3, 0)], "id {id}: another, or none to tell them apart");
    }
}

#[test]
fn partitions_that_were_added_do_not_go_away() {
    let mut now = view(1, &[(1, 7)]);
    now.keep_newer(&view(1, &[(1, 7), (2, 0)]));
    assert_eq!(seen(&now), [(1, 7), (2, 0)]);
}

/// What a broker shows, by its address.
fn told(by: &str, topics: &[&str]) -> ClusterView {
    let topics = topics.iter().map(|t| ((*t).into(), Arc::default())).collect();
    ClusterView { told_by: by.to_owned(), cluster_id: "a".to_owned(), topics, ..ClusterView::default() }
}

fn after(memory: &mut Memory, mut view: ClusterView, elsewhere: &[&str], now: Instant) -> Vec<String> {
    memory.complete(&mut view, elsewhere.iter().map(|t| ((*t).into(), Arc::default())).collect(), now);
    let mut topics: Vec<String> = view.topics.keys().map(ToString::to_string).collect();
    topics.sort();
    topics
}

#[test]
fn what_another_broker_does_not_know_yet_is_still_there() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(after(&mut memory, told("one", &["a", "b"]), &[], at(0)), ["a", "b"]);
    // The other one lags behind, for a while.
    assert_eq!(after(&mut memory, told("two", &["a"]), &[], at(1)), ["a", "b"]);
    assert_eq!(after(&mut memory, told("two", &["a"]), &[], at(2)), ["a", "b"]);
    assert_eq!(after(&mut memory, told("two", &["a", "b"]), &[], at(3)), ["a", "b"]);
    // Now it says that the topic is gone.
    assert_eq!(after(&mut memory, told("two", &["a"]), &[], at(4)), ["a"]);
    // A topic that was deleted while nobody was asked.
    assert_eq!(after(&mut memory, told("one", &[]), &[], at(5)), ["a"]);
    assert_eq!(after(&mut memory, told("one", &[]), &[], at(15)), [""; 0]);
}

#[test]
fn what_others_know_already_is_there() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(after(&mut memory, told("one", &["a"]), &["new"], at(0)), ["a", "new"]);
    assert_eq!(after(&mut memory, told("one", &["a"]), &[], at(9)), ["a", "new"]);
    assert_eq!(after(&mut memory, told("one", &["a"]), &[], at(10)), ["a"]);
}

#[test]
fn another_cluster_has_topics_of_its_own() {
    let mut memory = Memory::default();
    assert_eq!(after(&mut memory, told("one", &["a"]), &[], Instant::now()), ["a"]);
    let other = ClusterView { cluster_id: "b".to_owned(), ..told("two", &["b"]) };
    assert_eq!(after(&mut memory, other, &[], Instant::now()), ["b"]);
}
