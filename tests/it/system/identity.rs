//! The worst accident (DESIGN.md section 4): a proxy that forgot a seal, or two of them. Each is refused in words that help.

use std::path::Path;

use kafka_cutover::config::Config;
use kafka_cutover::ids::Side;
use kafka_cutover::proxy;

use super::world::*;

/// The same proxy with directory and socket of its own.
fn beside(world: &World, name: &str) -> Config {
    let mut config = world.config.clone();
    config.state.dir = world.dir.path().join(name);
    config.control.socket = world.dir.path().join(format!("{name}.sock"));
    config
}

fn why(config: Config) -> String {
    match proxy::start(config) {
        Ok(_) => panic!("it must not start"),
        Err(error) => format!("{error:#}"),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_proxy_on_the_state_directory_or_the_port_is_refused() {
    let world = World::new(1);
    let mut second = beside(&world, "second");
    second.state.dir = world.config.state.dir.clone();
    let text = why(second);
    assert!(text.contains("in use by another kafka-cutover"), "{text}");

    let mut second = beside(&world, "second");
    second.listeners[0].bind = world.bound();
    let text = why(second);
    assert!(text.contains(&world.bound().to_string()) && text.contains("cannot be listened on"), "{text}");

    let mut second = beside(&world, "second");
    second.control.socket = world.config.control.socket.clone();
    let text = why(second);
    assert!(text.contains("control.sock"), "{text}");
    append(&mut world.client().await, 0, 1_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_a_foreign_and_an_older_state_are_refused_after_a_seal() {
    let mut world = World::new(1);
    // Another proxy with a journal of its own, from before the seal.
    let foreign = beside(&world, "foreign");
    drop(proxy::start(foreign.clone()).expect("nothing is sealed yet: it may"));
    world.prepare().await;
    drop(world.proxy.take());
    copy(&world.config.state.dir, &world.dir.path().join("older"));
    world.start().unwrap();
    append(&mut world.client().await, 0, 1_000, 0).await;
    world.switch().await.expect("switched");
    drop(world.proxy.take());

    let text = why(beside(&world, "empty"));
    assert!(text.contains("another kafka-cutover") && text.contains("this one's is empty"), "{text}");
    assert!(text.contains(MARKERS) && text.contains("import --from-marker"), "what to do: {text}");
    let text = why(foreign);
    assert!(text.contains("another kafka-cutover") && !text.contains("this one's is empty"), "{text}");
    let text = why(beside(&world, "older"));
    assert!(text.contains("older than the last seal"), "{text}");
    let mut swapped = world.config.clone();
    std::mem::swap(&mut swapped.source, &mut swapped.target);
    let text = why(swapped);
    assert!(text.contains("leads to another cluster"), "{text}");

    // The right one goes on.
    world.start().unwrap();
    let mut raw = world.client().await;
    append(&mut raw, 0, 2_000, 1).await;
    assert_eq!(world.stored(0).1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn either_clusters_marker_is_enough() {
    for side in Side::BOTH {
        let mut world = World::new(1);
        world.cut_over().await;
        drop(world.proxy.take());
        world.cluster(side).delete_topic(MARKERS);
        let text = why(beside(&world, "empty"));
        assert!(text.contains(&format!("on the {} cluster", side.other())), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_state_waits_until_both_clusters_were_asked() {
    let mut world = World::new(1);
    world.cut_over().await;
    drop(world.proxy.take());
    // The source's marker is gone and the target cannot be asked: an empty journal cannot know.
    world.source.delete_topic(MARKERS);
    world.target.stop_node(0);
    let empty = beside(&world, "empty");
    let control = kafka_cutover::control::client::Client::new(&empty.control.socket);
    let start = tokio::task::spawn_blocking(move || why(empty));
    eventually("it is up", async || control.status().await.is_ok()).await;
    assert!(!start.is_finished(), "it waits");
    world.target.start_node(0).unwrap();
    let text = soon("the start ends", start).await.unwrap();
    assert!(text.contains("another kafka-cutover"), "{text}");
}
