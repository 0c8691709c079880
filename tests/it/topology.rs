//! What one look at a cluster may take from the one before.

use std::sync::Arc;

use kafka_cutover::upstream::topology::PartitionView;
use kafka_cutover::upstream::{ClusterView, TopicView};
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
