//! ListTransactions and DescribeTransactions (KIP-664, Kafka 3.0): the transactions that are open now.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest, RequestKind, ResponseKind,
    TransactionalId,
};

use super::{another_answer, text};
use crate::error::code;
use crate::ids::TopicName;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;

/// Kafka's names of the states in which markers are still to be written.
const OPEN: [&str; 3] = ["Ongoing", "PrepareCommit", "PrepareAbort"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    pub id: String,
    /// Native.
    pub producer_id: i64,
    /// What it has partitions of, written or not.
    pub topics: BTreeSet<TopicName>,
    /// Wall clock.
    pub started_ms: i64,
    /// After so long its coordinator aborts it.
    pub timeout_ms: i32,
    /// The address of its coordinator.
    pub coordinator: String,
}

/// Of all coordinators, which are all brokers. One that does not answer, or is not done loading, fails the whole question.
pub async fn open_transactions(admin: &Admin, view: &ClusterView) -> Result<Vec<Transaction>, AdminError> {
    let asked = view.brokers.values().map(|broker| async { coordinated_by(admin, &broker.address()).await });
    let mut all = Vec::new();
    for answer in join_all(asked).await {
        all.extend(answer?);
    }
    Ok(all)
}

/// The transactional ids that the cluster remembers, in whatever state, each with its native producer id.
pub async fn known_ids(admin: &Admin, view: &ClusterView) -> Result<Vec<(String, i64)>, AdminError> {
    let request = RequestKind::ListTransactions(ListTransactionsRequest::default());
    let asked = view.brokers.values().map(|broker| async { admin.ask(&broker.address(), &request).await });
    let mut known = vec![];
    for answer in join_all(asked).await {
        let ResponseKind::ListTransactions(listed) = answer? else { return Err(another_answer(admin, &request)) };
        if listed.error_code != code::NONE {
            let what = "which transactional ids there are".to_owned();
            return Err(AdminError::Refused { side: admin.side, what, code: listed.error_code });
        }
        known.extend(listed.transaction_states.iter().map(|t| (t.transactional_id.to_string(), t.producer_id.0)));
    }
    Ok(known)
}

async fn coordinated_by(admin: &Admin, address: &str) -> Result<Vec<Transaction>, AdminError> {
    let request = ListTransactionsRequest::default().with_state_filters(OPEN.map(text).to_vec());
    let request = RequestKind::ListTransactions(request);
    let ResponseKind::ListTransactions(listed) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    if listed.error_code != code::NONE {
        let what = "which transactions are open".to_owned();
        return Err(AdminError::Refused { side: admin.side, what, code: listed.error_code });
    }
    let ids: Vec<TransactionalId> = listed.transaction_states.iter().map(|t| t.transactional_id.clone()).collect();
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let request = RequestKind::DescribeTransactions(DescribeTransactionsRequest::default().with_transactional_ids(ids));
    let ResponseKind::DescribeTransactions(described) = admin.ask(address, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    let open = described.transaction_states.into_iter().filter(|t| OPEN.contains(&t.transaction_state.as_str()));
    Ok(open
        .map(|t| Transaction {
            id: t.transactional_id.to_string(),
            producer_id: t.producer_id.0,
            topics: t.topics.iter().map(|topic| TopicName::from(topic.topic.as_str())).collect(),
            started_ms: t.transaction_start_time_ms,
            timeout_ms: t.transaction_timeout_ms,
            coordinator: address.to_owned(),
        })
        .collect())
}

/// Aborts a transaction, by initialising its id: its producer is fenced. `Ok(false)`: it is being aborted.
pub async fn abort(admin: &Admin, open: &Transaction) -> Result<bool, AdminError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(text(&open.id).into()))
        .with_transaction_timeout_ms(open.timeout_ms)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let request = RequestKind::InitProducerId(request);
    let ResponseKind::InitProducerId(answer) = admin.ask(&open.coordinator, &request).await? else {
        return Err(another_answer(admin, &request));
    };
    match answer.error_code {
        code::NONE => Ok(true),
        code::CONCURRENT_TRANSACTIONS => Ok(false),
        code => Err(AdminError::Refused {
            side: admin.side,
            what: format!("to abort the transaction of {}", open.id),
            code,
        }),
    }
}
