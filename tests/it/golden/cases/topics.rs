//! Topics, their partitions and configs.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use crate::api::world::SOURCE;
use crate::golden::case::{Asked, Case, case};
use crate::golden::stands::{
    BEFORE, NIL, NOBODYS, PREPARED, SEALED, SOURCE_ORDERS, SOURCE_PLAIN, show_fresh, show_plain_grown, without_plain,
};

const MARKER: &str = "__kafka_cutover.default";
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const THROTTLED: &str = "leader.replication.throttled.replicas";

pub(super) fn cases() -> Vec<Case> {
    [created(), deleted(), configs(), altered()].concat()
}

fn created() -> Vec<Case> {
    let topic = |name: &str, by_hand: Value| {
        json!({
            "name": name, "num_partitions": 1, "replication_factor": 1, "assignments": by_hand,
            "configs": [{ "name": "retention.ms", "value": "1000" }],
        })
    };
    let topics = json!([
        topic("fresh", json!([])),
        topic("orders.new", json!([])),
        topic(MARKER, json!([])),
        topic("by-hand", json!([{ "partition_index": 0, "broker_ids": [1] }])),
    ]);
    let more = |name: &str, count: i32, by_hand: Value| json!({ "name": name, "count": count, "assignments": by_hand });
    vec![
        case(
            ApiKey::CreateTopics,
            "one on the source, one of a migration that has moved on, one of our own, one placed by hand",
            json!({ "topics": topics, "timeout_ms": 1000 }),
        )
        .when(SEALED)
        .answered(|_| {
            let config = |name: &str, value: &str| {
                json!({ "name": name, "value": value, "read_only": false, "config_source": 1, "is_sensitive": false })
            };
            json!({ "throttle_time_ms": 5, "topics": [{
                "name": "fresh", "topic_id": NOBODYS, "error_message": null, "num_partitions": 1, "replication_factor": 1,
                "configs": [config("retention.ms", "1000"), config(THROTTLED, "0:1600000001")],
            }] })
        })
        .meanwhile(show_fresh),
        case(
            ApiKey::CreatePartitions,
            "one on the source, one that is prepared, one placed by hand",
            json!({ "timeout_ms": 1000, "topics": [
                more("plain", 3, json!(null)), more("orders", 4, json!(null)), more("plain", 3, json!([{ "broker_ids": [1] }])),
            ] }),
        )
        .when(PREPARED)
        .answered(|_| {
            json!({ "throttle_time_ms": 5, "results": [{ "name": "plain", "error_code": 0, "error_message": null }] })
        })
        .meanwhile(show_plain_grown),
    ]
}

fn deleted() -> Vec<Case> {
    let by_id = json!([
        { "name": null, "topic_id": SOURCE_PLAIN },
        { "name": "orders", "topic_id": NIL },
        { "name": null, "topic_id": SOURCE_ORDERS },
        { "name": MARKER, "topic_id": NIL },
    ]);
    let gone = |_: &Asked| {
        json!({ "throttle_time_ms": 5, "responses": [
            { "name": "plain", "topic_id": SOURCE_PLAIN, "error_code": 0, "error_message": null },
        ] })
    };
    let request = json!({ "topics": by_id, "topic_names": ["plain", "orders", MARKER], "timeout_ms": 1000 });
    vec![
        case(ApiKey::DeleteTopics, "one on the source, one that is prepared, one of our own", request)
            .when(PREPARED)
            .answered(gone)
            .meanwhile(without_plain),
    ]
}

fn configs() -> Vec<Case> {
    let resource =
        |kind: i8, name: &str| json!({ "resource_type": kind, "resource_name": name, "configuration_keys": null });
    let resources =
        json!([resource(TOPIC, "orders"), resource(BROKER, "2"), resource(BROKER, "9"), resource(TOPIC, MARKER)]);
    vec![
        case(
            ApiKey::DescribeConfigs,
            "of a topic, of one of our nodes, of a node that is none, of a topic of our own",
            json!({ "resources": resources, "include_synonyms": true, "include_documentation": true }),
        )
        .when(SEALED)
        .answered(|asked| {
            let config = |name: &str, value: &str| {
                json!({
                    "name": name, "value": value, "read_only": false, "config_source": 5, "is_sensitive": false,
                    "synonyms": [{ "name": name, "value": value, "source": 5 }], "config_type": 2, "documentation": null,
                })
            };
            let result = |kind: i8, name: &str, configs: Value| {
                json!({ "error_message": null, "resource_type": kind, "resource_name": name, "configs": configs })
            };
            let result = match asked.node {
                None => result(TOPIC, "orders", json!([config("retention.ms", "1000"), config(THROTTLED, "0:1600000001")])),
                Some(node) => {
                    let own = json!([
                        config("num.io.threads", "8"),
                        config("broker.id", &node.to_string()),
                        config("advertised.listeners", "PLAINTEXT://b1.source.real:40001"),
                    ]);
                    result(BROKER, &node.to_string(), own)
                }
            };
            assert!(asked.node.is_none_or(|n| n == SOURCE + 1));
            json!({ "throttle_time_ms": 3 + asked.number, "results": [result] })
        }),
    ]
}

fn altered() -> Vec<Case> {
    let resource = |kind: i8, name: &str, config: &str| {
        json!({ "resource_type": kind, "resource_name": name, "configs": [
            { "name": config, "config_operation": 0, "value": "1000" },
        ] })
    };
    // A field that only the incremental API has.
    let replaced = |mut request: Value| {
        for resource in request["resources"].as_array_mut().into_iter().flatten() {
            resource["configs"][0].as_object_mut().map(|c| c.remove("config_operation"));
        }
        request
    };
    let all = json!({ "resources": [
        resource(TOPIC, "orders", "retention.ms"), resource(TOPIC, "plain", "retention.ms"),
        resource(BROKER, "1", "num.io.threads"), resource(TOPIC, "plain", THROTTLED), resource(TOPIC, MARKER, "retention.ms"),
    ] });
    let one = json!({ "resources": [resource(TOPIC, "orders", "retention.ms")] });
    let what = "of a topic that is prepared on both sides, of another on the source, of what clients do not see";
    let unlike = "the target would not take what the source takes";
    vec![
        case(ApiKey::AlterConfigs, what, replaced(all.clone())).when(PREPARED).answered(taken),
        case(ApiKey::AlterConfigs, unlike, replaced(one.clone())).when(PREPARED).answered(not_on_the_target),
        case(ApiKey::AlterConfigs, "of a topic before the migration", replaced(one.clone()))
            .when(BEFORE)
            .answered(taken),
        case(ApiKey::IncrementalAlterConfigs, what, all).when(PREPARED).answered(taken),
        case(ApiKey::IncrementalAlterConfigs, unlike, one).when(PREPARED).answered(not_on_the_target),
    ]
}

fn taken(asked: &Asked) -> Value {
    let done = |name: &str| json!({ "error_message": null, "resource_type": TOPIC, "resource_name": name });
    json!({ "throttle_time_ms": 3 + asked.number, "responses": [done("orders"), done("plain")] })
}

fn not_on_the_target(asked: &Asked) -> Value {
    let error = if asked.is_source() { 0 } else { 44 };
    let text = if asked.is_source() { json!(null) } else { json!("not with us.") };
    json!({ "throttle_time_ms": 3, "responses": [
        { "error_code": error, "error_message": text, "resource_type": TOPIC, "resource_name": "orders" },
    ] })
}
