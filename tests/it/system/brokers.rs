//! One broker of several is away, or says nothing.

use std::time::Duration;

use kafka_cutover::embedded::{Cluster, Point};
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest};

use super::world::*;

const TIMED_OUT: i16 = 7;
const TOPICS: [&str; 2] = ["moved-a", "moved-b"];

/// Two nodes, each leads one of the topics.
fn world() -> World {
    let mut world = World::of_nodes(2, 1, |c| c.timeouts.straggling_part = Duration::from_millis(100));
    for (topic, node) in TOPICS.into_iter().zip(0..) {
        world.source.create_topic(topic, 1, &[]).unwrap();
        world.source.move_leader(topic, 0, node);
    }
    world.start().unwrap();
    world
}

fn both(topics: [&str; 2], plan: Plan) -> ProduceRequest {
    let topic = |name: &str| {
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(encode(plan)));
        TopicProduceData::default().with_name(text(name).into()).with_partition_data(vec![partition])
    };
    let topics = topics.into_iter().map(topic).collect();
    ProduceRequest::default().with_acks(-1).with_timeout_ms(60_000).with_topic_data(topics)
}

async fn errors(raw: &mut Raw) -> Vec<(String, i16)> {
    let answer = soon("an answer", raw.receive::<ProduceRequest>(9)).await.expect("an answer");
    let one = |t: &kafka_protocol::messages::produce_response::TopicProduceResponse| {
        (t.name.to_string(), t.partition_responses[0].error_code)
    };
    answer.responses.iter().map(one).collect()
}

async fn is_stored(cluster: &Cluster, topic: &str) {
    soon("it is stored", cluster.wait_high_watermark(topic, 0, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_holds_nobody_else_back_wherever_its_part_stands() {
    let [a, b] = TOPICS;
    for topics in [[a, b], [b, a]] {
        let world = world();
        let pid = world.producer().await;
        let _silent = world.source.faults().hold_produce(Some(a));
        let mut raw = world.client().await;
        raw.send(&both(topics, idempotent(pid, 0, 0, 1)), 9).await;
        let expected = topics.map(|t| (t.to_owned(), if t == a { TIMED_OUT } else { 0 }));
        assert_eq!(errors(&mut raw).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_batch_is_waited_for() {
    let [a, b] = TOPICS;
    let world = world();
    let silent = world.source.faults().hold_produce(Some(a));
    let mut raw = world.client().await;
    raw.send(&both([a, b], ONE), 9).await;
    is_stored(&world.source, b).await;
    soon("the other has it", silent.wait_until_held(1)).await;
    silent.release();
    assert_eq!(errors(&mut raw).await, [(a.to_owned(), 0), (b.to_owned(), 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_broker_has_taken_is_told_when_another_one_dies() {
    let [a, b] = TOPICS;
    let world = world();
    let silent = world.source.faults().hold_produce(Some(a));
    let mut raw = world.client().await;
    raw.send(&both([a, b], ONE), 9).await;
    soon("the one has it", silent.wait_until_held(1)).await;
    is_stored(&world.source, b).await;
    world.source.stop_node(0);
    assert_eq!(errors(&mut raw).await, [(a.to_owned(), TIMED_OUT), (b.to_owned(), 0)]);
    assert!(soon("then the connection ends", raw.frame()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_is_nothing_to_a_new_producer() {
    for node in 0..2 {
        let world = world();
        world.source.stop_node(node);
        for _ in 0..4 {
            world.producer().await; // asks that it was given one
        }
    }
}

/// A fetch of the first partition of each of these topics, at these offsets.
fn of_both(at: [i64; 2], max_wait: Duration) -> FetchRequest {
    let mut request = fetch(&[(0, 0)], max_wait, 1 << 20);
    let like = request.topics.remove(0);
    request.topics = TOPICS.into_iter().zip(at).map(|(name, offset)| of(&like, name, offset)).collect();
    request
}

fn of(like: &FetchTopic, name: &str, offset: i64) -> FetchTopic {
    let partition = like.partitions[0].clone().with_fetch_offset(offset);
    FetchTopic::default().with_topic(text(name).into()).with_partitions(vec![partition])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_a_fetch_delays_nobody_elses_records() {
    let [a, b] = TOPICS;
    let world = world();
    for _ in 0..5 {
        world.source.append_directly(b, 0, encode(ONE));
    }
    let silent = world.source.faults().hold(ApiKey::Fetch, Some(a), Point::Process);
    let mut raw = world.client().await;
    // Every record of the other broker's as soon as it is there, whatever time the client would give them all.
    let mut at = 0;
    for more in 0..5 {
        while at < 5 + more {
            raw.send(&of_both([0, at], PATIENT), 12).await;
            let parts = fetched(&mut raw).await;
            assert_eq!(parts.iter().map(|p| p.error_code).collect::<Vec<_>>(), [0, 0], "both are in the answer");
            assert!(parts[0].records.as_ref().is_none_or(|r| r.is_empty()));
            at += records(&parts[1].records.clone().unwrap_or_default(), at).len() as i64;
        }
        world.source.append_directly(b, 0, encode(ONE));
    }
    assert!(silent.held() > 0, "it was asked");
    // With nothing new, the client's own time is the end of it.
    raw.send(&of_both([0, 10], Duration::from_millis(1)), 12).await;
    assert_eq!(fetched(&mut raw).await.len(), 2);
    // When it speaks again, what it has comes as well.
    world.source.append_directly(a, 0, encode(ONE));
    silent.release();
    loop {
        raw.send(&of_both([0, 10], PATIENT), 12).await;
        if fetched(&mut raw).await[0].records.as_ref().is_some_and(|r| !r.is_empty()) {
            break;
        }
    }
}
