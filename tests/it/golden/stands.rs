//! Where a migration stands while a golden runs: `api::world`'s two clusters, with topic ids of their own on each side.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use kafka_cutover::config::Config;
use kafka_cutover::ids::{Side, TopicName, Virtual, VirtualPid};
use kafka_cutover::monitor::Metrics;
use kafka_cutover::producers::gate::Recent;
use kafka_cutover::upstream::{ClusterView, TopicView, Topology};
use uuid::Uuid;

use super::text::Names;
pub(super) use crate::api::world::World;

pub(super) const SOURCE_ORDERS: &str = "a0000000-0000-0000-0000-000000000001";
pub(super) const SOURCE_PLAIN: &str = "a0000000-0000-0000-0000-000000000002";
pub(super) const SOURCE_MARKER: &str = "a0000000-0000-0000-0000-000000000003";
pub(super) const TARGET_ORDERS: &str = "b0000000-0000-0000-0000-000000000001";
const TARGET_PLAIN: &str = "b0000000-0000-0000-0000-000000000002";
pub(super) const NOBODYS: &str = "c0000000-0000-0000-0000-000000000001";
pub(super) const NIL: &str = "00000000-0000-0000-0000-000000000000";

pub(super) const NAMES: Names = &[
    (SOURCE_ORDERS, "id(orders, source)"),
    (SOURCE_PLAIN, "id(plain, source)"),
    (SOURCE_MARKER, "id(our own, source)"),
    (TARGET_ORDERS, "id(orders, target)"),
    (TARGET_PLAIN, "id(plain, target)"),
    (NOBODYS, "id(nobody's)"),
    (NIL, "no id"),
];

/// What no client may see of the target.
pub(super) const SECRET_IDS: [&str; 2] = [TARGET_ORDERS, TARGET_PLAIN];

/// The head of every file.
pub(super) const LEGEND: &str = "\
# Written by `cargo test --test it -- golden` with KAFKA_CUTOVER_BLESS=1; see tests/it/golden/mod.rs.
# Clients see the nodes 1 (proxy-1:9092) and 2 (proxy-2:9092). The source's brokers are 1600000001 to 3, the target's
# 1700000001 to 3; leader epochs are 5329233 on the source, 6381921 on the target. Migration `shop` has topic `orders`,
# of 3 partitions; `plain`, of 2, is in none. Sealed: `orders` lies on the source below 100, and goes on on the target,
# where its offset 100 is 7. A field that does not stand here is not in the message.
";

#[derive(Clone, Copy)]
pub(super) struct Stand {
    pub(super) says: &'static str,
    pub(super) make: fn() -> World,
}

pub(super) const BEFORE: Stand = Stand { says: "before the migration", make: || named(before()) };
pub(super) const PREPARED: Stand = Stand { says: "prepared", make: prepared };
pub(super) const SEALED: Stand = Stand { says: "sealed", make: || named(sealed()) };
pub(super) const TARGET_LOST: Stand = Stand {
    says: "sealed, the target is gone",
    make: || {
        let world = sealed();
        world.lose(Side::Target);
        named(world)
    },
};
pub(super) const SOURCE_LOST: Stand = Stand {
    says: "before the migration, the source is gone",
    make: || {
        let world = before();
        world.lose(Side::Source);
        named(world)
    },
};
/// Where a list of all topics has no order of its own.
pub(super) const ONE_TOPIC: Stand = Stand {
    says: "sealed, `plain` is not there",
    make: || {
        let world = named(sealed());
        without_plain(&world);
        world
    },
};
pub(super) const CREATES: Stand = Stand {
    says: "before the migration",
    make: || {
        let world = before();
        world.create_topics();
        named(world)
    },
};
/// Producer 7 had its sequences up to 4 on the source, the last batch at 97.
pub(super) const GATED: Stand = Stand { says: "sealed, producer 7 came to sequence 4 before", make: gated };

/// Made once: a pattern and the metrics cost more than all else of a run.
fn before() -> World {
    static MADE: LazyLock<(Config, Arc<Metrics>)> = LazyLock::new(|| (World::config(), Arc::new(Metrics::new())));
    World::of(MADE.0.clone(), MADE.1.clone())
}

fn sealed() -> World {
    let world = before();
    world.seal();
    world
}

fn prepared() -> World {
    let world = named(before());
    world.prepare();
    world
}

fn gated() -> World {
    let world = named(sealed());
    for state in world.shared.partitions.load().topics["orders"].iter() {
        let (pid, at_ms) = (VirtualPid(7), 1_699_999_999_000);
        let last = Recent { pid, epoch: 0, last_sequence: 4, base_offset: Some(Virtual(97)), at_ms };
        state.live.gate().seal(1, [(last, at_ms)]);
    }
    world
}

/// The same topics have other ids on the other side.
fn named(world: World) -> World {
    let id = |id: &str| Uuid::parse_str(id).expect("a UUID");
    let mut topology = Topology::clone(&world.shared.topology.load());
    for (side, orders, plain) in
        [(Side::Source, SOURCE_ORDERS, SOURCE_PLAIN), (Side::Target, TARGET_ORDERS, TARGET_PLAIN)]
    {
        let mut view = topology.side(side).expect("both sides are known").as_ref().clone();
        view.names = HashMap::new();
        for (topic, uuid) in [("orders", id(orders)), ("plain", id(plain))] {
            let topic = TopicName::from(topic);
            let named = TopicView { id: uuid, ..TopicView::clone(&view.topics[&topic]) };
            view.topics.insert(topic.clone(), Arc::new(named));
            view.names.insert(uuid, topic);
        }
        view.hidden = [id(SOURCE_MARKER)].into();
        topology.sides[side.index()] = Some(Arc::new(view));
    }
    world.shared.topology.store(Arc::new(topology));
    world
}

/// The view of a side that comes after a change.
fn look_again(world: &World, side: Side, change: impl Fn(&mut ClusterView)) {
    let mut topology = Topology::clone(&world.shared.topology.load());
    let mut view = topology.side(side).expect("both sides are known").as_ref().clone();
    view.generation += 1;
    change(&mut view);
    topology.sides[side.index()] = Some(Arc::new(view));
    world.shared.topology.store(Arc::new(topology));
}

/// The source has a topic `fresh` now.
pub(super) fn show_fresh(world: &World) {
    look_again(world, Side::Source, |view| {
        let fresh = view.topics["plain"].clone();
        view.topics.insert("fresh".into(), fresh);
    });
}

/// `plain` has a third partition now.
pub(super) fn show_plain_grown(world: &World) {
    look_again(world, Side::Source, |view| {
        let mut grown = TopicView::clone(&view.topics["plain"]);
        grown.partitions.push(grown.partitions[0]);
        view.topics.insert("plain".into(), Arc::new(grown));
    });
}

pub(super) fn without_plain(world: &World) {
    look_again(world, Side::Source, |view| {
        view.topics.remove("plain");
        view.names.retain(|_, name| name.as_ref() != "plain");
    });
}

/// At the second look the source has the topic that it was to create.
pub(super) fn show_nobodys(world: &World) {
    look_again(world, Side::Source, |view| {
        if view.generation == 7 {
            let id = Uuid::parse_str(NOBODYS).expect("a UUID");
            let created = TopicView { id, ..TopicView::clone(&view.topics["plain"]) };
            view.topics.insert("nobodys".into(), Arc::new(created));
        }
    });
}
