//! What an operator sees of a running proxy.

use std::time::{Duration, Instant};

use kafka_cutover::control::protocol::{SidePosition, Terms, TranslateQuery, Translation};
use kafka_cutover::embedded::Point;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, DeleteTopicsRequest, MetadataRequest, ProduceRequest};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn winding_down_can_be_watched_to_its_end() {
    let mut world = World::with(1, |config| config.timeouts.wind_down = Duration::from_secs(600));
    let monitor = world.proxy.as_ref().unwrap().monitor.unwrap();
    let hold = world.source.faults().hold(ApiKey::Produce, None, Point::Answer);
    let mut raw = world.client().await;
    raw.send(&produce("moved", 0, encode(ONE)), 9).await;
    soon("the source has it", hold.wait_until_held(1)).await;
    let proxy = world.proxy.take().unwrap();
    let stopped = tokio::task::spawn_blocking(move || proxy.stop());
    eventually("it says so", async || {
        let (code, body) = World::page_at(monitor, "/readyz").await;
        code == 503 && body.contains("winding down")
    })
    .await;
    assert_eq!(World::page_at(monitor, "/livez").await.0, 200);
    hold.release();
    assert!(soon("the produce is answered", raw.receive::<ProduceRequest>(9)).await.is_some());
    soon("it ends", stopped).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_brokers_are_counted_produce_and_our_own_too() {
    let world = World::new(1);
    append(&mut world.client().await, 0, 1_000, 0).await;
    let of = |api: &str, side: &str| format!("kafka_cutover_upstream_requests_total{{api=\"{api}\",side=\"{side}\"}}");
    assert_eq!(world.metric(&of("Produce", "source")).await, 1.0);
    assert!(world.metric(&of("Metadata", "source")).await >= 1.0);
    world.cut_over().await;
    append(&mut world.client().await, 0, 1_001, 1).await;
    assert!(world.metric(&of("Produce", "target")).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_part_of_a_requests_duration() {
    const AT_LEAST: Duration = Duration::from_millis(110);
    let world = World::with(1, |config| config.seal.hold_budget = Duration::from_secs(600));
    world.prepare().await;
    // The hold lasts until its marker is let go.
    let hold = world.target.faults().hold_produce(Some(MARKERS));
    let switch = world.begin_switch();
    let mut raw = world.client().await;
    let pid = world.producer().await;
    soon("a hold", world.produce_into_hold(&mut raw, 0, pid, 0, 60_000)).await;
    let held_since = Instant::now();
    eventually("it is held for a while", async || held_since.elapsed() > AT_LEAST).await;
    hold.release();
    assert!(soon("the produce is answered", raw.receive::<ProduceRequest>(9)).await.is_some());
    soon("the switch", switch).await.unwrap().expect("switched");
    let all = world.metric("kafka_cutover_request_duration_seconds_count{api=\"Produce\"}").await;
    let short = world.metric("kafka_cutover_request_duration_seconds_bucket{api=\"Produce\",le=\"0.1\"}").await;
    assert!(all - short >= 1.0, "{short} of {all} took no longer than 0.1 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_before_it_was_prepared_can_be_switched() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for offset in 0..3 {
        append(&mut raw, 0, 1_000, offset).await;
    }
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![text("moved").into()]).with_timeout_ms(5_000);
    assert_eq!(raw.ask(&delete, 4).await.responses[0].error_code, 0, "no migration has prepared it");
    world.source.create_topic("moved", 1, &[]).unwrap();
    // One record and not three: what was seen of the old log must not be waited for.
    let mut last = (-1, -1);
    eventually("the new one is known", async || {
        last = raw.produce("moved", 0, encode(ONE)).await;
        last.0 == 0
    })
    .await;
    assert_eq!(last.1, 0);
    world.cut_over().await;
    append(&mut raw, 0, 1_000, 1).await;
    assert_eq!(world.stored(0), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_the_same_topics_after_a_switch() {
    let world = World::new(1);
    let mut raw = world.client().await;
    let all = MetadataRequest::default().with_topics(None);
    let before = raw.ask(&all, 9).await;
    world.cut_over().await;
    assert!(world.source.topics().iter().any(|t| t.starts_with("__kafka_cutover")), "the marker is there");
    // Who asks for a topic that is not known has it looked for.
    world.source.create_topic("late", 1, &[]).unwrap();
    let late = MetadataRequestTopic::default().with_name(Some(text("late").into()));
    let late = MetadataRequest::default().with_topics(Some(vec![late]));
    eventually("the new topic is seen", async || {
        raw.ask(&late, 9).await;
        let after = raw.ask(&all, 9).await;
        let names = after.topics.iter().filter_map(|t| t.name.as_ref());
        assert!(names.clone().all(|n| !n.starts_with("__kafka_cutover")), "{:?}", after.topics);
        names.count() > before.topics.len()
    })
    .await;
}

/// What the proxy answers, and the command line from its journal: the same.
async fn translated(world: &World, offset: i64, from: Terms) -> Translation {
    let asked = TranslateQuery { topic: "moved".to_owned(), partition: 0, offset, from };
    let online = soon("an answer", world.control().translate(&asked)).await.unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kafka-cutover"));
    command.args(["offsets", "translate", "--topic", "moved", "--partition", "0", "--offset", &offset.to_string()]);
    command.args(["--from", from.name(), "--json", "--state"]).arg(&world.config.state.dir);
    let output = soon("the command", command.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(serde_json::from_slice::<Translation>(&output.stdout).unwrap(), online);
    online
}

/// The proxy's directory is locked; a look takes no lock, and the proxy goes on writing after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_translated_alike_by_a_running_proxy_and_from_its_journal() {
    let world = World::new(1);
    let mut raw = world.client().await;
    for i in 0..3 {
        append(&mut raw, 0, 1_000 + i, i).await;
    }
    assert_eq!(translated(&world, 2, Terms::Virtual).await.migration, None);
    world.prepare().await;
    let prepared = translated(&world, 3, Terms::Virtual).await;
    assert_eq!((prepared.migration.as_deref(), prepared.target), (Some(MIGRATION), None));
    world.switch().await.expect("switched");
    append(&mut raw, 0, 1_003, 3).await;
    let seam = translated(&world, 3, Terms::Virtual).await;
    // The target's part may begin behind `prepare`'s own trial.
    let begin = seam.segment.native_start.0;
    let exact = |at: Option<SidePosition>| at.filter(|at| at.exact).map(|at| at.native.0);
    for (offset, from, source, target) in [
        (2, Terms::Virtual, Some(2), None),
        (3, Terms::Virtual, None, Some(begin)),
        (3, Terms::Source, None, Some(begin)),
        (begin, Terms::Target, None, Some(begin)),
        (900, Terms::Virtual, None, Some(begin + 897)),
    ] {
        let t = translated(&world, offset, from).await;
        assert_eq!((exact(t.source), exact(t.target)), (source, target), "{offset} {from:?}");
    }
}
