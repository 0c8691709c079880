//! ListConfigResources: topics and nodes as clients see them, the rest from the source.

use kafka_cutover::api::{Input, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse, RequestKind, ResponseKind};

use super::world::{World, lost, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

fn list(types: &[i8]) -> ListConfigResourcesRequest {
    ListConfigResourcesRequest::default().with_resource_types(types.to_vec())
}

fn said(resources: &[(i8, &str)]) -> ListConfigResourcesResponse {
    let one =
        |(kind, name): &(i8, &str)| ConfigResource::default().with_resource_type(*kind).with_resource_name(text(name));
    ListConfigResourcesResponse::default().with_config_resources(resources.iter().map(one).collect())
}

fn told(answer: ResponseKind) -> (i16, Vec<(i8, String)>) {
    let ResponseKind::ListConfigResources(answer) = answer else { panic!("another API") };
    let told = answer.config_resources.iter().map(|r| (r.resource_type, r.resource_name.to_string()));
    (answer.error_code, told.collect())
}

fn named(list: &[(i8, &str)]) -> Vec<(i8, String)> {
    list.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect()
}

#[test]
fn topics_and_nodes_are_those_that_clients_see() {
    let world = World::sealed();
    world.show("__kafka_cutover.default");
    let nodes = |kind| [(kind, "1"), (kind, "2")];
    let topics = [(TOPIC, "orders"), (TOPIC, "plain")];
    for (types, expected) in [
        (vec![TOPIC], named(&topics)),
        (vec![BROKER], named(&nodes(BROKER))),
        (vec![TOPIC, BROKER_LOGGER, BROKER], named(&[&nodes(BROKER_LOGGER)[..], &nodes(BROKER), &topics].concat())),
    ] {
        assert_eq!(told(world.machine(1, list(&types)).ends(Input::Start)), (code::NONE, expected), "{types:?}");
    }
    // Nothing of a kind that nobody knows, as a broker has it.
    assert_eq!(told(world.machine(1, list(&[TOPIC, 3])).ends(Input::Start)), (code::UNSUPPORTED_VERSION, vec![]));
}

#[test]
fn the_rest_is_the_sources() {
    let world = World::sealed();
    let mut machine = world.machine(1, list(&[]));
    let asks = machine.asks();
    assert_eq!((asks.len(), asks[0].side, &asks[0].to), (1, Side::Source, &To::Any));
    assert_eq!(asks[0].request, RequestKind::ListConfigResources(list(&[CLIENT_METRICS, GROUP])));
    let theirs = [(GROUP, "g"), (CLIENT_METRICS, "m")];
    let ours = [(BROKER_LOGGER, "1"), (BROKER_LOGGER, "2"), (BROKER, "1"), (BROKER, "2"), (TOPIC, "orders")];
    let all = named(&[&theirs[..], &ours, &[(TOPIC, "plain")]].concat());
    assert_eq!(told(machine.answer(vec![Ok(said(&theirs).into())])), (code::NONE, all));

    // Before it had types it was ListClientMetricsResources.
    let mut machine = world.machine(0, list(&[]));
    assert_eq!(machine.asks()[0].request, RequestKind::ListConfigResources(list(&[])));
    let metrics = ListConfigResourcesResponse::default()
        .with_config_resources(vec![ConfigResource::default().with_resource_name(text("m"))]);
    let ResponseKind::ListConfigResources(told) = machine.answer(vec![Ok(metrics.clone().into())]) else { panic!() };
    assert_eq!(told, metrics);
}

#[test]
fn half_a_list_does_not_pass_for_a_whole_one() {
    let world = World::new();
    let mut machine = world.machine(1, list(&[]));
    machine.asks();
    assert_eq!(told(machine.answer(vec![lost()])), (code::REQUEST_TIMED_OUT, vec![]));
}
