//! AddPartitionsToTxn (24), v0 to v3, those of clients (v4 and v5 are between brokers): to the id's coordinator, its producer
//! id native.
//!
//! It is how a transaction of the first protocol begins, so it may take its id to the other side (`beginning`).
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

use super::beginning::{Beginning, Begun, Client, Protocol, Turn};
use super::groups::lost_code;
use super::transactions::{self, KNOWS_FENCED, ask, native, note_error};
use super::{Answers, Context, Input, Machine, Step, Unanswered};
use crate::error::code;
use crate::ids::{TopicName, VirtualPid};
use crate::producers::homes::Claim;
use crate::routing::{Live, OnItsWay};
use crate::upstream::Lost;

pub struct AddPartitionsToTxn {
    request: AddPartitionsToTxnRequest,
    beginning: Beginning,
    /// No seal ends the side that it was sent to before it has its answer, and the id does not move.
    on_its_way: Option<(OnItsWay, Claim)>,
}

impl AddPartitionsToTxn {
    pub fn new(request: AddPartitionsToTxnRequest) -> Self {
        let each = request.v3_and_below_topics.iter().flat_map(|topic| {
            let name = TopicName::from(topic.name.as_str());
            topic.partitions.iter().map(move |index| (name.clone(), *index))
        });
        let id = request.v3_and_below_transactional_id.to_string();
        let beginning = Beginning::new(id, client(&request), each.collect(), Protocol::First);
        Self { request, beginning, on_its_way: None }
    }

    fn id(&self) -> &str {
        &self.request.v3_and_below_transactional_id
    }

    fn begin(&mut self, cx: &Context<'_>, input: Input) -> Step {
        match self.beginning.step(cx, input) {
            Turn::Step(step) => step,
            Turn::Done(Begun::Go) => self.forward(cx),
            Turn::Done(Begun::Spans) => Step::Answer(self.spans(cx).into()),
            Turn::Done(Begun::NotTaken) => {
                cx.shared.transactions.refused(self.id(), cx.now_ms);
                Step::Answer(self.all(code::TRANSACTION_ABORTABLE).into())
            }
            Turn::Done(Begun::Refused(error)) => Step::Answer(self.all(error).into()),
        }
    }

    /// To the coordinator of the id as it is now.
    fn forward(&mut self, cx: &Context<'_>) -> Step {
        let (id, (pid, epoch)) = (self.id(), client(&self.request));
        let Some(share) = cx.shared.transactional_homes.share(id) else {
            return Step::Answer(self.all(code::CONCURRENT_TRANSACTIONS).into());
        };
        let (native, epoch) = match native(cx, id, (pid.into(), epoch), KNOWS_FENCED) {
            Ok(native) => native,
            Err(error) => return Step::Answer(self.all(error).into()),
        };
        let mut tracked: Vec<Arc<Live>> = vec![];
        for (name, index) in self.beginning.partitions() {
            if let Some(state) = cx.partitions.get(name, index) {
                tracked.push(state.live.clone());
                // Before it is sent: a seal that has held everybody must know of it.
                cx.shared.transactions.writes(id, VirtualPid(pid), name, cx.now_ms);
            }
        }
        let request = self.request.clone().with_v3_and_below_producer_id(native);
        let request = request.with_v3_and_below_producer_epoch(epoch);
        let ask = ask(cx, id, RequestKind::AddPartitionsToTxn(request));
        self.on_its_way = Some((OnItsWay::new(tracked, cx.shared.config.seal.settle_time), share));
        Step::Ask(vec![ask])
    }

    fn spans(&self, cx: &Context<'_>) -> AddPartitionsToTxnResponse {
        let elsewhere = self.beginning.elsewhere(cx);
        for topic in &elsewhere {
            transactions::refuse(cx, self.id(), topic);
        }
        cx.shared.transactions.refused(self.id(), cx.now_ms);
        self.each(|topic| match elsewhere.iter().any(|name| ***name == *topic) {
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
            Input::Answers(answers) if self.on_its_way.is_some() => Step::Answer(self.answer(cx, answers).into()),
            input => self.begin(cx, input),
        }
    }
}

fn client(request: &AddPartitionsToTxnRequest) -> Client {
    (request.v3_and_below_producer_id.0, request.v3_and_below_producer_epoch)
}

/// It may still arrive.
fn is_lost(answer: Option<&Result<ResponseKind, Unanswered>>) -> bool {
    !matches!(answer, Some(Ok(_) | Err(Unanswered::NoCoordinator(_) | Unanswered::Lost(Lost::NotSent(_)))))
}
