//! Transactions: at their id's coordinator, producer ids native; what has configs.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use crate::golden::case::{Asked, Case, case};
use crate::golden::stands::{BEFORE, SEALED};

/// As clients see a producer id that the target has issued: the coordinator on the source has none of that number.
const OF_THE_TARGET: i64 = 7 | 1 << 41;

pub(super) fn cases() -> Vec<Case> {
    [begun(), positions(), ended(), resources()].concat()
}

fn lost(_: &Asked) -> Value {
    Value::Null
}

fn begun() -> Vec<Case> {
    let init = json!({
        "transactional_id": "t", "transaction_timeout_ms": 60_000, "producer_id": 7, "producer_epoch": 3,
    });
    let partitions = |topics: &[&str], pid: i64| {
        let topics: Vec<Value> = topics.iter().map(|t| json!({ "name": t, "partitions": [0, 1] })).collect();
        json!({
            "v3_and_below_transactional_id": "t", "v3_and_below_producer_id": pid, "v3_and_below_producer_epoch": 3,
            "v3_and_below_topics": topics,
        })
    };
    let added = |_: &Asked| {
        let result = |index: i32| json!({ "partition_index": index, "partition_error_code": 0 });
        let results = json!([{ "name": "plain", "results_by_partition": [result(0), result(1)] }]);
        json!({ "throttle_time_ms": 4, "results_by_topic_v3_and_below": results })
    };
    let offsets =
        |pid: i64| json!({ "transactional_id": "t", "producer_id": pid, "producer_epoch": 3, "group_id": "g" });
    vec![
        case(ApiKey::InitProducerId, "a transactional id, by its coordinator", init.clone())
            .answered(|_| json!({ "throttle_time_ms": 2, "producer_id": 7, "producer_epoch": 4 })),
        case(ApiKey::InitProducerId, "the coordinator of a transactional id is lost", init).answered(lost),
        case(ApiKey::AddPartitionsToTxn, "at the id's coordinator", partitions(&["plain"], 7)).answered(added),
        case(ApiKey::AddPartitionsToTxn, "the coordinator is lost", partitions(&["plain"], 7)).answered(lost),
        case(ApiKey::AddPartitionsToTxn, "one of them has moved on", partitions(&["plain", "orders"], 7)).when(SEALED),
        case(ApiKey::AddPartitionsToTxn, "a producer of the other side", partitions(&["plain"], OF_THE_TARGET)),
        case(ApiKey::AddOffsetsToTxn, "at the id's coordinator", offsets(7))
            .answered(|_| json!({ "throttle_time_ms": 3, "error_code": 51 })),
        case(ApiKey::AddOffsetsToTxn, "the coordinator is lost", offsets(7)).answered(lost),
        case(ApiKey::AddOffsetsToTxn, "a producer of the other side", offsets(OF_THE_TARGET)),
    ]
}

fn positions() -> Vec<Case> {
    let at = |index: i32, offset: i64| {
        json!({
            "partition_index": index, "committed_offset": offset, "committed_leader_epoch": 9, "committed_metadata": "mine",
        })
    };
    let commit = json!({
        "transactional_id": "t", "group_id": "g", "producer_id": 7, "producer_epoch": 3, "generation_id": 4,
        "member_id": "m", "group_instance_id": null,
        "topics": [
            { "name": "orders", "partitions": [at(0, 40), at(1, 100), at(2, 130)] },
            { "name": "plain", "partitions": [at(0, 5)] },
        ],
    });
    let done = |_: &Asked| {
        let result = |index: i32| json!({ "partition_index": index, "error_code": 0 });
        json!({ "throttle_time_ms": 5, "topics": [
            { "name": "orders", "partitions": [result(0), result(1), result(2)] },
            { "name": "plain", "partitions": [result(0)] },
        ] })
    };
    vec![
        case(ApiKey::TxnOffsetCommit, "below, at and behind what will be the seam", commit.clone())
            .when(BEFORE)
            .answered(done),
        case(ApiKey::TxnOffsetCommit, "below, at and behind the seam", commit.clone()).when(SEALED).answered(done),
        case(ApiKey::TxnOffsetCommit, "the coordinator is lost", commit).answered(lost),
    ]
}

fn ended() -> Vec<Case> {
    let end = |pid: i64| json!({ "transactional_id": "t", "producer_id": pid, "producer_epoch": 3, "committed": true });
    vec![
        case(ApiKey::EndTxn, "at the id's coordinator", end(7)).answered(|_| json!({ "throttle_time_ms": 6 })),
        case(ApiKey::EndTxn, "its answer is lost, and it is not sent again", end(7)).answered(lost),
        case(ApiKey::EndTxn, "a producer of the other side", end(OF_THE_TARGET)),
    ]
}

fn resources() -> Vec<Case> {
    let of = |types: &[i8]| json!({ "resource_types": types });
    let metrics = |_: &Asked| json!({ "throttle_time_ms": 1, "config_resources": [{ "resource_name": "m", "resource_type": 16 }] });
    vec![
        case(ApiKey::ListConfigResources, "of every type", of(&[])).when(SEALED).answered(metrics),
        case(ApiKey::ListConfigResources, "topics and nodes, as Metadata has them", of(&[2, 4])).when(SEALED).from(1),
    ]
}
