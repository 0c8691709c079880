//! Schemas of the first words on a connection: versions and authentication.

use super::field::{Api, Message, NEVER, STRING, array, boolean, bytes, int16, int32, int64, items, string};

pub(super) const SASL_HANDSHAKE: Api = Api {
    key: 17,
    name: "SaslHandshake",
    request: Message { versions: (0, 1), flexible: NEVER, fields: &[string("mechanism")] },
    response: Message {
        versions: (0, 1),
        flexible: NEVER,
        fields: &[int16("error_code"), items("mechanisms", STRING)],
    },
};

pub(super) const API_VERSIONS: Api = Api {
    key: 18,
    name: "ApiVersions",
    request: Message {
        versions: (0, 4),
        flexible: 3,
        fields: &[string("client_software_name").since(3), string("client_software_version").since(3)],
    },
    response: Message {
        versions: (0, 4),
        flexible: 3,
        fields: &[
            int16("error_code"),
            array("api_keys", &[int16("api_key"), int16("min_version"), int16("max_version")]),
            int32("throttle_time_ms").since(1),
            array("supported_features", &[string("name"), int16("min_version"), int16("max_version")])
                .tagged(0)
                .since(3),
            int64("finalized_features_epoch").tagged(1).since(3),
            array("finalized_features", &[string("name"), int16("max_version_level"), int16("min_version_level")])
                .tagged(2)
                .since(3),
            boolean("zk_migration_ready").tagged(3).since(3),
        ],
    },
};

pub(super) const SASL_AUTHENTICATE: Api = Api {
    key: 36,
    name: "SaslAuthenticate",
    request: Message { versions: (0, 2), flexible: 2, fields: &[bytes("auth_bytes")] },
    response: Message {
        versions: (0, 2),
        flexible: 2,
        fields: &[
            int16("error_code"),
            string("error_message"),
            bytes("auth_bytes"),
            int64("session_lifetime_ms").since(1),
        ],
    },
};
