//! DescribeTransactions (65), v0, and ListTransactions (66), v0 to v2: from the home of the ids. An id's state is asked of
//! its coordinator; the list is merged from all brokers, each id once. Producer ids are virtual, in answers and in filters.
//! And what the requests of transactional producers have in common, each in the file of its API.
//!
//! With several virtual nodes every one of them lists all, as with groups: the connection does not say which was meant.

use std::collections::HashSet;

use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerId, RequestKind, ResponseKind, TransactionalId,
};

use super::groups::{has_sealed, lost_code};
use super::{Answers, Ask, Context, Input, Machine, Step, To};
use crate::error::code;
use crate::groups::shadow::Told;
use crate::ids::{NONE, Side, TopicName, VirtualPid};
use crate::store::identity::is_marker_topic;
use crate::upstream::Lane;

/// A request to a side's coordinator of a transactional id. None is ever asked twice: what its client does not know to be done
/// it sends again itself.
pub(super) fn ask_on(side: Side, id: &str, request: RequestKind) -> Ask {
    Ask { side, to: To::TransactionCoordinator(id.to_owned()), lane: Lane::Ordinary, request }
}

/// The same of the id's home.
pub(super) fn ask(cx: &Context<'_>, id: &str, request: RequestKind) -> Ask {
    ask_on(cx.shared.transactional_homes.of(id), id, request)
}

/// What the coordinator calls a producer, by its id and epoch; an id of -1 stays -1. `Err`: it is not of this id's home, since it
/// is of before the id has moved: fenced, as of version `since` in the word for it.
pub(super) fn native(
    cx: &Context<'_>,
    id: &str,
    (pid, epoch): (ProducerId, i16),
    since: i16,
) -> Result<(ProducerId, i16), i16> {
    let homes = &cx.shared.transactional_homes;
    match homes.native(id, (pid.0, epoch)) {
        Some((pid, epoch)) => Ok((ProducerId(pid), epoch)),
        None if !homes.has_moved(id) => Err(code::INVALID_PRODUCER_ID_MAPPING),
        None if cx.version >= since => Err(code::PRODUCER_FENCED),
        None => Err(code::INVALID_PRODUCER_EPOCH),
    }
}

/// Versions from which on the requests of a transaction know PRODUCER_FENCED (KIP-588).
pub(super) const KNOWS_FENCED: i16 = 2;

/// Learns from an error in an answer, or in place of one, that the coordinator known for an id is not one any more.
pub(super) fn note_error(cx: &Context<'_>, id: &str, error: i16) {
    note_error_on(cx, cx.shared.transactional_homes.of(id), id, error);
}

pub(super) fn note_error_on(cx: &Context<'_>, side: Side, id: &str, error: i16) {
    if error == code::NOT_COORDINATOR || error == code::COORDINATOR_NOT_AVAILABLE {
        cx.shared.transaction_coordinators.forget(side, id);
    }
}

/// A transaction that would span both clusters: counted, and said once for each id and topic.
pub(super) fn refuse(cx: &Context<'_>, id: &str, topic: &TopicName) {
    cx.shared.metrics.transactions_refused.increment(1);
    if cx.shared.alarms.is_first(format!("transactions of {id} to {topic}")) {
        tracing::warn!(transactional_id = id, %topic,
            "a transaction is refused: it would span both clusters; its topics belong into one migration");
    }
}

/// A transaction is over, perhaps committed: positions of groups have changed with it, and so must their shadows.
pub(super) fn ended(cx: &Context<'_>, id: &str) {
    let groups = cx.shared.transactions.ended(id);
    if !groups.is_empty() && has_sealed(cx) {
        for group in groups {
            // Nobody writes any more when the proxy is stopping.
            drop(cx.shared.shadows.send(Told::Changed(group)));
        }
    }
}

pub struct Describe(pub DescribeTransactionsRequest);

impl Describe {
    fn ask(cx: &Context<'_>, id: &TransactionalId) -> Ask {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
        ask(cx, id, RequestKind::DescribeTransactions(request))
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
            note_error(cx, id, state.error_code);
            state.producer_id = shown(cx.shared.transactional_homes.of(id), state.producer_id);
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
            _ => return Step::Ask(self.0.transactional_ids.iter().map(|id| Self::ask(cx, id)).collect()),
        };
        Step::Answer(ResponseKind::DescribeTransactions(self.answer(cx, answers)))
    }
}

pub struct List {
    request: ListTransactionsRequest,
    /// The sides of the brokers that were asked, in their order.
    asked: Vec<Side>,
}

impl List {
    pub fn new(request: ListTransactionsRequest) -> Self {
        Self { request, asked: vec![] }
    }

    fn asks(&self, cx: &Context<'_>) -> Vec<Ask> {
        let sides = Side::BOTH.into_iter().filter(|side| cx.shared.transactional_homes.any_on(*side));
        sides.flat_map(|side| self.asks_of(cx, side)).collect()
    }

    fn asks_of(&self, cx: &Context<'_>, side: Side) -> Vec<Ask> {
        // No broker has what another side has issued; without any filter it would list all.
        let native = |p: &ProducerId| ProducerId(VirtualPid(p.0).native(side).unwrap_or(NONE));
        let filters = self.request.producer_id_filters.iter().map(native).collect();
        let request = self.request.clone().with_producer_id_filters(filters);
        let mut nodes: Vec<_> = cx.topology.side(side).iter().flat_map(|c| c.brokers.keys().copied()).collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|n| Ask::node(side, n, RequestKind::ListTransactions(request.clone()))).collect()
    }

    /// The first error stands: a list without one broker's transactions must not pass for a whole one. Clients ask again
    /// at COORDINATOR_LOAD_IN_PROGRESS only. Each side is listened to about the ids that are at home there.
    fn answer(&self, cx: &Context<'_>, answers: Answers) -> ListTransactionsResponse {
        let mut merged = ListTransactionsResponse::default();
        let mut seen: HashSet<TransactionalId> = HashSet::new();
        if answers.is_empty() {
            merged.error_code = code::COORDINATOR_LOAD_IN_PROGRESS;
        }
        for (side, answer) in self.asked.iter().copied().zip(answers) {
            let error = match answer {
                Ok(ResponseKind::ListTransactions(a)) => {
                    merged.throttle_time_ms = merged.throttle_time_ms.max(a.throttle_time_ms);
                    for state in a.unknown_state_filters {
                        if !merged.unknown_state_filters.contains(&state) {
                            merged.unknown_state_filters.push(state);
                        }
                    }
                    let homes = &cx.shared.transactional_homes;
                    let at_home = a.transaction_states.into_iter().filter(|t| homes.of(&t.transactional_id) == side);
                    let new = at_home.filter(|t| seen.insert(t.transactional_id.clone()));
                    merged.transaction_states.extend(new.map(|t| {
                        let pid = shown(side, t.producer_id);
                        t.with_producer_id(pid)
                    }));
                    a.error_code
                }
                _ => {
                    // Perhaps a broker that is no more.
                    cx.shared.refresh(side);
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
                asks => {
                    self.asked = asks.iter().map(|ask| ask.side).collect();
                    return Step::Ask(asks);
                }
            },
        };
        Step::Answer(ResponseKind::ListTransactions(self.answer(cx, answers)))
    }
}

pub(super) fn shown(side: Side, native: ProducerId) -> ProducerId {
    if native.0 < 0 { native } else { ProducerId(VirtualPid::issued(side, native.0).0) }
}
