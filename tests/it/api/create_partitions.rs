//! CreatePartitions: the source's, unless the two clusters would count differently.

use kafka_cutover::api::{Input, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, ResponseKind};

use super::world::{SOURCE, World, lost, not_sent, text, topic};

fn grow(names: &[&str]) -> CreatePartitionsRequest {
    let topic = |n: &&str| CreatePartitionsTopic::default().with_name(topic(n)).with_count(9).with_assignments(None);
    CreatePartitionsRequest::default().with_topics(names.iter().map(topic).collect()).with_timeout_ms(900)
}

fn told(answer: ResponseKind) -> Vec<(String, i16, String)> {
    let ResponseKind::CreatePartitions(answer) = answer else { panic!("another API") };
    let text = |m: &CreatePartitionsTopicResult| m.error_message.as_ref().map(|m| m.to_string()).unwrap_or_default();
    answer.results.iter().map(|t| (t.name.to_string(), t.error_code, text(t))).collect()
}

fn done(name: &str) -> CreatePartitionsResponse {
    let result = CreatePartitionsTopicResult::default().with_name(topic(name)).with_error_message(None);
    CreatePartitionsResponse::default().with_throttle_time_ms(7).with_results(vec![result])
}

#[test]
fn partitions_are_added_on_the_source_by_its_controller() {
    let world = World::new();
    for version in 0..=3 {
        // `orders` matches a migration that has not prepared it.
        let request = grow(&["plain", "orders"]).with_validate_only(true);
        let mut machine = world.machine(version, request.clone());
        let asks = machine.asks();
        assert_eq!((asks.len(), asks[0].side, &asks[0].to), (1, Side::Source, &To::Controller));
        assert_eq!(asks[0].request, request.into());
        assert_eq!(machine.answer(vec![Ok(done("plain").into())]), done("plain").into());
        assert!(world.was_refreshed(Side::Source), "clients look for what they have created");
    }
}

#[test]
fn a_prepared_topic_keeps_its_count_and_hears_whose_it_is() {
    for world in [World::new(), World::sealed()] {
        world.prepare();
        for version in 0..=3 {
            let mut machine = world.machine(version, grow(&["orders", "plain"]));
            assert_eq!(machine.asks()[0].request, grow(&["plain"]).into());
            let told = told(machine.answer(vec![Ok(done("plain").into())]));
            assert_eq!((told[0].0.as_str(), told[0].1), ("plain", 0));
            assert_eq!((told[1].0.as_str(), told[1].1), ("orders", code::POLICY_VIOLATION));
            assert!(told[1].2.contains("migration shop"), "{}", told[1].2);
        }
        let told = told(world.machine(3, grow(&["orders"])).ends(Input::Start));
        assert_eq!(told[0].1, code::POLICY_VIOLATION, "nothing left to ask for");
    }
}

#[test]
fn neither_brokers_nor_our_own_topics_are_there_for_clients() {
    let world = World::new();
    let mut request = grow(&["plain", "__kafka_cutover.default"]);
    let by_hand = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(SOURCE + 1)]);
    request.topics[0].assignments = Some(vec![by_hand]);
    let told = told(world.machine(3, request).ends(Input::Start));
    assert_eq!((told[0].1, told[1].1), (39, code::UNKNOWN_TOPIC_OR_PARTITION));
}

#[test]
fn a_lost_controller_is_asked_again_only_if_nothing_was_sent() {
    let world = World::new();
    for (answer, error) in [(not_sent(), code::NOT_CONTROLLER), (lost(), code::REQUEST_TIMED_OUT)] {
        let mut machine = world.machine(3, grow(&["plain"]));
        machine.asks();
        assert_eq!(told(machine.answer(vec![answer])), [("plain".to_owned(), error, String::new())]);
    }
}

#[test]
fn the_refusals_of_a_broker_pass() {
    let world = World::new();
    let mut machine = world.machine(3, grow(&["plain"]));
    machine.asks();
    let mut answer = done("plain");
    answer.results[0].error_code = 37;
    answer.results[0].error_message = Some(text("9 would not be an increase."));
    assert_eq!(machine.answer(vec![Ok(answer.clone().into())]), answer.into());
}
