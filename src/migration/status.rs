//! What `status` shows: read from the snapshots at the moment of the question.
#![expect(clippy::disallowed_methods, reason = "io: reads the clock")]

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;

use super::{late, scheme};
use crate::config::{Config, Migration};
use crate::control::protocol::{
    ClusterStatus, Clusters, GroupStatus, Guard, LateSeam, MigrationStatus, MirrorStatus, MirrorStopped,
    NEXT_SWITCH_CONSUMERS, NEXT_SWITCH_PRODUCERS, PartitionBehind, ProxyStatus, SkippedPart, Status, Waived,
};
use crate::groups::drained::{Drain, GroupDrain, Standing};
use crate::ids::Side;
use crate::routing::Shared;
use crate::store::event::WaiverKind;
use crate::store::{MigrationState, Store};

/// Shared by everybody who shows or knows something. Before the proxy serves it knows the config alone.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    config: Config,
    serving: OnceLock<(Arc<Shared>, Arc<Store>)>,
    errors: Mutex<[Option<String>; 2]>,
}

impl Board {
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Inner { config, serving: OnceLock::new(), errors: Mutex::default() }))
    }

    pub fn serve(&self, shared: Arc<Shared>, store: Arc<Store>) {
        // Told once, by the composition root.
        drop(self.0.serving.set((shared, store)));
    }

    /// The outcome of the last look at a cluster.
    pub fn heard(&self, side: Side, error: Option<String>) {
        self.0.errors.lock().unwrap_or_else(PoisonError::into_inner)[side.index()] = error;
    }

    pub fn error(&self, side: Side) -> Option<String> {
        self.0.errors.lock().unwrap_or_else(PoisonError::into_inner)[side.index()].clone()
    }

    pub fn status(&self) -> Status {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let Some((shared, store)) = self.0.serving.get() else {
            let migrations = self.0.config.migrations.iter().map(|m| migration(m, None, None)).collect();
            let proxy = ProxyStatus { version, ready: false };
            return Status { proxy, clusters: Clusters::default(), migrations };
        };
        let topology = shared.topology.load();
        let cluster = |side: Side| ClusterStatus {
            id: topology.side(side).map(|c| c.cluster_id.clone()),
            reachable: topology.reachable(side),
        };
        let clusters = Clusters { source: cluster(Side::Source), target: cluster(Side::Target) };
        let open = open_sides(shared);
        let ready = Side::BOTH.into_iter().any(|s| open[s.index()] && topology.reachable(s));
        let state = store.state();
        let migrations = self.0.config.migrations.iter();
        let migrations = migrations.map(|m| migration(m, state.migrations.get(&m.name), Some(shared))).collect();
        Status { proxy: ProxyStatus { version, ready }, clusters, migrations }
    }
}

/// By side: does some partition's log end there?
pub fn open_sides(shared: &Shared) -> [bool; 2] {
    let mut open = [false; 2];
    open[shared.config.default_side.index()] = true;
    let partitions = shared.partitions.load();
    let maps = partitions.topics.values().flat_map(|t| t.iter()).flat_map(|p| [p.map.open_side(), p.map.tail_side()]);
    maps.for_each(|side| open[side.index()] = true);
    open
}

fn migration(config: &Migration, state: Option<&MigrationState>, shared: Option<&Arc<Shared>>) -> MigrationStatus {
    let step = state.map_or(scheme::CONFIGURED, |s| s.step.as_str());
    let held_since = state.and_then(|s| s.consumers_held_at_ms);
    let next = match held_since {
        Some(_) => Some(NEXT_SWITCH_CONSUMERS),
        None => scheme::next(config.scheme, step),
    };
    let mut topics: Vec<(String, usize)> = match (state, shared) {
        (Some(state), _) => state.topics.iter().map(|t| (t.name.to_string(), t.partitions.len())).collect(),
        (None, Some(shared)) => matching(config, shared),
        (None, None) => vec![],
    };
    topics.sort();
    let unprepared: Vec<String> = match (state, shared) {
        (Some(_), Some(shared)) => {
            let mut all: Vec<String> = matching(config, shared).into_iter().map(|(name, _)| name).collect();
            all.retain(|name| !topics.iter().any(|(known, _)| known == name));
            all.sort();
            all
        }
        _ => vec![],
    };
    let drain = shared.and_then(|s| s.drains.of(&config.name));
    let mirrored = shared.and_then(|shared| mirror(&config.name, state?, shared));
    MigrationStatus {
        name: config.name.clone(),
        scheme: config.scheme,
        step: step.to_owned(),
        next: next.map(str::to_owned),
        guard: match late_seam(config, state, shared) {
            Some(late) => Guard { ok: false, reason: Some(late::waits(&late.waits_for)) },
            None => mirror_guard(next, mirrored.as_ref()).unwrap_or_else(|| guard(next, shared)),
        },
        partitions: topics.iter().map(|(_, n)| n).sum(),
        topics: topics.into_iter().map(|(name, _)| name).collect(),
        sealed_at: state.and_then(|s| s.sealed_at_ms).map(rfc3339),
        hold_ms: state.and_then(|s| s.hold_ms),
        consumers_held_since: held_since.map(rfc3339),
        late_seam: late_seam(config, state, shared),
        mirror: mirrored.clone(),
        stragglers: shared.map_or(0, |s| s.stragglers.of(&config.name)),
        truncated: shared.map_or_else(Vec::new, |s| s.truncations.of(&config.name)),
        unprepared,
        groups: drain.as_deref().map_or_else(Vec::new, |d| groups(d, state)),
        groups_not_heard: drain.as_deref().map_or_else(Vec::new, not_heard),
        waived: state.map_or_else(Vec::new, waived),
        skipped: state.map_or_else(Vec::new, skipped),
    }
}

fn late_seam(config: &Migration, state: Option<&MigrationState>, shared: Option<&Arc<Shared>>) -> Option<LateSeam> {
    let since = rfc3339(state?.late_since_ms?);
    Some(LateSeam { since, waits_for: shared.map(|s| s.late_seams.of(&config.name)).unwrap_or_default() })
}

/// While it is made: after the switch of producers a copy is as it is.
fn mirror(name: &str, state: &MigrationState, shared: &Shared) -> Option<MirrorStatus> {
    let partitions = state.topics.iter().filter(|t| t.mirror.is_some()).map(|t| t.partitions.len()).sum();
    if partitions == 0 || state.sealed_at_ms.is_some() {
        return None;
    }
    let now = Instant::now();
    let mut status = MirrorStatus {
        from: Side::Source,
        partitions,
        caught_up: 0,
        lag: 0,
        behind_ms: 0,
        records: 0,
        bytes: 0,
        stopped: vec![],
    };
    for mirrored in shared.mirrors.of_migration(name) {
        let standing = mirrored.standing(now);
        status.caught_up += usize::from(standing.keeps_up());
        status.lag += standing.lag.and_then(|lag| u64::try_from(lag).ok()).unwrap_or(0);
        let behind = standing.behind.map_or(0, |behind| u64::try_from(behind.as_millis()).unwrap_or(u64::MAX));
        status.behind_ms = status.behind_ms.max(behind);
        status.records += standing.records;
        status.bytes += standing.bytes;
        if let Some(stop) = standing.stopped.filter(|_| status.stopped.len() < MOST_SHOWN) {
            status.stopped.push(MirrorStopped {
                topic: mirrored.route.partition.topic.to_string(),
                partition: mirrored.route.partition.partition,
                code: stop.code.to_owned(),
                why: stop.message,
                what_to_do: stop.what_to_do,
            });
        }
    }
    Some(status)
}

/// What the switch of producers waits for.
fn mirror_guard(next: Option<&str>, mirror: Option<&MirrorStatus>) -> Option<Guard> {
    let mirror = mirror.filter(|_| next == Some(NEXT_SWITCH_PRODUCERS))?;
    let reason = match mirror.stopped.first() {
        Some(stop) => format!("the mirror stands still: {}", stop.why),
        None if mirror.caught_up < mirror.partitions => format!(
            "the mirror has not caught up: {} of {} partitions have, {} offsets to go",
            mirror.caught_up, mirror.partitions, mirror.lag
        ),
        None => return None,
    };
    Some(Guard { ok: false, reason: Some(reason) })
}

/// Lines of one migration, and partitions of one group: beyond it the first ones say enough.
const MOST_SHOWN: usize = 100;

fn groups(drain: &Drain, state: Option<&MigrationState>) -> Vec<GroupStatus> {
    let shown = |group: &GroupDrain| GroupStatus {
        id: group.id.clone(),
        home: group.home,
        state: group.state.clone(),
        behind: group.behind(),
        uncommitted: group.uncommitted(),
        waived: state.and_then(|s| s.waiver(WaiverKind::Group, &group.id)).map(|w| w.why.clone()),
        partitions: behind(group),
    };
    drain.groups.iter().map(shown).collect()
}

fn behind(group: &GroupDrain) -> Vec<PartitionBehind> {
    let open = group.partitions.iter().filter(|p| p.standing != Standing::Drained);
    let shown = open.take(MOST_SHOWN).map(|p| PartitionBehind {
        topic: p.partition.topic.to_string(),
        partition: p.partition.partition,
        position: p.position.map(|v| v.0),
        behind: match p.standing {
            Standing::Drained => Some(0),
            Standing::Behind(left) | Standing::Uncommitted(left) => Some(left),
            Standing::Unknown => None,
        },
    });
    shown.collect()
}

fn not_heard(drain: &Drain) -> Vec<String> {
    drain.unheard.iter().take(MOST_SHOWN).map(|u| u.what.clone()).collect()
}

pub fn waived(state: &MigrationState) -> Vec<Waived> {
    let shown = state.waived.iter().map(|w| Waived {
        kind: w.kind,
        name: w.name.clone(),
        why: w.why.clone(),
        at: rfc3339(w.at_ms),
    });
    shown.collect()
}

pub fn skipped(state: &MigrationState) -> Vec<SkippedPart> {
    let shown = state.skipped.iter().map(|s| SkippedPart {
        topic: s.topic.to_string(),
        partition: s.partition,
        side: s.side,
        from: s.from,
        to: s.to,
        why: s.why.clone(),
        at: rfc3339(s.at_ms),
    });
    shown.collect()
}

fn matching(config: &Migration, shared: &Shared) -> Vec<(String, usize)> {
    let topology = shared.topology.load();
    let Some(source) = topology.side(Side::Source) else { return vec![] };
    let topics = source.topics.iter().filter(|(name, _)| config.matches(name));
    topics.map(|(name, view)| (name.to_string(), view.partitions.len())).collect()
}

/// What can be said without asking anybody; the step itself asks.
fn guard(next: Option<&str>, shared: Option<&Arc<Shared>>) -> Guard {
    let refused = |reason: &str| Guard { ok: false, reason: Some(reason.to_owned()) };
    let Some(shared) = shared else { return refused("the proxy is starting: the clusters have not been asked yet") };
    // Readers are let go on whoever can be reached.
    if matches!(next, None | Some(NEXT_SWITCH_CONSUMERS)) {
        return Guard { ok: true, reason: None };
    }
    let topology = shared.topology.load();
    match Side::BOTH.into_iter().find(|side| !topology.reachable(*side)) {
        Some(side) => refused(&format!("the {side} cluster cannot be reached")),
        None => Guard { ok: true, reason: None },
    }
}

pub fn rfc3339(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}
