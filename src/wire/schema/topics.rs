//! Schemas of topics, their configs and records.

use super::field::{
    Api, INT32, Message, STRING, array, boolean, int8, int16, int32, int64, items, opt_record, string, uuid,
};

pub(super) const METADATA: Api = Api {
    key: 3,
    name: "Metadata",
    request: Message {
        versions: (0, 13),
        flexible: 9,
        fields: &[
            array("topics", &[uuid("topic_id").since(10), string("name")]),
            boolean("allow_auto_topic_creation").since(4),
            boolean("include_cluster_authorized_operations").since(8).until(10),
            boolean("include_topic_authorized_operations").since(8),
        ],
    },
    response: Message {
        versions: (0, 13),
        flexible: 9,
        fields: &[
            int32("throttle_time_ms").since(3),
            array("brokers", &[int32("node_id"), string("host"), int32("port"), string("rack").since(1)]),
            string("cluster_id").since(2),
            int32("controller_id").since(1),
            array(
                "topics",
                &[
                    int16("error_code"),
                    string("name"),
                    uuid("topic_id").since(10),
                    boolean("is_internal").since(1),
                    array(
                        "partitions",
                        &[
                            int16("error_code"),
                            int32("partition_index"),
                            int32("leader_id"),
                            int32("leader_epoch").since(7),
                            items("replica_nodes", INT32),
                            items("isr_nodes", INT32),
                            items("offline_replicas", INT32).since(5),
                        ],
                    ),
                    int32("topic_authorized_operations").since(8),
                ],
            ),
            int32("cluster_authorized_operations").since(8).until(10),
            int16("error_code").since(13),
        ],
    },
};

pub(super) const CREATE_TOPICS: Api = Api {
    key: 19,
    name: "CreateTopics",
    request: Message {
        versions: (2, 7),
        flexible: 5,
        fields: &[
            array(
                "topics",
                &[
                    string("name"),
                    int32("num_partitions"),
                    int16("replication_factor"),
                    array("assignments", &[int32("partition_index"), items("broker_ids", INT32)]),
                    array("configs", &[string("name"), string("value")]),
                ],
            ),
            int32("timeout_ms"),
            boolean("validate_only"),
        ],
    },
    response: Message {
        versions: (2, 7),
        flexible: 5,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "topics",
                &[
                    string("name"),
                    uuid("topic_id").since(7),
                    int16("error_code"),
                    string("error_message"),
                    int32("num_partitions").since(5),
                    int16("replication_factor").since(5),
                    array(
                        "configs",
                        &[
                            string("name"),
                            string("value"),
                            boolean("read_only"),
                            int8("config_source"),
                            boolean("is_sensitive"),
                        ],
                    )
                    .since(5),
                    int16("topic_config_error_code").tagged(0).since(5),
                ],
            ),
        ],
    },
};

pub(super) const DELETE_TOPICS: Api = Api {
    key: 20,
    name: "DeleteTopics",
    request: Message {
        versions: (1, 6),
        flexible: 4,
        fields: &[
            array("topics", &[string("name"), uuid("topic_id")]).since(6),
            items("topic_names", STRING).until(5),
            int32("timeout_ms"),
        ],
    },
    response: Message {
        versions: (1, 6),
        flexible: 4,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "responses",
                &[string("name"), uuid("topic_id").since(6), int16("error_code"), string("error_message").since(5)],
            ),
        ],
    },
};

pub(super) const DELETE_RECORDS: Api = Api {
    key: 21,
    name: "DeleteRecords",
    request: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            array("topics", &[string("name"), array("partitions", &[int32("partition_index"), int64("offset")])]),
            int32("timeout_ms"),
        ],
    },
    response: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "topics",
                &[
                    string("name"),
                    array("partitions", &[int32("partition_index"), int64("low_watermark"), int16("error_code")]),
                ],
            ),
        ],
    },
};

pub(super) const DESCRIBE_CONFIGS: Api = Api {
    key: 32,
    name: "DescribeConfigs",
    request: Message {
        versions: (1, 4),
        flexible: 4,
        fields: &[
            array("resources", &[int8("resource_type"), string("resource_name"), items("configuration_keys", STRING)]),
            boolean("include_synonyms"),
            boolean("include_documentation").since(3),
        ],
    },
    response: Message {
        versions: (1, 4),
        flexible: 4,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "results",
                &[
                    int16("error_code"),
                    string("error_message"),
                    int8("resource_type"),
                    string("resource_name"),
                    array(
                        "configs",
                        &[
                            string("name"),
                            string("value"),
                            boolean("read_only"),
                            int8("config_source"),
                            boolean("is_sensitive"),
                            array("synonyms", &[string("name"), string("value"), int8("source")]),
                            int8("config_type").since(3),
                            string("documentation").since(3),
                        ],
                    ),
                ],
            ),
        ],
    },
};

pub(super) const ALTER_CONFIGS: Api = Api {
    key: 33,
    name: "AlterConfigs",
    request: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            array(
                "resources",
                &[int8("resource_type"), string("resource_name"), array("configs", &[string("name"), string("value")])],
            ),
            boolean("validate_only"),
        ],
    },
    response: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "responses",
                &[int16("error_code"), string("error_message"), int8("resource_type"), string("resource_name")],
            ),
        ],
    },
};

pub(super) const CREATE_PARTITIONS: Api = Api {
    key: 37,
    name: "CreatePartitions",
    request: Message {
        versions: (0, 3),
        flexible: 2,
        fields: &[
            array("topics", &[string("name"), int32("count"), array("assignments", &[items("broker_ids", INT32)])]),
            int32("timeout_ms"),
            boolean("validate_only"),
        ],
    },
    response: Message {
        versions: (0, 3),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            array("results", &[string("name"), int16("error_code"), string("error_message")]),
        ],
    },
};

pub(super) const INCREMENTAL_ALTER_CONFIGS: Api = Api {
    key: 44,
    name: "IncrementalAlterConfigs",
    request: Message {
        versions: (0, 1),
        flexible: 1,
        fields: &[
            array(
                "resources",
                &[
                    int8("resource_type"),
                    string("resource_name"),
                    array("configs", &[string("name"), int8("config_operation"), string("value")]),
                ],
            ),
            boolean("validate_only"),
        ],
    },
    response: Message {
        versions: (0, 1),
        flexible: 1,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "responses",
                &[int16("error_code"), string("error_message"), int8("resource_type"), string("resource_name")],
            ),
        ],
    },
};

pub(super) const DESCRIBE_TOPIC_PARTITIONS: Api = Api {
    key: 75,
    name: "DescribeTopicPartitions",
    request: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            array("topics", &[string("name")]),
            int32("response_partition_limit"),
            opt_record("cursor", &[string("topic_name"), int32("partition_index")]),
        ],
    },
    response: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "topics",
                &[
                    int16("error_code"),
                    string("name"),
                    uuid("topic_id"),
                    boolean("is_internal"),
                    array(
                        "partitions",
                        &[
                            int16("error_code"),
                            int32("partition_index"),
                            int32("leader_id"),
                            int32("leader_epoch"),
                            items("replica_nodes", INT32),
                            items("isr_nodes", INT32),
                            items("eligible_leader_replicas", INT32),
                            items("last_known_elr", INT32),
                            items("offline_replicas", INT32),
                        ],
                    ),
                    int32("topic_authorized_operations"),
                ],
            ),
            opt_record("next_cursor", &[string("topic_name"), int32("partition_index")]),
        ],
    },
};
