//! Produce and Fetch against `kafka-protocol` as the independent codec, byte for byte, in every version.

use bytes::{Bytes, BytesMut};
use kafka_cutover::wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionFetched, TopicFetched,
};
use kafka_cutover::wire::produce::{
    PartitionProduced, ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic, TopicProduced,
};
use kafka_cutover::wire::{ChainWriter, Records, StrBytes, WireError};
use kafka_protocol::messages::fetch_response::{EpochEndOffset, LeaderIdAndEpoch, SnapshotId};
use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use kafka_protocol::messages::{self as theirs, BrokerId, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

const NAMES: [&str; 2] = ["orders", "a.b-c_d"];

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Name and id of topic `n` in a version.
fn topic(n: usize, by_id: bool) -> (StrBytes, Uuid) {
    if by_id { (StrBytes::new(), Uuid::from_u128(n as u128 + 0xabc)) } else { (text(NAMES[n]), Uuid::nil()) }
}

fn records(n: i32) -> Bytes {
    Bytes::from(vec![n as u8; [0, 20, 3000, 70_000][n as usize % 4]])
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer, version).unwrap();
    buffer.freeze()
}

fn written(write: impl FnOnce(&mut ChainWriter)) -> Bytes {
    let mut out = ChainWriter::new();
    write(&mut out);
    out.finish().unwrap().to_bytes()
}

/// Every cut is an error, every flip an answer.
fn broken<T>(whole: &Bytes, decode: impl Fn(Bytes) -> Result<T, WireError>) {
    let small = whole.len().min(400);
    for end in (0..small).chain(whole.len() - small..whole.len()) {
        assert!(decode(whole.slice(..end)).is_err(), "cut at {end}");
    }
    for at in (0..small).chain(whole.len() - small..whole.len()) {
        for flip in [1, 0x7f, 0x80, 0xff] {
            let mut flipped = whole.to_vec();
            flipped[at] ^= flip;
            let _ = decode(flipped.into());
        }
    }
    let longer = [whole, &[0u8][..]].concat();
    assert!(matches!(decode(longer.into()), Err(WireError::Trailing(1))));
}

#[test]
fn produce_requests() {
    for version in 3..=13 {
        let mut ours =
            ProduceRequest { transactional_id: Some(text("tx")), acks: -1, timeout_ms: 30_000, topics: vec![] };
        let mut other = theirs::ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(text("tx"))))
            .with_acks(-1)
            .with_timeout_ms(30_000);
        for n in 0..2 {
            let (name, id) = topic(n, version >= 13);
            let partitions = (0..4).map(|index| ProducePartition { index, records: records(index).into() }).collect();
            ours.topics.push(ProduceTopic { name: name.clone(), id, partitions });
            let partitions = (0..4).map(|index| {
                theirs::produce_request::PartitionProduceData::default()
                    .with_index(index)
                    .with_records(Some(records(index)))
            });
            other.topic_data.push(
                theirs::produce_request::TopicProduceData::default()
                    .with_name(TopicName(name))
                    .with_topic_id(id)
                    .with_partition_data(partitions.collect()),
            );
        }
        let expected = encoded(&other, version);
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        let decoded = ProduceRequest::decode(expected.clone(), version).unwrap();
        assert_eq!(decoded, ours, "v{version}");
        let Records::One(slice) = &decoded.topics[1].partitions[3].records else { panic!("one slice") };
        assert!(expected.as_ptr_range().contains(&slice.as_ptr()), "records are not copied");
        broken(&expected, |body| ProduceRequest::decode(body, version));

        // In pieces, and null.
        let half = records(3).slice(..100);
        ours.topics[0].partitions[3].records = [half.clone(), records(3).slice(100..)].into();
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        ours.topics[0].partitions[3].records = vec![half, records(3).slice(100..)].into();
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        ours.topics[0].partitions[0].records = Records::Null;
        other.topic_data[0].partition_data[0].records = None;
        let expected = encoded(&other, version);
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        assert_eq!(ProduceRequest::decode(expected, version).unwrap(), ours);
    }
}

#[test]
fn produce_answers() {
    for version in 3..=13 {
        let mut ours = ProduceResponse { throttle_time_ms: 12, topics: vec![] };
        let mut other = theirs::ProduceResponse::default().with_throttle_time_ms(12);
        for n in 0..2 {
            let (name, id) = topic(n, version >= 13);
            let mut produced = TopicProduced { name: name.clone(), id, partitions: vec![] };
            let mut partitions = vec![];
            for index in 0..2 {
                let mut partition = PartitionProduced {
                    base_offset: 1 << 40,
                    log_append_time_ms: 99,
                    log_start_offset: if version >= 5 { 17 } else { -1 },
                    ..PartitionProduced::refused(index, 87)
                };
                let mut other = theirs::produce_response::PartitionProduceResponse::default()
                    .with_index(index)
                    .with_error_code(87)
                    .with_base_offset(1 << 40)
                    .with_log_append_time_ms(99)
                    .with_log_start_offset(partition.log_start_offset);
                if version >= 8 {
                    partition.record_errors = vec![(3, None), (4, Some(text("bad")))];
                    partition.error_message = Some(text("no key"));
                    let errors = partition.record_errors.iter().map(|(index, message)| {
                        BatchIndexAndErrorMessage::default()
                            .with_batch_index(*index)
                            .with_batch_index_error_message(message.clone())
                    });
                    other = other.with_record_errors(errors.collect()).with_error_message(Some(text("no key")));
                }
                produced.partitions.push(partition);
                partitions.push(other);
            }
            ours.topics.push(produced);
            other.responses.push(
                theirs::produce_response::TopicProduceResponse::default()
                    .with_name(TopicName(name))
                    .with_topic_id(id)
                    .with_partition_responses(partitions),
            );
        }
        let expected = encoded(&other, version);
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        assert_eq!(ProduceResponse::decode(expected.clone(), version).unwrap(), ours, "v{version}");
        broken(&expected, |body| ProduceResponse::decode(body, version));

        if version >= 10 {
            // What would let a client bypass us is read over.
            other.node_endpoints = vec![
                theirs::produce_response::NodeEndpoint::default()
                    .with_node_id(BrokerId(5))
                    .with_host(text("real-broker"))
                    .with_port(9092),
            ];
            other.responses[0].partition_responses[0].current_leader =
                theirs::produce_response::LeaderIdAndEpoch::default().with_leader_id(BrokerId(5)).with_leader_epoch(6);
            let leaking = encoded(&other, version);
            assert_eq!(ProduceResponse::decode(leaking.clone(), version).unwrap(), ours);
            broken(&leaking, |body| ProduceResponse::decode(body, version));
        }
    }
}

#[test]
fn fetch_requests() {
    for version in 4..=18 {
        let mut ours = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: 1,
            ..FetchRequest::default()
        };
        let mut other = theirs::FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1);
        if version >= 7 {
            (ours.session_id, ours.session_epoch) = (31, 2);
            other = other.with_session_id(31).with_session_epoch(2);
        }
        for n in 0..2 {
            let (name, id) = topic(n, version >= 13);
            let mut fetched = FetchTopic { name: name.clone(), id, partitions: vec![] };
            let mut partitions = vec![];
            for index in 0..2 {
                let partition = FetchPartition {
                    index,
                    current_leader_epoch: if version >= 9 { 4 } else { -1 },
                    fetch_offset: 1 << 33,
                    last_fetched_epoch: if version >= 12 { 3 } else { -1 },
                    log_start_offset: if version >= 5 { 2 } else { -1 },
                    max_bytes: 1 << 19,
                };
                partitions.push(
                    theirs::fetch_request::FetchPartition::default()
                        .with_partition(index)
                        .with_current_leader_epoch(partition.current_leader_epoch)
                        .with_fetch_offset(partition.fetch_offset)
                        .with_last_fetched_epoch(partition.last_fetched_epoch)
                        .with_log_start_offset(partition.log_start_offset)
                        .with_partition_max_bytes(partition.max_bytes),
                );
                fetched.partitions.push(partition);
            }
            ours.topics.push(fetched);
            other.topics.push(
                theirs::fetch_request::FetchTopic::default()
                    .with_topic(TopicName(name.clone()))
                    .with_topic_id(id)
                    .with_partitions(partitions),
            );
            if version >= 7 {
                ours.forgotten.push(ForgottenTopic { name: name.clone(), id, partitions: vec![8, 9] });
                other.forgotten_topics_data.push(
                    theirs::fetch_request::ForgottenTopic::default()
                        .with_topic(TopicName(name))
                        .with_topic_id(id)
                        .with_partitions(vec![8, 9]),
                );
            }
        }
        let expected = encoded(&other, version);
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        assert_eq!(FetchRequest::decode(expected.clone(), version).unwrap(), ours, "v{version}");
        broken(&expected, |body| FetchRequest::decode(body, version));

        // A follower, a rack, a cluster id, KIP-1166: read or read over, never written.
        if version <= 14 {
            other = other.with_replica_id(BrokerId(3));
        } else {
            other.replica_state =
                theirs::fetch_request::ReplicaState::default().with_replica_id(BrokerId(3)).with_replica_epoch(8);
        }
        if version >= 11 {
            other = other.with_rack_id(text("rack-1"));
        }
        if version >= 12 {
            other = other.with_cluster_id(Some(text("cluster")));
        }
        if version >= 17 {
            other.topics[0].partitions[0].replica_directory_id = Uuid::from_u128(1);
        }
        if version >= 18 {
            other.topics[0].partitions[0].high_watermark = 5;
        }
        let follower = encoded(&other, version);
        let decoded = FetchRequest::decode(follower.clone(), version).unwrap();
        assert_eq!(decoded.replica_id, 3);
        assert_eq!(&*decoded.rack_id, if version >= 11 { "rack-1" } else { "" });
        assert_eq!(written(|out| decoded.encode(version, out)), expected, "v{version}");
        broken(&follower, |body| FetchRequest::decode(body, version));
    }
}

#[test]
fn fetch_answers() {
    for version in 4..=18 {
        let mut ours = FetchResponse { throttle_time_ms: 4, ..FetchResponse::default() };
        let mut other = theirs::FetchResponse::default().with_throttle_time_ms(4);
        if version >= 7 {
            (ours.error_code, ours.session_id) = (70, 6);
            other = other.with_error_code(70).with_session_id(6);
        }
        for n in 0..2 {
            let (name, id) = topic(n, version >= 13);
            let mut fetched = TopicFetched { name: name.clone(), id, partitions: vec![] };
            let mut partitions = vec![];
            for index in 0..4 {
                let aborted = [None, Some(vec![]), Some(vec![(1, 2), (1 << 44, 1 << 45)])][index as usize % 3].clone();
                let theirs = aborted.as_ref().map(|all: &Vec<(i64, i64)>| {
                    let theirs = |(producer_id, first): &(i64, i64)| {
                        theirs::fetch_response::AbortedTransaction::default()
                            .with_producer_id((*producer_id).into())
                            .with_first_offset(*first)
                    };
                    all.iter().map(theirs).collect()
                });
                let partition = PartitionFetched {
                    high_watermark: 100,
                    last_stable_offset: 90,
                    log_start_offset: if version >= 5 { 10 } else { -1 },
                    aborted,
                    records: records(index).into(),
                    ..PartitionFetched::empty(index, 1)
                };
                partitions.push(
                    theirs::fetch_response::PartitionData::default()
                        .with_partition_index(index)
                        .with_error_code(1)
                        .with_high_watermark(100)
                        .with_last_stable_offset(90)
                        .with_log_start_offset(partition.log_start_offset)
                        .with_aborted_transactions(theirs)
                        .with_records(Some(records(index))),
                );
                fetched.partitions.push(partition);
            }
            ours.topics.push(fetched);
            other.responses.push(
                theirs::fetch_response::FetchableTopicResponse::default()
                    .with_topic(TopicName(name))
                    .with_topic_id(id)
                    .with_partitions(partitions),
            );
        }
        let expected = encoded(&other, version);
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        assert_eq!(FetchResponse::decode(expected.clone(), version).unwrap(), ours, "v{version}");
        broken(&expected, |body| FetchResponse::decode(body, version));

        // Records are never null, here or there.
        ours.topics[0].partitions[0].records = Records::Null;
        assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}");
        ours.topics[0].partitions[0].records = Bytes::new().into();
        other.responses[0].partitions[0].records = None;
        assert_eq!(FetchResponse::decode(encoded(&other, version), version).unwrap(), ours);

        // What would let a client bypass us, or truncate, is read over.
        if version >= 11 {
            let partition = &mut other.responses[0].partitions[1];
            partition.preferred_read_replica = BrokerId(5);
            ours.topics[0].partitions[1].preferred_read_replica = 5;
            if version >= 12 {
                partition.diverging_epoch = EpochEndOffset::default().with_epoch(1).with_end_offset(2);
                partition.current_leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(5)).with_leader_epoch(3);
                partition.snapshot_id = SnapshotId::default().with_epoch(1).with_end_offset(2);
            }
            if version >= 16 {
                other.node_endpoints = vec![
                    theirs::fetch_response::NodeEndpoint::default()
                        .with_node_id(BrokerId(5))
                        .with_host(text("real-broker"))
                        .with_port(9092),
                ];
            }
            let leaking = encoded(&other, version);
            assert_eq!(FetchResponse::decode(leaking.clone(), version).unwrap(), ours);
            broken(&leaking, |body| FetchResponse::decode(body, version));
            assert_eq!(written(|out| ours.encode(version, out)), expected, "v{version}: never written");
        }
    }
}

#[test]
fn a_count_earns_no_memory() {
    // 15 bytes of Produce that ask kafka-protocol's decoder for 412 GB.
    let mut body = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30];
    body.extend([0x7f, 0xff, 0xff, 0xff, 0, 0, 0]);
    let error = ProduceRequest::decode(body.into(), 3).unwrap_err();
    assert_eq!(error, WireError::Count { count: i64::from(i32::MAX), bytes: 3 });
}

#[test]
fn versions_outside_are_unsupported() {
    for version in [i16::MIN, -1, 0, 2, 14, i16::MAX] {
        let unsupported = WireError::Unsupported { api_key: 0, version };
        assert_eq!(ProduceRequest::decode(Bytes::new(), version).unwrap_err(), unsupported);
        assert_eq!(ProduceResponse::decode(Bytes::new(), version).unwrap_err(), unsupported);
        let mut out = ChainWriter::new();
        ProduceRequest::default().encode(version, &mut out);
        assert_eq!(out.finish().unwrap_err(), unsupported);
    }
    for version in [i16::MIN, -1, 0, 3, 19, i16::MAX] {
        let unsupported = WireError::Unsupported { api_key: 1, version };
        assert_eq!(FetchRequest::decode(Bytes::new(), version).unwrap_err(), unsupported);
        assert_eq!(FetchResponse::decode(Bytes::new(), version).unwrap_err(), unsupported);
        let mut out = ChainWriter::new();
        FetchResponse::default().encode(version, &mut out);
        assert_eq!(out.finish().unwrap_err(), unsupported);
    }
}

/// Written by hand from Kafka's message definitions, to be sure of both codecs.
#[test]
fn golden_produce_v9() {
    let request = ProduceRequest {
        transactional_id: None,
        acks: 1,
        timeout_ms: 1500,
        topics: vec![ProduceTopic {
            name: text("t"),
            id: Uuid::nil(),
            partitions: vec![ProducePartition { index: 2, records: Bytes::from_static(b"xyz").into() }],
        }],
    };
    let golden = b"\x00\x00\x01\x00\x00\x05\xdc\x02\x02t\x02\x00\x00\x00\x02\x04xyz\x00\x00\x00";
    assert_eq!(written(|out| request.encode(9, out)), &golden[..]);
    let mut body = Bytes::from_static(golden);
    assert!(theirs::ProduceRequest::decode(&mut body, 9).is_ok());
}
