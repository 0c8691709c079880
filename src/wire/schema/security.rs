//! Schemas of who may do what, and how much: ACLs, client quotas, SCRAM credentials.

use super::field::{Api, Field, Message, array, boolean, bytes, float64, int8, int16, int32, string};

/// A binding, or with null names a filter of bindings; its fields are called otherwise in some messages.
const BINDING: [Field; 7] = [
    int8("resource_type"),
    string("resource_name"),
    int8("pattern_type"),
    string("principal"),
    string("host"),
    int8("operation"),
    int8("permission_type"),
];

pub(super) const DESCRIBE_ACLS: Api = Api {
    key: 29,
    name: "DescribeAcls",
    request: Message { versions: (1, 3), flexible: 2, fields: &BINDING },
    response: Message {
        versions: (1, 3),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            string("error_message"),
            array(
                "resources",
                &[
                    int8("resource_type"),
                    string("resource_name"),
                    int8("pattern_type"),
                    array("acls", &[string("principal"), string("host"), int8("operation"), int8("permission_type")]),
                ],
            ),
        ],
    },
};

pub(super) const CREATE_ACLS: Api = Api {
    key: 30,
    name: "CreateAcls",
    request: Message { versions: (1, 3), flexible: 2, fields: &[array("creations", &BINDING)] },
    response: Message {
        versions: (1, 3),
        flexible: 2,
        fields: &[int32("throttle_time_ms"), array("results", &[int16("error_code"), string("error_message")])],
    },
};

pub(super) const DELETE_ACLS: Api = Api {
    key: 31,
    name: "DeleteAcls",
    request: Message { versions: (1, 3), flexible: 2, fields: &[array("filters", &BINDING)] },
    response: Message {
        versions: (1, 3),
        flexible: 2,
        fields: &[
            int32("throttle_time_ms"),
            array(
                "filter_results",
                &[
                    int16("error_code"),
                    string("error_message"),
                    array(
                        "matching_acls",
                        &[
                            int16("error_code"),
                            string("error_message"),
                            int8("resource_type"),
                            string("resource_name"),
                            int8("pattern_type"),
                            string("principal"),
                            string("host"),
                            int8("operation"),
                            int8("permission_type"),
                        ],
                    ),
                ],
            ),
        ],
    },
};

const ENTITY: [Field; 2] = [string("entity_type"), string("entity_name")];

pub(super) const DESCRIBE_CLIENT_QUOTAS: Api = Api {
    key: 48,
    name: "DescribeClientQuotas",
    request: Message {
        versions: (0, 1),
        flexible: 1,
        fields: &[
            array("components", &[string("entity_type"), int8("match_type"), string("match")]),
            boolean("strict"),
        ],
    },
    response: Message {
        versions: (0, 1),
        flexible: 1,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            string("error_message"),
            array("entries", &[array("entity", &ENTITY), array("values", &[string("key"), float64("value")])]),
        ],
    },
};

pub(super) const ALTER_CLIENT_QUOTAS: Api = Api {
    key: 49,
    name: "AlterClientQuotas",
    request: Message {
        versions: (0, 1),
        flexible: 1,
        fields: &[
            array(
                "entries",
                &[array("entity", &ENTITY), array("ops", &[string("key"), float64("value"), boolean("remove")])],
            ),
            boolean("validate_only"),
        ],
    },
    response: Message {
        versions: (0, 1),
        flexible: 1,
        fields: &[
            int32("throttle_time_ms"),
            array("entries", &[int16("error_code"), string("error_message"), array("entity", &ENTITY)]),
        ],
    },
};

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: Api = Api {
    key: 50,
    name: "DescribeUserScramCredentials",
    request: Message { versions: (0, 0), flexible: 0, fields: &[array("users", &[string("name")])] },
    response: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            int16("error_code"),
            string("error_message"),
            array(
                "results",
                &[
                    string("user"),
                    int16("error_code"),
                    string("error_message"),
                    array("credential_infos", &[int8("mechanism"), int32("iterations")]),
                ],
            ),
        ],
    },
};

pub(super) const ALTER_USER_SCRAM_CREDENTIALS: Api = Api {
    key: 51,
    name: "AlterUserScramCredentials",
    request: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            array("deletions", &[string("name"), int8("mechanism")]),
            array(
                "upsertions",
                &[string("name"), int8("mechanism"), int32("iterations"), bytes("salt"), bytes("salted_password")],
            ),
        ],
    },
    response: Message {
        versions: (0, 0),
        flexible: 0,
        fields: &[
            int32("throttle_time_ms"),
            array("results", &[string("user"), int16("error_code"), string("error_message")]),
        ],
    },
};
