//! ApiVersions (18), v0 to v4: the journalled constant intersection. A newer version is answered in v0 with
//! UNSUPPORTED_VERSION and our own range (KIP-511); the answer's head is always v0.
//!
//! Of the features one is shown, and finalized, where both sides have it so for good: `transaction.version` 2, the second
//! protocol of transactions (KIP-890). Clients believe the greatest epoch that they have seen, and this one never changes.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};

use crate::error::code;
use crate::virtual_cluster::Versions;
use crate::virtual_cluster::versions::{SECOND_LEVEL, TRANSACTION_VERSION};

/// The newest version answered in kind.
pub const MAX: i16 = 4;
/// Java's older clients take no minimum of 0 for a feature: before this version none is shown (KAFKA-17011).
const SHOWS_ZERO: i16 = 4;
const PRODUCE: i16 = 0;
const API_VERSIONS: i16 = 18;

pub fn answer(versions: &Versions, version: i16) -> ApiVersionsResponse {
    let list = versions.ranges.iter().map(|(key, range)| {
        // librdkafka reads a minimum above 0 as "no Produce" (KAFKA-18659); brokers do the same.
        let min = if *key == PRODUCE { 0 } else { range.min };
        ApiVersion::default().with_api_key(*key).with_min_version(min).with_max_version(range.max)
    });
    let answer = ApiVersionsResponse::default().with_api_keys(list.collect()).with_finalized_features_epoch(0);
    if !versions.second_protocol() {
        return answer;
    }
    let finalized = FinalizedFeatureKey::default().with_name(TRANSACTION_VERSION.into());
    let finalized = finalized.with_min_version_level(SECOND_LEVEL).with_max_version_level(SECOND_LEVEL);
    let answer = answer.with_finalized_features(vec![finalized]);
    if version < SHOWS_ZERO {
        return answer;
    }
    let supported = SupportedFeatureKey::default().with_name(TRANSACTION_VERSION.into());
    answer.with_supported_features(vec![supported.with_min_version(0).with_max_version(SECOND_LEVEL)])
}

/// For a version that we do not know; to be encoded as v0.
pub fn fallback() -> ApiVersionsResponse {
    let own = ApiVersion::default().with_api_key(API_VERSIONS).with_min_version(0).with_max_version(MAX);
    ApiVersionsResponse::default().with_error_code(code::UNSUPPORTED_VERSION).with_api_keys(vec![own])
}
