//! DescribeConfigs: a virtual node is described by a broker that does not show.

use kafka_cutover::api::{Ask, Input, To};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse, RequestKind, ResponseKind};

use super::world::{SOURCE, World, lost, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn describe(resources: &[(i8, &str)]) -> DescribeConfigsRequest {
    let resource = |(kind, name): &(i8, &str)| {
        DescribeConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    };
    DescribeConfigsRequest::default().with_resources(resources.iter().map(resource).collect())
}

fn asked(ask: &Ask) -> Vec<(i8, String)> {
    let RequestKind::DescribeConfigs(sent) = &ask.request else { panic!("another API") };
    sent.resources.iter().map(|r| (r.resource_type, r.resource_name.to_string())).collect()
}

fn config(name: &str, value: &str) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default().with_name(text(name)).with_value(Some(text(value)))
}

fn result(kind: i8, name: &str, configs: Vec<DescribeConfigsResourceResult>) -> DescribeConfigsResult {
    DescribeConfigsResult::default().with_resource_type(kind).with_resource_name(text(name)).with_configs(configs)
}

fn said(results: Vec<DescribeConfigsResult>) -> Result<ResponseKind, kafka_cutover::api::Unanswered> {
    Ok(DescribeConfigsResponse::default().with_results(results).into())
}

fn told(answer: ResponseKind) -> Vec<DescribeConfigsResult> {
    let ResponseKind::DescribeConfigs(answer) = answer else { panic!("another API") };
    answer.results
}

#[test]
fn a_virtual_nodes_configs_are_those_of_a_broker_that_does_not_show() {
    let world = World::sealed();
    let real = (SOURCE + 1).to_string();
    for version in 1..=4 {
        let mut machine = world.machine(version, describe(&[(BROKER, "2")]));
        let asks = machine.asks();
        assert_eq!((asks.len(), asks[0].side, &asks[0].to), (1, Side::Source, &To::Node(SOURCE + 1)));
        assert_eq!(asked(&asks[0]), [(BROKER, real.clone())], "a broker describes itself only by its own name");
        let mut synonym = config("inter.broker", "x");
        synonym.synonyms = vec![
            DescribeConfigsSynonym::default()
                .with_name(text("inter.broker"))
                .with_value(Some(text("b2.target.real:40002"))),
        ];
        let configs = vec![
            config("node.id", &real),
            config("broker.id", &real),
            config("listeners", "PLAINTEXT://b1.source.real:40001"),
            config("advertised.listeners", "PLAINTEXT://b1.source.real:40001"),
            config("controller.quorum.voters", &format!("{real}@b1.source.real:40009")),
            config("log.dirs", "/data/b1.source.real"),
            config("metrics.bootstrap.servers", "x,b3.source.real:40003"),
            synonym,
            config("num.io.threads", "8"),
            config("message.max.bytes", "1048588"),
        ];
        let found = told(machine.answer(vec![said(vec![result(BROKER, &real, configs)])]));
        assert_eq!((found.len(), found[0].resource_name.as_str(), found[0].error_code), (1, "2", 0));
        let names: Vec<&str> = found[0].configs.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["num.io.threads", "message.max.bytes"]);
        assert!(found[0].configs.iter().all(|c| c.read_only));
    }
}

#[test]
fn what_a_broker_says_of_itself_in_an_error_is_not_shown() {
    let world = World::new();
    let mut machine = world.machine(4, describe(&[(BROKER, "1")]));
    machine.asks();
    let mut failed = result(BROKER, &(SOURCE + 1).to_string(), vec![]);
    failed.error_code = code::INVALID_REQUEST;
    failed.error_message = Some(text(&format!("Unexpected broker id, expected {}", SOURCE + 1)));
    let found = told(machine.answer(vec![said(vec![failed])]));
    assert_eq!((found[0].error_code, found[0].resource_name.as_str()), (code::INVALID_REQUEST, "1"));
}

#[test]
fn topics_and_the_defaults_of_all_brokers_are_asked_of_anybody() {
    let world = World::new();
    let mut machine = world.machine(4, describe(&[(TOPIC, "orders"), (BROKER, ""), (BROKER, "1"), (TOPIC, "plain")]));
    let asks = machine.asks();
    assert_eq!(asks.iter().map(|a| a.to.clone()).collect::<Vec<_>>(), [To::Node(SOURCE + 1), To::Any]);
    let names = [(TOPIC, "orders"), (BROKER, ""), (TOPIC, "plain")].map(|(k, n)| (k, n.to_owned()));
    assert_eq!(asked(&asks[1]), names);
    // In an order of the broker's own.
    let retention =
        || vec![config("retention.ms", "7"), config("follower.replication.throttled.replicas", "0:1600000002")];
    let others = vec![result(TOPIC, "plain", vec![]), result(TOPIC, "orders", retention()), result(BROKER, "", vec![])];
    let node = vec![result(BROKER, &(SOURCE + 1).to_string(), vec![config("num.io.threads", "8")])];
    let found = told(machine.answer(vec![said(node), said(others)]));
    let names: Vec<(i8, &str, usize)> =
        found.iter().map(|r| (r.resource_type, r.resource_name.as_str(), r.configs.len())).collect();
    assert_eq!(names, [(TOPIC, "orders", 1), (BROKER, "", 0), (BROKER, "1", 1), (TOPIC, "plain", 0)]);
    assert!(!found[0].configs[0].read_only, "a topic's configs are its own");
}

#[test]
fn no_other_node_has_configs() {
    let world = World::new();
    let real = (SOURCE + 1).to_string();
    for name in ["3", "0", "-1", "x", "٣"] {
        let found = told(world.machine(4, describe(&[(BROKER, name)])).ends(Input::Start));
        assert_eq!((found[0].error_code, found[0].resource_name.as_str()), (code::INVALID_REQUEST, name));
    }
    // Asked by a real id, nothing goes upstream; the answer can only repeat what the client said.
    let asks = world.machine(4, describe(&[(BROKER, &real), (TOPIC, "plain")])).asks();
    assert_eq!(asks.iter().flat_map(asked).collect::<Vec<_>>(), [(TOPIC, "plain".to_owned())]);
}

#[test]
fn a_broker_that_does_not_answer_is_replaced_once() {
    let world = World::new();
    let mut machine = world.machine(4, describe(&[(BROKER, "1")]));
    machine.asks();
    let asks = machine.asks_after(Input::Answers(vec![lost()]));
    assert_eq!((&asks[0].to, asked(&asks[0])), (&To::Node(SOURCE + 2), vec![(BROKER, (SOURCE + 2).to_string())]));
    let found = told(machine.answer(vec![lost()]));
    assert_eq!((found[0].error_code, found[0].resource_name.as_str()), (code::REQUEST_TIMED_OUT, "1"));
}
