//! `mirror: forward`: what the source holds comes along, each record once and in order, and the target goes on behind it.

use kafka_cutover::config::{Mirror, Pattern};
use kafka_cutover::control::protocol::{MirrorStatus, StepBody};
use kafka_cutover::embedded::{Effect, Point};
use kafka_cutover::ids::Side;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{CreatePartitionsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::crossing::{until_late, until_placed};
use super::transactions::{Producer, committed, contents};
use super::world::*;

fn world(partitions: i32) -> World {
    World::with(partitions, |config| config.migrations[0].mirror = Mirror::Forward)
}

async fn mirror(world: &World) -> MirrorStatus {
    status(world).await.mirror.expect("it is mirrored")
}

async fn until_copied(world: &World, records: i64) {
    eventually("it is copied", async || world.stored(0).1 >= records).await;
    eventually("the mirror has caught up", async || status(world).await.guard.ok).await;
}

/// `cutover` waits for the mirror, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_waits_for_the_mirror() {
    let world = world(1);
    appended(&world, 0..3).await;
    let hold = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Process);
    let cutover = ["cutover", MIGRATION, "--yes"];
    let cutover = command_line(&world, &cutover);
    let meanwhile = async {
        soon("it reads", hold.wait_until_held(1)).await;
        let guard = status(&world).await.guard;
        assert!(guard.reason.is_some_and(|why| why.contains("the mirror has not caught up")));
        hold.release();
    };
    let ((_, told, why), ()) = tokio::join!(cutover, meanwhile);
    assert!(told.contains("at step `producers-switched`"), "{told}\n{why}");
    assert_eq!(times(&world, Side::Target, 0), [0, 1, 2]);
}

/// The timestamps of the records on a side, in their order: each test gives each record its own.
fn times(world: &World, side: Side, partition: i32) -> Vec<i64> {
    let log = world.cluster(side).log("moved", partition);
    let data = log.iter().filter(|batch| !batch.header.is_control());
    data.flat_map(|batch| (0..i64::from(batch.header.count)).map(|i| batch.header.base_timestamp + i)).collect()
}

async fn appended(world: &World, times: std::ops::Range<i64>) {
    let mut raw = world.client().await;
    for (offset, time) in (world.source.log_end("moved", 0).unwrap()..).zip(times) {
        append(&mut raw, 0, time, offset).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_holds_lies_below_what_comes() {
    let mut world = world(2);
    appended(&world, 0..5).await;
    world.prepare().await;
    until_copied(&world, 5).await;
    appended(&world, 5..8).await;
    until_copied(&world, 8).await;
    world.restart().unwrap();
    appended(&world, 8..10).await;
    until_copied(&world, 10).await;
    let mirror = mirror(&world).await;
    assert_eq!((mirror.partitions, mirror.caught_up, mirror.lag, mirror.stopped), (2, 2, 0, vec![]));
    // Prepared again it goes on.
    world.prepare().await;
    until_copied(&world, 10).await;
    world.switch().await.expect("switched");
    let mut raw = world.client().await;
    append(&mut raw, 0, 10, 10).await;
    append(&mut raw, 1, 11, 0).await;
    assert_eq!(times(&world, Side::Target, 0), (0..=10).collect::<Vec<_>>());
    assert_eq!(times(&world, Side::Target, 1), [11]);
    let read = read(&mut raw, 0, 0, 11, 1 << 20).await;
    assert_eq!(read.iter().map(|seen| seen.timestamp).collect::<Vec<_>>(), (0..=10).collect::<Vec<_>>());
    assert!(status(&world).await.mirror.is_none(), "its time is over");
    assert_eq!(world.metric("kafka_cutover_mirror_records_total").await, 2.0, "since the start");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_committed_is_copied_and_the_seam_lies_behind_its_copy() {
    let world = world(1);
    let mut tx = Producer::begin(&world.address(), "tx").await;
    tx.write("moved", 2, true).await;
    tx.write("moved", 3, false).await;
    tx.write("moved", 1, true).await;
    world.prepare().await;
    until_copied(&world, 3).await;
    assert_eq!(world.stored(0).1, 3);
    // One that is open when producers switch: what it has written stays on the source.
    assert_eq!(tx.add(&[("moved", 0)]).await, [0]);
    assert_eq!(tx.produce("moved", 0, 2).await.0, 0);
    let switch = world.begin_switch();
    until_late(&world).await;
    let mut plain = world.client().await;
    assert_eq!(soon("a plain batch", plain.produce("moved", 0, encode(ONE))).await, (0, -1));
    assert_eq!(tx.end(true).await, 0);
    soon("the switch ends", switch).await.unwrap().expect("switched");
    until_placed(&world).await;
    assert_eq!(world.stored(0).1, 4);
    let end = world.source.log_end("moved", 0).unwrap();
    let all = contents(&committed(&world, 0).await).0;
    assert_eq!(all, [0, 1, 3, 4, 5, 7, 9, 10], "in the source's part");
    assert_eq!(contents(&committed(&world, end).await).0, [end]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_copied_once_whatever_is_lost() {
    let mut world = world(1);
    world.prepare().await;
    appended(&world, 0..3).await;
    until_copied(&world, 3).await;
    let faults = world.target.faults().clone();
    let mut expected = 3;
    for turn in 0..4 {
        match turn {
            // Its answer is lost, it is lost itself, it is refused once, the process ends before its answer.
            0 => faults.drop_after_append(1, Some("moved")),
            1 => faults.drop_before_append(1, Some("moved")),
            2 => faults.refuse_produce(1, Some("moved"), 19),
            _ => {
                let hold = faults.hold(ApiKey::Produce, Some("moved"), Point::Answer);
                appended(&world, expected..expected + 3).await;
                expected += 3;
                soon("it waits for its answer", hold.wait_until_held(1)).await;
                world.restart().unwrap();
                hold.release();
            }
        }
        appended(&world, expected..expected + 3).await;
        expected += 3;
        until_copied(&world, expected).await;
        assert_eq!(times(&world, Side::Target, 0), (0..expected).collect::<Vec<_>>(), "turn {turn}");
    }
    world.source.faults().next(2, ApiKey::Fetch, Some("moved"), Effect::DropBefore);
    appended(&world, expected..expected + 3).await;
    until_copied(&world, expected + 3).await;
    world.switch().await.expect("switched");
    assert_eq!(times(&world, Side::Target, 0), (0..expected + 3).collect::<Vec<_>>());
}

async fn until_stopped(world: &World, code: &str) -> String {
    let mut found = None;
    eventually(&format!("the mirror stops: {code}"), async || {
        found = mirror(world).await.stopped.into_iter().next();
        found.is_some()
    })
    .await;
    let stopped = found.unwrap();
    assert_eq!(stopped.code, code, "{stopped:?}");
    assert!(!stopped.what_to_do.is_empty());
    let refusal = refused(world.switch().await);
    assert_eq!(refusal.code, "mirror_stopped");
    assert!(refusal.message.contains(&stopped.why), "{}", refusal.message);
    eventually("it is counted", async || {
        world.metric("kafka_cutover_mirror_stopped_partitions{migration=\"moved\"}").await > 0.0
    })
    .await;
    stopped.why
}

#[tokio::test(flavor = "multi_thread")]
async fn who_else_writes_to_the_copy_stops_it() {
    let world = world(1);
    appended(&world, 0..3).await;
    world.prepare().await;
    until_copied(&world, 3).await;
    let at = world.target.append_directly("moved", 0, encode(ONE)).unwrap();
    appended(&world, 3..4).await;
    let why = until_stopped(&world, "foreign_writer").await;
    assert!(
        why.contains(&format!("moved-0 on the target ends at {}, the mirror has written up to {at}", at + 1)),
        "{why}"
    );
    // Given up, it is as it was, and the copy is left to the operator.
    soon("abort", world.control().abort(MIGRATION, &StepBody::default())).await.expect("aborted");
    let refusal = refused(soon("prepare", world.control().prepare(MIGRATION, &StepBody::default())).await);
    assert!(refusal.message.contains("moved"), "{}", refusal.message);
    world.target.delete_topic("moved");
    world.prepare().await;
    until_copied(&world, 4).await;
    world.switch().await.expect("switched");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_overtakes_it_stops_it() {
    let world = world(1);
    appended(&world, 0..3).await;
    world.source.set_log_start("moved", 0, 1);
    world.prepare().await;
    until_copied(&world, 2).await;
    let hold = world.source.faults().hold(ApiKey::Fetch, Some("moved"), Point::Process);
    soon("it reads", hold.wait_until_held(1)).await;
    appended(&world, 3..6).await;
    world.source.set_log_start("moved", 0, 5);
    hold.release();
    let why = until_stopped(&world, "overtaken").await;
    assert!(why.contains("begins at 5, and was copied up to 3"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_loses_records_stops_it() {
    let world = world(1);
    appended(&world, 0..3).await;
    world.prepare().await;
    until_copied(&world, 3).await;
    world.source.lose_records("moved", 0, 1);
    let why = until_stopped(&world, "truncated").await;
    assert!(why.contains("ends at 1, and was copied up to 3"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_refuses_is_tried_again() {
    let world = world(1);
    world.prepare().await;
    let topic_authorization_failed = 29;
    world.target.faults().refuse_produce(1, Some("moved"), topic_authorization_failed);
    appended(&world, 0..3).await;
    let why = until_stopped(&world, "refused").await;
    assert!(why.contains("TopicAuthorizationFailed"), "{why}");
    until_copied(&world, 3).await;
    world.switch().await.expect("switched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_begins_where_its_origin_does() {
    let world = world(1);
    appended(&world, 0..6).await;
    world.prepare().await;
    until_copied(&world, 6).await;
    let begins = world.target.log_start("moved", 0).unwrap();
    world.source.set_log_start("moved", 0, 2);
    eventually("it is trimmed", async || world.target.log_start("moved", 0) == Some(begins + 2)).await;
    world.switch().await.expect("switched");
    world.source.set_log_start("moved", 0, 5);
    eventually("it is trimmed", async || world.target.log_start("moved", 0) == Some(begins + 5)).await;
}

const NAMES: [&str; 3] = ["retention.ms", "message.timestamp.type", "max.message.bytes"];

/// What a cluster says that `moved` is set to, in the order of `NAMES`.
async fn set_to(address: &str) -> [String; 3] {
    set_to_of(address, "moved").await
}

async fn set_to_of(address: &str, topic: &'static str) -> [String; 3] {
    let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = Raw::connect(address).await.ask(&request, 4).await;
    let configs = &answer.results[0].configs;
    NAMES.map(|name| {
        let config = configs.iter().find(|c| c.name.as_str() == name);
        config.and_then(|c| c.value.as_ref()).map_or_else(String::new, |v| v.to_string())
    })
}

async fn alter(world: &World, name: &str, value: &str) {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("moved"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = world.client().await.ask(&request, 1).await;
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_keeps_its_records_and_clients_see_what_is_configured() {
    let world = world(1);
    alter(&world, "retention.ms", "86400000").await;
    appended(&world, 0..3).await;
    world.prepare().await;
    until_copied(&world, 3).await;
    let target = world.target.bootstrap()[0].clone();
    assert_eq!(set_to(&target).await[..2], ["-1", "CreateTime"]);
    assert_eq!(set_to(&world.address()).await[0], "86400000");
    alter(&world, "retention.ms", "3600000").await;
    assert_eq!(set_to(&world.address()).await[0], "3600000");
    assert_eq!(set_to(&target).await[0], "-1");
    let outcome = soon("abort", world.control().abort(MIGRATION, &StepBody::default())).await.expect("aborted");
    assert_eq!(set_to(&target).await, set_to(&world.address()).await, "{:?}", outcome.done);
}

/// What was set before, by whom, and what somebody has set since.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_given_up_is_set_as_it_was() {
    let mut world = world(1);
    world.target.create_topic("moved", 1, &[("retention.ms", "777")]).unwrap();
    appended(&world, 0..3).await;
    world.prepare().await;
    until_copied(&world, 3).await;
    let target = world.target.bootstrap()[0].clone();
    assert_eq!(set_to(&target).await[0], "-1");
    // The cluster is away when the migration is given up; it is not forgotten.
    world.target.stop_node(0);
    soon("abort", world.control().abort(MIGRATION, &StepBody::default())).await.expect("aborted");
    world.target.start_node(0).unwrap();
    world.restart().unwrap();
    eventually("it is set as it was", async || set_to(&target).await[0] == "777").await;
}

/// A pattern that matches a topic no longer, and one whose source was made anew.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_leave_or_are_others_are_copied_no_more() {
    let mut world = world(1);
    world.source.create_topic("moved-2", 1, &[]).unwrap();
    appended(&world, 0..3).await;
    world.prepare().await;
    until_copied(&world, 3).await;
    assert_eq!(status(&world).await.partitions, 2);
    world.config.migrations[0].topics = vec![Pattern::new("moved").unwrap()];
    world.restart().unwrap();
    world.prepare().await;
    let target = world.target.bootstrap()[0].clone();
    let of = async |topic: &'static str| set_to_of(&target, topic).await[0].clone();
    eventually("it is as it was", async || of("moved-2").await != "-1").await;
    assert_eq!(of("moved").await, "-1");
    // More partitions come, on both sides.
    let topic = CreatePartitionsTopic::default().with_name(text("moved").into()).with_count(2).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    for side in Side::BOTH {
        let answer = Raw::connect(&world.cluster(side).bootstrap()[0]).await.ask(&request, 3).await;
        assert_eq!(answer.results[0].error_code, 0);
    }
    eventually("they are seen", async || {
        soon("prepare", world.control().prepare(MIGRATION, &StepBody::default())).await.is_ok()
            && status(&world).await.partitions == 2
    })
    .await;
    eventually("they are copied, too", async || mirror(&world).await.caught_up == 2).await;
    world.switch().await.expect("switched");
}
