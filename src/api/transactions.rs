//! DescribeTransactions (65), v0, and ListTransactions (66), v0 to v2: the source's, which is the home of every
//! transactional id as long as transactions do not go through the proxy. An id's state is asked of its coordinator; the
//! list is merged from all brokers, each id once. Producer ids are virtual, in answers and in filters.
//!
//! With several virtual nodes every one of them lists all, as with groups: the connection does not say which was meant.

use std::collections::HashSet;

use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerId, RequestKind, ResponseKind, TransactionalId,
};

use super::groups::lost_code;
use super::{Answers, Ask, Context, Input, Machine, Step, To};
use crate::error::code;
use crate::ids::{NONE, Side, VirtualPid};
use crate::store::identity::is_marker_topic;
use crate::upstream::Lane;

const HOME: Side = Side::Source;

pub struct Describe(pub DescribeTransactionsRequest);

impl Describe {
    fn ask(id: &TransactionalId) -> Ask {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
        let to = To::TransactionCoordinator(id.to_string());
        Ask { side: HOME, to, lane: Lane::Ordinary, request: RequestKind::DescribeTransactions(request) }
    }

    fn answer(&self, cx: &Context<'_>, answers: Answers) -> DescribeTransactionsResponse {
        let mut merged = DescribeTransactionsResponse::default();
        for (id, answer) in self.0.transactional_ids.iter().zip(answers) {
            let error = lost_code(Some(&answer));
            let found = match answer {
                Ok(ResponseKind::DescribeTransactions(a)) => {
                    merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                    a.transaction_states.into_iter().find(|t| t.transactional_id == *id)
                }
                _ => None,
            };
            let nobody = || TransactionState::default().with_transactional_id(id.clone()).with_error_code(error);
            let mut state = found.unwrap_or_else(nobody);
            if state.error_code == code::NOT_COORDINATOR || state.error_code == code::COORDINATOR_NOT_AVAILABLE {
                cx.shared.transaction_coordinators.forget(HOME, id);
            }
            state.producer_id = shown(state.producer_id);
            state.topics.retain(|t| !is_marker_topic(&t.topic));
            merged.transaction_states.push(state);
        }
        merged
    }
}

impl Machine for Describe {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            Input::Answers(answers) => answers,
            _ if self.0.transactional_ids.is_empty() => vec![],
            _ => return Step::Ask(self.0.transactional_ids.iter().map(Self::ask).collect()),
        };
        Step::Answer(ResponseKind::DescribeTransactions(self.answer(cx, answers)))
    }
}

pub struct List(pub ListTransactionsRequest);

impl List {
    fn asks(&self, cx: &Context<'_>) -> Vec<Ask> {
        // No broker has what another side has issued; without any filter it would list all.
        let native = |p: &ProducerId| ProducerId(VirtualPid(p.0).native(HOME).unwrap_or(NONE));
        let filters = self.0.producer_id_filters.iter().map(native).collect();
        let request = self.0.clone().with_producer_id_filters(filters);
        let mut nodes: Vec<_> = cx.topology.side(HOME).iter().flat_map(|c| c.brokers.keys().copied()).collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|n| Ask::node(HOME, n, RequestKind::ListTransactions(request.clone()))).collect()
    }

    /// The first error stands: a list without one broker's transactions must not pass for a whole one. Clients ask again
    /// at COORDINATOR_LOAD_IN_PROGRESS only.
    fn answer(cx: &Context<'_>, answers: Answers) -> ListTransactionsResponse {
        let mut merged = ListTransactionsResponse::default();
        let mut seen: HashSet<TransactionalId> = HashSet::new();
        if answers.is_empty() {
            merged.error_code = code::COORDINATOR_LOAD_IN_PROGRESS;
        }
        for answer in answers {
            let error = match answer {
                Ok(ResponseKind::ListTransactions(a)) => {
                    merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                    for state in a.unknown_state_filters {
                        if !merged.unknown_state_filters.contains(&state) {
                            merged.unknown_state_filters.push(state);
                        }
                    }
                    let new = a.transaction_states.into_iter().filter(|t| seen.insert(t.transactional_id.clone()));
                    merged.transaction_states.extend(new.map(|t| {
                        let pid = shown(t.producer_id);
                        t.with_producer_id(pid)
                    }));
                    a.error_code
                }
                _ => {
                    // Perhaps a broker that is no more.
                    cx.shared.refresh(HOME);
                    code::COORDINATOR_LOAD_IN_PROGRESS
                }
            };
            if merged.error_code == code::NONE {
                merged.error_code = error;
            }
        }
        merged
    }
}

impl Machine for List {
    fn step(&mut self, cx: &Context<'_>, input: Input) -> Step {
        let answers = match input {
            Input::Answers(answers) => answers,
            Input::Start | Input::Woken => match self.asks(cx) {
                asks if asks.is_empty() => vec![],
                asks => return Step::Ask(asks),
            },
        };
        Step::Answer(ResponseKind::ListTransactions(Self::answer(cx, answers)))
    }
}

fn shown(native: ProducerId) -> ProducerId {
    if native.0 < 0 { native } else { ProducerId(VirtualPid::issued(HOME, native.0).0) }
}
