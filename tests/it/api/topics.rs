//! CreateTopics and DeleteTopics: the source's, unless a migration would come apart.

use std::time::Duration;

use kafka_cutover::api::{Input, Step, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, RequestKind, ResponseKind,
};
use uuid::Uuid;

use super::world::{SOURCE, World, lost, not_sent, shows_nobody, text, topic};

fn create(names: &[&str]) -> CreateTopicsRequest {
    let topics = names.iter().map(|n| CreatableTopic::default().with_name(topic(n)).with_num_partitions(3));
    CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(900)
}

fn created(answer: ResponseKind) -> Vec<(String, i16, Option<String>)> {
    let ResponseKind::CreateTopics(answer) = answer else { panic!("another API") };
    let told = answer.topics.iter();
    told.map(|t| (t.name.to_string(), t.error_code, t.error_message.as_ref().map(|m| m.to_string()))).collect()
}

fn deleted(answer: &ResponseKind) -> Vec<(Option<&str>, i16)> {
    let ResponseKind::DeleteTopics(answer) = answer else { panic!("another API") };
    answer.responses.iter().map(|t| (t.name.as_ref().map(|n| n.as_str()), t.error_code)).collect()
}

#[test]
fn new_topics_are_created_on_the_source_by_its_controller() {
    let world = World::new();
    for version in 2..=7 {
        let mut machine = world.machine(version, create(&["fresh", "orders-new"]));
        let asks = machine.asks();
        assert_eq!((asks.len(), asks[0].side, &asks[0].to), (1, Side::Source, &To::Controller));
        assert_eq!(asks[0].request, create(&["fresh", "orders-new"]).into());
        let mut result = CreatableTopicResult::default().with_name(topic("fresh"));
        if version >= 5 {
            let throttled = CreatableTopicConfigs::default()
                .with_name(text("leader.replication.throttled.replicas"))
                .with_value(Some(text(&format!("0:{}", SOURCE + 1))));
            let retention =
                CreatableTopicConfigs::default().with_name(text("retention.ms")).with_value(Some(text("5")));
            result.configs = Some(vec![throttled, retention]);
        }
        let answer = machine.answer(vec![Ok(CreateTopicsResponse::default().with_topics(vec![result]).into())]);
        assert!(world.was_refreshed(Side::Source), "clients look for what they have created");
        let ResponseKind::CreateTopics(answer) = answer else { panic!("another API") };
        let configs = answer.topics[0].configs.iter().flatten().map(|c| c.name.as_str()).collect::<Vec<_>>();
        assert_eq!(configs, if version >= 5 { vec!["retention.ms"] } else { vec![] }, "no broker ids");
    }
}

#[test]
fn a_name_of_a_migration_that_has_moved_on_is_refused_by_its_name() {
    let world = World::sealed();
    let mut machine = world.machine(7, create(&["fresh", "orders-new"]));
    let asks = machine.asks();
    assert_eq!(asks[0].request, create(&["fresh"]).into(), "the others are created");
    let ok =
        CreateTopicsResponse::default().with_topics(vec![CreatableTopicResult::default().with_name(topic("fresh"))]);
    let told = created(machine.answer(vec![Ok(ok.into())]));
    assert_eq!((told[0].0.as_str(), told[0].1), ("fresh", 0));
    assert_eq!((told[1].0.as_str(), told[1].1), ("orders-new", code::POLICY_VIOLATION));
    assert!(told[1].2.as_ref().unwrap().contains("migration shop"));

    let told = created(world.machine(2, create(&["orders-new"])).ends(Input::Start));
    assert_eq!(told[0].1, code::POLICY_VIOLATION, "nothing left to ask for");
    // The broker knows that it is there.
    assert_eq!(world.machine(7, create(&["orders"])).asks()[0].request, create(&["orders"]).into());
}

#[test]
fn a_migration_is_not_over_the_seam_before_every_partition_is() {
    let world = World::new();
    let mut next = kafka_cutover::routing::Partitions::clone(&world.shared.partitions.load());
    next.alter("orders", |i, state| {
        if i < 2 {
            state.map = super::world::sealed();
        }
    });
    world.shared.publish_partitions(next);
    assert_eq!(world.machine(7, create(&["orders-new"])).asks()[0].request, create(&["orders-new"]).into());
}

#[test]
fn replicas_are_not_placed_on_brokers_that_nobody_sees() {
    let world = World::new();
    let mut request = create(&["fresh"]);
    request.topics[0].assignments = vec![CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)])];
    assert_eq!(created(world.machine(7, request).ends(Input::Start))[0].1, 39);
}

#[test]
fn a_lost_controller_is_asked_again_only_if_nothing_was_sent() {
    let world = World::new();
    for (answer, error) in [(not_sent(), code::NOT_CONTROLLER), (lost(), code::REQUEST_TIMED_OUT)] {
        let mut machine = world.machine(7, create(&["fresh"]));
        machine.asks();
        assert_eq!(created(machine.answer(vec![answer]))[0].1, error);
    }
    let mut machine = world.machine(1, DeleteTopicsRequest::default().with_topic_names(vec![topic("plain")]));
    machine.asks();
    assert_eq!(deleted(&machine.answer(vec![lost()])), [(Some("plain"), code::REQUEST_TIMED_OUT)]);
}

#[test]
fn a_topic_of_a_migration_is_not_deleted_on_one_side_alone() {
    for world in [World::new(), World::sealed()] {
        world.prepare();
        for version in 1..=5 {
            let names = vec![topic("orders"), topic("plain"), topic("nobody-knows")];
            let mut machine = world.machine(version, DeleteTopicsRequest::default().with_topic_names(names));
            let asks = machine.asks();
            assert_eq!((asks[0].side, &asks[0].to), (Side::Source, &To::Controller));
            let RequestKind::DeleteTopics(sent) = &asks[0].request else { panic!("another API") };
            assert_eq!(sent.topic_names, [topic("plain"), topic("nobody-knows")]);
            let ok = DeletableTopicResult::default().with_name(Some(topic("plain")));
            let answer = machine.answer(vec![Ok(DeleteTopicsResponse::default().with_responses(vec![ok]).into())]);
            assert_eq!(deleted(&answer), [(Some("plain"), 0), (Some("orders"), code::POLICY_VIOLATION)]);
            let ResponseKind::DeleteTopics(answer) = answer else { panic!("another API") };
            assert!(answer.responses[1].error_message.as_ref().unwrap().contains("migration shop"));
        }
    }
}

#[test]
fn a_topic_that_no_migration_has_prepared_is_the_sources_to_delete() {
    // It matches one in the config, and is followed from first sight.
    let world = World::new();
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic("orders")]);
    assert_eq!(world.machine(5, request.clone()).asks()[0].request, request.into());
}

#[test]
fn a_topic_that_came_after_prepare_does_not_make_its_migration_unswitched() {
    let world = World::sealed();
    world.add_unprepared("orders-x");
    let told = created(world.machine(7, create(&["orders-new"])).ends(Input::Start));
    assert_eq!(told[0].1, code::POLICY_VIOLATION);
}

#[test]
fn our_own_topics_are_nobodys() {
    let world = World::new();
    let own = "__kafka_cutover.default";
    assert_eq!(created(world.machine(7, create(&[own])).ends(Input::Start))[0].1, code::POLICY_VIOLATION);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(own)]);
    let answer = world.machine(5, request).ends(Input::Start);
    assert_eq!(deleted(&answer), [(Some(own), code::UNKNOWN_TOPIC_OR_PARTITION)]);
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(own));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let ResponseKind::DescribeConfigs(answer) = world.machine(4, request).ends(Input::Start) else { panic!("another") };
    assert_eq!(answer.results[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn nor_by_its_id() {
    let world = World::new();
    world.prepare();
    let by_id = |id: u128| DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(id));
    let mut machine = world.machine(6, DeleteTopicsRequest::default().with_topics(vec![by_id(11), by_id(12)]));
    let asks = machine.asks();
    let RequestKind::DeleteTopics(sent) = &asks[0].request else { panic!("another API") };
    assert_eq!(sent.topics, [by_id(12)]);
    let ok = DeletableTopicResult::default().with_name(Some(topic("plain"))).with_topic_id(Uuid::from_u128(12));
    let answer = machine.answer(vec![Ok(DeleteTopicsResponse::default().with_responses(vec![ok]).into())]);
    assert_eq!(deleted(&answer), [(Some("plain"), 0), (None, code::POLICY_VIOLATION)]);
    let ResponseKind::DeleteTopics(answer) = answer else { panic!("another API") };
    assert_eq!(answer.responses[1].topic_id, Uuid::from_u128(11));
}

#[test]
fn an_unknown_id_is_looked_up_before_it_is_refused() {
    let mut world = World::new();
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(99));
    let mut machine = world.machine(6, DeleteTopicsRequest::default().with_topics(vec![by_id]));
    let Step::AwaitTopology { side, newer_than, deadline } = machine.step(Input::Start) else { panic!("no wait") };
    assert_eq!((side, newer_than, deadline), (Side::Source, 5, world.now + Duration::from_secs(2)));
    let mut machine = machine.detached();
    world.now = deadline;
    let Step::Answer(answer) = machine.step(&world.cx(6), Input::Woken) else { panic!("it waits on") };
    shows_nobody(&answer, 6);
    assert_eq!(deleted(&answer), [(None, code::UNKNOWN_TOPIC_ID)]);
}

#[test]
fn the_answer_comes_when_the_change_shows() {
    let world = World::new();
    let mut machine = world.machine(7, create(&["fresh"]));
    machine.asks();
    let done = CreatableTopicResult::default().with_name(topic("fresh"));
    let answer = || vec![Ok(CreateTopicsResponse::default().with_topics(vec![done.clone()]).into())];
    let generation = world.shared.topology.load().generation(Side::Source);
    let Step::AwaitTopology { side: Side::Source, newer_than, .. } = machine.step(Input::Answers(answer())) else {
        panic!("no broker that we have asked knows it")
    };
    assert_eq!(newer_than, generation);
    world.pass_generation(Side::Source);
    assert!(matches!(machine.step(Input::Woken), Step::AwaitTopology { .. }), "nor the next time");
    world.show("fresh");
    assert_eq!(created(machine.ends(Input::Woken)), [("fresh".to_owned(), 0, Some(String::new()))]);

    let mut machine = world.machine(1, DeleteTopicsRequest::default().with_topic_names(vec![topic("plain")]));
    machine.asks();
    let gone = DeletableTopicResult::default().with_name(Some(topic("plain")));
    let answer = DeleteTopicsResponse::default().with_responses(vec![gone]);
    assert!(matches!(machine.step(Input::Answers(vec![Ok(answer.into())])), Step::AwaitTopology { .. }));
}
