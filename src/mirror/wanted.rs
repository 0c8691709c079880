//! Which partitions the journal wants mirrored, and how. Pure.

use uuid::Uuid;

use super::checkpoint::Key;
use super::lane::Route;
use crate::ids::{NOffset, Native, Side, TopicName, TopicPartition};
use crate::offsets::SpliceMap;
use crate::store::{PreparedTopic, State};

/// A partition that has a copy, or gets one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub migration: String,
    pub route: Route,
    /// Where the origin is read first, and where on the copy's side that lies.
    pub start: (NOffset, NOffset),
    pub topic_ids: [Uuid; 2],
    /// It is copied still: its first seal is to come.
    pub is_open: bool,
    /// Where on the copy's side what came behind it begins.
    pub seam: Option<NOffset>,
}

impl Wanted {
    pub fn key(&self) -> Key {
        Key { partition: self.route.partition.clone(), writer: self.route.writer }
    }
}

/// All of migrations that are not completed.
pub fn wanted(journal: &State) -> Vec<Wanted> {
    let mut all = vec![];
    for (name, migration) in journal.migrations.iter().filter(|(_, m)| m.completed.is_none()) {
        for topic in &migration.topics {
            all.extend(partitions(journal, name, topic));
        }
    }
    all
}

fn partitions<'a>(
    journal: &'a State,
    migration: &'a str,
    topic: &'a PreparedTopic,
) -> impl Iterator<Item = Wanted> + 'a {
    let mirror = topic.mirror.as_ref();
    topic.partitions.iter().filter_map(move |prepared| {
        let mirror = mirror?;
        let partition = TopicPartition::new(topic.name.clone(), prepared.partition);
        let origin = mirror.starts.iter().find(|(index, _)| *index == prepared.partition)?.1;
        let start = (origin, Native(prepared.target_start));
        let is_open = journal.partition(&partition).is_none_or(|history| history.map.seals() == 0);
        Some(Wanted {
            migration: migration.to_owned(),
            start,
            topic_ids: [topic.source_id, topic.target_id],
            is_open,
            seam: journal.partition(&partition).and_then(|history| seam(&history.map, Side::Target)),
            route: Route { partition, from: Side::Source, writer: mirror.writer },
        })
    })
}

/// Where a side's first part of the log begins.
fn seam(map: &SpliceMap, side: Side) -> Option<NOffset> {
    let tail = (map.tail_side() == side).then(|| map.native_tail_start());
    let first = map.segments().iter().find(|segment| segment.side == side).map(|segment| segment.native_start);
    first.or(tail).or_else(|| map.late_next().filter(|_| map.open_side() == side))
}

/// Topics whose copy is under way: what is set on them is the mirror's.
pub fn topics(journal: &State) -> Vec<TopicName> {
    let open = wanted(journal).into_iter().filter(|wanted| wanted.is_open);
    let mut names: Vec<TopicName> = open.map(|wanted| wanted.route.partition.topic).collect();
    names.dedup();
    names
}
