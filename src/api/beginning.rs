//! Where a transaction that writes to some partitions begins or goes on (DESIGN.md section 7), and what takes its id there.
//!
//! With the first protocol AddPartitionsToTxn begins it, with the second (KIP-890) the first Produce v12 or newer, of itself. Either
//! may find that the log of a partition goes on on the other side than the id is at home on: then the id crosses, unless its
//! present transaction has begun already.

use std::time::Duration;

use tokio::time::Instant;

use super::crossing::{self, Crossing};
use super::{Context, Input, Step};
use crate::error::{code, is_retriable};
use crate::ids::{Side, TopicName};
use crate::store::identity::is_marker_topic;

/// While somebody else moves the id.
const PAUSE: Duration = Duration::from_millis(20);

/// What a producer calls itself: id and epoch.
pub type Client = (i64, i16);

#[derive(Debug)]
pub struct Beginning {
    id: String,
    client: Client,
    partitions: Vec<(TopicName, i32)>,
    protocol: Protocol,
    until: Option<Instant>,
    /// Its id is on the way to the other side.
    crossing: Option<Box<Crossing>>,
}

/// Of its transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    First,
    /// Its sequences begin anew with every transaction (KIP-890).
    Second,
}

/// What is next.
#[allow(clippy::large_enum_variant, reason = "moved once, never stored")]
pub enum Turn {
    Step(Step),
    Done(Begun),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// It may be written where the id is at home now.
    Go,
    /// Its partitions are not all where one transaction can write.
    Spans,
    Refused(i16),
    /// The new side does not take its id over.
    NotTaken,
}

/// Whether a transaction can write without any question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    Yes,
    /// A partition is in a hold.
    Held,
    No,
}

/// Where some partitions can be written to by their id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Where {
    /// By a transaction that began on the side the id is at home on, and by one that begins there now.
    stays: bool,
    begins: bool,
    /// By one that begins on the other side.
    crosses: bool,
}

impl Where {
    fn of<'a>(cx: &Context<'_>, home: Side, partitions: impl Iterator<Item = (&'a TopicName, i32)>) -> Self {
        let mut all = Self { stays: true, begins: true, crosses: true };
        for (name, index) in partitions {
            let [takes, open] = sides(cx, name, index);
            let is_allowed = !is_marker_topic(name);
            all.stays &= is_allowed && (takes == home || open == home);
            all.begins &= is_allowed && open == home;
            all.crosses &= is_allowed && open != home;
        }
        all
    }
}

/// Of one partition: the side that takes what transactions of before write, and the one where they begin.
pub(super) fn sides(cx: &Context<'_>, name: &TopicName, index: i32) -> [Side; 2] {
    match cx.partitions.get(name, index) {
        Some(state) => [state.map.tail_side(), state.map.open_side()],
        None => [cx.shared.config.default_side; 2],
    }
}

fn is_held<'a>(cx: &Context<'_>, mut partitions: impl Iterator<Item = (&'a TopicName, i32)>) -> bool {
    partitions.any(|(name, index)| cx.partitions.get(name, index).is_some_and(|state| state.held))
}

impl Beginning {
    pub fn new(id: String, client: Client, partitions: Vec<(TopicName, i32)>, protocol: Protocol) -> Self {
        Self { id, client, partitions, protocol, until: None, crossing: None }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (&TopicName, i32)> {
        self.partitions.iter().map(|(name, index)| (name, *index))
    }

    /// Of a transaction that begins of itself. `has_asked`: another one of the same request has said that it may go.
    pub(super) fn is_ready(&self, cx: &Context<'_>, has_asked: bool) -> Ready {
        if is_held(cx, self.partitions()) {
            return Ready::Held;
        }
        let homes = &cx.shared.transactional_homes;
        let (_, places) = self.places(cx);
        let goes_on = || has_asked || cx.shared.transactions.goes_on(&self.id, self.client);
        let is_fenced = || homes.to_fence(&self.id).is_none_or(|from| !cx.topology.reachable(from));
        match places.begins && (is_fenced() || goes_on()) || places.stays && !places.begins && goes_on() {
            true => Ready::Yes,
            false => Ready::No,
        }
    }

    fn places(&self, cx: &Context<'_>) -> (Side, Where) {
        let home = cx.shared.transactional_homes.of(&self.id);
        (home, Where::of(cx, home, self.partitions()))
    }

    /// Those that are elsewhere than its id is at home, each topic once.
    pub(super) fn elsewhere(&self, cx: &Context<'_>) -> Vec<&TopicName> {
        let home = cx.shared.transactional_homes.of(&self.id);
        let is_elsewhere = |name: &TopicName, index| is_marker_topic(name) || !sides(cx, name, index).contains(&home);
        let mut all: Vec<&TopicName> = vec![];
        for (name, _) in self.partitions().filter(|(name, index)| is_elsewhere(name, *index)) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        if all.is_empty() {
            // They can all be written to there, but not by a transaction that begins now.
            all.extend(self.partitions().map(|(name, _)| name).next());
        }
        all
    }

    pub fn step(&mut self, cx: &Context<'_>, input: Input) -> Turn {
        match self.crossing.is_some() {
            true => self.cross(cx, input),
            false => self.start(cx),
        }
    }

    fn start(&mut self, cx: &Context<'_>) -> Turn {
        let until = *self.until.get_or_insert(cx.now + cx.shared.config.seal.hold_budget);
        if is_held(cx, self.partitions()) {
            if cx.now < until {
                return Turn::Step(Step::AwaitRoutes { newer_than: cx.partitions.version, deadline: until });
            }
            return Turn::Done(Begun::Refused(code::CONCURRENT_TRANSACTIONS));
        }
        if self.protocol == Protocol::Second && cx.shared.transactional_homes.is_taken(&self.id) {
            return self.again(cx, until);
        }
        let (home, places) = self.places(cx);
        let crossing = match cx.shared.transactional_homes.to_fence(&self.id) {
            // Its old side could not yet: that was tried with this transaction.
            Some(_) if places.begins && cx.shared.transactions.goes_on(&self.id, self.client) => {
                return Turn::Done(Begun::Go);
            }
            // A crash came between.
            Some(from) if places.begins && cx.topology.reachable(from) => Crossing::to_fence(cx, &self.id, from),
            _ if places.begins => return Turn::Done(Begun::Go),
            // Brokers that do not say whether a transaction is under way.
            _ if !Crossing::is_offered(cx) => return Turn::Done(Begun::Spans),
            _ if places.stays || places.crosses => {
                // It goes with the groups that it carries, as soon as they have moved.
                let carried = cx.shared.transactions.carried_by(&self.id, cx.now_ms);
                let waits = places.stays && carried.iter().any(|group| cx.shared.homes.of(group) == home);
                let may_cross = places.crosses && !waits && Crossing::is_possible(cx, &self.id, self.protocol);
                Crossing::new(cx, &self.id, self.client).map(|crossing| crossing.staying(!may_cross))
            }
            _ => return Turn::Done(Begun::Spans),
        };
        match crossing {
            Ok(crossing) => {
                self.crossing = Some(Box::new(crossing));
                self.cross(cx, Input::Start)
            }
            Err(code::CONCURRENT_TRANSACTIONS) if self.protocol == Protocol::Second => self.again(cx, until),
            Err(error) => Turn::Done(Begun::Refused(error)),
        }
    }

    /// Clients of the first protocol know a word for it, and come again themselves.
    fn again(&self, cx: &Context<'_>, until: Instant) -> Turn {
        match cx.now < until {
            true => Turn::Step(Step::AwaitRoutes { newer_than: u64::MAX, deadline: cx.now + PAUSE }),
            false => Turn::Done(Begun::Refused(code::CONCURRENT_TRANSACTIONS)),
        }
    }

    fn cross(&mut self, cx: &Context<'_>, input: Input) -> Turn {
        let Some(crossing) = &mut self.crossing else { return self.start(cx) };
        let turn = crossing.step(cx, input);
        if let crossing::Turn::Step(step) = turn {
            return Turn::Step(step);
        }
        self.crossing = None;
        // What has been held since then waits for its new map; no transaction begins on a side that is being left.
        if is_held(cx, self.partitions()) && !matches!(turn, crossing::Turn::Refused(_)) {
            return self.start(cx);
        }
        // Clients of the second protocol know no coordinator's word for "in a moment" where they produce.
        if let (crossing::Turn::Refused(error), Protocol::Second, Some(until)) = (&turn, self.protocol, self.until)
            && is_retriable(*error)
            && cx.now < until
        {
            return self.again(cx, until);
        }
        let (_, places) = self.places(cx);
        Turn::Done(match turn {
            crossing::Turn::Ongoing if places.stays => self.goes_on(cx),
            // It begins where the last one was, until the groups that it carries have moved.
            crossing::Turn::Stays if places.stays && places.crosses => self.goes_on(cx),
            // Its coordinator has the word for it; a leader would have to ask it.
            crossing::Turn::Unknown => match self.protocol {
                Protocol::First => Begun::Go,
                Protocol::Second => Begun::Refused(code::INVALID_PRODUCER_EPOCH),
            },
            // Whether its old side has fenced it or cannot now.
            crossing::Turn::Done if places.begins => self.goes_on(cx),
            crossing::Turn::Refused(code::TRANSACTION_ABORTABLE) => Begun::NotTaken,
            crossing::Turn::Refused(error) => Begun::Refused(error),
            _ => Begun::Spans,
        })
    }

    fn goes_on(&self, cx: &Context<'_>) -> Begun {
        if self.protocol == Protocol::Second {
            cx.shared.transactions.went_on(&self.id, self.client, cx.now_ms);
        }
        Begun::Go
    }
}
