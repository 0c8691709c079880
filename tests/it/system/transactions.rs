//! Transactions through the proxy: what they write is read whole or not at all, and what they commit counts with them. How
//! they go over a seam: `crossing`.

use std::time::Duration;

use kafka_cutover::control::client::ClientError;
use kafka_cutover::control::protocol::Outcome;
use kafka_cutover::embedded::{Cluster, Effect, Hold, Point};
use kafka_cutover::ids::Side;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, EndTxnRequest, InitProducerIdRequest,
    OffsetFetchRequest, ProduceRequest, TxnOffsetCommitRequest,
};

use super::world::*;

const TRANSACTIONAL: i16 = 1 << 4;
const NOT_COORDINATOR: i16 = 16;
const POLICY_VIOLATION: i16 = 44;
const INVALID_TXN_STATE: i16 = 48;
const OPERATION_NOT_ATTEMPTED: i16 = 55;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTION_ABORTABLE: i16 = 120;

/// A transactional producer that hides nothing.
pub struct Producer {
    pub raw: Raw,
    pub id: &'static str,
    pub pid: i64,
    pub epoch: i16,
    /// The next one, of one partition.
    pub sequence: i32,
}

impl Producer {
    pub async fn begin(address: &str, id: &'static str) -> Self {
        let mut producer = Self { raw: Raw::connect(address).await, id, pid: -1, epoch: -1, sequence: 0 };
        assert_eq!(producer.initialise().await, 0);
        producer
    }

    /// Beside the proxy: at the node of a cluster that coordinates it.
    pub async fn beside(cluster: &Cluster, id: &'static str) -> Self {
        Self::begin(&cluster.bootstrap()[cluster.coordinator(id).unwrap()], id).await
    }

    pub async fn initialise(&mut self) -> i16 {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(text(self.id).into()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(self.pid.into())
            .with_producer_epoch(self.epoch);
        let answer = self.raw.ask(&request, 5).await;
        if answer.error_code == 0 {
            (self.pid, self.epoch, self.sequence) = (answer.producer_id.0, answer.producer_epoch, 0);
        }
        answer.error_code
    }

    pub fn adding(&self, partitions: &[(&str, i32)]) -> AddPartitionsToTxnRequest {
        let topic = |(topic, partition): &(&str, i32)| {
            AddPartitionsToTxnTopic::default().with_name(text(topic).into()).with_partitions(vec![*partition])
        };
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(text(self.id).into())
            .with_v3_and_below_producer_id(self.pid.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(partitions.iter().map(topic).collect())
    }

    /// The same producer on another connection.
    pub fn twin(&self, raw: Raw) -> Self {
        Self { raw, ..*self }
    }

    /// The error of each.
    pub async fn add(&mut self, partitions: &[(&str, i32)]) -> Vec<i16> {
        let request = self.adding(partitions);
        let answer = soon("partitions are added", self.raw.ask(&request, 3)).await;
        let results = answer.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
        results.map(|r| r.partition_error_code).collect()
    }

    pub fn batch(&mut self, topic: &str, partition: i32, records: i32) -> ProduceRequest {
        let plan = Plan { attributes: TRANSACTIONAL, ..idempotent(self.pid, self.epoch, self.sequence, records) };
        self.sequence += records;
        produce(topic, partition, encode(plan))
            .with_timeout_ms(600_000)
            .with_transactional_id(Some(text(self.id).into()))
    }

    pub async fn produce(&mut self, topic: &str, partition: i32, records: i32) -> (i16, i64) {
        let request = self.batch(topic, partition, records);
        self.raw.send(&request, 11).await;
        self.produced().await
    }

    async fn produced(&mut self) -> (i16, i64) {
        let answer = soon("a produce is answered", self.raw.receive::<ProduceRequest>(11)).await.expect("an answer");
        let part = &answer.responses[0].partition_responses[0];
        (part.error_code, part.base_offset)
    }

    pub fn ending(&self, commit: bool) -> EndTxnRequest {
        EndTxnRequest::default()
            .with_transactional_id(text(self.id).into())
            .with_producer_id(self.pid.into())
            .with_producer_epoch(self.epoch)
            .with_committed(commit)
    }

    pub async fn end(&mut self, commit: bool) -> i16 {
        let request = self.ending(commit);
        soon("the transaction ends", self.raw.ask(&request, 4)).await.error_code
    }

    /// One transaction of some records in one partition.
    pub async fn write(&mut self, topic: &str, records: i32, commit: bool) {
        assert_eq!(self.add(&[(topic, 0)]).await, [0]);
        assert_eq!(self.produce(topic, 0, records).await.0, 0);
        assert_eq!(self.end(commit).await, 0);
    }

    async fn commit_position(&mut self, group: &str, topic: &str, offset: i64) -> [i16; 2] {
        self.commit_positions(group, topic, 0, offset).await
    }

    pub async fn commit_positions(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> [i16; 2] {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(text(self.id).into())
            .with_producer_id(self.pid.into())
            .with_producer_epoch(self.epoch)
            .with_group_id(text(group).into());
        let added = self.raw.ask(&request, 4).await.error_code;
        let request = self.positions(group, topic, partition, offset);
        let answer = self.raw.ask(&request, 4).await;
        [added, answer.topics[0].partitions[0].error_code]
    }

    pub fn positions(&self, group: &str, topic: &str, partition: i32, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("mine")));
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(text(self.id).into())
            .with_group_id(text(group).into())
            .with_producer_id(self.pid.into())
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }
}

/// What a new reader of committed records is answered at an offset: nothing was read ahead for it.
pub async fn committed(world: &World, offset: i64) -> PartitionData {
    let mut raw = world.client().await;
    raw.send(&fetch(&[(0, offset)], NO_WAIT, 1 << 20).with_isolation_level(1), 12).await;
    fetched(&mut raw).await.remove(0)
}

/// Offsets of data and of markers in an answer.
pub fn contents(part: &PartitionData) -> (Vec<i64>, Vec<i64>) {
    let bytes = part.records.clone().unwrap_or_default();
    let (mut data, mut markers, mut rest) = (vec![], vec![], &bytes[..]);
    while !rest.is_empty() {
        let head = kafka_cutover::embedded::batch::Header::read(rest).expect("whole batches");
        let into = if head.is_control() { &mut markers } else { &mut data };
        into.extend(head.base_offset..=head.last_offset());
        rest = &rest[head.size..];
    }
    (data, markers)
}

pub fn aborted(part: &PartitionData) -> Vec<(i64, i64)> {
    part.aborted_transactions.iter().flatten().map(|a| (a.producer_id.0, a.first_offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_and_aborted_transactions_are_told_apart() {
    let mut world = World::of_nodes(2, 1, |_| {});
    world.start().unwrap();
    let mut tx = Producer::begin(&world.address(), "tx").await;
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    assert_eq!(tx.produce("moved", 0, 3).await, (0, 0));
    let open = committed(&world, 0).await;
    assert_eq!((contents(&open), open.last_stable_offset, open.high_watermark), ((vec![], vec![]), 0, 3));
    assert_eq!(tx.end(true).await, 0);
    let closed = committed(&world, 0).await;
    assert_eq!((contents(&closed), aborted(&closed)), ((vec![0, 1, 2], vec![3]), vec![]));

    tx.write("moved", 2, false).await;
    assert_eq!(fetch_one(&mut world.client().await, 0, 4, NO_WAIT).await.aborted_transactions, None);
    let part = committed(&world, 4).await;
    assert_eq!((contents(&part), aborted(&part)), ((vec![4, 5], vec![6]), vec![(tx.pid, 4)]));
    assert_eq!((part.last_stable_offset, part.high_watermark), (7, 7));

    // Whoever begins anew under the id aborts what is open, and the old one is fenced.
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    assert_eq!(tx.produce("moved", 0, 1).await, (0, 7));
    let mut heir = Producer::begin(&world.address(), "tx").await;
    assert_eq!((heir.pid, heir.epoch), (tx.pid, tx.epoch + 1));
    assert_eq!(tx.end(true).await, PRODUCER_FENCED);
    heir.write("moved", 1, true).await;
    let part = committed(&world, 7).await;
    assert_eq!((contents(&part), aborted(&part)), ((vec![7, 9], vec![8, 10]), vec![(tx.pid, 7)]));
    // A producer that asks for a greater epoch names the one it has (KIP-360).
    assert_eq!((heir.initialise().await, heir.epoch), (0, tx.epoch + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_behind_the_seam_are_told_in_the_offsets_of_clients() {
    let world = World::new(1);
    for i in 0..5 {
        append(&mut world.client().await, 0, 1_000 + i, i).await;
    }
    world.cut_over().await;
    let at = world.target.log_end("moved", 0).unwrap();
    let mut beside = Producer::beside(&world.target, "tx").await;
    beside.write("moved", 2, false).await;
    beside.write("moved", 1, true).await;
    let part = committed(&world, 5).await;
    assert_eq!((contents(&part), aborted(&part)), ((vec![5, 6, 8], vec![7, 9]), vec![(beside.pid, 5)]));
    assert_eq!(world.target.log_end("moved", 0), Some(at + 5));
}

/// Of group `g`, asked for in a way that waits for open transactions: error, offset and metadata.
async fn position(world: &World) -> (i16, i64, String) {
    let group = OffsetFetchRequestGroup::default().with_group_id(text("g").into()).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let answer = world.client().await.ask(&request, 8).await;
    let part = &answer.groups[0].topics[0].partitions[0];
    (part.error_code, part.committed_offset, part.metadata.as_ref().map(ToString::to_string).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_count_with_their_transaction_and_so_do_their_shadows() {
    let mut world = World::stopped(1, |_| {});
    world.source.create_topic("results", 1, &[]).unwrap();
    world.start().unwrap();
    for i in 0..4 {
        append(&mut world.client().await, 0, 1_000 + i, i).await;
    }
    world.cut_over().await;
    let start = world.target.log_end("moved", 0).unwrap();
    for i in 4..9 {
        append(&mut world.client().await, 0, 1_000 + i, i).await;
    }
    // It reads what has moved, and writes what has not: all of it on the source, where its id is at home.
    let mut tx = Producer::begin(&world.address(), "tx").await;
    let mut expected = (0, 0, String::new());
    for (offset, commit) in [(6, true), (7, false), (9, true)] {
        assert_eq!(tx.add(&[("results", 0)]).await, [0]);
        assert_eq!(tx.produce("results", 0, 1).await.0, 0);
        assert_eq!(tx.commit_position("g", "moved", offset).await, [0, 0]);
        assert_eq!(position(&world).await.0, UNSTABLE_OFFSET_COMMIT);
        assert_eq!(tx.end(commit).await, 0);
        if commit {
            expected = (0, offset, "mine".to_owned());
        }
        assert_eq!(position(&world).await, expected);
        let shadow = start + expected.1 - 4;
        eventually("the shadow", async || world.target.committed("g", "moved", 0) == Some(shadow)).await;
    }
}

/// A hold that lasts until the `Hold` is released, and a transactional producer, unknown to the proxy so far, with a partition
/// in its transaction and a batch that is held.
async fn held_in_a_transaction(budget: Duration) -> (World, Hold, Switch, Producer) {
    let mut world = World::stopped(1, |c| c.seal.hold_budget = budget);
    world.source.create_topic("moved-stuck", 1, &[]).unwrap();
    world.start().unwrap();
    world.prepare().await;
    let hold = world.source.faults().hold(ApiKey::Produce, Some("moved-stuck"), Point::Answer);
    let address = world.address();
    let mut stuck = Raw::connect(&address).await;
    stuck.send(&produce("moved-stuck", 0, encode(ONE)), 9).await;
    soon("the source has it", hold.wait_until_held(1)).await;
    let switch = world.begin_switch();
    let mut raw = world.client().await;
    let pid = world.producer().await;
    soon("a hold", world.produce_into_hold(&mut raw, 0, pid, 0, 600_000)).await;
    let mut beside = Producer::beside(&world.source, "tx").await;
    assert_eq!(beside.add(&[("moved", 0)]).await, [0]);
    let mut tx = Producer { raw: world.client().await, ..beside };
    let batch = tx.batch("moved", 0, 1);
    tx.raw.send(&batch, 11).await;
    world.until_held(2).await;
    (world, hold, Switch { switch, _clients: [stuck, raw] }, tx)
}

struct Switch {
    switch: tokio::task::JoinHandle<Result<Outcome, ClientError>>,
    /// Whose requests of a closed connection would be dropped.
    _clients: [Raw; 2],
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_a_hold_that_is_undone_goes_on() {
    let (world, _hold, switch, mut tx) = held_in_a_transaction(Duration::from_secs(2)).await;
    refused(soon("the switch ends", switch.switch).await.unwrap());
    assert_eq!(tx.produced().await.0, 0);
    assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
    assert_eq!(tx.end(true).await, 0);
    assert_eq!(world.came(Side::Target, 0), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_a_hold_that_is_sealed_is_to_be_aborted() {
    let (world, hold, switch, mut tx) = held_in_a_transaction(Duration::from_secs(600)).await;
    let mut another = Producer::begin(&world.address(), "another").await;
    let request = another.adding(&[("moved", 0)]);
    another.raw.send(&request, 3).await;
    hold.release();
    soon("the switch ends", switch.switch).await.unwrap().expect("sealed");
    assert_eq!(tx.produced().await, (TRANSACTION_ABORTABLE, -1));
    // One that begins now begins on the other side.
    let added = soon("an answer", another.raw.receive::<AddPartitionsToTxnRequest>(3)).await.expect("an answer");
    assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
    assert_eq!(tx.end(false).await, 0);
    // Before v11 it is another code, and says why.
    let batch = tx.batch("moved", 0, 1);
    let answer = tx.raw.ask(&batch, 9).await;
    let part = &answer.responses[0].partition_responses[0];
    assert_eq!(part.error_code, POLICY_VIOLATION);
    assert!(part.error_message.as_ref().unwrap().contains("the log of moved goes on on the other cluster"));
    assert!(world.came(Side::Target, 0).iter().all(|p| p.producer_id != tx.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_would_span_both_clusters_is_aborted_and_its_producer_goes_on() {
    let mut world = World::stopped(1, |_| {});
    world.source.create_topic("other", 1, &[]).unwrap();
    world.start().unwrap();
    world.cut_over().await;
    let mut tx = Producer::begin(&world.address(), "tx").await;
    assert_eq!(tx.add(&[("other", 0), ("moved", 0)]).await, [OPERATION_NOT_ATTEMPTED, TRANSACTION_ABORTABLE]);
    assert_eq!(world.source.faults().seen(ApiKey::AddPartitionsToTxn), 0);
    assert_eq!(tx.end(true).await, INVALID_TXN_STATE, "there is nothing to commit");
    assert_eq!(tx.end(false).await, 0, "there is nothing to abort, and that is done");
    assert_eq!(tx.end(false).await, INVALID_TXN_STATE, "as a broker has it otherwise");
    tx.write("other", 1, true).await;
    // In the middle of one that has begun.
    assert_eq!(tx.add(&[("other", 0)]).await, [0]);
    assert_eq!(tx.produce("other", 0, 1).await.0, 0);
    assert_eq!(tx.add(&[("moved", 0)]).await, [TRANSACTION_ABORTABLE]);
    assert_eq!(tx.end(false).await, 0);
    tx.write("other", 1, true).await;
    assert_eq!(world.metric("kafka_cutover_transactions_refused_total").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_a_transaction_is_sent_twice() {
    let world = World::new(1);
    let mut tx = Producer::begin(&world.address(), "tx").await;
    let faults = world.source.faults();
    for (api, effect) in [
        (ApiKey::AddPartitionsToTxn, Effect::DropAfter),
        (ApiKey::AddPartitionsToTxn, Effect::DropBefore),
        (ApiKey::EndTxn, Effect::DropAfter),
        (ApiKey::EndTxn, Effect::DropBefore),
    ] {
        if api == ApiKey::EndTxn {
            assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
        }
        let seen = faults.seen(api);
        faults.next(1, api, None, effect);
        let answer = match api {
            ApiKey::EndTxn => tx.end(true).await,
            _ => tx.add(&[("moved", 0)]).await[0],
        };
        assert_eq!((answer, faults.seen(api) - seen), (NOT_COORDINATOR, 1), "{api:?}");
        if api == ApiKey::EndTxn {
            assert_eq!(tx.end(true).await, 0, "its own retry");
        }
    }
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    faults.next(1, ApiKey::Produce, Some("moved"), Effect::DropAfter);
    let batch = tx.batch("moved", 0, 1);
    tx.raw.send(&batch, 11).await;
    assert!(tx.raw.receive::<ProduceRequest>(11).await.is_none(), "the connection ends: nobody knows");
    tx.raw = world.client().await;
    tx.raw.send(&batch, 11).await;
    assert_eq!(tx.produced().await, (0, world.source.log_end("moved", 0).unwrap() - 1), "known to the broker");
    assert_eq!(world.came(Side::Source, 0).len(), 2);
    assert_eq!(tx.end(true).await, 0);
}
