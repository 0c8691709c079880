//! The whole act, in its order.
#![expect(clippy::disallowed_methods, reason = "io: the seal's clock, and its pauses between two looks")]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all, try_join3};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::hold::{self, Hold, Sync};
use super::reading::{self, Judged, Known, Reading};
use super::{refuse, settle};
use crate::clock;
use crate::control::protocol::Refusal;
use crate::ids::{CONSUMER, DEBUGGING_CONSUMER, LATEST, Native, Side, TopicPartition};
use crate::migration::marker;
use crate::monitor::metrics::HoldOutcome;
use crate::offsets::SpliceMap;
use crate::routing::shared::HoldDeadline;
use crate::routing::{Live, Shared, track};
use crate::store::identity::Marker;
use crate::store::{Event, SealDetail, Store, StoreError};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask;
use crate::upstream::discovery;

const READ_UNCOMMITTED: i8 = 0;
/// Between two readings that were not still yet.
const PAUSE: Duration = Duration::from_millis(2);

/// Everything that a seal works with.
pub struct Act<'a> {
    pub shared: &'a Shared,
    pub store: &'a Arc<Store>,
    pub admins: &'a [Rc<Admin>; 2],
    pub workers: &'a [Sync],
    pub deadlines: &'a mut mpsc::UnboundedReceiver<HoldDeadline>,
    pub migration: String,
    pub partitions: Vec<TopicPartition>,
    pub to: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub hold_ms: u64,
    pub partitions: usize,
}

/// Why it did not end well.
#[derive(Debug)]
pub enum Failed {
    /// Undone: everything is where it was.
    Refused(Refusal),
    /// Nobody knows whether the commit is durable: the process must end, and hold what it holds until then.
    Fatal(StoreError),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Failed::Refused(refusal)
    }
}

/// Seals the partitions and opens them on the other side.
pub async fn run(act: Act<'_>) -> Result<Sealed, Failed> {
    let started = Instant::now();
    let lives = lives(act.shared, &act.partitions)?;
    let old = act.to.other();
    wait_until_settled(act.shared, &lives).await?;
    for admin in act.admins {
        marker::ensure_topic(admin, &act.shared.config.name).await.map_err(|e| unreachable(&e))?;
    }
    // Fresh leaders on both sides, so that the hold does not have to look for them.
    let views = join(look(&act, old), look(&act, act.to)).await;
    let views = (views.0?, views.1?);
    let Act { shared, store, admins, workers, deadlines, migration, partitions, to } = act;
    let mut hold = Hold::begin(shared, &partitions, deadlines, shared.config.seal.hold_budget);
    let work = Work { shared, store, admins, migration: &migration, partitions: &partitions, lives: &lives, to };
    let outcome = work.under(&mut hold, workers, &views).await;
    let hold_ms = hold.held_ms();
    shared.metrics.hold_duration.record(Duration::from_millis(hold_ms).as_secs_f64());
    match outcome {
        Ok(maps) => {
            crate::crash_point!("seal.committed");
            let state = store.state();
            for ((partition, map), (_, live)) in maps.iter().zip(&lives) {
                if let Some(history) = state.partition(partition) {
                    live.gate().seal(map.seals(), track::table(history));
                }
                live.unknowns().clear();
            }
            crate::crash_point!("seal.published");
            hold::release(shared, &maps);
            crate::crash_point!("seal.released");
            shared.metrics.holds.of(HoldOutcome::Sealed).increment(1);
            shared.metrics.seal_duration.record(started.elapsed().as_secs_f64());
            Ok(Sealed { hold_ms, partitions: maps.len() })
        }
        Err(Failed::Refused(refusal)) => {
            hold.undo(&partitions);
            shared.metrics.holds.of(HoldOutcome::Undone).increment(1);
            Err(Failed::Refused(refusal))
        }
        // What is held stays held until the process ends.
        Err(fatal) => Err(fatal),
    }
}

fn lives(shared: &Shared, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, Arc<Live>)>, Refusal> {
    let snapshot = shared.partitions.load();
    let find = |tp: &TopicPartition| {
        let state = snapshot.get(&tp.topic, tp.partition);
        state.map(|s| (tp.clone(), s.live.clone())).ok_or_else(|| {
            refuse("topic_gone", format!("{tp} is no longer on the source"), "prepare the migration again")
        })
    };
    partitions.iter().map(find).collect()
}

/// A partition on which something may still land unseen is not sealed, and not held for it either.
async fn wait_until_settled(shared: &Shared, lives: &[(TopicPartition, Arc<Live>)]) -> Result<(), Refusal> {
    let until = Instant::now() + shared.config.seal.settle_time * 3;
    while let Some((at_ms, partition)) = settle::unsettled(lives, clock::now_ms()) {
        let left = Duration::from_millis(u64::try_from(at_ms - clock::now_ms()).unwrap_or(0));
        if Instant::now() + left > until {
            let message = format!("connections with produce for {partition} on its way are lost again and again");
            return Err(refuse("unsettled", message, "look at the source's brokers, then try again"));
        }
        tracing::info!(%partition, wait_ms = left.as_millis(), "waiting: produce without an outcome may still land");
        tokio::time::sleep(left).await;
    }
    Ok(())
}

async fn look(act: &Act<'_>, side: Side) -> Result<Arc<ClusterView>, Refusal> {
    let known = act.shared.topology.load().side(side).map(|c| c.broker_list()).unwrap_or_default();
    let seen = discovery::look(&act.admins[side.index()], &known).await;
    seen.map(Arc::new).map_err(|e| unreachable(&e))
}

fn unreachable(error: &AdminError) -> Refusal {
    refuse("cluster_unreachable", error.to_string(), "nothing was changed; try again when it can be reached")
}

struct Work<'a> {
    shared: &'a Shared,
    store: &'a Arc<Store>,
    admins: &'a [Rc<Admin>; 2],
    migration: &'a str,
    partitions: &'a [TopicPartition],
    lives: &'a [(TopicPartition, Arc<Live>)],
    to: Side,
}

type Maps = Vec<(TopicPartition, SpliceMap)>;
type Views = (Arc<ClusterView>, Arc<ClusterView>);

impl Work<'_> {
    /// Steps 1 to 5. After `Ok` the seal is committed.
    async fn under(&self, hold: &mut Hold<'_>, workers: &[Sync], views: &Views) -> Result<Maps, Failed> {
        hold.acknowledged(workers).await?;
        crate::crash_point!("seal.held");
        hold.within(self.settle(&views.0)).await??;
        crate::crash_point!("seal.settled");
        let details = hold.within(self.read(views)).await??;
        crate::crash_point!("seal.read");
        self.persist(hold, details, views).await
    }

    async fn settle(&self, view: &ClusterView) -> Result<(), Refusal> {
        let old = self.to.other();
        for (_, live) in self.lives {
            settle::quiet(live).await;
        }
        while !settle::resolve(&self.admins[old.index()], view, self.lives, old).await {
            tokio::time::sleep(PAUSE).await;
        }
        match settle::unsettled(self.lives, clock::now_ms()) {
            None => Ok(()),
            Some((_, partition)) => {
                let message = format!("a connection with produce for {partition} on its way was lost in the hold");
                Err(refuse("unsettled", message, "try again; the next attempt waits for it before it holds anything"))
            }
        }
    }

    /// Reads until all is still; the details of every partition, and its new map.
    async fn read(&self, views: &Views) -> Result<Vec<(SealDetail, SpliceMap)>, Refusal> {
        let number = self.store.state().intent + 1;
        let mut reason = "";
        loop {
            let readings = match self.look_once(views).await {
                Ok(readings) => readings,
                Err(error) if error.is_passing() => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(unreachable(&error)),
            };
            let mut done = Vec::with_capacity(readings.len());
            for (reading, (_, live)) in readings.iter().zip(self.lives) {
                let known = self.known(reading, live);
                match reading::judge(reading, &known, self.to, clock::now_ms()) {
                    Judged::Sealed { map, end, next, producers } => {
                        let detail = SealDetail {
                            migration: self.migration.to_owned(),
                            number,
                            topic: reading.partition.topic.clone(),
                            partition: reading.partition.partition,
                            end,
                            end_epoch: reading.end_epoch,
                            next: (self.to, next),
                            producers,
                        };
                        done.push((detail, map));
                    }
                    Judged::Again(why) => {
                        if why != reason {
                            tracing::debug!(partition = %reading.partition, why, "reading the end again");
                            reason = why;
                        }
                        break;
                    }
                    Judged::Refused(why) => {
                        let hint = "stop who writes there, empty the target topic and prepare again, or abort";
                        return Err(refuse("foreign_writer", why, hint));
                    }
                }
            }
            if done.len() == self.partitions.len() {
                return Ok(done);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn known(&self, reading: &Reading, live: &Live) -> Known {
        let snapshot = self.shared.partitions.load();
        let state = snapshot.get(&reading.partition.topic, reading.partition.partition);
        let map = state.map_or_else(|| SpliceMap::whole(Side::Source), |s| s.map.clone());
        let journal = self.store.state();
        let other_end = journal.partition(&reading.partition).map_or(Native(0), |h| h.journalled_end(self.to));
        let recent = live.gate().recent(clock::now_ms()).collect();
        Known { map, visible: live.visible().0, other_end, recent }
    }

    /// One look at both sides: ends, producers, ends again.
    async fn look_once(&self, (old_view, new_view): &Views) -> Result<Vec<Reading>, AdminError> {
        let (old, new) = (&self.admins[self.to.other().index()], &self.admins[self.to.index()]);
        let all = self.partitions;
        let leo = |admin, view| ask::list_offsets(admin, view, all, LATEST, DEBUGGING_CONSUMER, READ_UNCOMMITTED);
        let hw = |admin, view| ask::list_offsets(admin, view, all, LATEST, CONSUMER, READ_UNCOMMITTED);
        let before = leo(old, old_view);
        let other = try_join3(before, leo(new, new_view), hw(new, new_view)).await?;
        let (ends, other_ends, other_hws) = other;
        let producers = ask::describe_producers(old, old_view, all).await?;
        let (ends_again, hws) = join(leo(old, old_view), hw(old, old_view)).await;
        let (ends_again, hws) = (ends_again?, hws?);
        let at = |found: &HashMap<TopicPartition, Result<ask::LogOffset, i16>>, tp: &TopicPartition| match found.get(tp)
        {
            Some(Ok(found)) => Ok((Native(found.offset), found.leader_epoch)),
            Some(Err(code)) => Err((*code, tp.clone())),
            None => Err((crate::error::code::LEADER_NOT_AVAILABLE, tp.clone())),
        };
        let refused = |side: Side| {
            move |(code, tp): (i16, TopicPartition)| AdminError::Refused {
                side,
                what: format!("ListOffsets of {tp}"),
                code,
            }
        };
        let (old_side, new_side) = (self.to.other(), self.to);
        let mut readings = Vec::with_capacity(all.len());
        for tp in all {
            let (end, end_epoch) = at(&ends, tp).map_err(refused(old_side))?;
            let found = match producers.get(tp) {
                Some(Ok(found)) => found.as_slice(),
                Some(Err(code)) => {
                    let what = format!("DescribeProducers of {tp}");
                    return Err(AdminError::Refused { side: old_side, what, code: *code });
                }
                None => &[],
            };
            let of = |p: &ask::ProducerState| (p.producer_id, p.producer_epoch, p.last_sequence, p.last_timestamp);
            readings.push(Reading {
                partition: tp.clone(),
                end,
                end_again: at(&ends_again, tp).map_err(refused(old_side))?.0,
                end_epoch,
                high_watermark: at(&hws, tp).map_err(refused(old_side))?.0,
                other_end: at(&other_ends, tp).map_err(refused(new_side))?.0,
                other_high_watermark: at(&other_hws, tp).map_err(refused(new_side))?.0,
                producers: found.iter().map(of).collect(),
            });
        }
        Ok(readings)
    }

    /// Intent, markers, commit. From the commit on there is no way back.
    async fn persist(
        &self,
        hold: &mut Hold<'_>,
        details: Vec<(SealDetail, SpliceMap)>,
        views: &Views,
    ) -> Result<Maps, Failed> {
        let number = self.store.state().intent + 1;
        let intent = Event::SealIntent { migration: self.migration.to_owned(), number, to: self.to };
        let (details, maps): (Vec<SealDetail>, Vec<SpliceMap>) = details.into_iter().unzip();
        let mut events: Vec<Event> = vec![intent];
        events.extend(details.into_iter().map(Event::SealDetail));
        self.append(events).await?;
        crate::crash_point!("seal.intent");
        if let Err(refusal) = self.mark(hold, views).await {
            let why = refusal.message.clone();
            self.append(vec![Event::SealUndone { migration: self.migration.to_owned(), number, why }]).await?;
            // Best effort: a marker of a seal that never was must not be taken for one. It is not ahead of the journal.
            drop(join_all(self.marks(views)).await);
            return Err(Failed::Refused(refusal));
        }
        crate::crash_point!("seal.before-commit");
        let commit = Event::SealCommit {
            migration: self.migration.to_owned(),
            number,
            at_ms: clock::now_ms(),
            hold_ms: hold.held_ms(),
        };
        self.append(vec![commit, Event::Step { migration: self.migration.to_owned(), step: self.step().to_owned() }])
            .await?;
        Ok(self.partitions.iter().cloned().zip(maps).collect())
    }

    fn step(&self) -> &'static str {
        match self.to {
            Side::Target => crate::migration::scheme::PRODUCERS_SWITCHED,
            Side::Source => crate::migration::scheme::PREPARED,
        }
    }

    fn marks<'b>(&'b self, views: &'b Views) -> Vec<impl Future<Output = Result<(), AdminError>> + 'b> {
        let name = &self.shared.config.name;
        let mark = Marker::of(&self.store.state());
        let of = |side: Side| if side == self.to { &views.1 } else { &views.0 };
        let one = |side: Side| {
            let mark = mark.clone();
            async move {
                marker::write_through(&self.admins[side.index()], ClusterView::clone(of(side)), name, mark.as_ref())
                    .await
            }
        };
        Side::BOTH.into_iter().map(one).collect()
    }

    async fn mark(&self, hold: &mut Hold<'_>, views: &Views) -> Result<(), Refusal> {
        let mut marks = self.marks(views).into_iter();
        let (first, second) = (marks.next(), marks.next());
        let both = async {
            if let (Some(first), Some(second)) = (first, second) {
                if cfg!(feature = "crash-points") {
                    first.await?;
                    crate::crash_point!("seal.marker-one");
                    second.await?;
                } else {
                    let (a, b) = join(first, second).await;
                    a.and(b)?;
                }
            }
            Ok::<(), AdminError>(())
        };
        let marked = hold.within(both).await?;
        crate::crash_point!("seal.marked");
        marked.map_err(|e| refuse("marker_not_written", e.to_string(), "nothing was changed; try again"))
    }

    /// Off this thread: the disk may take its time. An outcome that is not known ends the process.
    async fn append(&self, events: Vec<Event>) -> Result<(), Failed> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || store.append(&events)).await;
        self.shared.metrics.journal_appends.increment(1);
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error @ (StoreError::Unknown(_) | StoreError::Poisoned))) => Err(Failed::Fatal(error)),
            Ok(Err(error)) => {
                Err(refuse("journal", error.to_string(), "mend the state directory, then try again").into())
            }
            Err(_) => Err(refuse("journal", "the journal's writer was stopped", "try again").into()),
        }
    }
}
