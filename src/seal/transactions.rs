//! What transactions mean for a seal (DESIGN.md section 4, "Late seam"): nobody waits for one, each ends on the side that it
//! began on, and until the last of them has, the seam has no place in the log.
#![allow(clippy::disallowed_methods, reason = "io: asks the coordinators, and again after a pause")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::refuse;
use super::sides::Seen;
use crate::clock;
use crate::control::protocol::{OpenTransaction, Refusal};
use crate::ids::{Side, TopicName, TopicPartition};
use crate::migration::status::rfc3339;
use crate::routing::Shared;
use crate::upstream::ClusterView;
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::ask::transactions::{self, Transaction};

/// Named in one refusal.
const NAMED: usize = 5;
/// An abort is asked for again so often, with a pause between: its markers are being written.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Who has written to one of the partitions' topics through this proxy, by transactional id, and what. One without a name is "".
pub fn writers(shared: &Shared, partitions: &[TopicPartition]) -> BTreeMap<String, BTreeSet<TopicName>> {
    let topics: HashSet<&TopicName> = partitions.iter().map(|tp| &tp.topic).collect();
    shared.transactions.writers(|topic| topics.contains(topic), clock::now_ms())
}

/// The groups that are to move before the seam can have its place: their positions are carried by transactions that write to it,
/// and an id changes sides together with them.
pub fn carried(shared: &Shared, partitions: &[TopicPartition], to: Side) -> BTreeSet<String> {
    let now_ms = clock::now_ms();
    let writers = writers(shared, partitions);
    let groups = writers.keys().flat_map(|id| shared.transactions.carried_by(id, now_ms));
    groups.filter(|group| shared.homes.of(group) != to).collect()
}

/// The transactions that are open on a side and have partitions of these topics, or may yet. `None`: its brokers cannot say
/// (older than 3.0).
pub async fn open(
    shared: &Shared,
    admin: &Admin,
    view: &ClusterView,
    partitions: &[TopicPartition],
) -> Result<Option<Vec<Transaction>>, AdminError> {
    let open = match transactions::open_transactions(admin, view).await {
        Err(AdminError::Unsupported { .. }) => return Ok(None),
        other => other?,
    };
    let topics: HashSet<&TopicName> = partitions.iter().map(|tp| &tp.topic).collect();
    let writers = writers(shared, partitions);
    let is_about = |t: &Transaction| t.topics.iter().any(|topic| topics.contains(topic));
    let may = |t: &Transaction| writers.contains_key(&t.id) && shared.transactional_homes.of(&t.id) == admin.side;
    Ok(Some(open.into_iter().filter(|t| is_about(t) || may(t)).collect()))
}

/// Of these, as an operator is told.
pub fn shown(open: &[Transaction]) -> Vec<OpenTransaction> {
    let one = |t: &Transaction| OpenTransaction { id: t.id.clone(), since: rfc3339(t.started_ms) };
    open.iter().map(one).collect()
}

/// Those that nobody can count on to end within the limit: older than it already, and their coordinators let them live longer.
pub fn too_long(open: &[Transaction], limit: Duration, now_ms: i64) -> Vec<&Transaction> {
    let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    let stays = |t: &&Transaction| {
        let age = now_ms.saturating_sub(t.started_ms);
        age > limit && i64::from(t.timeout_ms).saturating_sub(age) > limit
    };
    open.iter().filter(stays).collect()
}

/// `Err`: a transaction would keep the seam open for too long, or nobody can say which are open.
pub fn can_end(
    shared: &Shared,
    partitions: &[TopicPartition],
    open: Option<&[Transaction]>,
    old: Side,
) -> Result<(), Refusal> {
    let writers = writers(shared, partitions);
    let now_ms = clock::now_ms();
    let Some(open) = open else {
        if writers.is_empty() {
            return Ok(());
        }
        let ids = named(writers.keys().map(String::as_str));
        return Err(cannot_say(old, &format!("transactional producers write to it: {ids}")));
    };
    let limit = shared.config.seal.late_seam_max;
    let long = too_long(open, limit, now_ms);
    if long.is_empty() {
        return Ok(());
    }
    let one = |t: &&Transaction| {
        format!("{} (open since {}, may stay so for {} s)", t.id, rfc3339(t.started_ms), t.timeout_ms / 1000)
    };
    let all: Vec<String> = long.iter().map(one).collect();
    let message = format!(
        "transactions are open for longer than `seal.late_seam_max` ({} s): {}",
        limit.as_secs(),
        named(all.iter().map(String::as_str))
    );
    let hint = "wait for their end or end them, raise `seal.late_seam_max`, or let --force abort them";
    Err(refuse("open_transaction", message, hint))
}

/// Transactions, on brokers that do not say which are open.
pub fn cannot_say(old: Side, what: &str) -> Refusal {
    let message = format!("{what}; and the {old}'s brokers cannot say which transactions are open");
    let hint = "brokers older than 3.0 keep their transactional producers: stop them and try again 15 minutes after they \
                have written last, or leave these topics out of the migration";
    refuse("transactional_producers", message, hint)
}

/// Aborts what would keep the seam open for too long; their producers are fenced.
pub async fn abort(shared: &Shared, seen: &Seen<'_>, open: &[Transaction]) -> Result<(), Refusal> {
    for transaction in too_long(open, shared.config.seal.late_seam_max, clock::now_ms()) {
        tracing::warn!(transactional_id = transaction.id, side = %seen.admin.side, since = rfc3339(transaction.started_ms),
            "--force: its transaction is aborted, its producer is fenced");
        let failed = |why: String| {
            let message = format!("the transaction of {} could not be aborted: {why}", transaction.id);
            refuse("open_transaction", message, "end its client, then try again")
        };
        let mut done = false;
        for _ in 0..TRIES {
            done = transactions::abort(seen.admin, transaction).await.map_err(|e| failed(e.to_string()))?;
            if done {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if !done {
            return Err(failed("its markers are not written".to_owned()));
        }
    }
    Ok(())
}

fn named<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.map(|id| if id.is_empty() { "others" } else { id }).collect();
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    format!("{}{more}", all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", "))
}
