//! The markers on the clusters themselves (DESIGN.md section 4, "The worst accident"): a compacted topic of one partition, in which
//! the last record with the marker's key counts. What they mean is judged in `store::identity`.
#![allow(clippy::disallowed_methods, reason = "io: asks the clusters")]

use std::time::Duration;

use bytes::Bytes;

use super::record::{self, Record};
use crate::clock::now_ms;
use crate::error::{code, is_retriable};
use crate::ids::{CONSUMER, EARLIEST, LATEST, TopicName, TopicPartition};
use crate::store::identity::{MARKER_KEY, Marker, MarkerSeen, marker_topic};
use crate::upstream::admin::{Admin, AdminError};
use crate::upstream::topology::ClusterView;
use crate::upstream::{ask, discovery};
use crate::wire::batches;

/// For each call here, over all its tries.
const TIME: Duration = Duration::from_secs(15);
const REPLICAS: usize = 3;
/// A marker names every partition of every migration.
const MOST_BYTES: i32 = 8 * 1024 * 1024;
/// `ResponseError`s that a cluster's own rules about new topics answer: tried again with its defaults.
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_CONFIG: i16 = 40;

/// Makes the topic of the proxy with this `name` if it is not there, and waits until it takes records: the first one waits
/// until its followers have begun to follow, and is not to be one that a hold waits for.
pub async fn ensure_topic(admin: &Admin, name: &str) -> Result<(), AdminError> {
    let tp = partition(name);
    let deadline = ask::within(TIME);
    let mut modest = false;
    loop {
        let view = discovery::look(admin, &[]).await?;
        match view.topics.get(&tp.topic).and_then(|t| t.partitions.first()) {
            Some(partition) if partition.leader >= 0 => {
                // Whoever made it: as long as it holds nothing, nobody has seen it take a record.
                match offset(admin, &view, &tp, LATEST).await {
                    Ok(0) => return write_through(admin, view, name, None).await,
                    Ok(_) => return Ok(()),
                    Err(e) if e.is_passing() => {}
                    Err(e) => return Err(e),
                }
            }
            Some(_) => {}
            None => match create(admin, &view, &tp.topic, modest).await {
                Ok(Ok(()) | Err(code::TOPIC_ALREADY_EXISTS)) => {}
                Ok(Err(INVALID_REPLICATION_FACTOR | INVALID_CONFIG | code::POLICY_VIOLATION)) if !modest => {
                    modest = true
                }
                Ok(Err(passing)) if is_retriable(passing) => {}
                // A lost answer: the next look tells whether it was made.
                Err(e) if e.is_passing() => {}
                Err(e) => return Err(e),
                Ok(Err(code)) => return Err(refused(admin, format!("the creation of topic {}", tp.topic), code)),
            },
        }
        if !ask::pause(deadline).await {
            let what = format!("the wait for a leader of {tp}");
            return Err(refused(admin, what, code::LEADER_NOT_AVAILABLE));
        }
    }
}

async fn create(
    admin: &Admin,
    view: &ClusterView,
    topic: &TopicName,
    modest: bool,
) -> Result<Result<(), i16>, AdminError> {
    let replicas = view.brokers.len().clamp(1, REPLICAS) as i16;
    let text = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    let most = MOST_BYTES.to_string();
    // What a broker recompresses cannot be read back here.
    let mut configs = vec![text(("cleanup.policy", "compact")), text(("compression.type", "uncompressed"))];
    if !modest {
        configs.push(text(("max.message.bytes", &most)));
    }
    let new = ask::NewTopic {
        name: topic.clone(),
        partitions: 1,
        replication_factor: if modest { -1 } else { replicas },
        configs,
    };
    let mut done = ask::create_topics(admin, view, vec![new]).await?;
    Ok(match done.remove(topic) {
        Some(done) => done.map(drop).map_err(|e| e.code),
        None => Err(code::UNKNOWN_SERVER_ERROR),
    })
}

/// Writes the marker, or a tombstone. Returns when all replicas in sync have it. Tried again until the deadline: a marker that is
/// there twice is as good as one.
pub async fn write(admin: &Admin, name: &str, marker: Option<&Marker>) -> Result<(), AdminError> {
    let view = discovery::look(admin, &[]).await?;
    write_through(admin, view, name, marker).await
}

/// The same by leaders that are known already: in a hold every look counts.
pub async fn write_through(
    admin: &Admin,
    mut view: ClusterView,
    name: &str,
    marker: Option<&Marker>,
) -> Result<(), AdminError> {
    let tp = partition(name);
    let deadline = ask::within(TIME);
    let record = Record {
        key: Some(Bytes::from_static(MARKER_KEY.as_bytes())),
        value: marker.map(|m| Bytes::from(m.to_text())),
    };
    loop {
        let batch = record::batch(&record, now_ms(), None);
        let failed = match ask::produce_raw(admin, &view, &tp, -1, batch).await {
            Ok(answer) if answer.error_code == code::NONE => return Ok(()),
            Ok(answer) => refused(admin, format!("a write to {tp}"), answer.error_code),
            Err(e) => e,
        };
        if !failed.is_passing() || !ask::pause(deadline).await {
            return Err(failed);
        }
        view = discovery::look(admin, &view.broker_list()).await?;
    }
}

/// The last marker, from the whole log. `Err`: the cluster could not say, which is not the same as that there is none.
pub async fn read(admin: &Admin, name: &str) -> Result<MarkerSeen, AdminError> {
    let tp = partition(name);
    let deadline = ask::within(TIME);
    loop {
        match read_once(admin, &tp).await {
            Err(e) if e.is_passing() && ask::pause(deadline).await => {}
            other => return other,
        }
    }
}

async fn read_once(admin: &Admin, tp: &TopicPartition) -> Result<MarkerSeen, AdminError> {
    let view = discovery::look(admin, &[]).await?;
    if is_absent(admin, &view, &tp.topic).await? {
        return Ok(MarkerSeen::Absent);
    }
    // Asked for and not taken from a fetch: a new leader says OFFSET_NOT_AVAILABLE until its high watermark holds (KIP-207).
    let (mut next, end) = (offset(admin, &view, tp, EARLIEST).await?, offset(admin, &view, tp, LATEST).await?);
    let mut seen = MarkerSeen::Absent;
    while next < end {
        let part = ask::fetch_raw(admin, &view, tp, next, MOST_BYTES, true).await?;
        if part.error_code != code::NONE {
            return Err(refused(admin, format!("a fetch of {tp} at {next}"), part.error_code));
        }
        let (last, reached) = newest(part.records.into_bytes(), next);
        if let Some(last) = last {
            seen = last;
        }
        if reached <= next {
            return Err(refused(admin, format!("a fetch of {tp} at {next} with nothing"), code::OFFSET_NOT_AVAILABLE));
        }
        next = reached;
    }
    Ok(seen)
}

async fn offset(admin: &Admin, view: &ClusterView, tp: &TopicPartition, timestamp: i64) -> Result<i64, AdminError> {
    let mut found = ask::list_offsets(admin, view, std::slice::from_ref(tp), timestamp, CONSUMER, 0).await?;
    let found = found.remove(tp).unwrap_or(Err(code::UNKNOWN_TOPIC_OR_PARTITION));
    found.map(|f| f.offset).map_err(|code| refused(admin, format!("ListOffsets of {tp}"), code))
}

/// The last marker of what was fetched, and the offset after it.
fn newest(fetched: Bytes, from: i64) -> (Option<MarkerSeen>, i64) {
    let (mut seen, mut next) = (None, from);
    for batch in batches(&fetched) {
        let (place, head) = match batch {
            Ok(found) => found,
            Err(e) => return (Some(MarkerSeen::Unreadable(e.to_string())), next),
        };
        next = head.next_offset();
        if head.last_offset() < from || head.is_control() {
            continue;
        }
        if head.magic != 2 || head.compression() != 0 {
            seen = Some(MarkerSeen::Unreadable("a batch that no kafka-cutover has written".to_owned()));
            continue;
        }
        match record::records(fetched.slice(place)) {
            Ok(records) => {
                let ours = |r: &&Record| r.key.as_deref() == Some(MARKER_KEY.as_bytes());
                if let Some(last) = records.iter().rev().find(ours) {
                    seen = Some(MarkerSeen::parse(last.value.as_deref()));
                }
            }
            Err(e) => seen = Some(MarkerSeen::Unreadable(e.to_string())),
        }
    }
    (seen, next)
}

/// Absent only if every broker that answers says so by name: the list of all topics leaves out what we may not see, and a broker that has just
/// started may not know it yet.
async fn is_absent(admin: &Admin, view: &ClusterView, topic: &TopicName) -> Result<bool, AdminError> {
    if view.brokers.is_empty() {
        return Err(AdminError::Unreachable { side: admin.side, reason: "it names no broker".to_owned() });
    }
    let mut asked = 0;
    let mut silent = None;
    for broker in view.broker_list() {
        match ask::describe_topics(admin, &broker.address(), std::slice::from_ref(topic)).await {
            Ok(mut found) => match found.remove(topic) {
                Some(Ok(_)) => return Ok(false),
                Some(Err(code::UNKNOWN_TOPIC_OR_PARTITION)) => asked += 1,
                Some(Err(code)) => return Err(refused(admin, format!("Metadata of {topic}"), code)),
                None => {}
            },
            Err(e) if e.is_passing() => silent = Some(e),
            Err(e) => return Err(e),
        }
    }
    match silent {
        Some(e) if asked == 0 => Err(e),
        _ => Ok(true),
    }
}

fn partition(name: &str) -> TopicPartition {
    TopicPartition::new(marker_topic(name), 0)
}

fn refused(admin: &Admin, what: String, code: i16) -> AdminError {
    AdminError::Refused { side: admin.side, what, code }
}
