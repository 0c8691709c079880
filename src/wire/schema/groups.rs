//! Schemas of groups and their members.

use super::field::{
    Api, INT32, Message, STRING, array, boolean, bytes, int8, int16, int32, items, opt_record, record, string, uuid,
};

pub(super) const FIND_COORDINATOR: Api = Api {
    key: 10,
    name: "FindCoordinator",
    request: Message {
        versions: (0, 6),
        flexible: 3,
        fields: &[string("key").until(3), int8("key_type").since(1), items("coordinator_keys", STRING).since(4)],
    },
    response: Message {
        versions: (0, 6),
        flexible: 3,
        fields: &[
            int32("throttle_time_ms").since(1),
            int16("error_code").until(3),
            string("error_message").since(1).until(3),
            int32("node_id").until(3),
            string("host").until(3),
            int32("port").until(3),
            array(
                "coordinators",
                &[
                    string("key"),
                    int32("node_id"),
                    string("host"),
                    int32("port"),
                    int16("error_code"),
                    string("error_message"),
                ],
            )
            .since(4),
        ],
    },
};

pub(super) const JOIN_GROUP: Api = Api {
    key: 11,
    name: "JoinGroup",
    request: Message {
        versions: (0, 9),
        flexible: 6,
        fields: &[
            string("group_id"),
            int32("session_timeout_ms"),
            int32("rebalance_timeout_ms").since(1),
            string("member_id"),
            string("group_instance_id").since(5),
            string("protocol_type"),
            array("protocols", &[string("name"), bytes("metadata")]),
            string("reason").since(8),
        ],
    },
    response: Message {
        versions: (0, 9),
        flexible: 6,
        fields: &[
            int32("throttle_time_ms").since(2),
            int16("error_code"),
            int32("generation_id"),
            string("protocol_type").since(7),
            string("protocol_name"),
            string("leader"),
            boolean("skip_assignment").since(9),
            string("member_id"),
            array("members", &[string("member_id"), string("group_instance_id").since(5), bytes("metadata")]),
        ],
    },
};

pub(super) const HEARTBEAT: Api = Api {
    key: 12,
    name: "Heartbeat",
    request: Message {
        versions: (0, 4),
        flexible: 4,
        fields: &[
            string("group_id"),
            int32("generation_id"),
            string("member_id"),
            string("group_instance_id").since(3),
        ],
    },
    response: Message {
        versions: (0, 4),
        flexible: 4,
        fields: &[int32("throttle_time_ms").since(1), int16("error_code")],
    },
};

pub(super) const LEAVE_GROUP: Api = Api {
    key: 13,
    name: "LeaveGroup",
    request: Message {
        versions: (0, 5),
        flexible: 4,
        fields: &[
            string("group_id"),
            string("member_id").until(2),
            array("members", &[string("member_id"), string("group_instance_id"), string("reason").since(5)]).since(3),
        ],
    },
    response: Message {
        versions: (0, 5),
        flexible: 4,
        fields: &[
            int32("throttle_time_ms").since(1),
            int16("error_code"),
            array("members", &[string("member_id"), string("group_instance_id"), int16("error_code")]).since(3),
        ],
    },
};

pub(super) const SYNC_GROUP: Api = Api {
    key: 14,
    name: "SyncGroup",
    request: Message {
        versions: (0, 5),
        flexible: 4,
        fields: &[
            string("group_id"),
            int32("generation_id"),
            string("member_id"),
            string("group_instance_id").since(3),
            string("protocol_type").since(5),
            string("protocol_name").since(5),
            array("assignments", &[string("member_id"), bytes("assignment")]),
        ],
    },
    response: Message {
        versions: (0, 5),
        flexible: 4,
        fields: &[
            int32("throttle_time_ms").since(1),
            int16("error_code"),
            string("protocol_type").since(5),
            string("protocol_name").since(5),
            bytes("assignment"),
        ],
    },
};

pub(super) const DESCRIBE_GROUPS: Api = Api {
    key: 15,
    name: "DescribeGroups",
    request: Message {
        versions: (0, 6),
        flexible: 5,
        fields: &[items("groups", STRING), boolean("include_authorized_operations").since(3)],
    },
    response: Message {
        versions: (0, 6),
        flexible: 5,
        fields: &[
            int32("throttle_time_ms").since(1),
            array(
                "groups",
                &[
                    int16("error_code"),
                    string("error_message").since(6),
                    string("group_id"),
                    string("group_state"),
                    string("protocol_type"),
                    string("protocol_data"),
                    array(
                        "members",
                        &[
                            string("member_id"),
                            string("group_instance_id").since(4),
                            string("client_id"),
                            string("client_host"),
                            bytes("member_metadata"),
                            bytes("member_assignment"),
                        ],
                    ),
                    int32("authorized_operations").since(3),
                ],
            ),
        ],
    },
};

pub(super) const LIST_GROUPS: Api = Api {
    key: 16,
    name: "ListGroups",
    request: Message {
        versions: (0, 5),
        flexible: 3,
        fields: &[items("states_filter", STRING).since(4), items("types_filter", STRING).since(5)],
    },
    response: Message {
        versions: (0, 5),
        flexible: 3,
        fields: &[
            int32("throttle_time_ms").since(1),
            int16("error_code"),
            array(
                "groups",
                &[
                    string("group_id"),
                    string("protocol_type"),
                    string("group_state").since(4),
                    string("group_type").since(5),
                ],
            ),
        ],
    },
};

pub(super) const DELETE_GROUPS: Api = Api {
    key: 42,
    name: "DeleteGroups",
    request: Message { versions: (0, 2), flexible: 2, fields: &[items("groups_names", STRING)] },
    response: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[int32("throttle_time_ms"), array("results", &[string("group_id"), int16("error_code")])],
    },
};

pub(super) const CONSUMER_GROUP_HEARTBEAT: Api = Api {
    key: 68,
    name: "ConsumerGroupHeartbeat",
    request: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[
            string("group_id"),
            string("member_id"),
            int32("member_epoch"),
            string("instance_id"),
            string("rack_id"),
            int32("rebalance_timeout_ms"),
            items("subscribed_topic_names", STRING),
            string("subscribed_topic_regex").since(1),
            string("server_assignor"),
            array("topic_partitions", &[uuid("topic_id"), items("partitions", INT32)]),
        ],
    },
    response: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            string("error_message"),
            string("member_id"),
            int32("member_epoch"),
            int32("heartbeat_interval_ms"),
            opt_record("assignment", &[array("topic_partitions", &[uuid("topic_id"), items("partitions", INT32)])]),
        ],
    },
};

pub(super) const CONSUMER_GROUP_DESCRIBE: Api = Api {
    key: 69,
    name: "ConsumerGroupDescribe",
    request: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[items("group_ids", STRING), boolean("include_authorized_operations")],
    },
    response: Message {
        versions: (0, 1),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "groups",
                &[
                    int16("error_code"),
                    string("error_message"),
                    string("group_id"),
                    string("group_state"),
                    int32("group_epoch"),
                    int32("assignment_epoch"),
                    string("assignor_name"),
                    array(
                        "members",
                        &[
                            string("member_id"),
                            string("instance_id"),
                            string("rack_id"),
                            int32("member_epoch"),
                            string("client_id"),
                            string("client_host"),
                            items("subscribed_topic_names", STRING),
                            string("subscribed_topic_regex"),
                            record(
                                "assignment",
                                &[array(
                                    "topic_partitions",
                                    &[uuid("topic_id"), string("topic_name"), items("partitions", INT32)],
                                )],
                            ),
                            record(
                                "target_assignment",
                                &[array(
                                    "topic_partitions",
                                    &[uuid("topic_id"), string("topic_name"), items("partitions", INT32)],
                                )],
                            ),
                            int8("member_type").since(1),
                        ],
                    ),
                    int32("authorized_operations"),
                ],
            ),
        ],
    },
};
