//! The cluster, its nodes, its producers and transactions.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use crate::api::world::{SOURCE, TARGET};
use crate::golden::case::{Asked, Case, case};
use crate::golden::stands::{
    BEFORE, CREATES, GATED, NIL, NOBODYS, ONE_TOPIC, PREPARED, SEALED, SOURCE_LOST, SOURCE_ORDERS, Stand, show_nobodys,
};

const MARKER: &str = "__kafka_cutover.default";

pub(super) fn cases() -> Vec<Case> {
    [identity(), producers(), transactions(), brokers()].concat()
}

fn identity() -> Vec<Case> {
    let metadata = |topics: Value, create: bool| {
        json!({
            "topics": topics, "allow_auto_topic_creation": create, "include_cluster_authorized_operations": true,
            "include_topic_authorized_operations": true,
        })
    };
    let name = |name: &str| json!({ "topic_id": NIL, "name": name });
    let of_two = |stand: Stand| {
        case(ApiKey::Metadata, "of both topics", metadata(json!([name("orders"), name("plain")]), false)).when(stand)
    };
    vec![
        of_two(BEFORE),
        of_two(SEALED),
        case(ApiKey::Metadata, "of all topics, in the words of version 0", metadata(json!([]), false))
            .to(0)
            .when(ONE_TOPIC),
        case(ApiKey::Metadata, "of all topics", metadata(json!(null), false)).from(1).when(ONE_TOPIC),
        case(
            ApiKey::Metadata,
            "by id, one of them nobody's",
            metadata(
                json!([{ "topic_id": SOURCE_ORDERS, "name": null }, { "topic_id": NOBODYS, "name": null }]),
                false,
            ),
        )
        .from(10)
        .when(SEALED),
        case(ApiKey::Metadata, "of a topic that nobody has", metadata(json!([name("nobodys")]), false)),
        case(
            ApiKey::Metadata,
            "of a topic that nobody has, and brokers that create what is asked for",
            metadata(json!([name("nobodys")]), true),
        )
        .when(CREATES)
        .answered(|_| json!({ "topics": [{ "name": "nobodys", "topic_id": NOBODYS }] }))
        .meanwhile(show_nobodys),
        case(
            ApiKey::ApiVersions,
            "what is offered",
            json!({ "client_software_name": "golden", "client_software_version": "1" }),
        ),
        case(ApiKey::ApiVersions, "a version of the future is answered in version 0", json!({})).from(5).to(5),
        case(
            ApiKey::DescribeCluster,
            "the virtual one",
            json!({ "include_cluster_authorized_operations": true, "endpoint_type": 1 }),
        )
        .when(SEALED),
        case(ApiKey::DescribeCluster, "its controllers", json!({ "endpoint_type": 2 })).from(1),
    ]
}

fn producers() -> Vec<Case> {
    let idempotent = json!({
        "transactional_id": null, "transaction_timeout_ms": 60_000, "producer_id": 7, "producer_epoch": 3,
    });
    let init = |_: &Asked| json!({ "throttle_time_ms": 2, "producer_id": 12, "producer_epoch": 0 });
    let describe = json!({ "topics": [
        { "name": "orders", "partition_indexes": [0] }, { "name": "plain", "partition_indexes": [0] },
    ] });
    vec![
        case(ApiKey::InitProducerId, "an idempotent producer, by the source", idempotent.clone()).answered(init),
        case(ApiKey::InitProducerId, "an idempotent producer, by the target", idempotent)
            .when(SOURCE_LOST)
            .answered(init),
        case(ApiKey::DescribeProducers, "of the open side, those that came through it", describe).when(GATED).answered(
            |asked| {
                let state = |pid: i64, start: i64| {
                    json!({
                        "producer_id": pid, "producer_epoch": 0, "last_sequence": 5, "last_timestamp": 9,
                        "coordinator_epoch": -1, "current_txn_start_offset": start,
                    })
                };
                let (name, producers) = match asked.is_source() {
                    true => ("plain", json!([state(8, 3)])),
                    false => {
                        ("orders", json!([state(7 | 1 << 44, -1), state(8 | 1 << 44 | 1 << 41, 17), state(3, -1)]))
                    }
                };
                json!({ "throttle_time_ms": 3 + asked.number, "topics": [{ "name": name, "partitions": [
                    { "partition_index": 0, "error_message": null, "active_producers": producers },
                ] }] })
            },
        ),
    ]
}

fn transactions() -> Vec<Case> {
    vec![
        case(ApiKey::DescribeTransactions, "each at its coordinator", json!({ "transactional_ids": ["a", "b"] }))
            .when(SEALED)
            .answered(|asked| match asked.of.as_str() {
                "b" => Value::Null,
                id => json!({ "throttle_time_ms": 3, "transaction_states": [{
                    "transactional_id": id, "transaction_state": "Ongoing", "transaction_timeout_ms": 60_000,
                    "transaction_start_time_ms": 1_700_000_000_000_i64, "producer_id": 7, "producer_epoch": 3,
                    "topics": [{ "topic": "orders", "partitions": [0] }, { "topic": MARKER, "partitions": [0] }],
                }] }),
            }),
        case(
            ApiKey::ListTransactions,
            "of all brokers; one of the ids to look for is the target's",
            json!({
                "state_filters": ["Ongoing"], "producer_id_filters": [7, 8_i64 | 1 << 41], "duration_filter": 500,
                "transactional_id_pattern": "a.*",
            }),
        )
        .when(SEALED)
        .answered(|asked| {
            let id = if asked.node == Some(SOURCE + 3) { "b" } else { "a" };
            json!({ "throttle_time_ms": 3 + asked.number, "transaction_states": [
                { "transactional_id": id, "producer_id": 7, "transaction_state": "Ongoing" },
            ] })
        }),
    ]
}

fn brokers() -> Vec<Case> {
    let topics = |name: &str, partitions: &str| json!([{ name: "orders", partitions: [0] }]);
    let dirs = |asked: &Asked| {
        let number = asked.node.map_or(0, |n| if asked.is_source() { n - SOURCE } else { n - TARGET });
        if number == 3 {
            return Value::Null;
        }
        let partition = |size: i64| json!([{ "partition_index": 0, "partition_size": size, "offset_lag": 0, "is_future_key": false }]);
        json!({ "throttle_time_ms": 3 + asked.number, "results": [{
            "log_dir": format!("/data/b{number}.real"), "total_bytes": 1000, "usable_bytes": 500,
            "topics": [
                { "name": "orders", "partitions": partition(100) }, { "name": MARKER, "partitions": partition(1) },
            ],
        }] })
    };
    vec![
        case(
            ApiKey::DescribeLogDirs,
            "of all brokers, one of which is gone",
            json!({ "topics": topics("topic", "partitions") }),
        )
        .when(PREPARED)
        .answered(dirs),
        case(ApiKey::DescribeLogDirs, "of the brokers of both sides", json!({ "topics": null }))
            .when(SEALED)
            .answered(dirs),
        case(
            ApiKey::AlterReplicaLogDirs,
            "refused",
            json!({ "dirs": [{ "path": "/data", "topics": topics("name", "partitions") }] }),
        ),
        case(
            ApiKey::ElectLeaders,
            "refused",
            json!({ "topic_partitions": topics("topic", "partitions"), "timeout_ms": 1000 }),
        ),
        case(ApiKey::ElectLeaders, "refused for all", json!({ "topic_partitions": null, "timeout_ms": 1000 })).from(1),
        case(
            ApiKey::AlterPartitionReassignments,
            "refused",
            json!({ "timeout_ms": 1000, "topics": [
                { "name": "orders", "partitions": [{ "partition_index": 0, "replicas": [1, 2] }] },
            ] }),
        ),
        case(
            ApiKey::ListPartitionReassignments,
            "none",
            json!({ "timeout_ms": 1000, "topics": topics("name", "partition_indexes") }),
        ),
    ]
}
