//! AddPartitionsToTxn (24), v0 to v3, those of clients (v4 and v5 are between brokers): to the id's coordinator, its producer
//! id native.
//!
//! A transaction may touch the partitions of one side only (DESIGN.md section 7). Where one of them is on the other side by
//! now, none is added, as a broker has it with a topic that the client may not write to: TRANSACTION_ABORTABLE there and
//! OPERATION_NOT_ATTEMPTED at the rest. Clients older than the first code abort as well, as at any that they do not know;
//! franz-go can only go on after this one. A partition in a hold is waited for.

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, RequestKind, ResponseKind};
use tokio::time::Instant;

use super::groups::lost_code;
use super::transactions::{self, ask, native, note_error};
use super::{Answers, Context, Input, Machine, Step};
use crate::error::code;
use crate::ids::{TopicName, VirtualPid};
use crate::producers::transactions::home;
use crate::store::identity::is_marker_topic;

pub struct AddPartitionsToTxn {
    request: AddPartitionsToTxnRequest,
    until: Option<Instant>,
}

impl AddPartitionsToTxn {
    pub fn new(request: AddPartitionsToTxnRequest) -> Self {
        Self { request, until: None }
    }

    fn id(&self) -> &str {
        &self.request.v3_and_below_transactional_id
    }

    fn start(&mut self, cx: &Context<'_>) -> Step {
        let (id, pid) = (self.id().to_owned(), self.request.v3_and_below_producer_id);
        let Some(native) = native(&id, pid) else {
            return Step::Answer(self.all(code::INVALID_PRODUCER_ID_MAPPING).into());
        };
        let until = *self.until.get_or_insert(cx.now + cx.shared.config.seal.hold_budget);
        let mut elsewhere: Vec<TopicName> = vec![];
        for topic in &self.request.v3_and_below_topics {
            let name = TopicName::from(topic.name.as_str());
            let states = topic.partitions.iter().filter_map(|p| cx.partitions.get(&name, *p));
            if states.clone().any(|state| state.held) {
                if cx.now < until {
                    return Step::AwaitRoutes { newer_than: cx.partitions.version, deadline: until };
                }
                return Step::Answer(self.all(code::CONCURRENT_TRANSACTIONS).into());
            }
            if states.clone().any(|state| state.map.open_side() != home(&id)) || is_marker_topic(&name) {
                elsewhere.push(name);
            } else if states.clone().next().is_some() {
                // Before it is sent: a seal that has held everybody must know of it.
                cx.shared.transactions.writes(&id, VirtualPid(pid.0), &name, cx.now_ms);
            }
        }
        if elsewhere.is_empty() {
            let request = self.request.clone().with_v3_and_below_producer_id(native);
            return Step::Ask(vec![ask(&id, RequestKind::AddPartitionsToTxn(request))]);
        }
        for topic in &elsewhere {
            transactions::refuse(cx, &id, topic);
        }
        cx.shared.transactions.refused(&id, cx.now_ms);
        let answer = self.each(|topic| match elsewhere.iter().any(|name| **name == *topic) {
            true => code::TRANSACTION_ABORTABLE,
            false => code::OPERATION_NOT_ATTEMPTED,
        });
        Step::Answer(answer.into())
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> AddPartitionsToTxnResponse {
        let answer = answers.into_iter().next();
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
            Input::Answers(answers) => Step::Answer(self.answer(cx, answers).into()),
            Input::Start | Input::Woken => self.start(cx),
        }
    }
}
