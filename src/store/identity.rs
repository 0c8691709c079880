//! Whether this journal may speak for these clusters (DESIGN.md section 4, "The worst accident"). Pure.
//!
//! At every seal a marker is written to a compacted topic on both clusters, between intent and commit. A proxy whose journal does not
//! reach up to a marker has forgotten a seal: it would send producers back to a sealed side.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::fold::State;
use crate::ids::{Side, TopicName};
use crate::offsets::SpliceMap;

/// The key of the marker's record: one per topic, so that compaction keeps the last.
pub const MARKER_KEY: &str = "marker";

/// Topics whose names begin so are kafka-cutover's own.
const MARKERS: &str = "__kafka_cutover.";

/// The topic that holds the markers of the proxy (or fleet) with this `name`.
pub fn marker_topic(name: &str) -> String {
    format!("{MARKERS}{name}")
}

/// Clients do not see it: it appears in the middle of a migration.
pub fn is_marker_topic(topic: &str) -> bool {
    topic.starts_with(MARKERS)
}

/// What is written at a seal: enough to refuse by, and to rebuild a lost state directory from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Marker {
    pub version: u32,
    pub journal: Uuid,
    /// The seal's.
    pub number: u64,
    /// The maps as the seal will leave them.
    pub partitions: Vec<(TopicName, i32, SpliceMap)>,
}

impl Marker {
    pub const VERSION: u32 = 1;

    /// The marker of the newest seal that `state` knows: its maps as the seal under way will leave them, or as they are once it is
    /// done or undone. `None` before the journal has an identity.
    pub fn of(state: &State) -> Option<Marker> {
        let journal = state.identity.as_ref()?.journal;
        let mut maps: BTreeMap<_, _> = state.partitions.iter().map(|(k, h)| (k, h.map.clone())).collect();
        for (key, detail) in state.pending.iter().flat_map(|p| &p.details) {
            if let Some(map) = maps.get_mut(key) {
                *map = detail.map(map).ok()?;
            }
        }
        let partitions = maps.into_iter().map(|(k, map)| (k.topic.clone(), k.partition, map)).collect();
        Some(Marker { version: Self::VERSION, journal, number: state.intent, partitions })
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a marker is plain data")
    }
}

/// What a cluster said when it was asked for its marker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MarkerSeen {
    /// No topic, an empty one, or a tombstone.
    Absent,
    Found(Marker),
    /// A marker of another version, or no marker at all.
    Unreadable(String),
}

impl MarkerSeen {
    /// From the last record of the marker topic; `None` is a tombstone.
    pub fn parse(value: Option<&[u8]>) -> MarkerSeen {
        let Some(value) = value else { return MarkerSeen::Absent };
        match serde_json::from_slice::<Marker>(value) {
            Ok(marker) if marker.version == Marker::VERSION => MarkerSeen::Found(marker),
            Ok(marker) => MarkerSeen::Unreadable(format!("version {}", marker.version)),
            Err(e) => MarkerSeen::Unreadable(e.to_string()),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum IdentityRefusal {
    #[error(
        "{topic} on the {side} cluster says that another kafka-cutover (journal {theirs}) has made seal {number} here, this one's is {ours}: \
         run with that one's state directory, rebuild it with `state import --from-marker`, or give this one another `name`"
    )]
    Foreign { side: Side, topic: String, theirs: Uuid, ours: String, number: u64 },
    #[error(
        "{topic} on the {side} cluster says that seal {number} was begun, the journal knows only {intent}: the state directory is older than \
         the last seal; restore the newest one, or rebuild it with `state import --from-marker`"
    )]
    Ahead { side: Side, topic: String, number: u64, intent: u64 },
    #[error(
        "{topic} on the {side} cluster holds what this version cannot read ({why}): run the version that wrote it, or a newer one"
    )]
    Unreadable { side: Side, topic: String, why: String },
    #[error(
        "the journal is empty, and the {side} cluster has not been asked yet whether another kafka-cutover has made a seal: \
         waiting until it can be reached"
    )]
    Wait { side: Side },
    #[error(
        "the journal is that of `name: {journal}`, the config says `name: {config}`: use the state directory that belongs to it"
    )]
    Name { journal: String, config: String },
    #[error(
        "the {side} cluster has id {found}, the journal knows it as {journal}: the {side}'s bootstrap leads to another cluster; correct it, \
         or use the state directory that belongs to it"
    )]
    Cluster { side: Side, found: String, journal: String },
}

impl IdentityRefusal {
    /// Goes away by itself when the cluster answers.
    pub fn is_wait(&self) -> bool {
        matches!(self, IdentityRefusal::Wait { .. })
    }
}

/// Whether a proxy with this journal may serve. `markers`: by side; `None` when the cluster could not be asked. A journal that knows
/// its clusters does not need both: a dead side must not keep the proxy from starting.
pub fn judge(state: &State, name: &str, markers: &[Option<MarkerSeen>; 2]) -> Result<(), IdentityRefusal> {
    let identity = state.identity.as_ref();
    if let Some(identity) = identity.filter(|i| i.name != name) {
        return Err(IdentityRefusal::Name { journal: identity.name.clone(), config: name.to_owned() });
    }
    let topic = || marker_topic(name);
    for side in Side::BOTH {
        match &markers[side.index()] {
            Some(MarkerSeen::Found(marker)) => match identity {
                Some(ours) if ours.journal == marker.journal => {
                    if marker.number > state.intent {
                        let (number, intent) = (marker.number, state.intent);
                        return Err(IdentityRefusal::Ahead { side, topic: topic(), number, intent });
                    }
                }
                _ => {
                    let ours = identity.map_or("empty".to_owned(), |i| i.journal.to_string());
                    let (theirs, number) = (marker.journal, marker.number);
                    return Err(IdentityRefusal::Foreign { side, topic: topic(), theirs, ours, number });
                }
            },
            Some(MarkerSeen::Unreadable(why)) => {
                return Err(IdentityRefusal::Unreadable { side, topic: topic(), why: why.clone() });
            }
            Some(MarkerSeen::Absent) | None => {}
        }
    }
    let unasked = Side::BOTH.into_iter().find(|side| markers[side.index()].is_none());
    match unasked.filter(|_| identity.is_none()) {
        Some(side) => Err(IdentityRefusal::Wait { side }),
        None => Ok(()),
    }
}

/// Whether the clusters behind the bootstraps are those that the journal knows. By side; `None`: not asked, or not known.
pub fn judge_clusters(state: &State, found: [Option<&str>; 2]) -> Result<(), IdentityRefusal> {
    let Some(identity) = &state.identity else { return Ok(()) };
    let known = [Some(identity.source_cluster_id.as_str()), identity.target_cluster_id.as_deref()];
    for side in Side::BOTH {
        if let (Some(found), Some(journal)) = (found[side.index()], known[side.index()])
            && found != journal
        {
            return Err(IdentityRefusal::Cluster { side, found: found.to_owned(), journal: journal.to_owned() });
        }
    }
    Ok(())
}
