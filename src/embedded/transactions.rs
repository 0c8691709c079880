//! DescribeTransactions v0 and ListTransactions v0: the transactional ids that were initialised. No transaction ever
//! begins here, so all of them are Empty.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    describe_transactions_response as described, list_transactions_response as listed,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::state::State;

const EMPTY: &str = "Empty";
/// Kafka's `TransactionState`.
const STATES: [&str; 8] =
    [EMPTY, "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"];

pub fn describe_transactions(call: &Call, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let state = call.shared.lock();
    let states = request.transactional_ids.into_iter().map(|id| {
        let found = found(call, &state, &id);
        let answer = described::TransactionState::default().with_transactional_id(id);
        match found {
            Ok((pid, epoch, timeout_ms)) => answer
                .with_transaction_state(EMPTY.into())
                .with_transaction_timeout_ms(timeout_ms)
                .with_transaction_start_time_ms(-1)
                .with_producer_id(pid.into())
                .with_producer_epoch(epoch),
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn found(call: &Call, state: &State, id: &str) -> Result<(i64, i16, i32), E> {
    if id.is_empty() {
        return Err(E::InvalidRequest);
    }
    if state.coordinator(id) != Some(call.node) {
        return Err(E::NotCoordinator);
    }
    state.transactional_ids.get(id).copied().ok_or(E::TransactionalIdNotFound)
}

pub fn list_transactions(call: &Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let state = call.shared.lock();
    let known = |s: &&StrBytes| STATES.contains(&s.as_str());
    let unknown = request.state_filters.iter().filter(|s| !known(s)).cloned().collect();
    let empty = request.state_filters.is_empty() || request.state_filters.iter().any(|s| s.as_str() == EMPTY);
    let pids = &request.producer_id_filters;
    let shown = state.transactional_ids.iter().filter(|(id, (pid, ..))| {
        let asked = pids.is_empty() || pids.iter().any(|p| p.0 == *pid);
        empty && asked && state.coordinator(id) == Some(call.node)
    });
    let states = shown.map(|(id, (pid, ..))| {
        listed::TransactionState::default()
            .with_transactional_id(StrBytes::from_string(id.clone()).into())
            .with_producer_id((*pid).into())
            .with_transaction_state(EMPTY.into())
    });
    ListTransactionsResponse::default().with_unknown_state_filters(unknown).with_transaction_states(states.collect())
}
