//! The whole act, in its order.
#![expect(clippy::disallowed_methods, reason = "io: the seal's clock, and its pauses between two looks")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::copies::Copies;
use super::hold::{self, Hold, Sync};
use super::reading::{self, Judged, Known, Reading, UNREAD, Wants};
use super::refuse;
use super::settle::{self, Resend};
use super::sides::{Seen, Sides};
use super::transactions;
use crate::clock;
use crate::control::protocol::Refusal;
use crate::ids::{Native, Side, TopicPartition};
use crate::migration::marker;
use crate::monitor::metrics::HoldOutcome;
use crate::offsets::SpliceMap;
use crate::routing::shared::HoldDeadline;
use crate::routing::{Live, Shared, track};
use crate::store::identity::Marker;
use crate::store::{Event, SealDetail, Store, StoreError};
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};

/// Between two tries in the hold: so many short pauses first, then longer ones.
const PAUSE: Duration = Duration::from_millis(2);
const SHORT_PAUSES: u32 = 10;
const LONG_PAUSE: Duration = Duration::from_millis(30);
/// For one answer in the hold, where its budget allows: less cuts off brokers that are well.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// For one reading before the hold.
const LOOK_AHEAD: Duration = Duration::from_secs(5);

/// The code of a refusal because the seam cannot be placed yet.
pub const STILL_OPEN: &str = "late_seam_open";
/// The code of a refusal because of a transaction that no coordinator will end.
pub const HANGS: &str = "hanging_transaction";

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
    /// Readers stay at the seam from its release on.
    pub hold_consumers: bool,
    pub what: What,
}

/// Which of the two holds of a switch this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// From its release on work goes to the other side. `force`: transactions that would stay open are aborted.
    Switch { force: bool },
    /// The last transaction of before has ended: the seam gets its place.
    LateSeam,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub hold_ms: u64,
    pub partitions: usize,
    /// The seam is still to come.
    pub late: bool,
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
    wait_until_settled(act.shared, &lives).await?;
    for admin in act.admins {
        marker::ensure_topic(admin, &act.shared.config.name).await.map_err(|e| unreachable(&e))?;
    }
    // Fresh leaders on both sides, so that the hold does not have to look for them.
    let (old, new) = join(look(&act, act.to.other()), look(&act, act.to)).await;
    let sides = Sides { old: old?, new: new? };
    let Act { shared, store, workers, deadlines, migration, partitions, to, hold_consumers, what, .. } = act;
    let budget = shared.config.seal.hold_budget;
    let mirrors = Copies::of(shared, &store.state(), &partitions, what)?;
    let work = Work {
        shared,
        store,
        sides: &sides,
        migration: &migration,
        partitions: &partitions,
        lives: &lives,
        to,
        hold_consumers,
        what,
        is_late: Cell::new(false),
        coordinators_say: Cell::new(false),
        waits_for: RefCell::default(),
        unmarked: Cell::new(false),
        mirrors: &mirrors,
        is_held: Cell::new(false),
    };
    work.look_at_transactions().await?;
    work.look_ahead(budget).await?;
    let mut hold = Hold::begin(shared, &partitions, deadlines, budget);
    work.is_held.set(true);
    let hurry = shared.mirrors.hurry(mirrors.partitions());
    let outcome = work.under(&mut hold, workers).await;
    drop(hurry);
    let hold_ms = hold.held_ms();
    shared.metrics.hold_duration.record(Duration::from_millis(hold_ms).as_secs_f64());
    match outcome {
        Ok(maps) => {
            crate::crash_point!("seal.committed");
            let state = store.state();
            for ((partition, map), (_, live)) in maps.iter().zip(&lives) {
                // Producers left at the first of two holds.
                if let (What::Switch { .. }, Some(history)) = (what, state.partition(partition)) {
                    live.gate().seal(map.seals(), track::table(history));
                    live.unknowns().clear();
                }
                // Nobody may have read up to the end: all of it is stable, which the reading has proved.
                if let Some(end) = map.end_of(to.other()) {
                    live.heard(to.other(), end.0, end.0, UNREAD.0);
                }
            }
            crate::crash_point!("seal.published");
            hold::release(shared, &maps, hold_consumers);
            crate::crash_point!("seal.released");
            shared.metrics.holds.of(HoldOutcome::Sealed).increment(1);
            shared.metrics.seal_duration.record(started.elapsed().as_secs_f64());
            Ok(Sealed { hold_ms, partitions: maps.len(), late: work.is_late.get() })
        }
        Err(Failed::Refused(mut refusal)) => {
            mirrors.go_on();
            hold.undo(&partitions);
            shared.metrics.holds.of(HoldOutcome::Undone).increment(1);
            let waited_for = work.waits_for.take();
            if refusal.code == hold::TOO_LONG && !waited_for.is_empty() {
                refusal.message = format!("{}; it waited for {waited_for}", refusal.message);
            }
            if work.unmarked.get() {
                // Best effort, and in nobody's way any more: a marker of a seal that never was must not be taken for one.
                // It is not ahead of the journal.
                drop(join_all(work.marks()).await);
            }
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

async fn look<'a>(act: &Act<'a>, side: Side) -> Result<Seen<'a>, Refusal> {
    let known = act.shared.topology.load().side(side).cloned();
    Seen::first(&act.admins[side.index()], known).await.map_err(|e| unreachable(&e))
}

fn unreachable(error: &AdminError) -> Refusal {
    refuse("cluster_unreachable", error.to_string(), "nothing was changed; try again when it can be reached")
}

struct Work<'a> {
    shared: &'a Shared,
    store: &'a Arc<Store>,
    sides: &'a Sides<'a>,
    migration: &'a str,
    partitions: &'a [TopicPartition],
    lives: &'a [(TopicPartition, Arc<Live>)],
    to: Side,
    hold_consumers: bool,
    what: What,
    /// Transactions end on the old side after the switch.
    is_late: Cell<bool>,
    /// The old side's brokers say which transactions are open.
    coordinators_say: Cell<bool>,
    /// For the refusal, if the hold gets too long.
    waits_for: RefCell<String>,
    /// A marker may have been written for a seal that is undone.
    unmarked: Cell<bool>,
    mirrors: &'a Copies,
    /// Produce waits.
    is_held: Cell<bool>,
}

type Maps = Vec<(TopicPartition, SpliceMap)>;
type Details = Vec<(SealDetail, SpliceMap)>;

/// A reading that does not do yet.
enum NotYet {
    /// The leaders may be other ones.
    Passing(AdminError),
    Again(String),
    Refused(Refusal),
}

impl Work<'_> {
    /// What would refuse the seal anyway is found before anybody is held for it; and every leader is connected then.
    async fn look_ahead(&self, within: Duration) -> Result<(), Refusal> {
        let patience = self.shared.config.timeouts.request.min(LOOK_AHEAD);
        // A leader that hangs may be another one by the second try.
        let until = Instant::now() + within.max(patience * 2);
        loop {
            match self.read_once(patience).await {
                // Its second hold is in no hurry.
                Err(NotYet::Again(why)) if self.what == What::LateSeam => {
                    return Err(refuse(STILL_OPEN, why, "it is waited for"));
                }
                Ok(_) | Err(NotYet::Again(_)) => return Ok(()),
                Err(NotYet::Refused(refusal)) => return Err(refusal),
                Err(NotYet::Passing(error)) if Instant::now() + LONG_PAUSE > until => return Err(unreachable(&error)),
                Err(NotYet::Passing(_)) => {
                    tokio::time::sleep(LONG_PAUSE).await;
                    self.sides.look_again().await;
                }
            }
        }
    }

    /// Steps 1 to 5. After `Ok` the seal is committed.
    async fn under(&self, hold: &mut Hold<'_>, workers: &[Sync]) -> Result<Maps, Failed> {
        self.waits_for("a worker that has not seen the hold");
        hold.acknowledged(workers).await?;
        crate::crash_point!("seal.held");
        if self.what != What::LateSeam && !transactions::writers(self.shared, self.partitions).is_empty() {
            // One of them may have begun since it was looked. A worker that has seen the hold lets none begin.
            if !self.coordinators_say.get() {
                return Err(transactions::cannot_say(self.to.other(), "transactional producers write to it").into());
            }
            self.is_late.set(true);
        }
        hold.within(self.settle()).await??;
        crate::crash_point!("seal.settled");
        if self.what == What::LateSeam {
            hold.within(self.look_at_transactions()).await??;
        }
        let details = hold.within(self.read()).await??;
        crate::crash_point!("seal.read");
        self.persist(hold, details).await
    }

    /// Those that are open on the old side: whether there can be a seam now.
    async fn look_at_transactions(&self) -> Result<(), Refusal> {
        let look = async || {
            let old = &self.sides.old;
            let found = transactions::open(self.shared, old.admin, &old.view(), self.partitions).await;
            found.map_err(|e| unreachable(&e))
        };
        let mut open = look().await?;
        self.coordinators_say.set(open.is_some());
        if self.what == What::LateSeam {
            return match open.as_deref() {
                Some([]) => Ok(()),
                _ => Err(refuse(STILL_OPEN, "a transaction is still open", "it is waited for")),
            };
        }
        if let (What::Switch { force: true }, Some(found)) = (self.what, &open) {
            transactions::abort(self.shared, &self.sides.old, found).await?;
            open = look().await?;
        }
        transactions::can_end(self.shared, self.partitions, open.as_deref(), self.to.other())?;
        self.is_late.set(open.is_some_and(|open| !open.is_empty()));
        Ok(())
    }

    fn wants(&self) -> Wants {
        match self.what {
            What::LateSeam => Wants::LateEnd,
            What::Switch { .. } if self.is_late.get() => Wants::LateSeam,
            What::Switch { .. } => Wants::Seam,
        }
    }

    fn waits_for(&self, what: impl Into<String>) {
        *self.waits_for.borrow_mut() = what.into();
    }

    /// Before the next try: short, while it is a matter of a round trip.
    async fn pause(&self, tries: u32) {
        tokio::time::sleep(if tries < SHORT_PAUSES { PAUSE } else { LONG_PAUSE }).await;
    }

    /// For one answer in the hold: another try should fit in; the hold's deadline ends it in any case.
    fn patience(&self) -> Duration {
        (self.shared.config.seal.hold_budget / 3).max(LEAST_PATIENCE)
    }

    async fn settle(&self) -> Result<(), Refusal> {
        for (partition, live) in self.lives {
            self.waits_for(format!("the outcome of produce on its way to {partition}"));
            settle::quiet(live).await;
        }
        let settle = self.shared.config.seal.settle_time;
        let resend = Resend { old: self.to.other(), settle, patience: self.patience() };
        for tries in 0.. {
            let Err((partition, why)) = settle::resolve(&self.sides.old, self.lives, resend).await else { break };
            if tries == 0 {
                tracing::warn!(%partition, side = %resend.old, %why, "a batch whose answer was lost is still unknown");
            }
            self.waits_for(format!("a batch for {partition} whose answer was lost: {why}"));
            self.pause(tries).await;
            self.sides.old.look_again().await;
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
    async fn read(&self) -> Result<Details, Refusal> {
        self.waits_for("the ends of both sides");
        let mut tries = 0;
        loop {
            match self.read_once(self.patience()).await {
                Ok(details) => return Ok(details),
                Err(NotYet::Refused(refusal)) => return Err(refusal),
                Err(NotYet::Again(why)) => {
                    self.waits_for(why);
                    self.pause(tries).await;
                    // An old leader answers too, for a while.
                    if tries >= SHORT_PAUSES {
                        self.sides.look_again().await;
                    }
                }
                Err(NotYet::Passing(error)) => {
                    self.waits_for(error.to_string());
                    self.pause(tries).await;
                    self.sides.look_again().await;
                }
            }
            tries += 1;
        }
    }

    async fn read_once(&self, patience: Duration) -> Result<Details, NotYet> {
        let waits_for = Cell::new(self.to.other());
        let readings = match timeout(patience, self.sides.read(self.partitions, &waits_for)).await {
            Ok(Ok(readings)) => readings,
            Ok(Err(error)) if error.is_passing() => return Err(NotYet::Passing(error)),
            Ok(Err(error)) => return Err(NotYet::Refused(unreachable(&error))),
            Err(_) => {
                let reason = format!("no answer about the ends in {} ms", patience.as_millis());
                return Err(NotYet::Passing(AdminError::Unreachable { side: waits_for.get(), reason }));
            }
        };
        let number = self.store.state().intent + 1;
        let mut done = Vec::with_capacity(readings.len());
        for (reading, (_, live)) in readings.iter().zip(self.lives) {
            if self.is_held.get() {
                let end = if self.is_late.get() { reading.stable } else { reading.end };
                self.mirrors.rest(&reading.partition, end);
            }
            let known = self.known(reading, live);
            match reading::judge(reading, &known, self.to, self.wants(), clock::now_ms()) {
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
                        late: self.is_late.get(),
                        copied_to: known.mirror.map(|mirror| mirror.mirrored),
                    };
                    done.push((detail, map));
                }
                // Coordinators were asked first, and knew of none.
                Judged::Open { producer_id } if self.what == What::LateSeam => {
                    let message =
                        format!("producer {producer_id} in {}, which no coordinator knows", reading.partition);
                    return Err(NotYet::Refused(refuse(HANGS, message, "abort it with kafka-transactions.sh")));
                }
                // No coordinator was asked about it.
                Judged::Open { producer_id } if self.coordinators_say.get() => {
                    self.is_late.set(true);
                    let why = format!("a transaction of producer {producer_id} is open");
                    return Err(NotYet::Again(format!("{}: {why}", reading.partition)));
                }
                Judged::Open { producer_id } => {
                    let message = format!("a transaction of producer {producer_id} is open in {}", reading.partition);
                    return Err(NotYet::Refused(transactions::cannot_say(self.to.other(), &message)));
                }
                Judged::Again(why) => return Err(NotYet::Again(format!("{}: {why}", reading.partition))),
                Judged::Refused(guard) => {
                    return Err(NotYet::Refused(refuse(guard.code, guard.message, guard.hint)));
                }
            }
        }
        Ok(done)
    }

    fn known(&self, reading: &Reading, live: &Live) -> Known {
        let snapshot = self.shared.partitions.load();
        let state = snapshot.get(&reading.partition.topic, reading.partition.partition);
        let map = state.map_or_else(|| SpliceMap::whole(Side::Source), |s| s.map.clone());
        let journal = self.store.state();
        let other_end = journal.partition(&reading.partition).map_or(Native(0), |h| h.journalled_end(self.to));
        let recent = live.gate().recent(clock::now_ms()).collect();
        let mirror = self.mirrors.standing(&reading.partition);
        Known { map, visible: live.visible().0, other_end, recent, mirror }
    }

    /// Intent, markers, commit. From the commit on there is no way back.
    async fn persist(&self, hold: &mut Hold<'_>, details: Details) -> Result<Maps, Failed> {
        let number = self.store.state().intent + 1;
        let intent = Event::SealIntent { migration: self.migration.to_owned(), number, to: self.to };
        let (details, maps): (Vec<SealDetail>, Vec<SpliceMap>) = details.into_iter().unzip();
        let mut events: Vec<Event> = vec![intent];
        events.extend(details.into_iter().map(Event::SealDetail));
        self.append(events).await?;
        crate::crash_point!("seal.intent");
        self.waits_for("the markers on both clusters");
        if let Err(refusal) = self.mark(hold).await {
            self.unmarked.set(true);
            let why = refusal.message.clone();
            self.append(vec![Event::SealUndone { migration: self.migration.to_owned(), number, why }]).await?;
            return Err(Failed::Refused(refusal));
        }
        crate::crash_point!("seal.before-commit");
        let (migration, at_ms) = (self.migration.to_owned(), clock::now_ms());
        let commit = Event::SealCommit { migration: migration.clone(), number, at_ms, hold_ms: hold.held_ms() };
        let is_switch = self.what != What::LateSeam;
        let step = || Event::Step { migration: migration.clone(), step: self.step().to_owned() };
        // All or nothing, so that no reader is let over the seam before it is known that they stay.
        let held = || Event::ConsumersHeld { migration: migration.clone(), at_ms };
        let mut events = vec![commit];
        events.extend(is_switch.then(step));
        events.extend((is_switch && self.hold_consumers).then(held));
        self.append(events).await?;
        Ok(self.partitions.iter().cloned().zip(maps).collect())
    }

    fn step(&self) -> &'static str {
        match self.to {
            Side::Target => crate::migration::scheme::PRODUCERS_SWITCHED,
            Side::Source => crate::migration::scheme::PREPARED,
        }
    }

    fn marks(&self) -> Vec<impl Future<Output = Result<(), AdminError>> + '_> {
        let name = &self.shared.config.name;
        let mark = Marker::of(&self.store.state());
        let one = |side: Side| {
            let mark = mark.clone();
            let seen = self.sides.of(side);
            async move {
                let view = ClusterView::clone(&seen.view());
                marker::write_through(seen.admin, view, name, mark.as_ref()).await
            }
        };
        Side::BOTH.into_iter().map(one).collect()
    }

    async fn mark(&self, hold: &mut Hold<'_>) -> Result<(), Refusal> {
        let mut marks = self.marks().into_iter();
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
