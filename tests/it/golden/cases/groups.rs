//! Groups: at their home, with the proxy as their coordinator.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use crate::api::world::SOURCE;
use crate::golden::case::{Asked, Case, case};
use crate::golden::stands::{SEALED, SOURCE_MARKER, SOURCE_ORDERS};

pub(super) fn cases() -> Vec<Case> {
    [coordinators(), members(), admin(), consumer_protocol()].concat()
}

fn coordinators() -> Vec<Case> {
    let of = |key_type: i8| json!({ "key": "g", "key_type": key_type, "coordinator_keys": ["g", "h"] });
    vec![
        case(ApiKey::FindCoordinator, "of groups", of(0)),
        case(ApiKey::FindCoordinator, "of transactional ids", of(1)).from(1),
        case(ApiKey::FindCoordinator, "of share groups", of(2)).from(1),
    ]
}

fn members() -> Vec<Case> {
    let join = json!({
        "group_id": "g", "session_timeout_ms": 10_000, "rebalance_timeout_ms": 60_000, "member_id": "m",
        "group_instance_id": null, "protocol_type": "consumer",
        "protocols": [{ "name": "range", "metadata": "what it reads" }], "reason": "new",
    });
    let sync = json!({
        "group_id": "g", "generation_id": 4, "member_id": "m", "group_instance_id": null, "protocol_type": "consumer",
        "protocol_name": "range", "assignments": [{ "member_id": "m", "assignment": "what it gets" }],
    });
    let heartbeat = json!({ "group_id": "g", "generation_id": 4, "member_id": "m", "group_instance_id": null });
    let leave = json!({
        "group_id": "g", "member_id": "m",
        "members": [{ "member_id": "m", "group_instance_id": null, "reason": "done" }],
    });
    vec![
        case(ApiKey::JoinGroup, "at the group's home", join.clone()).answered(|_| {
            json!({
                "throttle_time_ms": 1, "generation_id": 4, "protocol_type": "consumer", "protocol_name": "range",
                "leader": "m", "member_id": "m",
                "members": [{ "member_id": "m", "group_instance_id": null, "metadata": "what it reads" }],
            })
        }),
        case(ApiKey::JoinGroup, "the coordinator is lost", join).answered(lost),
        case(ApiKey::SyncGroup, "at the group's home", sync.clone()).answered(|_| {
            json!({
                "throttle_time_ms": 1, "protocol_type": "consumer", "protocol_name": "range", "assignment": "what it gets",
            })
        }),
        case(ApiKey::SyncGroup, "the coordinator is lost", sync).answered(lost),
        case(ApiKey::Heartbeat, "in a rebalance", heartbeat.clone())
            .answered(|_| json!({ "throttle_time_ms": 1, "error_code": 27 })),
        case(ApiKey::Heartbeat, "the coordinator is lost", heartbeat).answered(lost),
        case(ApiKey::LeaveGroup, "at the group's home", leave.clone()).answered(|_| {
            json!({ "throttle_time_ms": 1, "members": [{ "member_id": "m", "group_instance_id": null }] })
        }),
        case(ApiKey::LeaveGroup, "the coordinator is lost", leave).answered(lost),
    ]
}

fn lost(_: &Asked) -> Value {
    Value::Null
}

fn admin() -> Vec<Case> {
    let describe = json!({ "groups": ["g", "h"], "include_authorized_operations": true });
    vec![
        case(ApiKey::DescribeGroups, "each at its coordinator, one of which is lost", describe).answered(|asked| {
            if asked.of == "h" {
                return Value::Null;
            }
            json!({ "throttle_time_ms": 9, "groups": [{
                "error_message": null, "group_id": "g", "group_state": "Stable", "protocol_type": "consumer",
                "protocol_data": "range", "authorized_operations": 328,
                "members": [{
                    "member_id": "m", "group_instance_id": null, "client_id": "c", "client_host": "/127.0.0.1",
                    "member_metadata": "what it reads", "member_assignment": "what it gets",
                }],
            }] })
        }),
        case(
            ApiKey::ListGroups,
            "of all brokers, one of which knows the same group",
            json!({ "states_filter": ["Stable"], "types_filter": ["classic"] }),
        )
        .answered(|asked| {
            let group = |id: &str| {
                json!({ "group_id": id, "protocol_type": "consumer", "group_state": "Stable", "group_type": "classic" })
            };
            let groups = match asked.node.map(|n| n - SOURCE) {
                Some(1) => json!([group("g"), group("h")]),
                Some(2) => json!([group("g")]),
                _ => json!([group("i")]),
            };
            json!({ "throttle_time_ms": 5 + asked.number, "groups": groups })
        }),
        case(ApiKey::DeleteGroups, "each at its coordinator", json!({ "groups_names": ["g", "h"] })).answered(|asked| {
            let error = if asked.of == "h" { 69 } else { 0 };
            let results = json!([{ "group_id": asked.of, "error_code": error }]);
            json!({ "throttle_time_ms": 2 + asked.number, "results": results })
        }),
    ]
}

fn consumer_protocol() -> Vec<Case> {
    let heartbeat = json!({
        "group_id": "g", "member_id": "m", "member_epoch": 3, "instance_id": null, "rack_id": null,
        "rebalance_timeout_ms": -1, "subscribed_topic_names": null, "subscribed_topic_regex": ".*",
        "server_assignor": null, "topic_partitions": [{ "topic_id": SOURCE_ORDERS, "partitions": [0, 1] }],
    });
    vec![
        case(ApiKey::ConsumerGroupHeartbeat, "an expression that matches our own topic", heartbeat)
            .when(SEALED)
            .answered(|_| {
                json!({
                    "throttle_time_ms": 2, "error_message": null, "member_id": "m", "member_epoch": 4,
                    "heartbeat_interval_ms": 5000,
                    "assignment": { "topic_partitions": [
                        { "topic_id": SOURCE_ORDERS, "partitions": [0, 1, 2] },
                        { "topic_id": SOURCE_MARKER, "partitions": [0] },
                    ] },
                })
            }),
        case(
            ApiKey::ConsumerGroupDescribe,
            "each at its coordinator",
            json!({ "group_ids": ["g", "h"], "include_authorized_operations": true }),
        )
        .when(SEALED)
        .answered(|asked| {
            let assignment = json!({ "topic_partitions": [
                { "topic_id": SOURCE_ORDERS, "topic_name": "orders", "partitions": [0, 1, 2] },
                { "topic_id": SOURCE_MARKER, "topic_name": "__kafka_cutover.default", "partitions": [0] },
            ] });
            let member = json!({
                "member_id": "m", "instance_id": null, "rack_id": null, "member_epoch": 4, "client_id": "c",
                "client_host": "/127.0.0.1", "subscribed_topic_names": [], "subscribed_topic_regex": ".*",
                "assignment": assignment, "target_assignment": assignment, "member_type": 1,
            });
            let error = if asked.of == "h" { 69 } else { 0 };
            json!({ "throttle_time_ms": 2 + asked.number, "groups": [{
                "error_code": error, "error_message": null, "group_id": asked.of, "group_state": "Stable",
                "group_epoch": 4, "assignment_epoch": 4, "assignor_name": "uniform",
                "members": if error == 0 { json!([member]) } else { json!([]) }, "authorized_operations": 328,
            }] })
        }),
    ]
}
