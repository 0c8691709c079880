//! The table of APIs, held against what the codec has and what brokers offer.

use std::collections::{BTreeMap, BTreeSet};

use kafka_cutover::api::not_offered::NOT_OFFERED;
use kafka_cutover::{api, wire};

use crate::guards::none;
use crate::offered;

/// (key, name, lowest, highest) of what is wrong with each line.
fn beyond_the_codec(key: i16, name: &str, min: i16, max: i16) -> Option<String> {
    let Some(codec) = wire::schema::versions(key) else { return Some(format!("{name} ({key}): no codec")) };
    let outside = min > max || min < *codec.start() || max > *codec.end();
    outside.then(|| format!("{name} ({key}): {min} to {max}, but the codec has {codec:?}"))
}

#[test]
fn the_table_offers_what_the_codec_has() {
    let beyond = |e: &api::Entry| beyond_the_codec(e.key as i16, e.name, e.versions.min, e.versions.max);
    none("api::TABLE", &api::TABLE.iter().filter_map(beyond).collect::<Vec<_>>());
    let keys: BTreeSet<i16> = api::TABLE.iter().map(|e| e.key as i16).collect();
    assert_eq!(keys.len(), api::TABLE.len(), "an API is in the table twice");
    for entry in api::TABLE {
        assert_eq!(format!("{:?}", entry.key), entry.name, "an API under another name than Kafka's");
    }
    assert!(beyond_the_codec(18, "ApiVersions", 0, 99).is_some());
    assert!(beyond_the_codec(9999, "None", 0, 0).is_some());
    assert!(beyond_the_codec(18, "ApiVersions", 3, 2).is_some());
}

/// What brokers offer and the proxy neither offers nor refuses with a reason, and the other way round.
fn undecided(
    brokers: &BTreeMap<i16, &str>,
    offered: &BTreeMap<i16, &str>,
    refused: &BTreeMap<i16, &str>,
) -> Vec<String> {
    let mut found = vec![];
    for (key, name) in brokers {
        match (offered.get(key), refused.get(key)) {
            (None, None) => found.push(format!("{name} ({key}): neither in api::TABLE nor in api::not_offered")),
            (Some(_), Some(_)) => found.push(format!("{name} ({key}): offered and not offered")),
            (Some(ours), None) | (None, Some(ours)) if ours != name => {
                found.push(format!("{name} ({key}): not Kafka's name: {ours}"));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_api_of_a_broker_is_offered_or_refused_with_a_reason() {
    let brokers = offered::names();
    assert!(brokers.len() > 70, "the golden is not read");
    let ours: BTreeMap<i16, &str> = api::TABLE.iter().map(|e| (e.key as i16, e.name)).collect();
    let refused: BTreeMap<i16, &str> = NOT_OFFERED.iter().map(|n| (n.key, n.name)).collect();
    assert_eq!(refused.len(), NOT_OFFERED.len(), "an API is refused twice");
    none("APIs of brokers", &undecided(&brokers, &ours, &refused));
    let strange = BTreeMap::from([(1, "Fetch"), (2, "ListOffsets"), (3, "Metadata"), (4, "Strange")]);
    let (few, others) =
        (BTreeMap::from([(1, "Fetch"), (2, "Offsets")]), BTreeMap::from([(1, "Fetch"), (3, "Metadata")]));
    assert_eq!(undecided(&strange, &few, &others).len(), 3, "what is wrong is found");
}
