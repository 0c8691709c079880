//! The handles that the rest of the proxy counts with. Held, not looked up; `table.rs` says what each means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::registry::{ByApi, ByValue, Handle, Registry, Values};
use super::table;
use crate::ids::{Side, TopicPartition};

macro_rules! values {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$value_doc])* $value),* }

        impl Values for $name {
            const ALL: &'static [Self] = &[$($name::$value),*];

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self { $($name::$value => $text),* }
            }
        }
    )*};
}

values! {
    Direction { In = "in", Out = "out" }

    /// How a hold ended.
    HoldOutcome {
        /// The seal was persisted: what was held went on to the new side.
        Sealed = "sealed",
        /// Refused or out of budget: it went to the old side.
        Undone = "undone",
    }

    /// What became of a group that was to move to another home.
    GroupOutcome {
        Moved = "moved",
        /// It is where it was.
        Undone = "undone",
    }

    /// The sequence gate's verdict.
    GateOutcome {
        Passed = "passed",
        /// The old side has it: acknowledged, not sent.
        Duplicate = "duplicate",
        Gap = "gap",
        /// An older epoch.
        Fenced = "fenced",
        /// The gate knows nothing of this producer.
        Unknown = "unknown",
    }

    RejectReason {
        TooLarge = "too_large",
        Malformed = "malformed",
        UnknownApi = "unknown_api",
        UnsupportedVersion = "unsupported_version",
        NotKafka = "not_kafka",
        /// A connection beyond the listener's limits.
        Limit = "limit",
    }

    ShadowOutcome { Written = "written", Failed = "failed" }
}

impl Values for Side {
    const ALL: &'static [Self] = &Side::BOTH;

    fn index(self) -> usize {
        Side::index(self)
    }

    fn name(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

/// One proxy's metrics; shared by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub connections: Gauge,
    pub connections_total: Counter,
    pub requests: ByApi<Counter>,
    request_bytes: [ByApi<Counter>; 2],
    upstream_requests: [ByApi<Counter>; 2],
    /// `InFlight` counts here; the gauge shows it when it is asked for.
    pub held_bytes: Arc<AtomicUsize>,
    held_bytes_gauge: Gauge,
    pub request_duration: ByApi<Histogram>,
    pub held_requests: Gauge,
    pub holds: ByValue<Counter>,
    pub groups_moved: ByValue<Counter>,
    pub hold_duration: Histogram,
    pub seal_duration: Histogram,
    pub sequence_gate: ByValue<Counter>,
    pub transactions_refused: Counter,
    pub transactional_ids_moved: Counter,
    pub truncations: ByValue<Counter>,
    pub trailer_metadata_dropped: Counter,
    pub shadow_commits: ByValue<Counter>,
    pub rejected_frames: ByValue<Counter>,
    pub upstream_connect_failures: ByValue<Counter>,
    pub cluster_reachable: ByValue<Gauge>,
    pub journal_appends: Counter,
    pub(super) mirror_records: Counter,
    pub(super) mirror_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// With a recorder of its own.
    pub fn new() -> Self {
        let r = Registry::new();
        let by_api = |metric, label| ByApi::new(&r, metric, Some(label));
        Self {
            connections: Handle::register(&r, &table::CONNECTIONS, &[]),
            connections_total: Handle::register(&r, &table::CONNECTIONS_TOTAL, &[]),
            requests: ByApi::new(&r, &table::REQUESTS, None),
            request_bytes: [by_api(&table::REQUEST_BYTES, "in"), by_api(&table::REQUEST_BYTES, "out")],
            upstream_requests: [
                by_api(&table::UPSTREAM_REQUESTS, Side::Source.name()),
                by_api(&table::UPSTREAM_REQUESTS, Side::Target.name()),
            ],
            held_bytes: Arc::default(),
            held_bytes_gauge: Handle::register(&r, &table::HELD_BYTES, &[]),
            request_duration: ByApi::new(&r, &table::REQUEST_DURATION, None),
            held_requests: Handle::register(&r, &table::HELD_REQUESTS, &[]),
            holds: ByValue::new::<HoldOutcome>(&r, &table::HOLDS),
            groups_moved: ByValue::new::<GroupOutcome>(&r, &table::GROUPS_MOVED),
            hold_duration: Handle::register(&r, &table::HOLD_DURATION, &[]),
            seal_duration: Handle::register(&r, &table::SEAL_DURATION, &[]),
            sequence_gate: ByValue::new::<GateOutcome>(&r, &table::SEQUENCE_GATE),
            transactions_refused: Handle::register(&r, &table::TRANSACTIONS_REFUSED, &[]),
            transactional_ids_moved: Handle::register(&r, &table::TRANSACTIONAL_IDS_MOVED, &[]),
            truncations: ByValue::new::<Side>(&r, &table::TRUNCATIONS),
            trailer_metadata_dropped: Handle::register(&r, &table::TRAILER_METADATA_DROPPED, &[]),
            shadow_commits: ByValue::new::<ShadowOutcome>(&r, &table::SHADOW_COMMITS),
            rejected_frames: ByValue::new::<RejectReason>(&r, &table::REJECTED_FRAMES),
            upstream_connect_failures: ByValue::new::<Side>(&r, &table::UPSTREAM_CONNECT_FAILURES),
            cluster_reachable: ByValue::new::<Side>(&r, &table::CLUSTER_REACHABLE),
            mirror_records: Handle::register(&r, &table::MIRROR_RECORDS, &[]),
            mirror_bytes: Handle::register(&r, &table::MIRROR_BYTES, &[]),
            journal_appends: Handle::register(&r, &table::JOURNAL_APPENDS, &[]),
            registry: r,
        }
    }

    pub fn request_bytes(&self, api_key: i16, direction: Direction) -> &Counter {
        let [into, out] = &self.request_bytes;
        match direction {
            Direction::In => into.of(api_key),
            Direction::Out => out.of(api_key),
        }
    }

    pub fn upstream_requests(&self, api_key: i16, side: Side) -> &Counter {
        let [source, target] = &self.upstream_requests;
        match side {
            Side::Source => source.of(api_key),
            Side::Target => target.of(api_key),
        }
    }

    /// 1 at `step`, 0 at the scheme's other steps. Not for the data path: looks the handles up.
    pub fn set_migration_step(&self, migration: &str, step: &str, all: &[&str]) {
        for name in all {
            let gauge = Gauge::register(&self.registry, &table::MIGRATION_STEP, &[migration, name]);
            gauge.set(if *name == step { 1.0 } else { 0.0 });
        }
    }

    /// Not for the data path: looks the handle up.
    pub fn segments(&self, partition: &TopicPartition) -> Gauge {
        let number = partition.partition.to_string();
        Gauge::register(&self.registry, &table::SEGMENTS, &[&*partition.topic, number.as_str()])
    }

    /// Not for the data path: looks the handle up.
    pub fn stragglers(&self, migration: &str) -> Counter {
        Counter::register(&self.registry, &table::STRAGGLERS, &[migration])
    }

    /// Not for the data path: looks the handle up. How many there are is the caller's to bound.
    pub fn group_lag(&self, migration: &str, group: &str) -> Gauge {
        Gauge::register(&self.registry, &table::GROUP_LAG, &[migration, group])
    }

    /// Not for the data path: looks the handle up.
    pub fn skipped(&self, migration: &str) -> Gauge {
        Gauge::register(&self.registry, &table::SKIPPED, &[migration])
    }

    /// How the mirrors of a migration stand. Not for the data path: looks the handles up.
    pub fn mirror(&self, migration: &str, lag: i64, behind: Duration, stopped: usize) {
        let gauge = |metric| Gauge::register(&self.registry, metric, &[migration]);
        gauge(&table::MIRROR_LAG).set(lag as f64);
        gauge(&table::MIRROR_BEHIND).set(behind.as_secs_f64());
        gauge(&table::MIRROR_STOPPED).set(stopped as f64);
    }

    /// Prometheus' text format.
    pub fn render(&self) -> String {
        self.held_bytes_gauge.set(self.held_bytes.load(Ordering::Relaxed) as f64);
        self.registry.handle().render()
    }

    /// Moves what histograms gathered into their buckets; without it they grow until the next `render`.
    pub fn upkeep(&self) {
        self.registry.handle().run_upkeep();
    }
}
