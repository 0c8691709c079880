//! Transactions of the second protocol (KIP-890) over a seam: they begin of themselves, with a batch or with positions, and every
//! end gives their producer a new epoch.

use std::time::Duration;

use bytes::Bytes;
use kafka_cutover::config::Config;
use kafka_cutover::embedded::{Effect, Point};
use kafka_cutover::ids::Side;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, EndTxnRequest, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::Decodable;

#[cfg(feature = "librdkafka")]
use super::crossing::{place, until_late, until_placed};
use super::transactions::{Producer, aborted, committed, contents};
use super::world::*;

const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const PRODUCER_FENCED: i16 = 90;
const NOT_COORDINATOR: i16 = 16;
const TRANSACTION_ABORTABLE: i16 = 120;
/// Of the requests of a transaction.
const PRODUCE: i16 = 12;
const END: i16 = 5;

fn world(partitions: i32) -> World {
    world_with(partitions, |_| {})
}

fn world_with(partitions: i32, change: impl FnOnce(&mut Config)) -> World {
    let mut world = World::of_features(1, partitions, &[("transaction.version", 2)], change);
    world.source.create_topic("other", 1, &[]).unwrap();
    world.start().expect("the proxy starts");
    world
}

/// A producer of this protocol.
struct Second(Producer);

impl Second {
    async fn begin(world: &World, id: &'static str) -> Self {
        Self(Producer::begin(&world.address(), id).await)
    }

    async fn send(&mut self, topic: &str, partition: i32, records: i32) {
        let request = self.0.batch(topic, partition, records);
        self.0.raw.send(&request, PRODUCE).await;
    }

    /// The next answer, also of several requests.
    async fn sent(&mut self) -> (i16, i64) {
        let frame = soon("a produce is answered", self.0.raw.frame()).await.expect("an answer");
        let answer = ProduceResponse::decode(&mut frame.slice(5..), PRODUCE).unwrap();
        let part = &answer.responses[0].partition_responses[0];
        (part.error_code, part.base_offset)
    }

    async fn produce(&mut self, topic: &str, partition: i32, records: i32) -> (i16, i64) {
        self.send(topic, partition, records).await;
        self.sent().await
    }

    /// What it is called from now on comes with the answer.
    async fn end(&mut self, commit: bool) -> i16 {
        let request = self.0.ending(commit);
        let answer = soon("the transaction ends", self.0.raw.ask(&request, END)).await;
        let named = (answer.producer_id.0, answer.producer_epoch);
        match answer.error_code {
            0 => (self.0.pid, self.0.epoch, self.0.sequence) = (named.0, named.1, 0),
            _ => assert_eq!(named, (-1, -1)),
        }
        answer.error_code
    }

    /// One transaction of some records in one partition.
    async fn write(&mut self, topic: &str, records: i32, commit: bool) {
        assert_eq!(self.produce(topic, 0, records).await.0, 0);
        assert_eq!(self.end(commit).await, 0);
    }

    #[cfg(feature = "librdkafka")]
    async fn commit_positions(&mut self, group: &str, partition: i32, offset: i64) -> i16 {
        let request = self.0.positions(group, "moved", partition, offset);
        let answer = soon("positions", self.0.raw.ask(&request, END)).await;
        answer.topics[0].partitions[0].error_code
    }

    /// The same producer as it is now, straight at a cluster or on another connection.
    fn twin(&self, raw: Raw) -> Self {
        Self(self.0.twin(raw))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_offered_where_both_sides_have_it_on() {
    let on = ("transaction.version", 2);
    for (features, expected) in [(&[][..], 4), (&[("transaction.version", 1)], 4), (&[on], END)] {
        let mut world = World::of_features(1, 1, features, |_| {});
        world.start().unwrap();
        let offered = world.client().await.ask(&ApiVersionsRequest::default(), 3).await;
        for key in [ApiKey::EndTxn, ApiKey::TxnOffsetCommit] {
            let range = offered.api_keys.iter().find(|k| k.api_key == key as i16).unwrap();
            assert_eq!(range.max_version, expected);
        }
        let shown: Vec<(String, i16)> =
            offered.finalized_features.iter().map(|f| (f.name.to_string(), f.max_version_level)).collect();
        let expected = if expected == END { vec![(on.0.to_owned(), on.1)] } else { vec![] };
        assert_eq!((shown, offered.finalized_features_epoch), (expected, 0));
        // Java's older clients take no minimum of 0.
        assert_eq!(offered.supported_features, []);
        let offered = world.client().await.ask(&ApiVersionsRequest::default(), 4).await;
        assert_eq!(offered.supported_features.len(), offered.finalized_features.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_transaction_begins_on_the_other_side_and_its_producer_has_a_number_of_that() {
    let mut world = world(1);
    let mut tx = Second::begin(&world, "tx").await;
    let mut idle = Second::begin(&world, "idle").await;
    let mut zombie = Second::begin(&world, "heir").await;
    let mut heir = Second::begin(&world, "heir").await;
    for (records, commit) in [(3, true), (2, false)] {
        tx.write("moved", records, commit).await;
    }
    let seam = world.source.log_end("moved", 0).unwrap();
    let before = tx.twin(Raw::connect(&world.source.bootstrap()[0]).await);
    world.cut_over().await;

    // The first one is called what it was before, the next ones what the new side calls it.
    assert_eq!(tx.produce("moved", 0, 2).await.0, 0);
    assert_eq!((tx.0.pid, tx.0.epoch), (before.0.pid, before.0.epoch));
    assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
    assert_eq!(tx.end(true).await, 0);
    assert_ne!(tx.0.pid, before.0.pid);
    tx.write("moved", 1, false).await;
    tx.write("moved", 1, true).await;
    idle.write("moved", 1, true).await;
    heir.write("moved", 1, true).await;
    assert_eq!(world.source.log_end("moved", 0), Some(seam), "nothing more comes there");
    let part = committed(&world, seam).await;
    assert_eq!(contents(&part), (vec![7, 8, 9, 11, 13, 15, 17], vec![10, 12, 14, 16, 18]));
    assert_eq!(aborted(&part).iter().map(|(_, first)| *first).collect::<Vec<_>>(), [11]);
    assert_eq!(world.metric("kafka_cutover_transactional_ids_moved_total").await, 3.0);

    // Whoever has an old epoch of it is fenced, through the proxy and beside it.
    assert_eq!(zombie.produce("moved", 0, 1).await.0, INVALID_PRODUCER_EPOCH);
    assert_eq!(zombie.end(false).await, PRODUCER_FENCED);
    let mut beside = before;
    assert_eq!(beside.produce("moved", 0, 1).await.0, PRODUCER_FENCED);
    assert_eq!(beside.end(true).await, PRODUCER_FENCED);
    let mut through = tx.twin(world.client().await);
    (through.0.pid, through.0.epoch, through.0.sequence) = (beside.0.pid, beside.0.epoch, 0);
    assert_eq!(
        through.produce("moved", 0, 1).await.0,
        PRODUCER_FENCED,
        "it is translated, and of an epoch that is over"
    );

    // It is on record.
    world.restart().unwrap();
    tx.0.raw = world.client().await;
    tx.write("moved", 1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_would_span_both_clusters_is_aborted_and_the_next_goes_where_it_writes() {
    let world = world(1);
    world.cut_over().await;
    let mut tx = Second::begin(&world, "tx").await;
    tx.write("other", 1, true).await;
    assert_eq!(tx.produce("other", 0, 1).await.0, 0);
    assert_eq!(tx.produce("moved", 0, 1).await, (TRANSACTION_ABORTABLE, -1));
    assert_eq!(tx.end(false).await, 0);
    assert_eq!(tx.end(true).await, INVALID_TXN_STATE, "there is nothing to commit");
    assert_eq!(tx.end(false).await, 0, "there is nothing to abort, and that is done");
    // Its sequences begin anew with each, so it can go back as well.
    for round in 1..3 {
        tx.write("moved", 1, true).await;
        assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
        assert_eq!(tx.produce("other", 0, 1).await, (TRANSACTION_ABORTABLE, -1));
        assert_eq!(tx.end(false).await, 0);
        tx.write("other", 1, true).await;
        assert_eq!(world.metric("kafka_cutover_transactional_ids_moved_total").await, f64::from(2 * round));
    }
    assert_eq!(world.source.log("other", 0).iter().filter(|b| !b.header.is_control()).count(), 4);
    assert_eq!(world.came(Side::Target, 0).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_on_several_connections_cross_once_and_together() {
    let world = world(2);
    let mut tx = Second::begin(&world, "tx").await;
    tx.write("moved", 1, true).await;
    world.cut_over().await;
    // Both come while the id is on its way.
    let hold = world.target.faults().hold(ApiKey::InitProducerId, None, Point::Process);
    let mut second = tx.twin(world.client().await);
    tx.send("moved", 0, 1).await;
    soon("it is on its way", hold.wait_until_held(1)).await;
    second.send("moved", 1, 1).await;
    tx.send("moved", 0, 1).await;
    world.until_held(2).await;
    hold.release();
    assert_eq!([tx.sent().await.0, tx.sent().await.0, second.sent().await.0], [0; 3]);
    assert_eq!(tx.end(true).await, 0);
    assert_eq!((world.came(Side::Target, 0).len(), world.came(Side::Target, 1).len()), (2, 1));
    assert_eq!(world.metric("kafka_cutover_transactional_ids_moved_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_batch_that_cannot_begin_is_not_sent_without_it() {
    let world = world_with(1, |c| c.timeouts.straggling_part = Duration::from_millis(100));
    let mut tx = Second::begin(&world, "tx").await;
    world.cut_over().await;
    let hold = world.target.faults().hold(ApiKey::InitProducerId, None, Point::Process);
    let batches = [tx.0.batch("moved", 0, 1), tx.0.batch("moved", 0, 1)];
    for batch in &batches {
        tx.0.raw.send(batch, PRODUCE).await;
    }
    assert_eq!(tx.sent().await, (CONCURRENT_TRANSACTIONS, -1));
    hold.release();
    assert_eq!(tx.sent().await, (CONCURRENT_TRANSACTIONS, -1));
    for (place, batch) in batches.iter().enumerate() {
        eventually("the client's retries come through, in their order", async || {
            tx.0.raw.send(batch, PRODUCE).await;
            match tx.sent().await.0 {
                CONCURRENT_TRANSACTIONS => false,
                error => {
                    assert_eq!(error, 0, "{place}");
                    true
                }
            }
        })
        .await;
    }
    assert_eq!(tx.end(true).await, 0);
    assert_eq!(world.came(Side::Target, 0).iter().map(|p| p.base_sequence).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transaction_ends_while_its_id_is_on_its_way() {
    let world = world(1);
    let mut tx = Second::begin(&world, "tx").await;
    tx.write("moved", 1, true).await;
    world.cut_over().await;
    let hold = world.target.faults().hold(ApiKey::InitProducerId, None, Point::Process);
    let mut gives_up = tx.twin(world.client().await);
    tx.send("moved", 0, 1).await;
    soon("it is on its way", hold.wait_until_held(1)).await;
    assert_eq!(gives_up.end(false).await, CONCURRENT_TRANSACTIONS);
    hold.release();
    assert_eq!(tx.sent().await.0, 0);
    assert_eq!(tx.end(false).await, 0);
    tx.write("moved", 1, true).await;
    assert_eq!(world.source.faults().seen(ApiKey::EndTxn), 1, "it ends where it is at home");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_waits_for_no_batch_that_is_on_its_way() {
    let world = world(1);
    let mut tx = Second::begin(&world, "tx").await;
    let hold = world.source.faults().hold_produce(Some("moved"));
    tx.send("moved", 0, 1).await;
    soon("it is on its way", hold.wait_until_held(1)).await;
    let mut heir = Second::begin(&world, "tx").await;
    hold.release();
    assert_eq!(tx.sent().await.0, PRODUCER_FENCED);
    heir.write("moved", 1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_cannot_fence_keeps_nobody_from_going_on() {
    let world = world(1);
    let mut tx = Second::begin(&world, "tx").await;
    world.cut_over().await;
    world.source.faults().next(usize::MAX, ApiKey::InitProducerId, None, Effect::DropBefore);
    let mut batch = tx.0.batch("moved", 0, 1);
    for _ in 0..2 {
        eventually("the client's retries come through", async || {
            tx.0.raw.send(&batch, PRODUCE).await;
            let error = tx.sent().await.0;
            assert!([0, CONCURRENT_TRANSACTIONS].contains(&error), "{error}");
            error == 0
        })
        .await;
        eventually("and so do those of its end", async || {
            let error = tx.end(true).await;
            assert!([0, CONCURRENT_TRANSACTIONS].contains(&error), "{error}");
            error == 0
        })
        .await;
        batch = tx.0.batch("moved", 0, 1);
    }
    assert_eq!(world.came(Side::Target, 0).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_is_lost_is_retried_and_never_done_twice() {
    let world = world(1);
    let mut tx = Second::begin(&world, "tx").await;
    let mut switched = false;
    for effect in [Effect::DropAfter, Effect::DropBefore, Effect::DropAfter, Effect::DropBefore] {
        assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
        let side = if switched { &world.target } else { &world.source };
        let seen = side.faults().seen(ApiKey::EndTxn);
        side.faults().next(1, ApiKey::EndTxn, None, effect);
        let request = tx.0.ending(true);
        tx.0.raw.send(&request, END).await;
        let answer = soon("an answer", tx.0.raw.receive::<EndTxnRequest>(END)).await.expect("an answer");
        assert_eq!((answer.error_code, side.faults().seen(ApiKey::EndTxn) - seen), (NOT_COORDINATOR, 1));
        if !switched && effect == Effect::DropBefore {
            // In the midst of it.
            switched = true;
            world.prepare().await;
            drop(world.begin_switch());
            until_switched(&world).await;
        }
        assert_eq!(tx.end(true).await, 0, "its own retry");
    }
    tx.write("moved", 1, true).await;
    let records = |side: Side| world.came(side, 0).len();
    assert_eq!((records(Side::Source), records(Side::Target)), (2, 3));
    eventually("the seam has its place", async || status(&world).await.late_seam.is_none()).await;
    let part = committed(&world, 0).await;
    assert_eq!(contents(&part), (vec![0, 2], vec![1, 3]));
}

async fn until_switched(world: &World) {
    eventually("it is switched", async || world.step().await == "producers-switched").await;
}

#[cfg(feature = "librdkafka")]
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_ends_where_it_began_and_holds_nobody_up() {
    let mut world = world(2);
    world.prepare().await;
    let mut tx = Second::begin(&world, "long").await;
    let mut short = Second::begin(&world, "short").await;
    assert_eq!(tx.produce("moved", 0, 2).await, (0, 0));
    drop(world.begin_switch());
    until_late(&world).await;
    short.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).len(), 1);
    // It goes on where it began, also to a partition that it had not yet; its coordinator is asked for it once.
    let asked = world.source.faults().seen(ApiKey::DescribeTransactions);
    assert_eq!(tx.produce("moved", 0, 1).await, (0, 2));
    tx.0.sequence = 0;
    assert_eq!(tx.produce("moved", 1, 1).await, (0, 0));
    tx.0.sequence = 3;
    assert_eq!(tx.produce("moved", 0, 1).await, (0, 3));
    assert_eq!(world.source.faults().seen(ApiKey::DescribeTransactions), asked + 1);
    world.restart().unwrap();
    tx.0.raw = world.client().await;
    until_late(&world).await;
    assert_eq!(tx.produce("moved", 0, 1).await, (0, 4));
    assert_eq!(tx.end(true).await, 0);
    until_placed(&world).await;
    assert_eq!(world.source.log_end("moved", 0), Some(6));
    tx.write("moved", 1, true).await;
    assert_eq!(contents(&committed(&world, 0).await), (vec![0, 1, 2, 3, 4], vec![5]));
    assert_eq!(contents(&committed(&world, 6).await), (vec![6, 8], vec![7, 9]));
}

#[cfg(feature = "librdkafka")]
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_over_with_the_group_whose_positions_it_commits() {
    let mut world = world(2);
    let mut plain = world.client().await;
    for offset in 0..6 {
        append(&mut plain, 1, 1_000, offset).await;
    }
    let mut tx = Second::begin(&world, "pipeline").await;
    let transform = async |world: &World, tx: &mut Second, position: i64, commit: bool| {
        assert_eq!(tx.produce("moved", 0, 1).await.0, 0);
        assert_eq!(tx.commit_positions("g", 1, position).await, 0);
        assert_eq!(tx.end(commit).await, 0);
        place(world, "g", 1).await
    };
    assert_eq!(transform(&world, &mut tx, 2, true).await, (0, 2));
    world.cut_over().await;
    assert!(world.target.committed("g", "moved", 1).is_some(), "its group is at home there");
    assert_eq!(transform(&world, &mut tx, 4, true).await, (0, 4));
    assert_eq!(transform(&world, &mut tx, 5, false).await, (0, 4));
    world.restart().unwrap();
    tx.0.raw = world.client().await;
    assert_eq!(transform(&world, &mut tx, 6, true).await, (0, 6));
    assert_eq!(world.came(Side::Target, 0).len(), 3);
    // A transaction may begin with the positions, and hold nothing else: its id follows the group.
    let mut another = Second::begin(&world, "another").await;
    assert_eq!(another.commit_positions("g", 1, 5).await, 0);
    assert_eq!(another.end(true).await, 0);
    assert_eq!(place(&world, "g", 1).await, (0, 5));
    assert_eq!(world.metric("kafka_cutover_transactional_ids_moved_total").await, 1.0, "since the start");
    // One that began before is to be aborted.
    let mut third = Second::begin(&world, "third").await;
    assert_eq!(third.produce("other", 0, 1).await.0, 0);
    assert_eq!(third.commit_positions("g", 1, 6).await, TRANSACTION_ABORTABLE);
    assert_eq!(third.end(false).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_and_harms_nobody() {
    let world = world(2);
    let mut tx = Second::begin(&world, "tx").await;
    tx.write("moved", 1, true).await;
    world.cut_over().await;
    let batch = |pid: i64, attributes: i16| encode(Plan { attributes, ..idempotent(pid, 0, 0, 1) });
    let id = |name: &'static str| Some(text(name).into());
    let one = |records: Bytes| produce("moved", 0, records).with_transactional_id(id("tx"));
    let two = |first: Bytes, second: Bytes| {
        let mut request = one(first);
        let mut more = request.topic_data[0].partition_data[0].clone().with_index(1);
        more.records = Some(second);
        request.topic_data[0].partition_data.push(more);
        request
    };
    let transactional = 1 << 4;
    let requests = [
        one(Bytes::new()),
        one(Bytes::from_static(b"nothing")),
        one(batch(-1, transactional)),
        one(batch(1 << 41, transactional)),
        one(batch(i64::MAX, transactional)),
        one(batch(7, transactional)).with_transactional_id(id("")),
        one(batch(7, transactional)).with_transactional_id(id("nobody")),
        one(batch(7, transactional)).with_transactional_id(None),
        two(batch(7, transactional), batch(8, transactional)),
        two(batch(7, transactional), Bytes::from_static(b"nothing")),
        produce("moved", 99, batch(7, transactional)).with_transactional_id(id("tx")),
        produce("nowhere", 0, batch(7, transactional)).with_transactional_id(id("tx")),
        produce("__kafka_cutover.default", 0, batch(7, transactional)).with_transactional_id(id("tx")),
        one(batch(7, transactional)).with_topic_data(vec![]),
    ];
    let mut raw = world.client().await;
    for (nth, request) in requests.iter().enumerate() {
        raw.send(request, PRODUCE).await;
        let Some(answer) = soon("an answer", raw.receive::<ProduceRequest>(PRODUCE)).await else {
            raw = world.client().await;
            continue;
        };
        let errors = answer.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code);
        assert!(errors.clone().all(|error| error != 0), "{nth}: {:?}", errors.collect::<Vec<_>>());
    }
    let mut nobody = tx.twin(world.client().await);
    for (name, pid) in [("", 1), ("nobody", 1), ("tx", -1), ("tx", i64::MAX), ("tx", 1 << 41)] {
        (nobody.0.id, nobody.0.pid, nobody.0.epoch) = (name, pid, 0);
        assert_ne!(nobody.end(true).await, 0, "{name} {pid}");
        let request = nobody.0.positions("g", "moved", 0, 1);
        let answer = soon("an answer", nobody.0.raw.ask(&request, END)).await;
        assert_ne!(answer.topics[0].partitions[0].error_code, 0, "{name} {pid}");
    }
    tx.write("moved", 1, true).await;
    assert_eq!(world.came(Side::Target, 0).iter().filter(|p| p.producer_id != 7).count(), 1);
    assert_eq!(contents(&committed(&world, 0).await).0, [0]);
}

#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_survives_the_end_of_the_process_at_any_point_of_its_crossing() {
    for point in kafka_cutover::crash::CROSSING {
        let mut world = world(1);
        let mut tx = Second::begin(&world, "tx").await;
        tx.write("moved", 2, true).await;
        world.cut_over().await;
        drop(world.proxy.take());
        let mut beside = tx.twin(Raw::connect(&world.source.bootstrap()[0]).await);
        {
            let process = Process::start(&mut world, &[("KAFKA_CUTOVER_CRASH_AT", point)]).await;
            tx.0.raw = Raw::connect(&process.address).await;
            tx.send("moved", 0, 1).await;
            tx.0.sequence = 0;
            assert!(tx.0.raw.receive::<ProduceRequest>(PRODUCE).await.is_none(), "{point}: the process ends");
        }
        world.start().unwrap();
        tx.0.raw = world.client().await;
        tx.write("moved", 1, true).await;
        tx.write("moved", 1, true).await;
        assert_eq!(contents(&committed(&world, 3).await), (vec![3, 5], vec![4, 6]), "{point}");
        assert_eq!(beside.produce("moved", 0, 1).await.0, PRODUCER_FENCED, "{point}");
    }
}
