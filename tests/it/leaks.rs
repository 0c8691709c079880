//! What looks at every answer to a client (`support/identity.rs`) finds what is planted, in any field of any API and version,
//! and nothing where there is nothing.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::wire::decode;
use kafka_cutover::wire::schema::APIS;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, CreateTopicsResponse, DescribeAclsResponse,
    FetchRequest, FetchResponse, FindCoordinatorResponse, JoinGroupResponse, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, ResponseKind, fetch_response,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::embedded::raw::{ONE, Raw, encode, text};
use crate::support::identity::{Answer, Identities, Native, base64};
use crate::support::leaves::{Field, Leaf, fields};
use crate::support::relay::Relay;
use crate::wire::filled::filled;

/// As long as what `filled` writes into texts.
const HOST: &str = "real-one";
const NODE: i32 = 1_600_158_001;
const PORT: u16 = 61_254;
const OURS: (&str, u16) = ("127.0.0.1", 20_000);
const SOURCE_TOPIC: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);
const TARGET_TOPIC: Uuid = Uuid::from_u128(0x9999_aaaa_bbbb_cccc_dddd_eeee_ffff_0001);
const TARGET: &str = "ZWZ4Vg-CTG6-haUYY2i-Kw";

fn identities() -> Identities {
    let native = |id, cluster: &str, topic| Native {
        brokers: [(id, HOST.to_owned(), PORT)].into(),
        cluster_id: Some(cluster.to_owned()),
        topic_ids: [topic].into(),
    };
    let mut identities = Identities::new(vec![(OURS.0.to_owned(), OURS.1)]);
    identities.learn([native(NODE, "source-cluster", SOURCE_TOPIC), native(NODE + 1, TARGET, TARGET_TOPIC)]);
    identities
}

fn answer(kind: &ResponseKind, key: ApiKey, version: i16) -> Answer {
    let mut body = BytesMut::new();
    body.put_i32(7);
    if key.response_header_version(version) >= 1 {
        body.put_u8(0);
    }
    kind.encode(&mut body, version).expect("it encodes");
    Answer { api_key: key as i16, version, frame: body.freeze() }
}

fn leaks(kind: impl Into<ResponseKind>, key: ApiKey, version: i16) -> Vec<String> {
    identities().check(&answer(&kind.into(), key, version)).leaks
}

fn found(kind: impl Into<ResponseKind>, key: ApiKey, version: i16, what: &str) {
    let leaks = leaks(kind, key, version);
    assert!(leaks.iter().any(|leak| leak.contains(what)), "{key:?} v{version}: {what} is not found: {leaks:#?}");
}

fn clean(kind: impl Into<ResponseKind>, key: ApiKey, version: i16) {
    assert_eq!(leaks(kind, key, version), Vec::<String>::new(), "{key:?} v{version}");
}

/// Any four bytes that are a whole number for the codec, any text, any topic id: of all APIs and versions. What a message
/// says of itself is taken from the codec, not from a list.
#[test]
fn whatever_is_planted_in_any_field_of_any_api_is_found() {
    let identities = identities();
    let (mut ints, mut texts, mut ids) = (0, 0, 0);
    for api in APIS {
        let (first, last) = api.response.versions;
        for version in first..=last {
            let key = ApiKey::try_from(api.key).expect("a key");
            let mut frame = vec![0, 0, 0, 7];
            frame.extend((key.response_header_version(version) >= 1).then_some(0));
            let head = frame.len();
            frame.extend(filled(&api.response, version).body);
            let fields_of = |frame: &[u8]| {
                let decoded = decode::response(api.key, version, Bytes::copy_from_slice(&frame[head..]));
                decoded.ok().map(|d| fields(&d))
            };
            let whole = fields_of(&frame).expect("a whole message");
            // The one field in which two frames differ.
            let difference = |one: &[Field], other: &[Field]| {
                let mut differing = (0..one.len()).filter(|n| one[*n] != other[*n]);
                differing.next().filter(|_| one.len() == other.len() && differing.next().is_none())
            };
            let plant = |at: usize, planted: &[u8], is: &Leaf| {
                let mut other = frame.clone();
                other[at..at + planted.len()].copy_from_slice(planted);
                let Some(changed) = fields_of(&other) else { return 0 };
                let Some(n) = difference(&whole, &changed).filter(|n| changed[*n].leaf == *is) else { return 0 };
                let field = &changed[n];
                // Not the end of an int64, nor one of those that are counts.
                let mut wider = other.clone();
                wider[at - 1] ^= 1;
                let is_wide = fields_of(&wider).is_some_and(|w| difference(&changed, &w) == Some(n));
                if field.name() == "last_sequence" || is_wide {
                    return 0;
                }
                let seen = identities.check(&Answer { api_key: api.key, version, frame: other.into() });
                let real = format!("{}: real", field.path);
                assert!(
                    seen.leaks.iter().any(|l| l.starts_with(&real)),
                    "{key:?} v{version} {}: {seen:#?}",
                    field.path
                );
                1
            };
            for at in head..frame.len() {
                if at + 4 <= frame.len() {
                    ints += plant(at, &NODE.to_be_bytes(), &Leaf::Number(NODE.into()));
                    ints += plant(at, &i32::from(PORT).to_be_bytes(), &Leaf::Number(PORT.into()));
                }
                if frame[at..].starts_with(b"value-") && at + HOST.len() <= frame.len() {
                    texts += plant(at, HOST.as_bytes(), &Leaf::Text(HOST.to_owned()));
                }
                if at + 16 <= frame.len() {
                    ids += plant(at, TARGET_TOPIC.as_bytes(), &Leaf::Id(TARGET_TOPIC));
                }
            }
        }
    }
    assert!(ints > 2_000 && texts > 500 && ids > 10, "the plants do not grow: {ints}, {texts}, {ids}");
}

#[test]
fn a_field_that_names_somebody_names_a_virtual_one() {
    let broker = |id, host: &str, port: u16| {
        MetadataResponseBroker::default().with_node_id(BrokerId(id)).with_host(text(host)).with_port(port.into())
    };
    let metadata = |b| {
        MetadataResponse::default()
            .with_cluster_id(Some(text("source-cluster")))
            .with_controller_id(BrokerId(1))
            .with_brokers(vec![b])
    };
    clean(metadata(broker(1, OURS.0, OURS.1)), ApiKey::Metadata, 12);
    // Nobody that is known: and yet not one of ours.
    found(metadata(broker(5, OURS.0, OURS.1)), ApiKey::Metadata, 12, "brokers[0].node_id = Number(5)");
    found(metadata(broker(1, "elsewhere", OURS.1)), ApiKey::Metadata, 12, "brokers[0].host = Text(\"elsewhere\")");
    found(metadata(broker(1, OURS.0, 20_001)), ApiKey::Metadata, 12, "brokers[0].port = Number(20001)");
    let ours = metadata(broker(1, OURS.0, OURS.1));
    found(ours.clone().with_cluster_id(Some(text("third"))), ApiKey::Metadata, 12, "cluster_id = Text(\"third\")");
    found(ours.clone().with_controller_id(BrokerId(2)), ApiKey::Metadata, 12, "controller_id = Number(2)");
    found(ours.with_unknown_tagged_field(9, Bytes::from_static(b"x")), ApiKey::Metadata, 12, "the codec does not know");

    // The host of an ACL is a client's, but not a broker's.
    let acl = |host: &str| {
        let acl = AclDescription::default().with_host(text(host));
        DescribeAclsResponse::default().with_resources(vec![DescribeAclsResource::default().with_acls(vec![acl])])
    };
    clean(acl("*"), ApiKey::DescribeAcls, 3);
    found(acl(HOST), ApiKey::DescribeAcls, 3, "resources[0].acls[0].host: real");

    let topic =
        |id| CreateTopicsResponse::default().with_topics(vec![CreatableTopicResult::default().with_topic_id(id)]);
    clean(topic(SOURCE_TOPIC), ApiKey::CreateTopics, 7);
    clean(topic(Uuid::nil()), ApiKey::CreateTopics, 7);
    found(topic(TARGET_TOPIC), ApiKey::CreateTopics, 7, "topics[0].topic_id");
    let strange = Uuid::from_u128(3);
    let seen = identities().check(&answer(&topic(strange).into(), ApiKey::CreateTopics, 7));
    assert_eq!(seen.strange, [(strange, "topics[0].topic_id".to_owned())], "one that may have been deleted");

    for (version, epoch, wrong) in [(12, -1, false), (12, 0, true), (12, 57, true)] {
        let listed = ListOffsetsPartitionResponse::default().with_leader_epoch(epoch);
        let listed = ListOffsetsResponse::default()
            .with_topics(vec![ListOffsetsTopicResponse::default().with_partitions(vec![listed])]);
        let leaks = leaks(listed, ApiKey::ListOffsets, version.min(9));
        assert_eq!(!leaks.is_empty(), wrong, "epoch {epoch}: {leaks:?}");
    }
}

#[test]
fn what_a_fetch_carries_is_left_alone_but_for_its_epochs() {
    let fetched = |partition: PartitionData| {
        let topic = FetchableTopicResponse::default().with_topic_id(SOURCE_TOPIC).with_partitions(vec![partition]);
        FetchResponse::default().with_responses(vec![topic])
    };
    let mut batch = BytesMut::from(&encode(ONE)[..]);
    batch.extend_from_slice(&encode(ONE));
    let with = |records: &[u8]| fetched(PartitionData::default().with_records(Some(Bytes::copy_from_slice(records))));
    let v = 17;
    clean(with(&batch), ApiKey::Fetch, v);
    clean(with(&[]), ApiKey::Fetch, v);
    // A payload may say what it likes. (The checker does not look at checksums.)
    let size = batch.len() / 2;
    batch[size - 5..size - 1].copy_from_slice(&NODE.to_be_bytes());
    clean(with(&batch), ApiKey::Fetch, v);
    batch[size + 12..size + 16].copy_from_slice(&3_i32.to_be_bytes());
    found(with(&batch), ApiKey::Fetch, v, "a batch with the leader epoch Ok(3)");

    let plain = PartitionData::default().with_records(Some(Bytes::new()));
    let moved = LeaderIdAndEpoch::default().with_leader_id(BrokerId(1)).with_leader_epoch(-1);
    found(fetched(plain.clone().with_current_leader(moved)), ApiKey::Fetch, v, "current_leader.leader_id");
    let ended = fetch_response::EpochEndOffset::default().with_epoch(3);
    found(fetched(plain.clone().with_diverging_epoch(ended)), ApiKey::Fetch, v, "diverging_epoch.epoch");
    found(fetched(plain.clone().with_preferred_read_replica(BrokerId(1))), ApiKey::Fetch, v, "preferred_read_replica");
    found(fetched(plain.clone()).with_session_id(4), ApiKey::Fetch, v, "session_id");
    let nearer = NodeEndpoint::default().with_node_id(BrokerId(1)).with_host(text(OURS.0)).with_port(OURS.1.into());
    found(fetched(plain).with_node_endpoints(vec![nearer]), ApiKey::Fetch, v, "KIP-951");
}

#[test]
fn in_words_too() {
    let said = |words: String| {
        FindCoordinatorResponse::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_message(Some(StrBytes::from_string(words)))
    };
    let (key, v) = (ApiKey::FindCoordinator, 3);
    let found = |words: String, what: &str| found(said(words), key, v, what);
    found(format!("ask broker {NODE}!"), "error_message: real");
    found(format!("ask {HOST}"), "error_message: real");
    found(format!("at :{PORT}, they say"), "error_message: real");
    found(format!("not {}", base64(TARGET_TOPIC)), "error_message: real");
    found(format!("not {TARGET_TOPIC}"), "error_message: real");
    found(format!("in {TARGET}"), "error_message: real");
    // Digits within something longer are somebody else's.
    clean(said(format!("consumer-0{PORT}f-9{NODE}9 of {}", base64(SOURCE_TOPIC))), key, v);
}

/// Four bytes that are there by chance are not taken for a number.
#[test]
fn chance_is_not_a_leak() {
    let at = |offset: i64, timestamp: i64| {
        let listed =
            ListOffsetsPartitionResponse::default().with_offset(offset).with_timestamp(timestamp).with_leader_epoch(-1);
        ListOffsetsResponse::default()
            .with_topics(vec![ListOffsetsTopicResponse::default().with_partitions(vec![listed])])
    };
    clean(at(i64::from(PORT), (411 << 32) + i64::from(NODE)), ApiKey::ListOffsets, 7);
    // The end of one field and the start of the next: an error code of 0 before a topic id.
    let mut id = Uuid::from_u128(5).into_bytes();
    id[..2].copy_from_slice(&PORT.to_be_bytes());
    let topic = CreatableTopicResult::default().with_topic_id(Uuid::from_bytes(id)).with_name(text("\0\0").into());
    clean(CreateTopicsResponse::default().with_topics(vec![topic]), ApiKey::CreateTopics, 7);
    // What the codec does not read is not known to be chance.
    let told = JoinGroupResponseMember::default().with_metadata(Bytes::copy_from_slice(&NODE.to_be_bytes()));
    found(JoinGroupResponse::default().with_members(vec![told]), ApiKey::JoinGroup, 5, "members[0].metadata: real");
}

#[test]
fn what_does_not_decode_is_reported() {
    let whole = answer(&MetadataResponse::default().into(), ApiKey::Metadata, 9);
    for frame in [whole.frame.slice(..whole.frame.len() - 1), Bytes::from([&whole.frame[..], &[0]].concat())] {
        let seen = identities().check(&Answer { frame, ..whole });
        assert_eq!(seen.leaks.len(), 1, "{seen:?}");
    }
    // The one answer that is of another version than was asked for.
    let mut told = answer(&ApiVersionsResponse::default().with_error_code(35).into(), ApiKey::ApiVersions, 0);
    told.version = 99;
    assert!(identities().check(&told).leaks.is_empty());
    let mut other = answer(&ApiVersionsResponse::default().into(), ApiKey::ApiVersions, 0);
    other.version = 99;
    assert!(!identities().check(&other).leaks.is_empty());
}

/// With nobody in between, a cluster tells its clients who it is: the relay passes that on, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_passes_everything_on_and_tells() {
    let cluster =
        |base| Cluster::start(ClusterSpec { node_id_base: base, ..ClusterSpec::default() }).expect("it starts");
    let (source, target) = (cluster(1_600_000_001), cluster(1_700_000_001));
    for side in [&source, &target] {
        side.create_topic("t", 1, &[]).expect("a topic");
    }
    let relay = Relay::new([source.bootstrap(), target.bootstrap()]);
    relay.lead_to(&target.bootstrap()[0]);
    let mut raw = Raw::connect(&relay.address).await;
    assert_eq!(raw.ask(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    assert_eq!(relay.leaks(), Vec::<String>::new());
    let told = raw.ask(&MetadataRequest::default().with_topics(None), 12).await;
    assert_eq!(told.brokers[0].node_id.0, 1_700_000_001, "as it came");
    let leaks = relay.leaks();
    for field in ["brokers[0].node_id", "brokers[0].port", "cluster_id", "controller_id", "topics[0].topic_id"] {
        assert!(leaks.iter().any(|l| l.starts_with(&format!("Metadata v12: {field}"))), "{field}: {leaks:#?}");
    }
    // Answers behind one that waits are matched with their requests.
    raw.send(&FetchRequest::default().with_max_wait_ms(1).with_min_bytes(1), 12).await;
    assert!(raw.receive::<FetchRequest>(12).await.is_some());
    assert_eq!(relay.leaks(), Vec::<String>::new(), "those before were told");
    assert_eq!(relay.answers(), 3);
}
