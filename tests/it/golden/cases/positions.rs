//! Positions in logs and of groups: offsets across the seam, trailers.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use super::EPOCH;
use crate::api::world::{EPOCHS, SOURCE, TARGET};
use crate::golden::case::{Asked, Case, case};
use crate::golden::stands::{BEFORE, SEALED, TARGET_LOST};

pub(super) fn cases() -> Vec<Case> {
    [list_offsets(), commits(), vec![offset_delete()], delete_records()].concat()
}

fn list_offsets() -> Vec<Case> {
    let of = |replica: i32, topics: Value| json!({ "replica_id": replica, "isolation_level": 1, "topics": topics });
    let at = |index: i32, timestamp: i64| json!({ "partition_index": index, "current_leader_epoch": 0, "timestamp": timestamp });
    let both = json!([
        { "name": "orders", "partitions": [at(0, -1), at(1, -2), at(2, 1_700_000_000_500_i64)] },
        { "name": "plain", "partitions": [at(0, -1)] },
    ]);
    vec![
        case(ApiKey::ListOffsets, "ends and a time", of(-1, both.clone())).when(BEFORE).answered(listed),
        case(ApiKey::ListOffsets, "ends and a time", of(-1, both)).when(SEALED).answered(listed),
        case(
            ApiKey::ListOffsets,
            "the greatest timestamp",
            of(-1, json!([{ "name": "orders", "partitions": [at(2, -3)] }])),
        )
        .from(7)
        .when(SEALED)
        .answered(listed),
        case(ApiKey::ListOffsets, "as a replica", of(-2, json!([{ "name": "orders", "partitions": [at(0, -1)] }]))),
    ]
}

/// The n-th broker of a side leads partition n - 1.
fn listed(asked: &Asked) -> Value {
    let (base, epoch) = if asked.is_source() { (SOURCE, EPOCHS[0]) } else { (TARGET, EPOCHS[1]) };
    let at = |index: i32, timestamp: i64, offset: i64| json!({ "partition_index": index, "timestamp": timestamp, "offset": offset, "leader_epoch": epoch });
    let orders = match (asked.is_source(), asked.node.map(|n| n - base)) {
        (true, Some(1)) => at(0, -1, 100),
        (false, Some(1)) => at(0, -1, 57),
        (true, Some(2)) => at(1, -1, 3),
        (false, Some(2)) => at(1, -1, 7),
        (true, _) => at(2, -1, -1),
        (false, _) => at(2, 1_700_000_000_600, 9),
    };
    json!({
        "throttle_time_ms": 5 + asked.number,
        "topics": [
            { "name": "orders", "partitions": [orders] },
            { "name": "plain", "partitions": [at(0, -1, 20)] },
        ],
    })
}

fn commits() -> Vec<Case> {
    let at = |index: i32, offset: i64| {
        json!({
            "partition_index": index, "committed_offset": offset, "committed_leader_epoch": 3, "committed_metadata": "mine",
        })
    };
    let commit = json!({
        "group_id": "g", "generation_id_or_member_epoch": 4, "member_id": "m", "group_instance_id": null,
        "retention_time_ms": -1,
        "topics": [
            { "name": "orders", "partitions": [at(0, 40), at(1, 100), at(2, 130)] },
            { "name": "plain", "partitions": [at(0, 5)] },
        ],
    });
    let done = |_: &Asked| {
        let at = |index: i32, error: i16| json!({ "partition_index": index, "error_code": error });
        json!({ "throttle_time_ms": 8, "topics": [
            { "name": "orders", "partitions": [at(0, 0), at(1, 0), at(2, 0)] },
            { "name": "plain", "partitions": [at(0, 22)] },
        ] })
    };
    let all = json!([
        { "name": "orders", "partition_indexes": [0, 1, 2] },
        { "name": "plain", "partition_indexes": [0] },
    ]);
    let fetch = json!({
        "group_id": "g", "topics": all, "require_stable": true,
        "groups": [
            { "group_id": "g", "member_id": "m", "member_epoch": 4, "topics": all },
            { "group_id": "h", "member_id": null, "member_epoch": -1, "topics": null },
        ],
    });
    vec![
        case(ApiKey::OffsetCommit, "below, at and behind what will be the seam", commit.clone())
            .when(BEFORE)
            .answered(done),
        case(ApiKey::OffsetCommit, "below, at and behind the seam", commit).when(SEALED).answered(done),
        case(ApiKey::OffsetFetch, "what was committed so", fetch).when(SEALED).answered(|asked| {
            let at = |index: i32, offset: i64, metadata: &str, error: i16| {
                json!({
                    "partition_index": index, "committed_offset": offset, "committed_leader_epoch": EPOCH,
                    "metadata": metadata, "error_code": error,
                })
            };
            let topics = json!([
                { "name": "orders", "partitions": [
                    at(0, 40, "mine", 0), at(1, 100, "mine", 0), at(2, 100, "mine\u{1}kc1:130", 0),
                ] },
                { "name": "plain", "partitions": [at(0, 5, "mine", 0)] },
            ]);
            let group = match asked.of.as_str() {
                "g" => json!({ "group_id": "g", "topics": topics }),
                other => json!({ "group_id": other, "error_code": 16 }),
            };
            json!({ "throttle_time_ms": 6 + asked.number, "topics": topics, "groups": [group] })
        }),
    ]
}

fn offset_delete() -> Case {
    let partitions = json!([{ "partition_index": 0 }]);
    let request = json!({ "group_id": "g", "topics": [{ "name": "orders", "partitions": partitions }] });
    case(ApiKey::OffsetDelete, "at the group's home", request).when(SEALED).answered(|_| {
        json!({ "throttle_time_ms": 3, "topics": [
            { "name": "orders", "partitions": [{ "partition_index": 0, "error_code": 0 }] },
        ] })
    })
}

fn delete_records() -> Vec<Case> {
    let at = |index: i32, offset: i64| json!({ "partition_index": index, "offset": offset });
    let request = json!({ "timeout_ms": 1000, "topics": [
        { "name": "orders", "partitions": [at(0, 110), at(1, 50), at(2, -1)] },
        { "name": "plain", "partitions": [at(0, 4)] },
    ] });
    let deleted = |asked: &Asked| {
        let base = if asked.is_source() { SOURCE } else { TARGET };
        let low = |index: i32, low: i64| json!({ "partition_index": index, "low_watermark": low, "error_code": 0 });
        let orders = match (asked.is_source(), asked.node.map(|n| n - base)) {
            (true, Some(1)) => low(0, 100),
            (false, Some(1)) => low(0, 17),
            (true, Some(2)) => low(1, 50),
            (false, Some(2)) => low(1, 0),
            (true, _) => low(2, 100),
            (false, _) => low(2, 33),
        };
        json!({ "throttle_time_ms": 4 + asked.number, "topics": [
            { "name": "orders", "partitions": [orders] }, { "name": "plain", "partitions": [low(0, 4)] },
        ] })
    };
    vec![
        case(ApiKey::DeleteRecords, "up to an offset, or all", request.clone()).when(SEALED).answered(deleted),
        case(ApiKey::DeleteRecords, "up to an offset, or all", request).when(TARGET_LOST).answered(deleted),
    ]
}
