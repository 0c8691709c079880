//! What real brokers offer is what we know that they offer: a new version of Kafka shows here first.

use kafka_cutover::ids::Side;
use kafka_protocol::messages::ApiVersionsRequest;

use crate::embedded::raw::Raw;
use crate::offered::{self, Ranges};
use crate::support::rig::Rig;

#[tokio::test]
async fn brokers_offer_what_the_golden_says() {
    let rig = Rig::connect();
    for side in Side::BOTH {
        let first = rig.bootstrap(side).split(',').next().expect("an address");
        let answer = Raw::connect(first).await.ask(&ApiVersionsRequest::default(), 0).await;
        assert_eq!(answer.error_code, 0);
        let told: Ranges = answer.api_keys.iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect();
        let version = rig.version(side);
        let known = offered::by(version);
        assert!(
            known.as_ref() == Some(&told),
            "Kafka {version} is not as {} has it; its column:\n{}",
            offered::FILE,
            offered::column(&told)
        );
    }
}
