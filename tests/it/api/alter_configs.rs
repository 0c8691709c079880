//! AlterConfigs and IncrementalAlterConfigs: both sides of a prepared topic, or neither as far as can be known before.

use kafka_cutover::api::{Ask, Input, To, Unanswered};
use kafka_cutover::error::code;
use kafka_cutover::ids::Side;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    RequestKind, ResponseKind, alter_configs_request as replace, alter_configs_response,
    incremental_alter_configs_request as change, incremental_alter_configs_response,
};

use super::world::{SOURCE, World, lost, not_sent, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const INVALID_CONFIG: i16 = 40;

fn changing(resources: &[(i8, &str)], config: &str) -> IncrementalAlterConfigsRequest {
    let resource = |(kind, name): &(i8, &str)| {
        let config = change::AlterableConfig::default().with_name(text(config)).with_value(Some(text("7")));
        change::AlterConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configs(vec![config])
    };
    IncrementalAlterConfigsRequest::default().with_resources(resources.iter().map(resource).collect())
}

fn replacing(resources: &[(i8, &str)], config: &str) -> AlterConfigsRequest {
    let resource = |(kind, name): &(i8, &str)| {
        let config = replace::AlterableConfig::default().with_name(text(config)).with_value(Some(text("7")));
        replace::AlterConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configs(vec![config])
    };
    AlterConfigsRequest::default().with_resources(resources.iter().map(resource).collect())
}

/// Side, only validated, names.
fn asked(ask: &Ask) -> (Side, bool, Vec<String>) {
    assert_eq!(ask.to, To::Controller);
    let (validate_only, names) = match &ask.request {
        RequestKind::AlterConfigs(r) => {
            (r.validate_only, r.resources.iter().map(|r| r.resource_name.to_string()).collect())
        }
        RequestKind::IncrementalAlterConfigs(r) => {
            (r.validate_only, r.resources.iter().map(|r| r.resource_name.to_string()).collect())
        }
        other => panic!("{other:?}"),
    };
    (ask.side, validate_only, names)
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|n| (*n).to_owned()).collect()
}

type Answer = Result<ResponseKind, Unanswered>;

fn changed(results: &[(i8, &str, i16, &str)]) -> Answer {
    let result = |(kind, name, error, message): &(i8, &str, i16, &str)| {
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_error_code(*error)
            .with_error_message((!message.is_empty()).then(|| text(message)))
    };
    Ok(IncrementalAlterConfigsResponse::default().with_responses(results.iter().map(result).collect()).into())
}

fn replaced(results: &[(i8, &str)]) -> Answer {
    let result = |(kind, name): &(i8, &str)| {
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
    };
    Ok(AlterConfigsResponse::default().with_responses(results.iter().map(result).collect()).into())
}

/// Kind, name, error, text.
fn told(answer: ResponseKind) -> Vec<(i8, String, i16, String)> {
    let text = |m: Option<kafka_protocol::protocol::StrBytes>| m.map(|m| m.to_string()).unwrap_or_default();
    match answer {
        ResponseKind::AlterConfigs(a) => {
            let all = a.responses.into_iter();
            all.map(|r| (r.resource_type, r.resource_name.to_string(), r.error_code, text(r.error_message))).collect()
        }
        ResponseKind::IncrementalAlterConfigs(a) => {
            let all = a.responses.into_iter();
            all.map(|r| (r.resource_type, r.resource_name.to_string(), r.error_code, text(r.error_message))).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_migration_has_prepared_is_the_sources() {
    let world = World::new();
    let all = [(TOPIC, "plain"), (TOPIC, "orders"), (CLIENT_METRICS, "m"), (GROUP, "g")];
    for version in 0..=1 {
        let mut machine = world.machine(version, changing(&all, "retention.ms"));
        let asks = machine.asks();
        assert_eq!((asks.len(), &asks[0].request), (1, &changing(&all, "retention.ms").into()));
        assert_eq!(asked(&asks[0]), (Side::Source, false, names(&["plain", "orders", "m", "g"])));
        // In an order of the broker's own.
        let said =
            [(GROUP, "g", 0, ""), (TOPIC, "plain", INVALID_CONFIG, "no."), (TOPIC, "orders", 0, ""), (16, "m", 0, "")];
        let told = told(machine.answer(vec![changed(&said)]));
        assert_eq!(told[0], (TOPIC, "plain".to_owned(), INVALID_CONFIG, "no.".to_owned()), "as the broker says it");
        assert_eq!(
            told[1..].iter().map(|t| (t.1.as_str(), t.2)).collect::<Vec<_>>(),
            [("orders", 0), ("m", 0), ("g", 0)]
        );
    }
    for version in 0..=2 {
        let mut machine = world.machine(version, replacing(&all[..2], "retention.ms"));
        assert_eq!(machine.asks()[0].request, replacing(&all[..2], "retention.ms").into());
        let told = told(machine.answer(vec![replaced(&all[..2])]));
        assert_eq!(told.iter().map(|t| (t.1.as_str(), t.2)).collect::<Vec<_>>(), [("plain", 0), ("orders", 0)]);
    }
}

#[test]
fn a_prepared_topic_is_altered_on_both_sides_the_source_last() {
    let world = World::new();
    world.prepare();
    let all = [(TOPIC, "plain"), (TOPIC, "orders")];
    let fine = |names: &[&str]| changed(&names.iter().map(|n| (TOPIC, *n, 0, "")).collect::<Vec<_>>());
    let mut machine = world.machine(1, changing(&all, "retention.ms"));
    let asks: Vec<_> = machine.asks().iter().map(asked).collect();
    assert_eq!(asks, [(Side::Source, true, names(&["orders"])), (Side::Target, true, names(&["orders"]))]);
    let asks = machine.asks_after(Input::Answers(vec![fine(&["orders"]), fine(&["orders"])]));
    assert_eq!(asks.iter().map(asked).collect::<Vec<_>>(), [(Side::Target, false, names(&["orders"]))]);
    let asks = machine.asks_after(Input::Answers(vec![fine(&["orders"])]));
    assert_eq!(asks.iter().map(asked).collect::<Vec<_>>(), [(Side::Source, false, names(&["plain", "orders"]))]);
    let told = told(machine.answer(vec![fine(&["orders", "plain"])]));
    assert_eq!(told.iter().map(|t| (t.1.as_str(), t.2)).collect::<Vec<_>>(), [("plain", 0), ("orders", 0)]);
}

#[test]
fn what_one_side_would_refuse_is_done_on_neither() {
    let world = World::new();
    world.prepare();
    let mut machine = world.machine(1, changing(&[(TOPIC, "orders"), (TOPIC, "plain")], "retention.ms"));
    machine.asks();
    let fine = changed(&[(TOPIC, "orders", 0, "")]);
    let not = changed(&[(TOPIC, "orders", INVALID_CONFIG, "Unknown topic config name.")]);
    let asks = machine.asks_after(Input::Answers(vec![fine, not]));
    assert_eq!(asks.iter().map(asked).collect::<Vec<_>>(), [(Side::Source, false, names(&["plain"]))], "the other is");
    let told = told(machine.answer(vec![changed(&[(TOPIC, "plain", 0, "")])]));
    assert_eq!((told[0].2, told[1].2), (INVALID_CONFIG, 0));
    assert_eq!(told[0].3, "target: Unknown topic config name: nothing was changed");
}

#[test]
fn an_error_in_the_middle_says_what_is_left_behind() {
    let world = World::sealed();
    let fine = || changed(&[(TOPIC, "orders", 0, "")]);
    for lost in [lost, not_sent] {
        let mut machine = world.machine(1, changing(&[(TOPIC, "orders")], "retention.ms"));
        machine.asks();
        let answer = told(machine.answer(vec![fine(), lost()]));
        assert_eq!((answer[0].2, answer[0].3.as_str()), (7, "target: no answer: nothing was changed"));

        let mut machine = world.machine(1, changing(&[(TOPIC, "orders")], "retention.ms"));
        machine.asks();
        machine.asks_after(Input::Answers(vec![fine(), fine()]));
        let answer = told(machine.answer(vec![lost()]));
        assert_eq!((answer[0].2, answer[0].3.as_str()), (7, "target: no answer: the source was not changed"));

        let mut machine = world.machine(1, changing(&[(TOPIC, "orders")], "retention.ms"));
        machine.asks();
        machine.asks_after(Input::Answers(vec![fine(), fine()]));
        machine.asks_after(Input::Answers(vec![fine()]));
        let answer = told(machine.answer(vec![lost()]));
        assert_eq!(answer[0].2, code::REQUEST_TIMED_OUT);
        assert!(answer[0].3.starts_with("source: no answer: the target was changed"), "{}", answer[0].3);
    }
}

#[test]
fn who_only_asks_whether_changes_nothing() {
    let world = World::new();
    world.prepare();
    let all = [(TOPIC, "plain"), (TOPIC, "orders")];
    let mut machine = world.machine(2, replacing(&all, "retention.ms").with_validate_only(true));
    let asks: Vec<_> = machine.asks().iter().map(asked).collect();
    assert_eq!(asks, [(Side::Source, true, names(&["plain", "orders"])), (Side::Target, true, names(&["orders"]))]);
    let told = told(machine.answer(vec![replaced(&all), replaced(&all[1..])]));
    assert_eq!((told[0].2, told[1].2), (0, 0));
}

#[test]
fn what_belongs_to_brokers_is_refused_in_words() {
    let world = World::new();
    world.prepare();
    let real = (SOURCE + 1).to_string();
    for (kind, name) in [(BROKER, "1"), (BROKER, ""), (BROKER, "77"), (BROKER_LOGGER, "1")] {
        let told = told(world.machine(1, changing(&[(kind, name)], "log.retention.ms")).ends(Input::Start));
        assert_eq!((told[0].0, told[0].1.as_str(), told[0].2), (kind, name, code::POLICY_VIOLATION));
        assert!(told[0].3.contains("does not show brokers"), "{}", told[0].3);
    }
    assert!(world.machine(1, changing(&[(BROKER, &real), (TOPIC, "plain")], "x")).asks().len() == 1);
    for throttle in ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"] {
        for name in ["plain", "orders"] {
            let told = told(world.machine(2, replacing(&[(TOPIC, name)], throttle)).ends(Input::Start));
            assert_eq!(told[0].2, code::POLICY_VIOLATION);
            assert!(told[0].3.contains("throttled replicas"), "{}", told[0].3);
        }
    }
    let told = told(world.machine(1, changing(&[(TOPIC, "__kafka_cutover.default")], "x")).ends(Input::Start));
    assert_eq!(told[0].2, code::UNKNOWN_TOPIC_OR_PARTITION);
}
