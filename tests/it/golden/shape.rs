//! What messages are made of: the proxy's own schema, and for Produce and Fetch, whose codecs do without one, theirs as
//! Kafka's message definitions have it, with all that the proxy drops.

use kafka_cutover::wire::schema::{self, Api, Field, Kind, Message, Primitive};

/// The schema of any API of the table.
pub(crate) fn of(key: i16) -> &'static Api {
    match key {
        0 => &PRODUCE,
        1 => &FETCH,
        _ => schema::api(key).unwrap_or_else(|| panic!("API key {key} has no schema")),
    }
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: i16::MAX, tag: None }
}

const fn number(name: &'static str, bytes: usize) -> Field {
    field(name, Kind::One(Primitive::Fixed(bytes)))
}

const fn text(name: &'static str) -> Field {
    field(name, Kind::One(Primitive::Text))
}

const fn array(name: &'static str, of: &'static [Field]) -> Field {
    field(name, Kind::Array(of))
}

const fn since(version: i16, field: Field) -> Field {
    Field { since: version, ..field }
}

const fn until(version: i16, field: Field) -> Field {
    Field { until: version, ..field }
}

const fn tagged(tag: u32, field: Field) -> Field {
    Field { tag: Some(tag), ..field }
}

const RECORDS: Field = field("records", Kind::One(Primitive::Bytes));
/// KIP-951: where to go instead.
const CURRENT_LEADER: Field =
    field("current_leader", Kind::Record(&[number("leader_id", 4), number("leader_epoch", 4)]));
const NODE_ENDPOINTS: Field =
    array("node_endpoints", &[number("node_id", 4), text("host"), number("port", 4), text("rack")]);

const PRODUCE: Api = Api {
    key: 0,
    name: "Produce",
    request: Message {
        versions: (3, 13),
        flexible: 9,
        fields: &[
            text("transactional_id"),
            number("acks", 2),
            number("timeout_ms", 4),
            array(
                "topic_data",
                &[
                    until(12, text("name")),
                    since(13, number("topic_id", 16)),
                    array("partition_data", &[number("index", 4), RECORDS]),
                ],
            ),
        ],
    },
    response: Message {
        versions: (3, 13),
        flexible: 9,
        fields: &[
            array(
                "responses",
                &[
                    until(12, text("name")),
                    since(13, number("topic_id", 16)),
                    array(
                        "partition_responses",
                        &[
                            number("index", 4),
                            number("error_code", 2),
                            number("base_offset", 8),
                            number("log_append_time_ms", 8),
                            since(5, number("log_start_offset", 8)),
                            since(8, array("record_errors", &[number("batch_index", 4), text("message")])),
                            since(8, text("error_message")),
                            since(10, tagged(0, CURRENT_LEADER)),
                        ],
                    ),
                ],
            ),
            number("throttle_time_ms", 4),
            since(10, tagged(0, NODE_ENDPOINTS)),
        ],
    },
};

const FETCH: Api = Api {
    key: 1,
    name: "Fetch",
    request: Message {
        versions: (4, 18),
        flexible: 12,
        fields: &[
            until(14, number("replica_id", 4)),
            number("max_wait_ms", 4),
            number("min_bytes", 4),
            number("max_bytes", 4),
            number("isolation_level", 1),
            since(7, number("session_id", 4)),
            since(7, number("session_epoch", 4)),
            array(
                "topics",
                &[
                    until(12, text("topic")),
                    since(13, number("topic_id", 16)),
                    array(
                        "partitions",
                        &[
                            number("partition", 4),
                            since(9, number("current_leader_epoch", 4)),
                            number("fetch_offset", 8),
                            since(12, number("last_fetched_epoch", 4)),
                            since(5, number("log_start_offset", 8)),
                            number("partition_max_bytes", 4),
                        ],
                    ),
                ],
            ),
            since(
                7,
                array(
                    "forgotten_topics_data",
                    &[
                        until(12, text("topic")),
                        since(13, number("topic_id", 16)),
                        field("partitions", Kind::Items(Primitive::Fixed(4))),
                    ],
                ),
            ),
            since(11, text("rack_id")),
        ],
    },
    response: Message {
        versions: (4, 18),
        flexible: 12,
        fields: &[
            number("throttle_time_ms", 4),
            since(7, number("error_code", 2)),
            since(7, number("session_id", 4)),
            array(
                "responses",
                &[
                    until(12, text("topic")),
                    since(13, number("topic_id", 16)),
                    array(
                        "partitions",
                        &[
                            number("partition_index", 4),
                            number("error_code", 2),
                            number("high_watermark", 8),
                            number("last_stable_offset", 8),
                            since(5, number("log_start_offset", 8)),
                            array("aborted_transactions", &[number("producer_id", 8), number("first_offset", 8)]),
                            since(11, number("preferred_read_replica", 4)),
                            RECORDS,
                            since(
                                12,
                                tagged(
                                    0,
                                    field(
                                        "diverging_epoch",
                                        Kind::Record(&[number("epoch", 4), number("end_offset", 8)]),
                                    ),
                                ),
                            ),
                            since(12, tagged(1, CURRENT_LEADER)),
                            since(
                                12,
                                tagged(
                                    2,
                                    field("snapshot_id", Kind::Record(&[number("end_offset", 8), number("epoch", 4)])),
                                ),
                            ),
                        ],
                    ),
                ],
            ),
            since(16, tagged(0, NODE_ENDPOINTS)),
        ],
    },
};
