//! `migration::marker` against a cluster.

use bytes::{BufMut, BytesMut};
use kafka_cutover::embedded::{Cluster, ClusterSpec, batch as embedded_batch};
use kafka_cutover::ids::{Native, Side};
use kafka_cutover::migration::marker;
use kafka_cutover::migration::record::{self, Record};
use kafka_cutover::offsets::SpliceMap;
use kafka_cutover::store::identity::{Marker, MarkerSeen, marker_topic};
use kafka_protocol::messages::ApiKey;
use uuid::Uuid;

use super::{admin, local, write};

pub fn marker_of(number: u64, topic: &str) -> Marker {
    let map = SpliceMap::whole(Side::Source).sealed(Native(10), 0, (Side::Target, Native(0))).unwrap();
    Marker { version: Marker::VERSION, journal: Uuid::from_u128(7), number, partitions: vec![(topic.into(), 0, map)] }
}

fn cluster(nodes: usize) -> Cluster {
    Cluster::start(ClusterSpec { nodes, ..ClusterSpec::default() }).unwrap()
}

#[test]
fn the_last_marker_counts_and_a_tombstone_ends_it() {
    let cluster = cluster(3);
    local(async || {
        let admin = admin(Side::Target, &cluster);
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Absent, "no topic");
        marker::ensure_topic(&admin, "a").await.unwrap();
        marker::ensure_topic(&admin, "a").await.unwrap();
        assert_eq!(cluster.topics(), [marker_topic("a")]);
        assert_eq!(cluster.partition_count(&marker_topic("a")), Some(1));
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Absent, "an empty topic");
        for number in 1..=3 {
            let marker = marker_of(number, "t");
            marker::write(&admin, "a", Some(&marker)).await.unwrap();
            assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Found(marker));
        }
        assert_eq!(marker::read(&admin, "b").await.unwrap(), MarkerSeen::Absent, "another proxy's name");
        marker::write(&admin, "a", None).await.unwrap();
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Absent, "a tombstone");
        cluster.set_log_start(&marker_topic("a"), 0, 4);
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Absent, "an emptied topic");
    });
}

#[test]
fn markers_larger_than_a_batch_of_the_default_size() {
    let cluster = cluster(1);
    local(async || {
        let admin = admin(Side::Target, &cluster);
        marker::ensure_topic(&admin, "a").await.unwrap();
        let mut large = marker_of(1, "t");
        large.partitions =
            (0..20_000).map(|p| ("a-topic-with-a-name".into(), p, SpliceMap::whole(Side::Source))).collect();
        assert!(large.to_text().len() > 1_048_588);
        marker::write(&admin, "a", Some(&large)).await.unwrap();
        marker::write(&admin, "a", Some(&large)).await.unwrap();
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Found(large));
    });
}

#[test]
fn what_others_write_there_is_seen() {
    let cluster = cluster(1);
    let topic = marker_topic("a");
    local(async || {
        let admin = admin(Side::Target, &cluster);
        marker::ensure_topic(&admin, "a").await.unwrap();
        write(&cluster, &topic, 0);
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Absent, "a record with another key");
        let key = Some("marker".into());
        let garbage = record::batch(&Record { key: key.clone(), value: Some("{}".into()) }, 1, None);
        cluster.append_directly(&topic, 0, garbage).unwrap();
        let seen = marker::read(&admin, "a").await.unwrap();
        assert!(matches!(seen, MarkerSeen::Unreadable(_)), "{seen:?}");
        marker::write(&admin, "a", Some(&marker_of(1, "t"))).await.unwrap();
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Found(marker_of(1, "t")));
        // The same as gzip would say it is.
        let mut packed = BytesMut::from(&record::batch(&Record { key, value: None }, 1, None)[..]);
        (&mut packed[21..23]).put_i16(1);
        let crc = embedded_batch::crc_of(&packed);
        (&mut packed[17..21]).put_u32(crc);
        cluster.append_directly(&topic, 0, packed.freeze()).unwrap();
        let seen = marker::read(&admin, "a").await.unwrap();
        assert!(matches!(seen, MarkerSeen::Unreadable(_)), "{seen:?}");
    });
}

#[test]
fn passing_failures_pass() {
    let cluster = cluster(2);
    local(async || {
        let admin = admin(Side::Target, &cluster);
        cluster.faults().next(1, ApiKey::CreateTopics, None, kafka_cutover::embedded::Effect::DropAfter);
        marker::ensure_topic(&admin, "a").await.unwrap();
        let leader = cluster.leader(&marker_topic("a"), 0).unwrap().0;
        cluster.faults().refuse_produce(2, None, 6);
        marker::write(&admin, "a", Some(&marker_of(1, "t"))).await.unwrap();
        cluster.faults().drop_after_append(1, None);
        marker::write(&admin, "a", Some(&marker_of(2, "t"))).await.unwrap();
        cluster.move_leader(&marker_topic("a"), 0, 1 - leader);
        assert_eq!(marker::read(&admin, "a").await.unwrap(), MarkerSeen::Found(marker_of(2, "t")));
    });
}
