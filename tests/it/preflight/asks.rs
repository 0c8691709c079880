//! `upstream::ask`.

use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::embedded::{Cluster, ClusterSpec, batch as embedded_batch};
use kafka_cutover::error::code;
use kafka_cutover::ids::{CONSUMER, DEBUGGING_CONSUMER, EARLIEST, LATEST, Side, TopicName, TopicPartition};
use kafka_cutover::migration::record::{self, Producer, Record};
use kafka_cutover::upstream::admin::{Admin, AdminError};
use kafka_cutover::upstream::{ask, discovery};
use kafka_cutover::wire::batches;

use super::{admin, local, write};

fn cluster(nodes: usize, limits: &[(i16, (i16, i16))]) -> Cluster {
    let api_limits = limits.iter().copied().collect();
    Cluster::start(ClusterSpec { nodes, api_limits, ..ClusterSpec::default() }).unwrap()
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

#[test]
fn offsets_of_many_leaders_and_of_none() {
    let cluster = cluster(3, &[]);
    cluster.create_topic("t", 3, &[]).unwrap();
    write(&cluster, "t", 1);
    write(&cluster, "t", 1);
    cluster.set_log_start("t", 1, 1);
    cluster.hold_high_watermark("t", 1, Some(1));
    local(async || {
        let admin = admin(Side::Source, &cluster);
        let view = discovery::look(&admin, &[]).await.unwrap();
        let all = [tp(0), tp(1), tp(2), tp(7), TopicPartition::new("none", 0)];
        let of =
            async |timestamp, replica| ask::list_offsets(&admin, &view, &all, timestamp, replica, 0).await.unwrap();
        let offset = |answers: &ask::Answers<ask::LogOffset>, tp: &TopicPartition| answers[tp].map(|f| f.offset);
        let (leo, hw) = (of(LATEST, DEBUGGING_CONSUMER).await, of(LATEST, CONSUMER).await);
        assert_eq!([0, 1, 2].map(|p| offset(&leo, &tp(p))), [Ok(0), Ok(2), Ok(0)]);
        assert_eq!(offset(&hw, &tp(1)), Ok(1));
        assert_eq!(offset(&of(EARLIEST, CONSUMER).await, &tp(1)), Ok(1));
        assert_eq!([&all[3], &all[4]].map(|tp| offset(&leo, tp)), [Err(code::UNKNOWN_TOPIC_OR_PARTITION); 2]);
    });
}

#[test]
fn a_leader_that_moved_is_found_again_and_a_deadline_ends_the_search() {
    let cluster = cluster(2, &[]);
    cluster.create_topic("t", 1, &[]).unwrap();
    local(async || {
        let admin = admin(Side::Source, &cluster);
        let old = discovery::look(&admin, &[]).await.unwrap();
        let (leader, _) = cluster.leader("t", 0).unwrap();
        cluster.move_leader("t", 0, 1 - leader);
        let ask = async |view: &_, some: &[_]| ask::list_offsets(&admin, view, some, LATEST, CONSUMER, 0).await;
        let stale = ask(&old, &[tp(0)]).await.unwrap();
        assert!(kafka_cutover::error::is_stale_topology(stale[&tp(0)].unwrap_err()), "{stale:?}");
        let far = ask::within(Duration::from_secs(60));
        let settled = ask::settled(&admin, &old, &[tp(0)], far, ask).await.unwrap();
        assert_eq!(settled[&tp(0)].map(|f| f.offset), Ok(0));
        let passed = ask::settled(&admin, &old, &[tp(5)], ask::within(Duration::ZERO), ask).await.unwrap();
        assert_eq!(passed[&tp(5)].map(|f| f.offset), Err(code::UNKNOWN_TOPIC_OR_PARTITION));
    });
}

#[test]
fn a_batch_in_and_out_in_every_version_that_a_broker_may_offer() {
    let record = Record { key: Some("k".into()), value: Some("v".into()) };
    for (produce, fetch) in [((3, 13), (13, 18)), ((3, 13), (4, 18)), ((3, 9), (4, 12)), ((3, 3), (4, 4))] {
        let cluster = cluster(1, &[(0, produce), (1, fetch)]);
        cluster.create_topic("t", 1, &[]).unwrap();
        local(async || {
            let admin = admin(Side::Source, &cluster);
            let view = discovery::look(&admin, &[]).await.unwrap();
            let producer = Producer { id: 5, epoch: 1, sequence: 7 };
            let batch = record::batch(&record, 2_000, Some(producer));
            let done = ask::produce_raw(&admin, &view, &tp(0), -1, batch.clone()).await;
            let done = done.unwrap_or_else(|e| panic!("Produce {produce:?}: {e}"));
            assert_eq!((done.error_code, done.base_offset), (0, 0), "Produce {produce:?}");
            let again = ask::produce_raw(&admin, &view, &tp(0), -1, batch).await.unwrap();
            assert_eq!((again.error_code, again.base_offset), (0, 0), "a retry of the same batch");
            let read = ask::fetch_raw(&admin, &view, &tp(0), 0, 1 << 20, true).await.unwrap();
            assert_eq!((read.error_code, read.high_watermark), (0, 1), "Fetch {fetch:?}");
            let bytes = read.records.into_bytes();
            assert_eq!(record::records(bytes).unwrap(), vec![record.clone()]);
            let beyond = ask::fetch_raw(&admin, &view, &tp(0), 9, 1 << 20, true).await.unwrap();
            assert_eq!(beyond.error_code, code::OFFSET_OUT_OF_RANGE);
            let states = ask::describe_producers(&admin, &view, &[tp(0)]).await.unwrap();
            let states = states[&tp(0)].as_ref().unwrap();
            let seen: Vec<_> = states.iter().map(|s| (s.producer_id, s.producer_epoch, s.last_sequence)).collect();
            assert_eq!(seen, [(5, 1, 7)]);
            assert_eq!((states[0].last_timestamp, states[0].current_txn_start_offset), (2_000, -1));
        });
    }
}

#[test]
fn an_api_that_is_not_spoken_is_said_to_be() {
    let cluster = cluster(1, &[(0, (1, 0)), (61, (1, 0))]);
    cluster.create_topic("t", 1, &[]).unwrap();
    local(async || {
        let admin = admin(Side::Target, &cluster);
        let view = discovery::look(&admin, &[]).await.unwrap();
        let produce = ask::produce_raw(&admin, &view, &tp(0), -1, Bytes::new()).await;
        assert!(matches!(produce, Err(AdminError::Unsupported { key: 0, .. })), "{produce:?}");
        let producers = ask::describe_producers(&admin, &view, &[tp(0)]).await;
        assert!(matches!(producers, Err(AdminError::Unsupported { key: 61, .. })), "{producers:?}");
    });
}

#[test]
fn topics_come_and_go_by_name_and_by_state() {
    for delete in [(1, 5), (1, 6)] {
        let cluster = cluster(1, &[(20, delete)]);
        local(async || {
            let admin = admin(Side::Target, &cluster);
            let view = discovery::look(&admin, &[]).await.unwrap();
            let new = |name: &str, replication_factor| ask::NewTopic {
                name: name.into(),
                partitions: 2,
                replication_factor,
                configs: vec![("retention.ms".to_owned(), "5000".to_owned())],
            };
            let tried = ask::validate_topics(&admin, &view, vec![new("a", 1)]).await.unwrap();
            let shown = tried[&TopicName::from("a")].as_ref().unwrap();
            assert_eq!(shown.configs["retention.ms"].as_deref(), Some("5000"));
            assert!(cluster.topics().is_empty(), "a trial makes nothing");
            let done = ask::create_topics(&admin, &view, vec![new("a", 1), new("b", 3)]).await.unwrap();
            assert!(done[&TopicName::from("a")].is_ok());
            assert_eq!(done[&TopicName::from("b")].as_ref().unwrap_err().code, 38, "more replicas than brokers");
            assert_eq!(cluster.partition_count("a"), Some(2));
            let configs = ask::describe_topic_configs(&admin, &view, &["a".into(), "b".into()]).await.unwrap();
            let set = configs[&TopicName::from("a")].as_ref().unwrap().iter().filter(|c| !c.is_default);
            let set: Vec<_> = set.map(|c| (c.name.as_str(), c.value.as_deref())).collect();
            assert_eq!(set, [("retention.ms", Some("5000"))]);
            assert_eq!(configs[&TopicName::from("b")], Err(code::UNKNOWN_TOPIC_OR_PARTITION));
            let gone = ask::delete_topics(&admin, &view, &["a".into(), "b".into()]).await.unwrap();
            assert!(gone[&TopicName::from("a")].is_ok());
            assert_eq!(gone[&TopicName::from("b")].as_ref().unwrap_err().code, code::UNKNOWN_TOPIC_OR_PARTITION);
            assert!(cluster.topics().is_empty());
            let own = ask::describe_broker_config(&admin, &view, "offset.metadata.max.bytes").await.unwrap();
            assert_eq!(own.as_deref(), Some("4096"));
            assert_eq!(ask::describe_broker_config(&admin, &view, "no.such.key").await.unwrap(), None);
        });
    }
}

#[test]
fn records_deleted_as_far_as_asked() {
    let cluster = cluster(1, &[]);
    cluster.create_topic("t", 1, &[]).unwrap();
    cluster.create_topic("c", 1, &[("cleanup.policy", "compact")]).unwrap();
    (0..3).for_each(|_| write(&cluster, "t", 0));
    local(async || {
        let admin = admin(Side::Target, &cluster);
        let view = discovery::look(&admin, &[]).await.unwrap();
        assert_eq!(ask::delete_records(&admin, &view, &tp(0), 2).await.unwrap(), Ok(2));
        assert_eq!(ask::delete_records(&admin, &view, &tp(0), -1).await.unwrap(), Ok(3));
        assert_eq!(ask::delete_records(&admin, &view, &tp(0), 9).await.unwrap(), Err(code::OFFSET_OUT_OF_RANGE));
        let compacted = TopicPartition::new("c", 0);
        assert_eq!(ask::delete_records(&admin, &view, &compacted, -1).await.unwrap(), Err(code::POLICY_VIOLATION));
    });
}

#[test]
fn a_batch_of_ours_is_one_that_brokers_and_we_can_read() {
    for (key, value) in [
        (None, None),
        (Some("k"), None),
        (None, Some("")),
        (Some("k"), Some("a longer value, past 63 bytes: that takes two bytes of length")),
    ] {
        let record = Record { key: key.map(Bytes::from), value: value.map(Bytes::from) };
        let batch = record::batch(&record, 1_234, None);
        let head = kafka_cutover::wire::produce_batch(&batch).unwrap();
        assert_eq!((head.count, head.max_timestamp, head.producer_id), (1, 1_234, -1));
        assert_eq!(batches(&batch).count(), 1);
        assert_eq!(record::records(batch).unwrap(), vec![record]);
    }
}

/// Each byte of the records changed, the checksum made right again; and each shorter batch.
#[test]
fn a_broken_batch_is_an_error_and_nothing_worse() {
    let record = Record { key: Some("key".into()), value: Some("value".into()) };
    let whole = record::batch(&record, 1_234, None);
    let mut refused = 0;
    for at in 57..whole.len() {
        for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut broken = whole.to_vec();
            broken[at] = byte;
            let crc = embedded_batch::crc_of(&broken);
            broken[17..21].copy_from_slice(&crc.to_be_bytes());
            refused += usize::from(record::records(broken.into()).is_err());
        }
    }
    assert!(refused > 20, "lengths that lie are noticed: {refused}");
    for len in 0..whole.len() {
        assert!(record::records(whole.slice(..len)).is_err(), "{len} bytes");
    }
}

#[test]
fn another_cluster_behind_an_address_is_not_listened_to() {
    let [ours, theirs] = [cluster(1, &[]), cluster(1, &[])];
    local(async || {
        let addresses = [theirs.bootstrap(), ours.bootstrap()].concat();
        let admin = Admin::new(Side::Source, addresses.clone(), 64 << 20);
        assert_eq!(discovery::look(&admin, &[]).await.unwrap().cluster_id, theirs.cluster_id(), "nobody knows better");
        admin.expect(Some(ours.cluster_id().to_owned()));
        let view = discovery::look(&admin, &[]).await.unwrap();
        assert_eq!((view.cluster_id.as_str(), &view.told_by), (ours.cluster_id(), &ours.bootstrap()[0]));
        ours.stop_node(0);
        let away = discovery::look(&admin, &[]).await;
        assert!(matches!(away, Err(AdminError::Unreachable { .. })), "{away:?}");
        let lost = discovery::look_in_order(&admin, &theirs.bootstrap()).await.unwrap_err().to_string();
        assert!(lost.contains(theirs.cluster_id()) && lost.contains(ours.cluster_id()), "{lost}");
    });
}
