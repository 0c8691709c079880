//! Schemas of where partitions lie: replicas on brokers, logs in directories.

use super::field::{Api, INT32, Message, array, boolean, int8, int16, int32, int64, items, string};

pub(super) const ALTER_REPLICA_LOG_DIRS: Api = Api {
    key: 34,
    name: "AlterReplicaLogDirs",
    request: Message {
        versions: (1, 2),
        flexible: 2,
        fields: &[array("dirs", &[string("path"), array("topics", &[string("name"), items("partitions", INT32)])])],
    },
    response: Message {
        versions: (1, 2),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "results",
                &[string("topic_name"), array("partitions", &[int32("partition_index"), int16("error_code")])],
            ),
        ],
    },
};

pub(super) const DESCRIBE_LOG_DIRS: Api = Api {
    key: 35,
    name: "DescribeLogDirs",
    request: Message {
        versions: (1, 4),
        flexible: 2,
        fields: &[array("topics", &[string("topic"), items("partitions", INT32)])],
    },
    response: Message {
        versions: (1, 4),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code").since(3),
            array(
                "results",
                &[
                    int16("error_code"),
                    string("log_dir"),
                    array(
                        "topics",
                        &[
                            string("name"),
                            array(
                                "partitions",
                                &[
                                    int32("partition_index"),
                                    int64("partition_size"),
                                    int64("offset_lag"),
                                    boolean("is_future_key"),
                                ],
                            ),
                        ],
                    ),
                    int64("total_bytes").since(4),
                    int64("usable_bytes").since(4),
                ],
            ),
        ],
    },
};

pub(super) const ELECT_LEADERS: Api = Api {
    key: 43,
    name: "ElectLeaders",
    request: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            int8("election_type").since(1),
            array("topic_partitions", &[string("topic"), items("partitions", INT32)]),
            int32("timeout_ms"),
        ],
    },
    response: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code").since(1),
            array(
                "replica_election_results",
                &[
                    string("topic"),
                    array("partition_result", &[int32("partition_id"), int16("error_code"), string("error_message")]),
                ],
            ),
        ],
    },
};

pub(super) const ALTER_PARTITION_REASSIGNMENTS: Api = Api {
    key: 45,
    name: "AlterPartitionReassignments",
    request: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[
            int32("timeout_ms"),
            boolean("allow_replication_factor_change").since(1),
            array(
                "topics",
                &[string("name"), array("partitions", &[int32("partition_index"), items("replicas", INT32)])],
            ),
        ],
    },
    response: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            boolean("allow_replication_factor_change").since(1),
            int16("error_code"),
            string("error_message"),
            array(
                "responses",
                &[
                    string("name"),
                    array("partitions", &[int32("partition_index"), int16("error_code"), string("error_message")]),
                ],
            ),
        ],
    },
};

pub(super) const LIST_PARTITION_REASSIGNMENTS: Api = Api {
    key: 46,
    name: "ListPartitionReassignments",
    request: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[int32("timeout_ms"), array("topics", &[string("name"), items("partition_indexes", INT32)])],
    },
    response: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            string("error_message"),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[
                            int32("partition_index"),
                            items("replicas", INT32),
                            items("adding_replicas", INT32),
                            items("removing_replicas", INT32),
                        ],
                    ),
                ],
            ),
        ],
    },
};
