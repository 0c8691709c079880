//! ApiVersions (18), v0 to v4: the journalled constant intersection. A newer version is answered in v0 with
//! UNSUPPORTED_VERSION and our own range (KIP-511); the answer's head is always v0.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use crate::error::code;
use crate::virtual_cluster::Versions;

/// The newest version answered in kind.
pub const MAX: i16 = 4;
const PRODUCE: i16 = 0;
const API_VERSIONS: i16 = 18;

pub fn answer(versions: &Versions) -> ApiVersionsResponse {
    let list = versions.ranges.iter().map(|(key, range)| {
        // librdkafka reads a minimum above 0 as "no Produce" (KAFKA-18659); brokers do the same.
        let min = if *key == PRODUCE { 0 } else { range.min };
        ApiVersion::default().with_api_key(*key).with_min_version(min).with_max_version(range.max)
    });
    // One constant epoch and no finalized features: transactions stay on their first protocol.
    ApiVersionsResponse::default().with_api_keys(list.collect()).with_finalized_features_epoch(0)
}

/// For a version that we do not know; to be encoded as v0.
pub fn fallback() -> ApiVersionsResponse {
    let own = ApiVersion::default().with_api_key(API_VERSIONS).with_min_version(0).with_max_version(MAX);
    ApiVersionsResponse::default().with_error_code(code::UNSUPPORTED_VERSION).with_api_keys(vec![own])
}
