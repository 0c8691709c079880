//! The one table of all metrics. METRICS.md shows it; a test compares the two, and the table with what is rendered.

/// A metric's name after `kafka_cutover_`, and what it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

macro_rules! table {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub const $constant: Metric = Metric {
            name: concat!("kafka_cutover_", $name),
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*
        pub const ALL: &[&Metric] = &[$(&$constant),*];
    };
}

table! {
    CONNECTIONS: Gauge "connections" [] "client connections that are open";
    CONNECTIONS_TOTAL: Counter "connections_total" [] "client connections that were accepted";
    REQUESTS: Counter "requests_total" ["api"] "requests from clients";
    REQUEST_BYTES: Counter "request_bytes_total" ["api", "direction"] "bytes of requests (in) and of their answers (out), frames with their length";
    UPSTREAM_REQUESTS: Counter "upstream_requests_total" ["api", "side"] "requests to brokers, the proxy's own included";
    HELD_BYTES: Gauge "held_bytes" [] "bytes held for client connections: requests, frames half read, answers not yet written";
    REQUEST_DURATION: Histogram "request_duration_seconds" ["api"] "from a request's last byte to its answer's first, holds and long polls included";
    HELD_REQUESTS: Gauge "held_requests" [] "produce requests that a hold keeps waiting now";
    HOLDS: Counter "holds_total" ["outcome"] "holds of produce, by how they ended";
    GROUPS_MOVED: Counter "groups_moved_total" ["outcome"] "groups that were to move to another home, by what became of them";
    HOLD_DURATION: Histogram "hold_duration_seconds" [] "how long a hold kept produce waiting";
    SEAL_DURATION: Histogram "seal_duration_seconds" [] "a seal from its first freeze to its release";
    MIGRATION_STEP: Gauge "migration_step" ["migration", "step"] "state set: 1 at the step that the migration is at, 0 at the others";
    SEGMENTS: Gauge "segments" ["topic", "partition"] "segments of a partition's splice map; only partitions with more than one";
    STRAGGLERS: Counter "stragglers_total" ["migration"] "records that appeared on a sealed side";
    GROUP_LAG: Gauge "group_lag_to_seal_records" ["migration", "group"] "records below the last seal that a group has not read; NaN while that is not known; of a thousand groups at most";
    SKIPPED: Gauge "skipped_offsets" ["migration"] "offsets on a lost side that `skip` has moved readers over";
    SEQUENCE_GATE: Counter "sequence_gate_total" ["outcome"] "idempotent batches that passed the sequence gate after a seal, by its verdict";
    TRANSACTIONS_REFUSED: Counter "transactions_refused_total" [] "topics that a transaction was refused because it would have spanned both clusters";
    TRANSACTIONAL_IDS_MOVED: Counter "transactional_ids_moved_total" [] "transactional ids that went to the other side";
    TRUNCATIONS: Counter "truncations_total" ["side"] "partitions whose log lost records below what was sealed or delivered";
    TRAILER_METADATA_DROPPED: Counter "trailer_metadata_dropped_total" [] "offset commits whose own metadata did not fit beside the trailer";
    SHADOW_COMMITS: Counter "shadow_commits_total" ["outcome"] "commits of shadows on the side that is not a group's home";
    REJECTED_FRAMES: Counter "rejected_frames_total" ["reason"] "frames from clients that were refused; the connection ends";
    UPSTREAM_CONNECT_FAILURES: Counter "upstream_connect_failures_total" ["side"] "requests for which no connection to a broker could be made";
    CLUSTER_REACHABLE: Gauge "cluster_reachable" ["side"] "1 if some broker of the cluster answers";
    MIRROR_RECORDS: Counter "mirror_records_total" [] "records that the mirrors have copied";
    MIRROR_BYTES: Counter "mirror_bytes_total" [] "bytes of batches that the mirrors have copied";
    MIRROR_LAG: Gauge "mirror_lag_offsets" ["migration"] "offsets that the mirrors of a migration are behind, over its partitions";
    MIRROR_BEHIND: Gauge "mirror_behind_seconds" ["migration"] "for how long the mirror of a migration's partition has not been at the end, the longest";
    MIRROR_STOPPED: Gauge "mirror_stopped_partitions" ["migration"] "partitions of a migration whose mirror stands still; `status` says why";
    JOURNAL_APPENDS: Counter "journal_appends_total" [] "durable appends to the journal";
}

/// METRICS.md, as it has to be.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nServed at `/metrics` of `monitor.bind`. This table is `table.rs` as Markdown; a test compares them.\n\n\
         | name | kind | labels | what it says |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let row = format!("| `{}` | {} | {} | {} |\n", metric.name, metric.kind.name(), labels.join(", "), metric.help);
        text.push_str(&row);
    }
    text
}
