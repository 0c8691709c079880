//! OffsetDelete: the home's coordinator does it, and the writer of shadows hears what went.

use kafka_cutover::api::To;
use kafka_cutover::error::code;
use kafka_cutover::groups::shadow::Told;
use kafka_cutover::ids::{Side, TopicPartition};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{GroupId, OffsetDeleteRequest, OffsetDeleteResponse, ResponseKind};

use super::world::{SOURCE, World, lost, text, topic};

const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;

fn delete() -> OffsetDeleteRequest {
    let topics = [("orders", 0..3), ("plain", 0..1)].map(|(name, partitions)| {
        let partition = |i| OffsetDeleteRequestPartition::default().with_partition_index(i);
        OffsetDeleteRequestTopic::default().with_name(topic(name)).with_partitions(partitions.map(partition).collect())
    });
    OffsetDeleteRequest::default().with_group_id(GroupId(text("g"))).with_topics(topics.to_vec())
}

/// Partition 1 of `orders` is being read.
fn done() -> OffsetDeleteResponse {
    let topics = [("orders", 0..3), ("plain", 0..1)].map(|(name, partitions)| {
        let partition = |i| {
            let error = if i == 1 { GROUP_SUBSCRIBED_TO_TOPIC } else { code::NONE };
            OffsetDeleteResponsePartition::default().with_partition_index(i).with_error_code(error)
        };
        OffsetDeleteResponseTopic::default().with_name(topic(name)).with_partitions(partitions.map(partition).collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.to_vec())
}

#[test]
fn the_shadows_of_what_went_go_with_it() {
    for world in [World::new(), World::sealed()] {
        let is_sealed = world.shared.partitions.load().get("orders", 0).unwrap().map.seals() > 0;
        let mut machine = world.machine(0, delete());
        let asks = machine.asks();
        assert_eq!((asks.len(), asks[0].side, &asks[0].to), (1, Side::Source, &To::Coordinator("g".to_owned())));
        assert_eq!(asks[0].request, delete().into());
        assert_eq!(machine.answer(vec![Ok(done().into())]), done().into());
        let partitions = vec![TopicPartition::new("orders", 0), TopicPartition::new("orders", 2)];
        let gone = Told::Forgotten { group: "g".to_owned(), partitions };
        let expected = if is_sealed { vec![gone] } else { vec![] };
        assert_eq!(world.told_shadows(), expected, "before a seal there is no shadow");
    }
}

#[test]
fn what_did_not_go_has_its_shadow_still() {
    let world = World::sealed();
    world.shared.coordinators.set(Side::Source, "g", SOURCE + 1);
    for (answer, error) in [
        (
            Ok(OffsetDeleteResponse::default().with_error_code(code::GROUP_ID_NOT_FOUND).into()),
            code::GROUP_ID_NOT_FOUND,
        ),
        (lost(), code::NOT_COORDINATOR),
    ] {
        let mut machine = world.machine(0, delete());
        machine.asks();
        let ResponseKind::OffsetDelete(answer) = machine.answer(vec![answer]) else { panic!("another API") };
        assert_eq!((answer.error_code, answer.topics.len()), (error, 0));
    }
    assert_eq!(world.shared.coordinators.get(Side::Source, "g"), None, "the next one is asked for");
    assert!(world.told_shadows().is_empty());
}
