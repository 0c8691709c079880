//! ACLs, quotas, credentials: read from the source, written to both.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use crate::golden::case::{Asked, Case, case};

const MARKER: &str = "__kafka_cutover.default";
const TOPIC: i8 = 2;

pub(super) fn cases() -> Vec<Case> {
    [acls(), quotas(), credentials()].concat()
}

/// Everybody may read it: a binding, or as a filter whatever is like it.
fn binding(name: Value) -> Value {
    json!({
        "resource_type": TOPIC, "resource_name": name, "pattern_type": 3, "principal": "User:u", "host": "*",
        "operation": 3, "permission_type": 3,
    })
}

fn described(_: &Asked) -> Value {
    let resource = |name: &str| {
        json!({ "resource_type": TOPIC, "resource_name": name, "pattern_type": 3, "acls": [
            { "principal": "User:u", "host": "*", "operation": 3, "permission_type": 3 },
        ] })
    };
    json!({ "throttle_time_ms": 4, "error_message": null, "resources": [resource("orders"), resource(MARKER)] })
}

fn acls() -> Vec<Case> {
    let open = json!({ "filters": [binding(json!(null))] });
    vec![
        case(ApiKey::DescribeAcls, "of the source, without those of our own topic", binding(json!(null)))
            .answered(described),
        case(
            ApiKey::CreateAcls,
            "on both, but for our own topic",
            json!({ "creations": [binding(json!("orders")), binding(json!(MARKER))] }),
        )
        .answered(|asked| {
            json!({ "throttle_time_ms": 3 + asked.number, "results": [{ "error_code": 0, "error_message": null }] })
        }),
        case(
            ApiKey::CreateAcls,
            "the target does not take what the source took",
            json!({ "creations": [binding(json!("orders"))] }),
        )
        .answered(|asked| {
            let error = if asked.is_source() { 0 } else { 42 };
            json!({ "results": [{ "error_code": error, "error_message": null }] })
        }),
        case(ApiKey::DeleteAcls, "with a filter that matches our own topic", open).answered(|asked| match asked.key {
            ApiKey::DescribeAcls => described(asked),
            _ => {
                let mut matched = binding(json!("orders"));
                matched["error_message"] = json!(null);
                json!({ "throttle_time_ms": 3 + asked.number, "filter_results": [
                    { "error_message": null, "matching_acls": [matched] },
                ] })
            }
        }),
    ]
}

fn quotas() -> Vec<Case> {
    let entity =
        json!([{ "entity_type": "user", "entity_name": "u" }, { "entity_type": "client-id", "entity_name": null }]);
    let components = json!([
        { "entity_type": "user", "match_type": 0, "match": "u" },
        { "entity_type": "client-id", "match_type": 1, "match": null },
    ]);
    vec![
        case(ApiKey::DescribeClientQuotas, "of the source", json!({ "components": components, "strict": true }))
            .answered(|_| {
                json!({ "throttle_time_ms": 4, "error_message": null, "entries": [{
                    "entity": [{ "entity_type": "user", "entity_name": "u" }],
                    "values": [{ "key": "producer_byte_rate", "value": 1024.5 }],
                }] })
            }),
        case(
            ApiKey::AlterClientQuotas,
            "on both",
            json!({ "entries": [
                { "entity": entity, "ops": [{ "key": "producer_byte_rate", "value": 1024.5, "remove": false }] },
            ] }),
        )
        .answered(|asked| {
            json!({ "throttle_time_ms": 3 + asked.number, "entries": [{ "error_message": null, "entity": [
                { "entity_type": "client-id", "entity_name": null }, { "entity_type": "user", "entity_name": "u" },
            ] }] })
        }),
    ]
}

fn credentials() -> Vec<Case> {
    vec![
        case(ApiKey::DescribeUserScramCredentials, "of the source", json!({ "users": [{ "name": "u" }] })).answered(
            |_| {
                json!({ "throttle_time_ms": 4, "error_message": null, "results": [
                { "user": "u", "error_message": null, "credential_infos": [{ "mechanism": 1, "iterations": 4096 }] },
            ] })
            },
        ),
        case(
            ApiKey::AlterUserScramCredentials,
            "on both; one that is to go was only on the source",
            json!({
                "deletions": [{ "name": "v", "mechanism": 1 }],
                "upsertions": [
                    { "name": "u", "mechanism": 1, "iterations": 4096, "salt": "salt", "salted_password": "salted" },
                ],
            }),
        )
        .answered(|asked| {
            let gone = if asked.is_source() { 0 } else { 91 };
            json!({ "throttle_time_ms": 3 + asked.number, "results": [
                { "user": "u", "error_message": null }, { "user": "v", "error_code": gone, "error_message": null },
            ] })
        }),
    ]
}
