//! A refusal for every API and version: of the right shape, carrying the error, naming what was asked for.

use std::collections::BTreeSet;

use kafka_cutover::wire::produce::ProduceRequest;
use kafka_cutover::wire::schema::{APIS, versions};
use kafka_cutover::wire::{ChainWriter, Records, decode, encode, fetch, produce, refusal};
use kafka_protocol::messages::{MetadataRequest, ProduceRequest as TheirProduce, RequestKind, ResponseKind};

use super::filled::filled;

const POLICY_VIOLATION: i16 = 44;

/// How often the error stands in the answer to a filled request: two elements in every array.
fn places(api_key: i16, version: i16) -> usize {
    match (api_key, version) {
        (2 | 8 | 21 | 23 | 24 | 28 | 43 | 45 | 61, _) => 4, // two partitions of two topics
        (34, _) => 8,                                       // of each of two directories
        (51, _) => 4,                                       // two users each to be deleted and upserted
        (9, 1) => 4,
        (9, 8..) => 2,
        (3, 13..) => 3, // two topics, and at the top
        (10, 4..) => 2,
        (3 | 15 | 19 | 20 | 30..=33 | 37 | 42 | 44 | 49 | 65 | 69 | 75, _) => 2,
        _ => 1,
    }
}

#[test]
fn every_api_and_version_can_be_refused() {
    for api in APIS {
        for version in api.versions() {
            let request = decode::request(api.key, version, filled(&api.request, version).body.into()).unwrap();
            for message in [None, Some("not while a migration holds it")] {
                let answer = refusal(&request, version, POLICY_VIOLATION, message).unwrap();
                let mut out = ChainWriter::new();
                encode::response(&answer, version, &mut out);
                let body = out.finish().unwrap_or_else(|error| panic!("{} v{version}: {error}", api.name)).to_bytes();
                let answer = format!("{:?}", decode::response(api.key, version, body).unwrap());
                let found = answer.matches("error_code: 44").count();
                assert_eq!(found, places(api.key, version), "{} v{version}: {answer}", api.name);
            }
        }
    }
}

/// The texts that a filled request holds are `value-1`, `value-2`, …: all of them in a debug print.
fn texts(debug: &str) -> BTreeSet<&str> {
    debug.split("value-").skip(1).map(|rest| &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()]).collect()
}

#[test]
fn a_refusal_names_what_was_asked_for() {
    // Topics, groups, keys, resources, ids: how many names an answer of the newest version repeats.
    let named =
        [(2, 2), (8, 2), (9, 2), (10, 2), (15, 2), (19, 2), (20, 2), (21, 2), (23, 2), (32, 2), (33, 2), (37, 2)];
    let named = named.into_iter().chain([(34, 4), (43, 2), (45, 2), (49, 8), (51, 4)]);
    let named = named.chain([(3, 2), (42, 2), (44, 2), (61, 2), (65, 2), (69, 2), (75, 2)]);
    for (key, names) in named {
        let api = APIS.iter().find(|api| api.key == key).unwrap();
        let version = *api.versions().end();
        let request = decode::request(key, version, filled(&api.request, version).body.into()).unwrap();
        let answer = format!("{:?}", refusal(&request, version, POLICY_VIOLATION, Some("why")).unwrap());
        let asked = format!("{request:?}");
        let (asked, answered) = (texts(&asked), texts(&answer));
        assert!(answered.is_subset(&asked), "{}: {answered:?} of {asked:?}", api.name);
        assert_eq!(answered.len(), names, "{}: {answer}", api.name);
    }
}

#[test]
fn a_join_is_refused_with_its_member_id() {
    let api = APIS.iter().find(|api| api.key == 11).unwrap();
    for version in api.versions() {
        let request = decode::request(11, version, filled(&api.request, version).body.into()).unwrap();
        let (RequestKind::JoinGroup(asked), Some(ResponseKind::JoinGroup(answer))) =
            (&request, refusal(&request, version, 16, None))
        else {
            panic!("JoinGroup")
        };
        assert_eq!((answer.member_id, answer.generation_id), (asked.member_id.clone(), -1));
        assert_eq!(answer.protocol_name.is_none(), version >= 7);
    }
}

#[test]
fn what_has_no_place_for_an_error_is_not_refused() {
    let all = RequestKind::Metadata(MetadataRequest::default().with_topics(None));
    assert!(refusal(&all, 12, POLICY_VIOLATION, None).is_none());
    assert!(refusal(&all, 13, POLICY_VIOLATION, None).is_some());
    assert!(refusal(&RequestKind::Produce(TheirProduce::default()), 9, POLICY_VIOLATION, None).is_none());
}

#[test]
fn a_version_not_spoken_is_told_which_are() {
    let request = RequestKind::ApiVersions(Default::default());
    let Some(ResponseKind::ApiVersions(answer)) = refusal(&request, 0, 35, None) else { panic!("ApiVersions") };
    let spoken = versions(18).unwrap();
    let told: Vec<_> = answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    assert_eq!((answer.error_code, told), (35, vec![(18, *spoken.start(), *spoken.end())]));
}

#[test]
fn produce_and_fetch_refuse_each_partition() {
    let partition = |index| produce::ProducePartition { index, records: Records::Null };
    let request = ProduceRequest {
        topics: vec![produce::ProduceTopic { partitions: vec![partition(3), partition(1)], ..Default::default() }],
        ..Default::default()
    };
    let answer = request.refused(6, Some("held"));
    let found: Vec<_> = answer.topics[0].partitions.iter().map(|p| (p.index, p.error_code, p.base_offset)).collect();
    assert_eq!(found, [(3, 6, -1), (1, 6, -1)]);
    assert_eq!(answer.topics[0].partitions[0].error_message.as_deref(), Some("held"));

    let partition = |index| fetch::FetchPartition { index, ..Default::default() };
    let request = fetch::FetchRequest {
        topics: vec![fetch::FetchTopic { partitions: vec![partition(3), partition(1)], ..Default::default() }],
        ..Default::default()
    };
    let answer = request.refused(6);
    let found: Vec<_> = answer.topics[0].partitions.iter().map(|p| (p.index, p.error_code, p.high_watermark)).collect();
    assert_eq!(found, [(3, 6, -1), (1, 6, -1)]);
}
