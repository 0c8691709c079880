//! Drives one lane: asks what it wants asked, writes its ledger, sends what it has.
#![expect(clippy::disallowed_methods, reason = "io: asks both clusters, waits between tries")]

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::intake::{self, Intake, Part};
use super::lane::{Fetched, Next, Outcome};
use super::mirrors::Mirrored;
use super::outlet::{Outlet, Parcel};
use super::stop::Stop;
use crate::error::{code, is_stale_topology};
use crate::ids::{
    CONSUMER, DEBUGGING_CONSUMER, EARLIEST, EARLIEST_LOCAL, LATEST, NOffset, Native, Side, TopicPartition,
};
use crate::routing::Shared;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::{ClusterView, Lost, PartitionView, ask};

/// Before what did not work is tried again; in a hold.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_SOON: Duration = Duration::from_millis(2);
/// The version of ListOffsets from which on it tells where remote storage ends.
const KNOWS_LOCAL: i16 = 8;
/// A topic that a cluster does not show for so long is gone.
const GONE: Duration = Duration::from_secs(10);
/// One that somebody may have mended is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// What all lanes work with.
pub struct Works {
    pub shared: Arc<Shared>,
    pub intake: Rc<Intake>,
    pub outlet: Rc<Outlet>,
    pub book: Rc<Book>,
    pub admins: [Admin; 2],
}

struct Reading {
    from: NOffset,
    how: intake::How,
    part: oneshot::Receiver<Result<Part, Lost>>,
}

struct Driver {
    works: Rc<Works>,
    mirrored: Arc<Mirrored>,
    reading: Option<Reading>,
    /// In the order of what was sent: its answer, records and bytes.
    answers: VecDeque<(oneshot::Receiver<Outcome>, i64, usize)>,
    /// What was read and is not stored yet: up to where on the origin, and the memory that it takes.
    memory: VecDeque<(NOffset, OwnedSemaphorePermit)>,
    /// Nothing came although there is more.
    alone: bool,
    /// Nothing came, from here on, though it was asked for by itself: up to where it is committed.
    hole: Option<(NOffset, NOffset)>,
    /// Before this nothing is read.
    not_before: Option<Instant>,
    /// By side since when it has not shown the topic.
    gone_since: [Option<Instant>; 2],
}

/// Whether somebody waits in a hold for this lane, or for others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hurry {
    No,
    Ours,
    Others,
}

/// What came.
enum Came {
    Read(NOffset, Result<Part, Lost>),
    Stored(Outcome, i64, usize),
    Told,
}

/// Until it is stopped.
pub async fn drive(works: Rc<Works>, mirrored: Arc<Mirrored>, stop: CancellationToken) {
    let driver = Driver {
        works,
        mirrored,
        reading: None,
        answers: VecDeque::new(),
        memory: VecDeque::new(),
        alone: false,
        hole: None,
        not_before: None,
        gone_since: [None, None],
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = driver.run() => {}
    }
}

impl Driver {
    async fn run(mut self) {
        let mut hurry = self.works.shared.mirrors.hurried();
        let partition = self.mirrored.route.partition.clone();
        let of = |all: &Option<Arc<HashSet<TopicPartition>>>| match all {
            None => Hurry::No,
            Some(all) if all.contains(&partition) => Hurry::Ours,
            Some(_) => Hurry::Others,
        };
        loop {
            self.write().await;
            self.send();
            if self.mirrored.lane().is_clear() {
                self.memory.clear();
            }
            let now = of(&hurry.borrow_and_update());
            let is_hurried = now == Hurry::Ours;
            if is_hurried && self.reading.as_ref().is_some_and(|reading| reading.how != intake::How::Hurried) {
                // Nobody waits for what may take its time.
                self.reading = None;
                self.not_before = None;
            }
            if let Some((from, readable)) = self.hole.take() {
                self.look_into(from, readable).await;
            }
            let next = self.mirrored.lane().next();
            match next {
                Next::AskEnd => {
                    self.ask_end().await;
                    sleep(if is_hurried { AGAIN_SOON } else { AGAIN }).await;
                    continue;
                }
                Next::AskExtent => {
                    self.ask_extent().await;
                    continue;
                }
                Next::Read(from) if self.reading.is_none() && now != Hurry::Others => self.read(from, is_hurried),
                Next::Read(_) | Next::Nothing => {}
            }
            let came = tokio::select! {
                came = came(&mut self.reading, &mut self.answers, &self.mirrored) => came,
                _ = hurry.changed() => Came::Told,
                () = pause(self.not_before), if self.not_before.is_some() => {
                    self.not_before = None;
                    Came::Told
                }
                () = sleep(TRY_AGAIN), if self.mirrored.lane().stopped().is_some_and(|stop| stop.may_pass) => {
                    self.mirrored.lane().try_again();
                    Came::Told
                }
            };
            match came {
                Came::Read(from, part) => self.heard(from, part, is_hurried),
                Came::Stored(outcome, records, bytes) => self.stored(outcome, records, bytes),
                Came::Told => {}
            }
        }
    }

    /// What is new in the ledger, before anything else.
    async fn write(&self) {
        let number = {
            let mut lane = self.mirrored.lane();
            if !lane.take_unwritten() {
                return;
            }
            self.works.book.add(&self.mirrored.key(), lane.ledger())
        };
        let done = self.works.book.durable(number).await;
        crate::crash_point!("mirror.entered");
        let mut lane = self.mirrored.lane();
        match done {
            Ok(()) => lane.written(),
            Err(why) => {
                let stop = Stop::no_ledger(lane.route(), &why);
                lane.stop(stop);
            }
        }
    }

    fn send(&mut self) {
        let route = &self.mirrored.route;
        let to = route.from.other();
        let leader = self.leader(to);
        let copies = self.mirrored.lane().send(Instant::now());
        for copy in copies {
            let (size, count) = (copy.size(), copy.count);
            let answer = match leader {
                Some(leader) => self.works.outlet.write(Parcel {
                    side: to,
                    leader: leader.leader,
                    partition: route.partition.clone(),
                    topic_id: self.mirrored.topic_ids[to.index()],
                    batch: copy.batch,
                    size,
                }),
                None => {
                    self.works.shared.refresh(to);
                    let (tell, answer) = oneshot::channel();
                    drop(tell.send(Some(Err((code::LEADER_NOT_AVAILABLE, String::new())))));
                    answer
                }
            };
            self.answers.push_back((answer, count, size));
            crate::crash_point!("mirror.sent");
        }
    }

    fn leader(&self, side: Side) -> Option<PartitionView> {
        let topology = self.works.shared.topology.load();
        let route = &self.mirrored.route;
        topology.leader(side, &route.partition.topic, route.partition.partition)
    }

    fn read(&mut self, from: NOffset, is_hurried: bool) {
        if self.not_before.is_some() {
            return;
        }
        let side = self.mirrored.route.from;
        let Some(leader) = self.leader(side) else { return self.has_no_leader(side) };
        self.gone_since[side.index()] = None;
        let has_more = self.mirrored.lane().has_more();
        let how = match (is_hurried, has_more) {
            (true, _) => intake::How::Hurried,
            (false, true) => intake::How::HasMore,
            (false, false) => intake::How::Waits,
        };
        let part = self.works.intake.read(intake::Wanted {
            side,
            leader,
            partition: self.mirrored.route.partition.clone(),
            topic_id: self.mirrored.topic_ids[side.index()],
            from,
            how,
            alone: self.alone,
        });
        self.reading = Some(Reading { from, how, part });
    }

    /// Leaders are elected; a topic that is gone has none for ever.
    fn has_no_leader(&mut self, side: Side) {
        let topology = self.works.shared.topology.load();
        let shown = topology.topic(side, &self.mirrored.route.partition.topic).map(|topic| topic.id);
        let pinned = self.mirrored.topic_ids[side.index()];
        let now = Instant::now();
        if shown.is_some_and(|id| id != pinned && !id.is_nil() && !pinned.is_nil()) {
            self.stop(Stop::made_anew(&self.mirrored.route));
        } else if shown.is_some() || !topology.reachable(side) {
            self.gone_since[side.index()] = None;
        } else if now.duration_since(*self.gone_since[side.index()].get_or_insert(now)) > GONE {
            self.stop(Stop::made_anew(&self.mirrored.route));
        }
        self.works.shared.refresh(side);
        self.not_before = Some(now + AGAIN);
    }

    fn stop(&self, stop: Stop) {
        self.mirrored.lane().stop(stop);
    }

    fn heard(&mut self, from: NOffset, part: Result<Part, Lost>, is_hurried: bool) {
        let now = Instant::now();
        let side = self.mirrored.route.from;
        let again = Some(now + if is_hurried { AGAIN_SOON } else { AGAIN });
        let Ok(Part { fetched, memory }) = part else {
            self.not_before = again;
            return;
        };
        let error_code = fetched.error_code;
        let is_empty = fetched.records.is_empty();
        let fetched = Fetched {
            error_code,
            readable: Native(fetched.last_stable_offset),
            aborted: fetched.aborted.unwrap_or_default(),
            records: fetched.records.into_bytes(),
        };
        let mut lane = self.mirrored.lane();
        lane.read(from, &fetched, now);
        if self.alone && error_code == code::NONE && is_empty {
            // By itself it has all the room that there is.
            self.hole = Some((from, fetched.readable));
        }
        self.alone = error_code == code::NONE && is_empty && lane.has_more();
        let (covered, is_clear) = (lane.ledger().covered(), lane.is_clear());
        drop(lane);
        if !is_empty && !is_clear {
            self.memory.push_back((covered, memory));
        }
        if error_code != code::NONE {
            self.not_before = again;
            if is_stale_topology(error_code) {
                self.works.shared.leaders_are_old(side);
            }
        } else if is_empty && is_hurried {
            self.not_before = again;
        }
    }

    fn stored(&mut self, outcome: Outcome, records: i64, bytes: usize) {
        let is_stale = matches!(&outcome, Some(Err((error, _))) if is_stale_topology(*error));
        let is_stored = matches!(&outcome, Some(Ok(_)));
        let mut lane = self.mirrored.lane();
        lane.stored(outcome, Instant::now());
        let mirrored = lane.mirrored();
        let is_clear = lane.is_clear();
        drop(lane);
        crate::crash_point!("mirror.stored");
        if is_stored {
            self.mirrored.count(records, bytes);
            self.works.shared.metrics.mirrored(records, bytes);
        }
        if is_stale {
            self.works.shared.leaders_are_old(self.mirrored.route.from.other());
        }
        while self.memory.pop_front_if(|(end, _)| is_clear || *end <= mirrored).is_some() {}
    }

    /// A question to one side's leader; what it said last if it did not answer.
    async fn ask(&self, side: Side, kind: (i64, i32)) -> Option<NOffset> {
        let view = self.works.shared.topology.load().side(side).cloned()?;
        let (timestamp, replica) = kind;
        let admin = &self.works.admins[side.index()];
        match self.ask_offset(admin, &view, timestamp, replica).await {
            Ok(Ok(found)) => Some(Native(found)),
            Ok(Err(error)) => {
                if is_stale_topology(error) {
                    self.works.shared.leaders_are_old(side);
                }
                None
            }
            Err(error) => {
                tracing::debug!(%side, partition = %self.mirrored.route.partition, %error, "the mirror was not answered");
                self.works.shared.refresh(side);
                None
            }
        }
    }

    async fn ask_offset(
        &self,
        admin: &Admin,
        view: &ClusterView,
        timestamp: i64,
        replica: i32,
    ) -> Result<Result<i64, i16>, AdminError> {
        let partition = &self.mirrored.route.partition;
        let mut found = ask::list_offsets(admin, view, std::slice::from_ref(partition), timestamp, replica, 0).await?;
        Ok(found.remove(partition).unwrap_or(Err(code::UNKNOWN_TOPIC_OR_PARTITION)).map(|found| found.offset))
    }

    async fn ask_end(&mut self) {
        let to = self.mirrored.route.from.other();
        if self.leader(to).is_none() {
            return self.has_no_leader(to);
        }
        let Some(end) = self.ask(to, (LATEST, DEBUGGING_CONSUMER)).await else { return };
        let Some(high_watermark) = self.ask(to, (LATEST, CONSUMER)).await else { return };
        let mut lane = self.mirrored.lane();
        lane.ended(end, high_watermark, Instant::now());
    }

    /// Compaction has left nothing there, or it lies in remote storage and takes its time.
    async fn look_into(&mut self, from: NOffset, readable: NOffset) {
        let side = self.mirrored.route.from;
        let has_remote = self.works.shared.cluster.versions.max(ApiKey::ListOffsets) >= KNOWS_LOCAL;
        let local = if has_remote { self.ask(side, (EARLIEST_LOCAL, CONSUMER)).await } else { Some(from) };
        match local {
            Some(local) if local <= from => self.mirrored.lane().read_to_the_end(from, readable, Instant::now()),
            _ => self.not_before = Some(Instant::now() + AGAIN),
        }
    }

    async fn ask_extent(&mut self) {
        let from = self.mirrored.route.from;
        let start = self.ask(from, (EARLIEST, CONSUMER)).await;
        let end = self.ask(from, (LATEST, DEBUGGING_CONSUMER)).await;
        match (start, end) {
            (Some(start), Some(end)) => self.mirrored.lane().extent(start, end),
            _ => sleep(AGAIN).await,
        }
    }
}

async fn pause(until: Option<Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}

/// The next that comes: what was read, the answer to what was sent first, or somebody's word.
async fn came(
    reading: &mut Option<Reading>,
    answers: &mut VecDeque<(oneshot::Receiver<Outcome>, i64, usize)>,
    mirrored: &Mirrored,
) -> Came {
    let read = async {
        match reading {
            Some(Reading { from, part, .. }) => {
                let gone = || Err(Lost::NotSent("nobody reads any more".to_owned()));
                Came::Read(*from, part.await.unwrap_or_else(|_| gone()))
            }
            None => std::future::pending().await,
        }
    };
    let stored = async {
        match answers.front_mut() {
            // Without an answer nobody knows.
            Some((answer, records, bytes)) => Came::Stored(answer.await.unwrap_or(None), *records, *bytes),
            None => std::future::pending().await,
        }
    };
    let came = tokio::select! {
        came = read => came,
        came = stored => came,
        () = mirrored.told.notified() => Came::Told,
    };
    match &came {
        Came::Read(..) => *reading = None,
        Came::Stored(..) => drop(answers.pop_front()),
        Came::Told => {}
    }
    came
}
