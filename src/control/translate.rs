//! Answers `offsets translate` from what is decided: the same for the running proxy and for a journal that is only looked at. Pure.

use super::protocol::{Refusal, Report, SegmentOf, SidePosition, Terms, TranslateQuery, Translation};
use crate::ids::{Native, Side, TopicPartition, Virtual};
use crate::migration::certificate;
use crate::offsets::translated::{Owner, There};
use crate::offsets::{NoPlace, Position, SpliceMap, translate};
use crate::store::{PreparedTopic, State};

pub const QUERY: &str =
    "ask for /v1/offsets/translate?topic=T&partition=P&offset=V, and &from=virtual, source or target";

impl Terms {
    /// As in the query and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Terms::Virtual => "virtual",
            Terms::Source => "source",
            Terms::Target => "target",
        }
    }

    fn position(self, offset: i64) -> Position {
        match self {
            Terms::Virtual => Position::Virtual(Virtual(offset)),
            Terms::Source => Position::Native(Side::Source, Native(offset)),
            Terms::Target => Position::Native(Side::Target, Native(offset)),
        }
    }
}

pub fn answer(state: &State, asked: &TranslateQuery) -> Result<Translation, Refusal> {
    let key = TopicPartition::new(asked.topic.as_str(), asked.partition);
    let migration = state.partition(&key).and_then(|_| migration_of(state, &key));
    // What was left with the end of a migration is still what an offset from before it means.
    let completed = migration.as_ref().and_then(|name| state.migrations.get(name)?.completed.as_ref());
    let map = completed.and_then(|done| done.maps.iter().find(|(tp, _)| *tp == key)).map(|(_, map)| map);
    // What no migration has prepared stays on the source.
    let whole = SpliceMap::whole(Side::Source);
    let map = map.or_else(|| state.partition(&key).map(|history| &history.map)).unwrap_or(&whole);
    by(map, migration, asked)
}

/// The same from a certificate.
pub fn by_certificate(report: &Report, asked: &TranslateQuery) -> Result<Translation, Refusal> {
    let found = report.partitions.iter().find(|p| p.topic == asked.topic && p.partition == asked.partition);
    let unknown = || {
        let message = format!("the certificate of {} has no {}-{}", report.migration, asked.topic, asked.partition);
        Refusal::new("not_mapped", message, "take that of the migration which moved it")
    };
    let broken = || {
        let message =
            format!("the segments of {}-{} in the certificate are none of a log", asked.topic, asked.partition);
        Refusal::new("bad_request", message, "take it as `kafka-cutover report --format json` wrote it")
    };
    let map = certificate::map(&found.ok_or_else(unknown)?.segments).ok_or_else(broken)?;
    by(&map, Some(report.migration.clone()), asked)
}

fn by(map: &SpliceMap, migration: Option<String>, asked: &TranslateQuery) -> Result<Translation, Refusal> {
    let TranslateQuery { topic, partition, offset, from } = asked;
    if topic.is_empty() || *partition < 0 {
        return Err(Refusal::new("bad_request", "a topic has a name, and its partitions count from 0", QUERY));
    }
    let key = TopicPartition::new(topic.as_str(), *partition);
    let translated = translate(map, from.position(*offset)).map_err(|no_place| refusal(&key, no_place))?;
    let Owner { number, side, virtual_start, native_start, length } = translated.owner;
    let [source, target] =
        translated.sides.map(|side| side.map(|There { native, exact }| SidePosition { native, exact }));
    Ok(Translation {
        topic: topic.clone(),
        partition: *partition,
        migration,
        at: translated.at,
        native: translated.native,
        segment: SegmentOf { number, side, virtual_start, native_start, length },
        source,
        target,
        read_up_to: translated.read_up_to,
    })
}

fn migration_of(state: &State, key: &TopicPartition) -> Option<String> {
    let has = |topic: &PreparedTopic| {
        topic.name == key.topic && topic.partitions.iter().any(|p| p.partition == key.partition)
    };
    state.migrations.iter().find(|(_, m)| m.topics.iter().any(has)).map(|(name, _)| name.clone())
}

fn refusal(key: &TopicPartition, no_place: NoPlace) -> Refusal {
    let (code, hint) = match no_place {
        NoPlace::Negative(_) => ("bad_request", "ask for an offset of 0 or more".to_owned()),
        NoPlace::TooLarge(_) => ("bad_request", "ask for an offset that the log can have".to_owned()),
        NoPlace::Below { start, .. } => ("not_mapped", format!("ask for virtual {start} or later")),
        NoPlace::NoPart(_) => {
            ("not_mapped", "it gets one when its producers switch there: ask for a virtual offset".to_owned())
        }
        NoPlace::Unmapped { side, before: Some(end), .. } => {
            ("not_mapped", format!("who has read all before it stands at {side} {end}: ask for that"))
        }
        NoPlace::Unmapped { side, after: Some(start), .. } => {
            ("not_mapped", format!("ask for {side} {start} or later"))
        }
        NoPlace::Unmapped { .. } => ("not_mapped", "ask for a virtual offset".to_owned()),
    };
    Refusal::new(code, format!("{key}: {no_place}"), hint)
}
