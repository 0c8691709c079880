//! The certificate of a migration, out of what is journalled. Pure.

use crate::control::protocol::{Report, ReportResult, ReportedGroup, ReportedPartition, ReportedSegment};
use crate::ids::{NO_EPOCH, Native, Side, TopicPartition, Virtual};
use crate::migration::status::{rfc3339, skipped, waived};
use crate::offsets::SpliceMap;
use crate::store::{CheckResult, MigrationState, State};

const OPEN: &str = "the migration is not completed: clients go on through the proxy";
const DONE: &str = "clients may now be pointed straight at the target, whole groups at a time, and when none uses the proxy any \
                    more it may go, and then the source; until then keep both, and the state directory; groups that have \
                    come since move first (kafka-cutover switch), and offsets that are kept outside Kafka are translated \
                    first (kafka-cutover offsets translate)";
const FAILED: &str = "a check has failed: read it before you rely on the target alone";

/// `None`: the migration is not prepared.
pub fn of(state: &State, migration: &str) -> Option<Report> {
    let known = state.migrations.get(migration)?;
    let result = match &known.completed {
        None => ReportResult::NotCompleted,
        Some(done) if done.checks.iter().any(|c| c.result == CheckResult::Failed) => ReportResult::Failed,
        Some(_) => ReportResult::Ok,
    };
    let promise = match result {
        ReportResult::NotCompleted => OPEN,
        ReportResult::Ok => DONE,
        ReportResult::Failed => FAILED,
    };
    let done = known.completed.as_ref();
    Some(Report {
        migration: migration.to_owned(),
        scheme: known.scheme.clone(),
        step: known.step.clone(),
        source: state.cluster_id(Side::Source),
        target: state.cluster_id(Side::Target),
        sealed_at: known.sealed_at_ms.map(rfc3339),
        hold_ms: known.hold_ms,
        completed_at: done.map(|d| rfc3339(d.at_ms)),
        partitions: partitions(state, known),
        groups: groups(state, migration, known),
        checks: done.map_or_else(Vec::new, |d| d.checks.clone()),
        waived: waived(known),
        skipped: skipped(known),
        result,
        promise: promise.to_owned(),
    })
}

fn partitions(state: &State, known: &MigrationState) -> Vec<ReportedPartition> {
    let one = |(tp, map): (&TopicPartition, &SpliceMap)| ReportedPartition {
        topic: tp.topic.to_string(),
        partition: tp.partition,
        segments: segments(map),
    };
    if let Some(done) = &known.completed {
        return done.maps.iter().map(|(tp, map)| one((tp, map))).collect();
    }
    let all = known.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.partition)));
    let all = all.map(|(topic, partition)| TopicPartition::new(topic, partition));
    all.filter_map(|tp| Some(one((&tp, &state.partition(&tp)?.map)))).collect()
}

fn segments(map: &SpliceMap) -> Vec<ReportedSegment> {
    let closed = map.segments().iter().map(|s| ReportedSegment {
        side: s.side,
        virtual_start: s.virtual_start,
        native_start: s.native_start,
        length: Some(s.length),
    });
    let open = ReportedSegment {
        side: map.tail_side(),
        virtual_start: map.tail_start(),
        native_start: map.native_tail_start(),
        length: None,
    };
    closed.chain([open]).collect()
}

/// The map that such segments tell of. `None`: they are none of one log.
pub fn map(segments: &[ReportedSegment]) -> Option<SpliceMap> {
    let first = segments.first()?;
    if first.virtual_start != Virtual(0) || first.native_start != Native(0) {
        return None;
    }
    let whole = SpliceMap::whole(first.side);
    let map = segments.windows(2).try_fold(whole, |map, pair| {
        let (closed, next) = (pair.first()?, pair.get(1)?);
        let end = Native(closed.native_start.0.checked_add(closed.length.filter(|length| *length >= 0)?)?);
        map.sealed(end, NO_EPOCH, (next.side, next.native_start)).ok()
    })?;
    (self::segments(&map) == segments).then_some(map)
}

/// Those that were moved for it, and those that were closed with it.
fn groups(state: &State, migration: &str, known: &MigrationState) -> Vec<ReportedGroup> {
    let done = known.completed.as_ref();
    let moved = state.groups.iter().filter(|(_, home)| home.migration == migration).map(|(id, _)| id);
    let closed = done.into_iter().flat_map(|d| d.groups.keys());
    let ids: std::collections::BTreeSet<&String> = moved.chain(closed).collect();
    let one = |id: &String| {
        let (home, closed) = (state.groups.get(id), done.and_then(|d| d.groups.get(id)));
        ReportedGroup {
            id: id.clone(),
            home: closed.map(|c| c.home).or(home.map(|h| h.side)).unwrap_or(crate::groups::home::DEFAULT),
            moved_at: home.map(|h| rfc3339(h.moved_at_ms)),
            before: home.map_or_else(Vec::new, |h| h.positions.as_ref().clone()),
            after: closed.map_or_else(Vec::new, |c| c.positions.as_ref().clone()),
        }
    };
    ids.into_iter().map(one).collect()
}
