//! Schemas of offsets, of logs and of groups.

use super::field::{Api, INT32, Message, NEVER, array, boolean, int8, int16, int32, int64, items, string, uuid};

pub(super) const LIST_OFFSETS: Api = Api {
    key: 2,
    name: "ListOffsets",
    request: Message {
        versions: (1, 10),
        flexible: 6,
        fields: &[
            int32("replica_id"),
            int8("isolation_level").since(2),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[int32("partition_index"), int32("current_leader_epoch").since(4), int64("timestamp")],
                    ),
                ],
            ),
            int32("timeout_ms").since(10),
        ],
    },
    response: Message {
        versions: (1, 10),
        flexible: 6,
        fields: &[
            int32("throttle_time_ms").since(2),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[
                            int32("partition_index"),
                            int16("error_code"),
                            int64("timestamp"),
                            int64("offset"),
                            int32("leader_epoch").since(4),
                        ],
                    ),
                ],
            ),
        ],
    },
};

pub(super) const OFFSET_COMMIT: Api = Api {
    key: 8,
    name: "OffsetCommit",
    request: Message {
        versions: (2, 9),
        flexible: 8,
        fields: &[
            string("group_id"),
            int32("generation_id_or_member_epoch"),
            string("member_id"),
            string("group_instance_id").since(7),
            int64("retention_time_ms").until(4),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[
                            int32("partition_index"),
                            int64("committed_offset"),
                            int32("committed_leader_epoch").since(6),
                            string("committed_metadata"),
                        ],
                    ),
                ],
            ),
        ],
    },
    response: Message {
        versions: (2, 10),
        flexible: 8,
        fields: &[
            int32("throttle_time_ms").since(3),
            array(
                "topics",
                &[
                    string("name").until(9),
                    uuid("topic_id").since(10),
                    array("partitions", &[int32("partition_index"), int16("error_code")]),
                ],
            ),
        ],
    },
};

pub(super) const OFFSET_FETCH: Api = Api {
    key: 9,
    name: "OffsetFetch",
    request: Message {
        versions: (1, 9),
        flexible: 6,
        fields: &[
            string("group_id").until(7),
            array("topics", &[string("name"), items("partition_indexes", INT32)]).until(7),
            array(
                "groups",
                &[
                    string("group_id"),
                    string("member_id").since(9),
                    int32("member_epoch").since(9),
                    array("topics", &[string("name"), items("partition_indexes", INT32)]),
                ],
            )
            .since(8),
            boolean("require_stable").since(7),
        ],
    },
    response: Message {
        versions: (1, 10),
        flexible: 6,
        fields: &[
            int32("throttle_time_ms").since(3),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[
                            int32("partition_index"),
                            int64("committed_offset"),
                            int32("committed_leader_epoch").since(5),
                            string("metadata"),
                            int16("error_code"),
                        ],
                    ),
                ],
            )
            .until(7),
            int16("error_code").since(2).until(7),
            array(
                "groups",
                &[
                    string("group_id"),
                    array(
                        "topics",
                        &[
                            string("name").until(9),
                            uuid("topic_id").since(10),
                            array(
                                "partitions",
                                &[
                                    int32("partition_index"),
                                    int64("committed_offset"),
                                    int32("committed_leader_epoch"),
                                    string("metadata"),
                                    int16("error_code"),
                                ],
                            ),
                        ],
                    ),
                    int16("error_code"),
                ],
            )
            .since(8),
        ],
    },
};

pub(super) const OFFSET_FOR_LEADER_EPOCH: Api = Api {
    key: 23,
    name: "OffsetForLeaderEpoch",
    request: Message {
        versions: (2, 4),
        flexible: 4,
        fields: &[
            int32("replica_id").since(3),
            array(
                "topics",
                &[
                    string("topic"),
                    array("partitions", &[int32("partition"), int32("current_leader_epoch"), int32("leader_epoch")]),
                ],
            ),
        ],
    },
    response: Message {
        versions: (2, 4),
        flexible: 4,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "topics",
                &[
                    string("topic"),
                    array(
                        "partitions",
                        &[int16("error_code"), int32("partition"), int32("leader_epoch"), int64("end_offset")],
                    ),
                ],
            ),
        ],
    },
};

pub(super) const OFFSET_DELETE: Api = Api {
    key: 47,
    name: "OffsetDelete",
    request: Message {
        versions: (0, 0),
        flexible: NEVER,
        fields: &[
            string("group_id"),
            array("topics", &[string("name"), array("partitions", &[int32("partition_index")])]),
        ],
    },
    response: Message {
        versions: (0, 0),
        flexible: NEVER,
        fields: &[
            int16("error_code"),
            int32("throttle_time_ms"),
            array("topics", &[string("name"), array("partitions", &[int32("partition_index"), int16("error_code")])]),
        ],
    },
};

pub(super) const TXN_OFFSET_COMMIT: Api = Api {
    key: 28,
    name: "TxnOffsetCommit",
    request: Message {
        versions: (0, 5),
        flexible: 3,
        fields: &[
            string("transactional_id"),
            string("group_id"),
            int64("producer_id"),
            int16("producer_epoch"),
            int32("generation_id").since(3),
            string("member_id").since(3),
            string("group_instance_id").since(3),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[
                            int32("partition_index"),
                            int64("committed_offset"),
                            int32("committed_leader_epoch").since(2),
                            string("committed_metadata"),
                        ],
                    ),
                ],
            ),
        ],
    },
    response: Message {
        versions: (0, 5),
        flexible: 3,
        fields: &[
            int32("throttle_time_ms"),
            array("topics", &[string("name"), array("partitions", &[int32("partition_index"), int16("error_code")])]),
        ],
    },
};
