//! Topics deleted and made anew under a migration.

use std::sync::Arc;

use kafka_cutover::ids::{Side, TopicName};
use kafka_cutover::migration::pinned::{MadeAnew, stop_made_anew};
use kafka_cutover::store::{Event, PreparedPartition, PreparedTopic, State};
use kafka_cutover::upstream::{ClusterView, PartitionView, TopicView};
use uuid::Uuid;

const SOURCE: Uuid = Uuid::from_u128(1);
const TARGET: Uuid = Uuid::from_u128(2);
const ANOTHER: Uuid = Uuid::from_u128(3);

fn journal() -> State {
    let partitions = vec![PreparedPartition { partition: 0, target_start: 0 }];
    let topic = PreparedTopic { name: "orders".into(), partitions, source_id: SOURCE, target_id: TARGET, mirror: None };
    let event = Event::Prepared { migration: "m".into(), scheme: "producers-first".into(), topics: vec![topic] };
    let mut state = State::default();
    state.apply(&event).expect("a first prepare");
    state
}

fn view(id: Uuid) -> ClusterView {
    let name = TopicName::from("orders");
    let topic = TopicView { id, internal: false, partitions: vec![PartitionView { leader: 7, epoch: 4 }] };
    let mut view = ClusterView::default();
    view.names.insert(id, name.clone());
    view.topics.insert(name, Arc::new(topic));
    view
}

#[test]
fn what_was_pinned_goes_on() {
    for (side, id) in [(Side::Source, SOURCE), (Side::Target, TARGET)] {
        let mut seen = view(id);
        assert_eq!(stop_made_anew(&mut seen, side, &journal()), []);
        assert_eq!(seen.topics["orders"].partitions[0].leader, 7);
    }
}

#[test]
fn another_topic_of_the_same_name_is_stopped_and_clients_keep_the_id_they_know() {
    for (side, pinned) in [(Side::Source, SOURCE), (Side::Target, TARGET)] {
        let mut seen = view(ANOTHER);
        let anew = MadeAnew { migration: "m".into(), topic: "orders".into(), id: ANOTHER, sealed: false };
        assert_eq!(stop_made_anew(&mut seen, side, &journal()), [anew]);
        assert_eq!(seen.topics["orders"].partitions[0].leader, -1);
        assert_eq!(seen.topics["orders"].id, pinned);
        assert!(!seen.names.contains_key(&ANOTHER) && seen.names.contains_key(&pinned));
    }
}
