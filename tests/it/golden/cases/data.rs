//! Produce and Fetch.

use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use super::EPOCH;
use crate::api::world::{EPOCHS, SOURCE, TARGET};
use crate::golden::case::{Asked, Case, case};
use crate::golden::made::batch;
use crate::golden::stands::{BEFORE, GATED, NOBODYS, SEALED, SOURCE_ORDERS, SOURCE_PLAIN, TARGET_LOST, TARGET_ORDERS};

const NO_PRODUCER: (i64, i16, i32) = (-1, -1, -1);

pub(super) fn cases() -> Vec<Case> {
    [produce(), fetch()].concat()
}

fn produce() -> Vec<Case> {
    let of = |topics: Value| json!({ "transactional_id": null, "acks": -1, "timeout_ms": 1500, "topic_data": topics });
    let topic = |name: &str, id: &str, index: i32, records: Value| json!({ "name": name, "topic_id": id, "partition_data": [{ "index": index, "records": [records] }] });
    let orders = |index, records| topic("orders", SOURCE_ORDERS, index, records);
    let plain = |index, records| topic("plain", SOURCE_PLAIN, index, records);
    vec![
        case(
            ApiKey::Produce,
            "to one broker, which says where else it would go",
            of(json!([orders(0, batch(0, -1, (7, 0, 5), 3)), plain(0, batch(0, -1, NO_PRODUCER, 1))])),
        )
        .when(BEFORE)
        .answered(|_| {
            json!({
                "responses": [
                    produced("orders", SOURCE_ORDERS, 0, 0, 97, 40),
                    refused("plain", SOURCE_PLAIN, 0),
                ],
                "throttle_time_ms": 30,
                "node_endpoints": endpoints(),
            })
        }),
        case(
            ApiKey::Produce,
            "to both sides, with a producer id of the part behind the seam",
            of(json!([orders(0, batch(0, -1, (7, 0, 5), 3)), plain(1, batch(0, -1, (7, 0, 8), 2))])),
        )
        .when(SEALED)
        .answered(|asked| match asked.is_source() {
            true => json!({ "responses": [produced("plain", SOURCE_PLAIN, 1, 0, 20, 2)], "throttle_time_ms": 40 }),
            false => json!({
                "responses": [produced("orders", TARGET_ORDERS, 0, 0, 12, 3)],
                "throttle_time_ms": 30,
                "node_endpoints": endpoints(),
            }),
        }),
        case(
            ApiKey::Produce,
            "a retry of what the source has, and the next batch of another partition",
            of(json!([{ "name": "orders", "topic_id": SOURCE_ORDERS, "partition_data": [
                { "index": 0, "records": [batch(0, -1, (7, 0, 4), 1)] },
                { "index": 1, "records": [batch(0, -1, (7, 0, 5), 1)] },
            ] }])),
        )
        .when(GATED)
        .answered(|_| json!({ "responses": [produced("orders", TARGET_ORDERS, 1, 0, 7, 7)] })),
        case(
            ApiKey::Produce,
            "a topic that nobody has, a partition without a leader",
            of(json!([
                topic("nobodys", NOBODYS, 0, batch(0, -1, NO_PRODUCER, 1)),
                orders(0, batch(0, -1, NO_PRODUCER, 1)),
            ])),
        )
        .when(TARGET_LOST),
    ]
}

fn produced(name: &str, id: &str, index: i32, error: i16, base_offset: i64, log_start: i64) -> Value {
    json!({ "name": name, "topic_id": id, "partition_responses": [{
        "index": index, "error_code": error, "base_offset": base_offset, "log_append_time_ms": -1,
        "log_start_offset": log_start, "error_message": null,
    }] })
}

/// A broker that does not lead it says who does.
fn refused(name: &str, id: &str, index: i32) -> Value {
    json!({ "name": name, "topic_id": id, "partition_responses": [{
        "index": index, "error_code": 6, "base_offset": -1, "log_append_time_ms": -1, "log_start_offset": -1,
        "error_message": "not here", "record_errors": [{ "batch_index": 0, "message": null }],
        "current_leader": { "leader_id": SOURCE + 2, "leader_epoch": EPOCH },
    }] })
}

fn endpoints() -> Value {
    json!([{ "node_id": SOURCE + 2, "host": "b2.source.real", "port": 40_002, "rack": null }])
}

fn fetch() -> Vec<Case> {
    let of = |isolation: i8, topics: Value| {
        json!({
            "replica_id": -1, "max_wait_ms": 500, "min_bytes": 1, "max_bytes": 1_048_576,
            "isolation_level": isolation, "session_epoch": 0, "topics": topics, "rack_id": "rack-a",
        })
    };
    let at = |partition: i32, offset: i64| {
        json!({
            "partition": partition, "current_leader_epoch": 0, "fetch_offset": offset, "last_fetched_epoch": 3,
            "log_start_offset": -1, "partition_max_bytes": 65_536,
        })
    };
    let orders = |parts: Value| json!({ "topic": "orders", "topic_id": SOURCE_ORDERS, "partitions": parts });
    let plain = |parts: Value| json!({ "topic": "plain", "topic_id": SOURCE_PLAIN, "partitions": parts });
    let mut session = of(0, json!([plain(json!([at(0, 5)]))]));
    session["session_id"] = json!(99);
    vec![
        case(
            ApiKey::Fetch,
            "of one broker, which says where else to go",
            of(0, json!([orders(json!([at(0, 95)])), plain(json!([at(0, 5)]))])),
        )
        .when(BEFORE)
        .answered(|_| {
            let mut moved = fetched(0, (200, 200, 40), json!(null), &[batch(95, EPOCH, (7, 0, 5), 3)]);
            moved["current_leader"] = json!({ "leader_id": SOURCE + 2, "leader_epoch": EPOCH });
            moved["diverging_epoch"] = json!({ "epoch": EPOCH, "end_offset": 90 });
            moved["snapshot_id"] = json!({ "end_offset": 90, "epoch": EPOCH });
            let mut plain = fetched(0, (9, 9, 0), json!(null), &[batch(5, EPOCH, NO_PRODUCER, 4)]);
            plain["preferred_read_replica"] = json!(SOURCE + 2);
            json!({
                "throttle_time_ms": 25, "session_id": 4711,
                "responses": [
                    { "topic": "orders", "topic_id": SOURCE_ORDERS, "partitions": [moved] },
                    { "topic": "plain", "topic_id": SOURCE_PLAIN, "partitions": [plain] },
                ],
                "node_endpoints": endpoints(),
            })
        }),
        case(
            ApiKey::Fetch,
            "of both sides: below the seam with what came after it, behind it with an aborted transaction",
            of(1, json!([orders(json!([at(0, 95), at(1, 100)])), plain(json!([at(1, 3)]))])),
        )
        .when(SEALED)
        .answered(both_sides),
        case(
            ApiKey::Fetch,
            "at a hole before the seam: nothing there, proven, then the other side",
            of(0, json!([orders(json!([at(0, 98)]))])),
        )
        .from(12)
        .when(SEALED)
        .answered(|asked| match asked.is_source() {
            true => of_orders(SOURCE_ORDERS, fetched(0, (100, 100, 40), json!(null), &[])),
            false => {
                let records = [batch(7, EPOCHS[1], (7 | 1 << 44, 0, 5), 2)];
                of_orders(TARGET_ORDERS, fetched(0, (9, 9, 2), json!(null), &records))
            }
        }),
        case(
            ApiKey::Fetch,
            "below the beginning: the log's start is asked for before that is said",
            of(0, json!([orders(json!([at(0, 5)]))])),
        )
        .from(12)
        .when(SEALED)
        .answered(|asked| match asked.key {
            ApiKey::ListOffsets => json!({ "topics": [{ "name": "orders", "partitions": [
                { "partition_index": 0, "timestamp": -1, "offset": 40, "leader_epoch": EPOCH },
            ] }] }),
            _ => {
                let mut out_of_range = fetched(0, (-1, -1, -1), json!(null), &[]);
                out_of_range["error_code"] = json!(1);
                of_orders(SOURCE_ORDERS, out_of_range)
            }
        }),
        case(
            ApiKey::Fetch,
            "a topic that nobody has",
            of(0, json!([{ "topic": "nobodys", "topic_id": NOBODYS, "partitions": [at(0, 0)] }])),
        )
        .from(12),
        case(ApiKey::Fetch, "in a session that nobody began", session).from(7).to(7),
    ]
}

/// High watermark, last stable offset, log start.
fn fetched(partition: i32, ends: (i64, i64, i64), aborted: Value, records: &[Value]) -> Value {
    json!({
        "partition_index": partition, "error_code": 0, "high_watermark": ends.0, "last_stable_offset": ends.1,
        "log_start_offset": ends.2, "aborted_transactions": aborted, "preferred_read_replica": -1, "records": records,
    })
}

fn of_orders(id: &str, partition: Value) -> Value {
    json!({ "responses": [{ "topic": "orders", "topic_id": id, "partitions": [partition] }] })
}

fn both_sides(asked: &Asked) -> Value {
    const SOURCE_2: i32 = SOURCE + 2;
    const TARGET_2: i32 = TARGET + 2;
    let mut answer = match asked.node {
        Some(TARGET_2) => {
            let records = [batch(7, EPOCHS[1], (9, 0, 0), 2), batch(9, EPOCHS[1], (7 | 1 << 44, 0, 5), 4)];
            let aborted = json!([{ "producer_id": 9, "first_offset": 7 }]);
            of_orders(TARGET_ORDERS, fetched(1, (15, 13, 2), aborted, &records))
        }
        Some(SOURCE_2) => {
            let nothing = fetched(1, (3, 3, 0), json!([]), &[]);
            json!({ "responses": [{ "topic": "plain", "topic_id": SOURCE_PLAIN, "partitions": [nothing] }] })
        }
        _ => {
            // A producer that bypasses the proxy goes on at 100.
            let records = [batch(95, EPOCH, (7, 0, 0), 5), batch(100, EPOCH, (8, 0, 0), 2)];
            of_orders(SOURCE_ORDERS, fetched(0, (102, 102, 40), json!([]), &records))
        }
    };
    answer["throttle_time_ms"] = json!(10 + asked.number);
    answer
}
