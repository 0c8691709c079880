//! Brokers new enough for a seal, and an intersection of APIs that clients can live on.

use kafka_protocol::messages::ApiKey;

use super::facts::Spoken;
use super::{Facts, Finding};
use crate::ids::Side;
use crate::virtual_cluster::versions::{self, Range, Versions};

/// Came with Kafka 2.8 (KIP-664): the oldest broker that can be sealed.
const DESCRIBE_PRODUCERS: i16 = ApiKey::DescribeProducers as i16;

/// Without one of these no client of any language gets anywhere.
const NEEDED: [ApiKey; 12] = [
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::InitProducerId,
];

pub fn find(facts: &Facts, found: &mut Vec<Finding>) {
    let mut speaks: [Option<Spoken>; 2] = [None, None];
    for side in Side::BOTH {
        for (broker, versions) in &facts.sides[side.index()].brokers {
            let Ok(versions) = versions else { continue };
            if !versions.contains_key(&DESCRIBE_PRODUCERS) {
                found.push(Finding::error(
                    "broker_too_old",
                    format!("{side} broker {}", broker.address()),
                    "does not speak DescribeProducers (key 61): it is older than Kafka 2.8, or hides it",
                    "upgrade it to 2.8 or newer",
                ));
            }
            let slot = &mut speaks[side.index()];
            *slot = Some(match slot.take() {
                Some(others) => all_of(&others, versions),
                None => versions.clone(),
            });
        }
    }
    let [Some(source), Some(target)] = speaks else { return };
    let shared = Versions::intersection(&source, &target);
    for key in NEEDED.into_iter().filter(|key| !shared.ranges.contains_key(&(*key as i16))) {
        let said = |speaks: &Spoken| match speaks.get(&(key as i16)) {
            Some(range) => format!("{} to {}", range.min, range.max),
            None => "nothing".to_owned(),
        };
        let name = versions::name(key);
        let (source, target) = (said(&source), said(&target));
        found.push(Finding::error(
            "no_common_version",
            "source, target",
            format!("no version of {name} is spoken by the source ({source}), the target ({target}) and the proxy"),
            "upgrade the older cluster first",
        ));
    }
}

/// What two brokers of one cluster both speak.
pub fn all_of(one: &Spoken, other: &Spoken) -> Spoken {
    let both = |(key, range): (&i16, &Range)| Some((*key, range.intersect(*other.get(key)?)?));
    one.iter().filter_map(both).collect()
}
