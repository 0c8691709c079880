//! Readers skip what lies on a side that is lost (DESIGN.md section 9): what may be skipped, and the events that say so.
//! Pure.

use crate::control::protocol::Refusal;
use crate::ids::{Side, TopicPartition};
use crate::offsets::Segment;
use crate::store::event::Skipped;
use crate::store::{MigrationState, State};

/// What the operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    pub migration: &'a str,
    pub partition: &'a TopicPartition,
    pub why: &'a str,
}

/// What is to be journalled for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub side: Side,
    pub skipped: Vec<Skipped>,
    /// Readers get it now. Otherwise only the reason is another one.
    pub is_read: bool,
}

/// `None`: it was skipped before, in the same words.
pub fn plan(state: &State, asked: Asked<'_>, at_ms: i64) -> Result<Option<Plan>, Refusal> {
    let Asked { migration, partition, why } = asked;
    let why = why.trim();
    if why.is_empty() {
        let message = format!("a part of {partition} would be skipped without a reason");
        return Err(Refusal::new("bad_request", message, "say why it is given up (--why TEXT): it is kept on record"));
    }
    let Some(known) = state.migrations.get(migration) else {
        let message = format!("migration {migration} is not prepared");
        let hint = format!("run `kafka-cutover prepare {migration}` first");
        return Err(Refusal::new("not_prepared", message, hint));
    };
    let Some(history) = state.partition(partition).filter(|_| has(known, partition)) else {
        let message = format!("{partition} is no partition of migration {migration}");
        let hint = format!("`kafka-cutover status {migration}` lists its topics; a partition is named TOPIC:NUMBER");
        return Err(Refusal::new("unknown_partition", message, hint));
    };
    let nothing = |message: String| Refusal::new("nothing_to_skip", message, "readers need no skip here");
    if history.map.seals() == 0 {
        return Err(nothing(format!("{partition} has no seam yet: nothing of it lies on the side that was left")));
    }
    if history.map.is_late() {
        return Err(nothing(format!("the late seam of {partition} is still open: nobody knows yet where it lies")));
    }
    let side = history.map.open_side().other();
    let closed: Vec<&Segment> = history.map.closed_away().collect();
    if closed.is_empty() {
        return Err(nothing(format!("{partition} has no record on the {side} below its seam")));
    }
    let read: Vec<&Segment> = closed.iter().copied().filter(|s| !s.skipped).collect();
    let is_read = !read.is_empty();
    let said = |s: &Segment| known.skipped.iter().any(|k| is_about(k, partition, s) && k.why == why);
    if !is_read && closed.iter().all(|s| said(s)) {
        return Ok(None);
    }
    let event = |s: &Segment| Skipped {
        migration: migration.to_owned(),
        topic: partition.topic.clone(),
        partition: partition.partition,
        side,
        from: s.virtual_start,
        to: s.virtual_end(),
        why: why.to_owned(),
        at_ms,
    };
    let about = if is_read { read } else { closed };
    Ok(Some(Plan { side, skipped: about.into_iter().map(event).collect(), is_read }))
}

fn has(known: &MigrationState, partition: &TopicPartition) -> bool {
    let named = known.topics.iter().filter(|t| t.name == partition.topic);
    named.flat_map(|t| &t.partitions).any(|p| p.partition == partition.partition)
}

fn is_about(known: &Skipped, partition: &TopicPartition, segment: &Segment) -> bool {
    known.topic_partition() == *partition && (known.side, known.from) == (segment.side, segment.virtual_start)
}

/// The side has its leader's answer: nothing is lost yet.
pub fn refuse_readable(partition: &TopicPartition, side: Side) -> Refusal {
    let message = format!(
        "{partition} can be read on the {side}: its leader answers, and what readers have not read there would be lost to them"
    );
    Refusal::new("readable", message, "let them read up to the seam, or skip it all the same with --force")
}
