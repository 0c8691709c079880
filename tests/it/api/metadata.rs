//! Metadata: topics that are not there, looked for and created, or not.

use std::time::Duration;

use kafka_cutover::api::{Input, Step, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, RequestKind, ResponseKind};
use uuid::Uuid;

use super::world::{Running, World, topic};

fn of(name: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic(name)));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true)
}

fn error(answer: ResponseKind) -> i16 {
    let ResponseKind::Metadata(answer) = answer else { panic!("another API") };
    answer.topics[0].error_code
}

fn looks(machine: &mut Running<'_>) -> bool {
    matches!(machine.step(Input::Start), Step::AwaitTopology { side: Side::Source, .. })
}

#[test]
fn a_topic_that_is_not_there_is_looked_for_and_then_created() {
    let world = World::new();
    world.create_topics();
    let mut machine = world.machine(9, of("orders-new"));
    assert!(looks(&mut machine));
    assert!(world.was_refreshed(Side::Source));
    // A snapshot whose look began before that does not count.
    assert!(looks(&mut machine));
    world.pass_generation(Side::Source);
    let asks = machine.asks_after(Input::Woken);
    assert_eq!((asks[0].side, &asks[0].to), (Side::Source, &To::Controller));
    let RequestKind::CreateTopics(request) = &asks[0].request else { panic!("another API") };
    assert_eq!(request.topics[0].name, topic("orders-new"));
}

#[test]
fn a_name_of_a_migration_that_has_moved_on_is_not_created_nor_is_our_own() {
    let world = World::sealed();
    world.create_topics();
    world.add_unprepared("orders-x");
    for name in ["orders-new", "__kafka_cutover.default"] {
        let mut machine = world.machine(9, of(name));
        assert!(looks(&mut machine));
        world.pass_generation(Side::Source);
        assert_eq!(error(machine.ends(Input::Woken)), code::UNKNOWN_TOPIC_OR_PARTITION, "{name}");
    }
}

#[test]
fn an_id_that_nobody_has_comes_back_without_a_name_where_none_may_stand() {
    let id = Uuid::from_u128(77);
    for (version, name) in [(10, Some(topic(""))), (11, Some(topic(""))), (12, None)] {
        let world = World::new();
        let asked = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        let mut machine = world.machine(version, MetadataRequest::default().with_topics(Some(vec![asked])));
        assert!(looks(&mut machine));
        world.pass_generation(Side::Source);
        let ResponseKind::Metadata(answer) = machine.ends(Input::Woken) else { panic!("another API") };
        let found = &answer.topics[0];
        assert_eq!((found.error_code, found.topic_id, &found.name), (code::UNKNOWN_TOPIC_ID, id, &name), "v{version}");
    }
}

#[test]
fn what_was_not_there_a_moment_ago_is_not_looked_for_again() {
    let mut world = World::new();
    assert!(looks(&mut world.machine(9, of("gone"))));
    assert!(world.was_refreshed(Side::Source));
    // The look is under way: it is waited for, and not asked for twice.
    assert!(looks(&mut world.machine(9, of("gone"))));
    assert!(!world.was_refreshed(Side::Source));
    assert!(looks(&mut world.machine(9, of("another"))));
    assert!(world.was_refreshed(Side::Source));
    world.pass_generation(Side::Source);
    assert_eq!(error(world.machine(9, of("gone")).ends(Input::Start)), code::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(!world.was_refreshed(Side::Source));
    world.now += Duration::from_secs(1);
    assert!(looks(&mut world.machine(9, of("gone"))));
    assert!(world.was_refreshed(Side::Source));
}
