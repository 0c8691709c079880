//! One broker of several is away, or says nothing.

use std::time::Duration;

use kafka_cutover::embedded::Cluster;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

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
