//! AddPartitionsToTxn (24), v0 to v3, those of clients (v4 and v5 are between brokers): to the id's coordinator, its producer
//! id native.
//!
//! It is how a transaction begins, so it is what takes an id to the other side (`crossing`): where a partition's log goes on
//! there, and the id's transaction has not begun on the side that it is at home on.
//!
//! A transaction may touch the partitions of one side only (DESIGN.md section 7). Where one of them is on the other side by
//! now, none is added, as a broker has it with a topic that the client may not write to: TRANSACTION_ABORTABLE there and
//! OPERATION_NOT_ATTEMPTED at the rest. Clients older than the first code abort as well, as at any that they do not know;
//! franz-go can only go on after this one. A partition in a hold is waited for.

use std::sync::Arc;

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, RequestKind, ResponseKind};
use tokio::time::Instant;

use super::crossing::{Crossing, Turn};
use super::groups::lost_code;
use super::transactions::{self, KNOWS_FENCED, ask, native, note_error};
use super::{Answers, Context, Input, Machine, Step, Unanswered};
use crate::error::code;
use crate::ids::{Side, TopicName, VirtualPid};
use crate::producers::homes::Claim;
use crate::routing::{Live, OnItsWay};
use crate::store::identity::is_marker_topic;
use crate::upstream::Lost;

pub struct AddPartitionsToTxn {
    request: AddPartitionsToTxnRequest,
    until: Option<Instant>,
    /// Its id is on the way to the other side.
    crossing: Option<Box<Crossing>>,
    /// No seal ends the side that it was sent to before it has its answer, and the id does not move.
    on_its_way: Option<(OnItsWay, Claim)>,
}

/// Where the partitions of a request can be written to by its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Where {
    /// By a transaction that began on the side the id is at home on, and by one that begins there now.
    stays: bool,
    begins: bool,
    /// By one that begins on the other side.
    crosses: bool,
}

impl AddPartitionsToTxn {
    pub fn new(request: AddPartitionsToTxnRequest) -> Self {
        Self { request, until: None, crossing: None, on_its_way: None }
    }

    fn id(&self) -> &str {
        &self.request.v3_and_below_transactional_id
    }

    fn client(&self) -> (i64, i16) {
        (self.request.v3_and_below_producer_id.0, self.request.v3_and_below_producer_epoch)
    }

    fn partitions(&self) -> impl Iterator<Item = (TopicName, i32)> {
        self.request.v3_and_below_topics.iter().flat_map(|topic| {
            let name = TopicName::from(topic.name.as_str());
            topic.partitions.iter().map(move |index| (name.clone(), *index))
        })
    }

    fn is_held(&self, cx: &Context<'_>) -> bool {
        self.partitions().any(|(name, index)| cx.partitions.get(&name, index).is_some_and(|state| state.held))
    }

    /// Of one partition: the sides that take what a transaction begun on `home` writes, and the one where it begins.
    fn sides(cx: &Context<'_>, name: &TopicName, index: i32) -> [Side; 2] {
        match cx.partitions.get(name, index) {
            Some(state) => [state.map.tail_side(), state.map.open_side()],
            None => [cx.shared.config.default_side; 2],
        }
    }

    fn places(&self, cx: &Context<'_>, home: Side) -> Where {
        let mut all = Where { stays: true, begins: true, crosses: true };
        for (name, index) in self.partitions() {
            let [takes, open] = Self::sides(cx, &name, index);
            let is_allowed = !is_marker_topic(&name);
            all.stays &= is_allowed && (takes == home || open == home);
            all.begins &= is_allowed && open == home;
            all.crosses &= is_allowed && open != home;
        }
        all
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        let until = *self.until.get_or_insert(cx.now + cx.shared.config.seal.hold_budget);
        if self.is_held(cx) {
            if cx.now < until {
                return Step::AwaitRoutes { newer_than: cx.partitions.version, deadline: until };
            }
            return Step::Answer(self.all(code::CONCURRENT_TRANSACTIONS).into());
        }
        let (id, client) = (self.id().to_owned(), self.client());
        let home = cx.shared.transactional_homes.of(&id);
        let places = self.places(cx, home);
        let crossing = match cx.shared.transactional_homes.to_fence(&id) {
            // A crash came between.
            Some(from) if places.begins && cx.topology.reachable(from) => Crossing::to_fence(cx, &id, from),
            _ if places.begins => return self.forward(cx),
            // Brokers that do not say whether a transaction is under way.
            _ if !Crossing::is_offered(cx) => return Step::Answer(self.spans(cx, home).into()),
            _ if places.stays || places.crosses => {
                // It goes with the groups that it carries, as soon as they have moved.
                let carried = cx.shared.transactions.carried_by(&id, cx.now_ms);
                let waits = places.stays && carried.iter().any(|group| cx.shared.homes.of(group) == home);
                let may_cross = places.crosses && !waits && Crossing::is_possible(cx, &id);
                Crossing::new(cx, &id, client).map(|crossing| crossing.staying(!may_cross))
            }
            _ => return Step::Answer(self.spans(cx, home).into()),
        };
        match crossing {
            Ok(crossing) => {
                self.crossing = Some(Box::new(crossing));
                self.cross(cx, Input::Start)
            }
            Err(error) => Step::Answer(self.all(error).into()),
        }
    }

    fn cross(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let Some(crossing) = &mut self.crossing else { return self.start(cx) };
        let turn = crossing.step(cx, input);
        if let Turn::Step(step) = turn {
            return step;
        }
        self.crossing = None;
        // What has been held since then waits for its new map; no transaction begins on a side that is being left.
        if self.is_held(cx) && !matches!(turn, Turn::Refused(_)) {
            return self.start(cx);
        }
        let home = cx.shared.transactional_homes.of(self.id());
        let places = self.places(cx, home);
        match turn {
            Turn::Ongoing if places.stays => self.forward(cx),
            // It begins where the last one was, until the groups that it carries have moved.
            Turn::Stays if places.stays && places.crosses => self.forward(cx),
            // Its coordinator has the word for it.
            Turn::Unknown => self.forward(cx),
            Turn::Done if places.begins => self.forward(cx),
            Turn::Refused(error) => {
                if error == code::TRANSACTION_ABORTABLE {
                    cx.shared.transactions.refused(self.id(), cx.now_ms);
                }
                Step::Answer(self.all(error).into())
            }
            Turn::Ongoing | Turn::Stays | Turn::Done | Turn::Step(_) => Step::Answer(self.spans(cx, home).into()),
        }
    }

    /// To the coordinator of the id as it is now.
    fn forward(&mut self, cx: &Context<'_>) -> Step {
        let (id, (pid, epoch)) = (self.id(), self.client());
        let Some(share) = cx.shared.transactional_homes.share(id) else {
            return Step::Answer(self.all(code::CONCURRENT_TRANSACTIONS).into());
        };
        let (native, epoch) = match native(cx, id, (pid.into(), epoch), KNOWS_FENCED) {
            Ok(native) => native,
            Err(error) => return Step::Answer(self.all(error).into()),
        };
        let mut tracked: Vec<Arc<Live>> = vec![];
        for (name, index) in self.partitions() {
            if let Some(state) = cx.partitions.get(&name, index) {
                tracked.push(state.live.clone());
                // Before it is sent: a seal that has held everybody must know of it.
                cx.shared.transactions.writes(id, VirtualPid(pid), &name, cx.now_ms);
            }
        }
        let request = self.request.clone().with_v3_and_below_producer_id(native);
        let request = request.with_v3_and_below_producer_epoch(epoch);
        let ask = ask(cx, id, RequestKind::AddPartitionsToTxn(request));
        self.on_its_way = Some((OnItsWay::new(tracked, cx.shared.config.seal.settle_time), share));
        Step::Ask(vec![ask])
    }

    fn spans(&self, cx: &Context<'_>, home: Side) -> AddPartitionsToTxnResponse {
        let is_elsewhere =
            |name: &TopicName, index| is_marker_topic(name) || !Self::sides(cx, name, index).contains(&home);
        let mut elsewhere: Vec<TopicName> = vec![];
        for (name, _) in self.partitions().filter(|(name, index)| is_elsewhere(name, *index)) {
            if !elsewhere.contains(&name) {
                elsewhere.push(name);
            }
        }
        if elsewhere.is_empty() {
            // They can all be written to there, but not by a transaction that begins now.
            elsewhere.extend(self.partitions().map(|(name, _)| name).next());
        }
        for topic in &elsewhere {
            transactions::refuse(cx, self.id(), topic);
        }
        cx.shared.transactions.refused(self.id(), cx.now_ms);
        self.each(|topic| match elsewhere.iter().any(|name| **name == *topic) {
            true => code::TRANSACTION_ABORTABLE,
            false => code::OPERATION_NOT_ATTEMPTED,
        })
    }

    fn answer(&mut self, cx: &Context<'_>, answers: Answers) -> AddPartitionsToTxnResponse {
        let answer = answers.into_iter().next();
        if let (Some((on_its_way, _)), false) = (self.on_its_way.take(), is_lost(answer.as_ref())) {
            on_its_way.arrived();
        }
        let error = lost_code(answer.as_ref());
        let answer = match answer {
            Some(Ok(ResponseKind::AddPartitionsToTxn(answer))) => answer,
            _ => self.all(error),
        };
        let results = answer.results_by_topic_v3_and_below.iter().flat_map(|t| &t.results_by_partition);
        for result in results.clone() {
            note_error(cx, self.id(), result.partition_error_code);
        }
        if results.into_iter().any(|r| r.partition_error_code == code::NONE) {
            cx.shared.transactions.began(self.id());
        }
        answer
    }

    fn all(&self, error: i16) -> AddPartitionsToTxnResponse {
        self.each(|_| error)
    }

    fn each(&self, error: impl Fn(&str) -> i16) -> AddPartitionsToTxnResponse {
        let results = self.request.v3_and_below_topics.iter().map(|topic| {
            let result = |index: &i32| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(*index)
                    .with_partition_error_code(error(&topic.name))
            };
            AddPartitionsToTxnTopicResult::default()
                .with_name(topic.name.clone())
                .with_results_by_partition(topic.partitions.iter().map(result).collect())
        });
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
    }
}

impl Machine for AddPartitionsToTxn {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match input {
            input if self.crossing.is_some() => self.cross(cx, input),
            Input::Answers(answers) => Step::Answer(self.answer(cx, answers).into()),
            Input::Start | Input::Woken => self.start(cx),
        }
    }
}

/// It may still arrive.
fn is_lost(answer: Option<&Result<ResponseKind, Unanswered>>) -> bool {
    !matches!(answer, Some(Ok(_) | Err(Unanswered::NoCoordinator(_) | Unanswered::Lost(Lost::NotSent(_)))))
}
