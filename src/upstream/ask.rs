//! Typed questions to a cluster, over [`Admin`]: what the seal, `prepare`, preflight and the markers need to know or to change.
//!
//! * [`offsets`]: where logs begin and end. * [`producers`]: who has written. * [`data`]: one batch in, one read out.
//! * [`topics`]: create, delete, empty. * [`configs`]: what topics and brokers are set to. * [`described`]: topics by name.
//! * [`groups`]: what groups have committed. * [`consumer_groups`]: those of KIP-848. * [`epochs`]: where a leader epoch ends. * [`transactions`]: which are open.
//!
//! A question is asked once, of the leaders that the given view names. [`settled`] asks again with a fresh look while the answers
//! are passing ones, until a deadline.
#![expect(clippy::disallowed_methods, reason = "io: waits between two looks and reads the clock for the deadline")]

pub mod configs;
pub mod consumer_groups;
pub mod data;
pub mod described;
pub mod epochs;
pub mod groups;
pub mod offsets;
pub mod producers;
pub mod topics;
pub mod transactions;

pub use configs::{TopicConfig, alter_topic_configs, describe_broker_config, describe_topic_configs};
pub use data::{fetch_raw, produce_raw};
pub use described::{TopicDescribed, describe_topics};
pub use epochs::epoch_ends;
pub use offsets::{LogOffset, list_offsets};
pub use producers::{ProducerState, describe_producers};
pub use topics::{NewTopic, TopicDone, TopicRefused, create_topics, delete_records, delete_topics, validate_topics};

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::RequestKind;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::admin::{Admin, AdminError, which_versions};
use super::discovery;
use super::topology::{ClusterView, PartitionView};
use crate::error::{code, is_retriable};
use crate::ids::{NodeId, TopicPartition};
use crate::virtual_cluster::versions::{self, Range};

/// Between two tries of a question whose answer passes.
const PAUSE: Duration = Duration::from_millis(50);

/// What each partition was answered: a value or Kafka's error code.
pub type Answers<T> = HashMap<TopicPartition, Result<T, i16>>;

/// Asks until no partition's answer is one that passes (a leader that moved, a broker that is being restarted) or the deadline has
/// come; each time for what is still open, with a fresh look at the cluster. What was reached last is what is returned.
pub async fn settled<T>(
    admin: &Admin,
    view: &ClusterView,
    partitions: &[TopicPartition],
    deadline: Instant,
    ask: impl AsyncFn(&ClusterView, &[TopicPartition]) -> Result<Answers<T>, AdminError>,
) -> Result<Answers<T>, AdminError> {
    let mut answers: Answers<T> = HashMap::with_capacity(partitions.len());
    let mut open = partitions.to_vec();
    let mut fresh = None;
    loop {
        let view = fresh.as_ref().unwrap_or(view);
        let failed = match ask(view, &open).await {
            Ok(more) => {
                answers.extend(more);
                None
            }
            Err(e) if e.is_passing() => Some(e),
            Err(e) => return Err(e),
        };
        open.retain(|tp| answers.get(tp).is_none_or(|a| a.as_ref().is_err_and(|code| is_retriable(*code))));
        if open.is_empty() {
            return Ok(answers);
        }
        if !pause(deadline).await {
            for tp in open {
                answers.entry(tp).or_insert(Err(code::REQUEST_TIMED_OUT));
            }
            return failed.map_or(Ok(answers), Err);
        }
        match discovery::look(admin, &view.broker_list()).await {
            Ok(view) => fresh = Some(view),
            Err(e) if e.is_passing() => admin.forget_versions(),
            Err(e) => return Err(e),
        }
    }
}

/// Waits a moment; false if the deadline would pass.
pub async fn pause(deadline: Instant) -> bool {
    if Instant::now() + PAUSE >= deadline {
        return false;
    }
    tokio::time::sleep(PAUSE).await;
    true
}

/// This long from now: for questions with a deadline.
pub fn within(time: Duration) -> Instant {
    Instant::now() + time
}

/// The leader of a partition with its address, as the view has it.
fn leader(view: &ClusterView, tp: &TopicPartition) -> Result<(PartitionView, String), i16> {
    let topic = view.topics.get(&tp.topic).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let index = usize::try_from(tp.partition).ok();
    let partition = index.and_then(|i| topic.partitions.get(i)).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let broker = view.brokers.get(&partition.leader).ok_or(code::LEADER_NOT_AVAILABLE)?;
    Ok((*partition, broker.address()))
}

type ByTopic<'a> = BTreeMap<&'a str, Vec<(i32, PartitionView)>>;

/// The partitions by their leader's address and their topic, and the answers of those that have no leader.
fn by_leader<'a, T>(
    view: &ClusterView,
    partitions: &'a [TopicPartition],
) -> (BTreeMap<String, ByTopic<'a>>, Answers<T>) {
    let mut led: BTreeMap<String, ByTopic<'a>> = BTreeMap::new();
    let mut leaderless = HashMap::new();
    for tp in partitions {
        match leader(view, tp) {
            Ok((partition, address)) => {
                let topics = led.entry(address).or_default();
                topics.entry(&tp.topic).or_default().push((tp.partition, partition));
            }
            Err(code) => {
                leaderless.insert(tp.clone(), Err(code));
            }
        }
    }
    (led, leaderless)
}

/// The versions of an API that this cluster and we speak.
async fn spoken(admin: &Admin, address: &str, key: i16, name: &'static str, ours: Range) -> Result<Range, AdminError> {
    if admin.versions().is_empty() {
        // Whatever is asked first brings the versions along.
        admin.ask(address, &which_versions()).await?;
    }
    let theirs = admin.versions().get(&key).copied();
    theirs.and_then(|r| r.intersect(ours)).ok_or(AdminError::Unsupported { side: admin.side, api: name, key })
}

/// The controller's address, or any broker's.
fn controller(view: &ClusterView) -> Option<String> {
    let known = |id: &NodeId| view.brokers.get(id);
    known(&view.controller).or_else(|| view.brokers.values().next()).map(|b| b.address())
}

fn any_broker(admin: &Admin, view: &ClusterView) -> Result<String, AdminError> {
    let reason = || "it names no broker".to_owned();
    controller(view).ok_or_else(|| AdminError::Unreachable { side: admin.side, reason: reason() })
}

fn another_answer(admin: &Admin, request: &RequestKind) -> AdminError {
    let (_, name) = versions::key_of(request);
    AdminError::Refused {
        side: admin.side,
        what: format!("{name} with another answer"),
        code: code::UNKNOWN_SERVER_ERROR,
    }
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}
