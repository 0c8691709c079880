//! Schemas of the cluster, its producers and transactions.

use super::field::{
    Api, Field, INT8, INT32, INT64, Message, STRING, array, boolean, int8, int16, int32, int64, items, string,
};

pub(super) const INIT_PRODUCER_ID: Api = Api {
    key: 22,
    name: "InitProducerId",
    request: Message {
        versions: (0, 5),
        flexible: 2,
        fields: &[
            string("transactional_id"),
            int32("transaction_timeout_ms"),
            int64("producer_id").since(3),
            int16("producer_epoch").since(3),
        ],
    },
    response: Message {
        versions: (0, 6),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            int64("producer_id"),
            int16("producer_epoch"),
            int64("ongoing_txn_producer_id").since(6),
            int16("ongoing_txn_producer_epoch").since(6),
        ],
    },
};

const TXN_TOPICS: &[Field] = &[string("name"), items("partitions", INT32)];

/// v4 and v5 are between brokers.
pub(super) const ADD_PARTITIONS_TO_TXN: Api = Api {
    key: 24,
    name: "AddPartitionsToTxn",
    request: Message {
        versions: (0, 3),
        flexible: 3,
        fields: &[
            string("v3_and_below_transactional_id"),
            int64("v3_and_below_producer_id"),
            int16("v3_and_below_producer_epoch"),
            array("v3_and_below_topics", TXN_TOPICS),
        ],
    },
    response: Message {
        versions: (0, 3),
        flexible: 3,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "results_by_topic_v3_and_below",
                &[
                    string("name"),
                    array("results_by_partition", &[int32("partition_index"), int16("partition_error_code")]),
                ],
            ),
        ],
    },
};

pub(super) const ADD_OFFSETS_TO_TXN: Api = Api {
    key: 25,
    name: "AddOffsetsToTxn",
    request: Message {
        versions: (0, 4),
        flexible: 3,
        fields: &[string("transactional_id"), int64("producer_id"), int16("producer_epoch"), string("group_id")],
    },
    response: Message { versions: (0, 4), flexible: 3, fields: &[int32("throttle_time_ms"), int16("error_code")] },
};

pub(super) const END_TXN: Api = Api {
    key: 26,
    name: "EndTxn",
    request: Message {
        versions: (0, 5),
        flexible: 3,
        fields: &[string("transactional_id"), int64("producer_id"), int16("producer_epoch"), boolean("committed")],
    },
    response: Message {
        versions: (0, 5),
        flexible: 3,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            int64("producer_id").since(5),
            int16("producer_epoch").since(5),
        ],
    },
};

pub(super) const DESCRIBE_CLUSTER: Api = Api {
    key: 60,
    name: "DescribeCluster",
    request: Message {
        versions: (0, 2),
        flexible: 0,
        fields: &[
            boolean("include_cluster_authorized_operations"),
            int8("endpoint_type").since(1),
            boolean("include_fenced_brokers").since(2),
        ],
    },
    response: Message {
        versions: (0, 2),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            string("error_message"),
            int8("endpoint_type").since(1),
            string("cluster_id"),
            int32("controller_id"),
            array(
                "brokers",
                &[int32("broker_id"), string("host"), int32("port"), string("rack"), boolean("is_fenced").since(2)],
            ),
            int32("cluster_authorized_operations"),
        ],
    },
};

pub(super) const DESCRIBE_PRODUCERS: Api = Api {
    key: 61,
    name: "DescribeProducers",
    request: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[array("topics", &[string("name"), items("partition_indexes", INT32)])],
    },
    response: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "topics",
                &[
                    string("name"),
                    array(
                        "partitions",
                        &[
                            int32("partition_index"),
                            int16("error_code"),
                            string("error_message"),
                            array(
                                "active_producers",
                                &[
                                    int64("producer_id"),
                                    int32("producer_epoch"),
                                    int32("last_sequence"),
                                    int64("last_timestamp"),
                                    int32("coordinator_epoch"),
                                    int64("current_txn_start_offset"),
                                ],
                            ),
                        ],
                    ),
                ],
            ),
        ],
    },
};

pub(super) const DESCRIBE_TRANSACTIONS: Api = Api {
    key: 65,
    name: "DescribeTransactions",
    request: Message { versions: (0, 0), flexible: 0, fields: &[items("transactional_ids", STRING)] },
    response: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "transaction_states",
                &[
                    int16("error_code"),
                    string("transactional_id"),
                    string("transaction_state"),
                    int32("transaction_timeout_ms"),
                    int64("transaction_start_time_ms"),
                    int64("producer_id"),
                    int16("producer_epoch"),
                    array("topics", &[string("topic"), items("partitions", INT32)]),
                ],
            ),
        ],
    },
};

pub(super) const LIST_TRANSACTIONS: Api = Api {
    key: 66,
    name: "ListTransactions",
    request: Message {
        versions: (0, 2),
        flexible: 0,
        fields: &[
            items("state_filters", STRING),
            items("producer_id_filters", INT64),
            int64("duration_filter").since(1),
            string("transactional_id_pattern").since(2),
        ],
    },
    response: Message {
        versions: (0, 2),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            items("unknown_state_filters", STRING),
            array(
                "transaction_states",
                &[string("transactional_id"), int64("producer_id"), string("transaction_state")],
            ),
        ],
    },
};

pub(super) const LIST_CONFIG_RESOURCES: Api = Api {
    key: 74,
    name: "ListConfigResources",
    request: Message { versions: (0, 1), flexible: 0, fields: &[items("resource_types", INT8).since(1)] },
    response: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            array("config_resources", &[string("resource_name"), int8("resource_type").since(1)]),
        ],
    },
};
