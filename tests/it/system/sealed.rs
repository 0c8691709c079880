//! What is watched while nobody asks: sealed sides that grow or shrink, clusters that die, topics that come late; and
//! what a start needs.

use std::process::{Command, Stdio};
use std::time::Duration;

use kafka_cutover::config::{Address, Cluster as At};
use kafka_cutover::control::client::ClientError;
use kafka_cutover::control::protocol::{MigrationStatus, Outcome, SwitchBody, Truncated, What};
use kafka_cutover::embedded::{Cluster, ClusterSpec};
use kafka_cutover::ids::Side;
use kafka_cutover::migration::watch::{Judged, Sealed, judge};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};

use super::world::*;

#[test]
fn a_sealed_side_grows_or_shrinks() {
    let sealed = Sealed { end: 10, epoch: 3 };
    let seen = |stragglers, lost_from| Judged { stragglers, lost_from };
    for (log_end, epoch_end, expected) in [
        (10, None, seen(0, None)),
        (10, Some(10), seen(0, None)),
        (13, Some(13), seen(3, None)),
        // A new leader began its epoch behind the seal.
        (13, Some(11), seen(3, None)),
        (7, None, seen(0, Some(7))),
        (7, Some(7), seen(0, Some(7))),
        // Grown beyond its end again: what lies there are other records.
        (12, Some(6), seen(6, Some(6))),
        (12, Some(0), seen(12, Some(0))),
    ] {
        assert_eq!(judge(sealed, log_end, epoch_end), expected, "{log_end} {epoch_end:?}");
    }
}

async fn status(world: &World) -> MigrationStatus {
    world.control().migration(MIGRATION).await.expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn stragglers_are_counted() {
    let world = World::new(1);
    append(&mut world.client().await, 0, 1_000, 0).await;
    world.cut_over().await;
    for _ in 0..2 {
        world.source.append_directly("moved", 0, encode(ONE)).unwrap();
    }
    eventually("both are counted", async || status(&world).await.stragglers == 2).await;
    assert_eq!(status(&world).await.truncated, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_side_that_lost_records_is_named_also_when_it_has_grown_back() {
    for grown_back in [false, true] {
        let world = World::with(1, |c| c.timeouts.metadata_max_age = Duration::from_millis(50));
        let mut raw = world.client().await;
        for i in 0..5 {
            append(&mut raw, 0, 1_000 + i, i).await;
        }
        world.cut_over().await;
        world.source.lose_records("moved", 0, 3);
        if grown_back {
            for _ in 0..4 {
                world.source.append_directly("moved", 0, encode(ONE)).unwrap();
            }
        }
        eventually("it is named", async || !status(&world).await.truncated.is_empty()).await;
        let lost = Truncated { topic: "moved".to_owned(), partition: 0, side: Side::Source, from: 3, end: 5 };
        assert_eq!(status(&world).await.truncated, [lost]);
        let stragglers = if grown_back { 4 } else { 0 };
        eventually("the others are stragglers", async || status(&world).await.stragglers == stragglers).await;
        let (_, page) = world.page("/metrics").await;
        assert!(page.contains(r#"kafka_cutover_truncations_total{side="source"} 1"#), "{page}");
    }
}

async fn dry_run(world: &World) -> Result<Outcome, ClientError> {
    let body = SwitchBody {
        what: What::Producers,
        to: Side::Target,
        force: false,
        hold_consumers: false,
        expect_step: None,
        dry_run: true,
    };
    soon("a dry run", world.control().switch(MIGRATION, &body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_prepare_is_found_before_the_switch() {
    const TRANSACTIONAL: i16 = 1 << 4;
    let world = World::new(1);
    world.prepare().await;
    dry_run(&world).await.expect("nothing is in the way");
    let open = Plan { attributes: TRANSACTIONAL, ..idempotent(77, 0, 0, 1) };
    world.source.append_directly("moved", 0, encode(open)).unwrap();
    for refusal in [refused(dry_run(&world).await), refused(world.switch().await)] {
        assert_eq!(refusal.code, "preflight:hanging_transaction");
        assert!(refusal.message.contains("producer id 77") && refusal.hint.contains("--start-offset 0"), "{refusal:?}");
    }
    assert_eq!(world.step().await, "prepared");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_come_after_prepare_are_listed() {
    let world = World::with(1, |c| c.timeouts.metadata_max_age = Duration::from_millis(50));
    world.source.create_topic("moved.before", 1, &[]).unwrap();
    eventually("it matches", async || status(&world).await.topics.len() == 2).await;
    assert!(status(&world).await.unprepared.is_empty(), "before prepare all that match are shown");
    world.prepare().await;
    world.source.create_topic("moved.later", 1, &[]).unwrap();
    eventually("it is listed", async || status(&world).await.unprepared == ["moved.later"]).await;
    world.prepare().await;
    assert!(status(&world).await.unprepared.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_dies_is_noticed_without_a_client() {
    let never = Duration::from_secs(3_600);
    let world = World::with(1, |c| c.timeouts.metadata_max_age = never);
    eventually("it is ready", async || world.page("/readyz").await.0 == 200).await;
    world.source.stop_node(0);
    eventually("it is not ready", async || world.page("/readyz").await.0 == 503).await;
    world.source.start_node(0).unwrap();
    eventually("it is ready again", async || world.page("/readyz").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_offered_what_every_broker_speaks() {
    let mut world = World::stopped(1, |_| {});
    let fetch = ApiKey::Fetch as i16;
    let upgrading = ClusterSpec { nodes: 2, node_api_limits: [((1, fetch), (4, 11))].into(), ..ClusterSpec::default() };
    world.source = Cluster::start(upgrading).unwrap();
    // The first contact is with the newer one.
    world.config.source = At::at([world.source.bootstrap()[0].parse::<Address>().unwrap()]);
    world.start().unwrap();
    let offered = world.client().await.ask(&ApiVersionsRequest::default(), 3).await.api_keys;
    let fetch = offered.iter().find(|k| k.api_key == fetch).map(|k| (k.min_version, k.max_version));
    assert_eq!(fetch, Some((4, 11)));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_new_protocol_are_offered_where_both_sides_have_them_on() {
    let listed_only = vec![(ApiKey::ConsumerGroupHeartbeat as i16, 0, 1), (ApiKey::ConsumerGroupDescribe as i16, 0, 1)];
    let on = || vec![("group.version", 1)];
    let cases = [(vec![], on(), 0), (on(), vec![("group.version", 0)], 0), (on(), on(), 2)];
    for (source, target, offered) in cases {
        let mut world = World::stopped(1, |_| {});
        let cluster = |features| {
            let listed_only = listed_only.clone();
            Cluster::start(ClusterSpec { listed_only, features, ..ClusterSpec::default() }).unwrap()
        };
        (world.source, world.target) = (cluster(source), cluster(target));
        let at = |c: &Cluster| At::at(c.bootstrap().iter().map(|a| a.parse::<Address>().unwrap()));
        (world.config.source, world.config.target) = (at(&world.source), at(&world.target));
        world.start().unwrap();
        let keys = world.client().await.ask(&ApiVersionsRequest::default(), 3).await.api_keys;
        let of_groups = keys.iter().filter(|k| listed_only.iter().any(|l| l.0 == k.api_key));
        assert_eq!(of_groups.count(), offered);
    }
}

#[test]
fn a_start_that_waits_for_a_cluster_ends_at_the_first_signal() {
    let world = World::stopped(1, |_| {});
    world.target.stop_node(0);
    let file = world.dir.path().join("config.yaml");
    std::fs::write(&file, serde_json::to_string(&world.config).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kafka-cutover"));
    let mut child = command.args(["run", "--config"]).arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let waits = log.by_ref().map_while(Result::ok).any(|line| line.contains("waiting for the clusters"));
    assert!(waits, "it says that it waits");
    let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    // Its end, or a test that hangs: nothing else writes there.
    let rest: Vec<String> = log.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
}
