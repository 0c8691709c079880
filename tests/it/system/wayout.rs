//! Before its first seal a migration owes nobody anything: whatever is done to its topics, there is a command that
//! goes on.

use kafka_cutover::control::protocol::{Outcome, StepBody};
use kafka_cutover::ids::Side;
use kafka_cutover::migration::record::{self, Record};
use kafka_cutover::proxy;

use super::world::*;

fn write(world: &World, side: Side, topic: &str) {
    let record = Record { key: None, value: Some("x".into()) };
    world.cluster(side).append_directly(topic, 0, record::batch(&record, 1_000, None)).unwrap();
}

async fn abort(world: &World, dry_run: bool) -> Outcome {
    let body = StepBody { dry_run, ..StepBody::default() };
    soon("abort", world.control().abort(MIGRATION, &body)).await.expect("aborted")
}

/// A record goes to the source, another to the target after a switch; both are read.
async fn moves(world: &World) {
    let mut raw = None;
    // The proxy hears of another topic with its next look.
    eventually("the source takes a record", async || {
        let connection = raw.insert(world.client().await);
        connection.produce("moved", 0, encode(ONE)).await == (0, 0)
    })
    .await;
    let mut raw = raw.expect("a connection");
    world.switch().await.expect("switched");
    append(&mut raw, 0, 2_000, 1).await;
    assert_eq!(world.stored(0), (1, 1));
    assert_eq!(read(&mut raw, 0, 0, 2, 1 << 20).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_topic_that_was_written_to_is_emptied_or_deleted_and_prepared_again() {
    for delete in [false, true] {
        let world = World::new(1);
        world.prepare().await;
        write(&world, Side::Target, "moved");
        let refusal = refused(world.switch().await);
        assert!(refusal.hint.contains("empty the target topic"), "{refusal:?}");
        if delete {
            world.target.delete_topic("moved");
        } else {
            let end = world.target.log_end("moved", 0).unwrap();
            world.target.set_log_start("moved", 0, end);
        }
        world.prepare().await;
        moves(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_from_the_source_leaves_the_migration() {
    let world = World::stopped(1, |_| {});
    world.source.create_topic("moved.too", 1, &[]).unwrap();
    let mut world = world;
    world.start().unwrap();
    world.prepare().await;
    world.source.delete_topic("moved.too");
    assert_eq!(refused(world.switch().await).code, "topic_gone");
    world.prepare().await;
    let known = world.control().migration(MIGRATION).await.unwrap();
    assert_eq!((known.topics, known.partitions), (vec!["moved".to_owned()], 1));
    moves(&world).await;
    assert!(world.target.topics().contains(&"moved.too".to_owned()), "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_on_the_source_goes_on_after_prepare_or_abort() {
    for aborted in [false, true] {
        let world = World::with(1, |c| c.timeouts.metadata_max_age = std::time::Duration::from_millis(50));
        let mut raw = world.client().await;
        for i in 0..5 {
            append(&mut raw, 0, 1_000 + i, i).await;
        }
        world.prepare().await;
        world.source.delete_topic("moved");
        world.source.create_topic("moved", 1, &[]).unwrap();
        assert_eq!(refused(world.switch().await).code, "topic_made_anew");
        if aborted {
            abort(&world, false).await;
        }
        world.prepare().await;
        moves(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_before_prepare_begins_at_its_own_end() {
    let world = World::with(1, |c| c.timeouts.metadata_max_age = std::time::Duration::from_millis(50));
    let pid = world.producer().await;
    let mut raw = world.client().await;
    for sequence in 0..5 {
        let done = raw.produce("moved", 0, encode(idempotent(pid, 0, sequence, 1))).await;
        assert_eq!(done, (0, i64::from(sequence)));
    }
    assert_eq!(fetch_one(&mut raw, 0, 5, NO_WAIT).await.high_watermark, 5);
    world.source.delete_topic("moved");
    world.source.create_topic("moved", 1, &[]).unwrap();
    // The old log's end would be told, and no switch would ever be made: the new log has less than was acknowledged.
    eventually("its own end is told", async || fetch_one(&mut raw, 0, 0, NO_WAIT).await.high_watermark == 0).await;
    world.prepare().await;
    moves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_forgets_deletes_nothing_and_says_what_is_left() {
    const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    let mut world = World::new(2);
    world.prepare().await;
    // A switch that is undone leaves its markers behind.
    world.target.faults().refuse_produce(1, Some(MARKERS), TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(refused(world.switch().await).code, "marker_not_written");
    let marked = || Side::BOTH.into_iter().all(|side| world.cluster(side).log_end(MARKERS, 0) > Some(0));
    eventually("both have a marker", async || marked()).await;
    let mut raw = world.client().await;
    append(&mut raw, 0, 1_000, 0).await;

    let tried = abort(&world, true).await;
    assert_eq!((tried.step.as_str(), world.step().await), ("prepared", "prepared".to_owned()));
    let done = abort(&world, false).await;
    assert_eq!((done.step.as_str(), world.step().await), ("configured", "configured".to_owned()));
    let text = done.done.join("\n");
    assert!(text.contains("left on the target: topic moved, empty"), "{text}");
    assert!(text.contains("marker on the source") && text.contains("marker on the target"), "{text}");
    assert_eq!(world.target.partition_count("moved"), Some(2));
    let again = abort(&world, false).await;
    assert_eq!(again.done, ["forgot 0 topics; they stay on the source, as they were"], "each time the same end");
    append(&mut raw, 0, 1_001, 1).await;
    drop(raw);

    // Another journal may begin, and the old one lets the config go.
    drop(world.proxy.take());
    let mut fresh = world.config.clone();
    fresh.state.dir = world.dir.path().join("fresh");
    drop(proxy::start(fresh).expect("no marker is left"));
    let kept = world.config.migrations.split_off(0);
    world.start().expect("the config may leave it out");
    drop(world.proxy.take());
    world.config.migrations = kept;
    world.start().unwrap();
    world.cut_over().await;
    let refusal = world.control().abort(MIGRATION, &StepBody::default()).await;
    assert_eq!(refused(refusal).code, "too_late");
}
