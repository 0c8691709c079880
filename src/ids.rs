//! Who is who: one type per kind of number, so that a source's offset can never be read as a client's.
//! Sentinels of the protocol (-1, -2) are decided here, once.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One of the two clusters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Target,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Source, Side::Target];

    pub fn other(self) -> Side {
        match self {
            Side::Source => Side::Target,
            Side::Target => Side::Source,
        }
    }

    /// 0 for the source, 1 for the target: for arrays indexed by side.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Target => "target",
        })
    }
}

/// What clients see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Virtual<T>(pub T);

/// What a broker says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Native<T>(pub T);

impl<T: fmt::Display> fmt::Display for Virtual<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl<T: fmt::Display> fmt::Display for Native<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A position in a partition's log, in records.
pub type Offset = i64;
pub type VOffset = Virtual<Offset>;
pub type NOffset = Native<Offset>;

/// A broker's id on its own cluster.
pub type NodeId = i32;

/// "No such number": offsets, epochs, node ids, producer ids.
pub const NONE: i64 = -1;
/// Epochless (DESIGN.md section 2): the leader epoch in everything that clients see.
pub const NO_EPOCH: i32 = -1;
/// ListOffsets timestamps with a meaning of their own (Kafka's `ListOffsetsRequest`).
pub const LATEST: i64 = -1;
pub const EARLIEST: i64 = -2;
pub const MAX_TIMESTAMP: i64 = -3;
/// Where what is not in remote storage begins (KIP-405), from version 8 on.
pub const EARLIEST_LOCAL: i64 = -4;
/// The replica id of a client; -2 ("debugging consumer") is answered with the log end offset, not the high watermark.
pub const CONSUMER: i32 = -1;
pub const DEBUGGING_CONSUMER: i32 = -2;
/// The id of a topic that has none (older than Kafka 2.8).
pub const NO_TOPIC_ID: Uuid = Uuid::nil();

/// A topic's name, shared.
pub type TopicName = Arc<str>;

/// A partition, by the name of its topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<TopicName>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A producer id with who issued it, as DESIGN.md section 7 has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VirtualPid(pub i64);

impl VirtualPid {
    const ISSUED_BY_TARGET: i64 = 1 << 41;
    const SEALS_AT: u32 = 44;

    /// The virtual PID of one that `issuer`'s coordinator has just allocated.
    pub fn issued(issuer: Side, native: i64) -> Self {
        match issuer {
            Side::Source => Self(native),
            Side::Target => Self(native | Self::ISSUED_BY_TARGET),
        }
    }

    /// What `issuer`'s own coordinator calls it; `None` if it did not issue it.
    pub fn native(self, issuer: Side) -> Option<i64> {
        let issued = self.0 >= 0 && (self.0 & Self::ISSUED_BY_TARGET == 0) == (issuer == Side::Source);
        issued.then_some(self.0 & !Self::ISSUED_BY_TARGET)
    }

    /// What a side sees in idempotent batches of a partition that has passed `seals` seals. (With none this is the
    /// source, which sees its own numbers as it gave them.)
    pub fn upstream(self, seals: u32) -> i64 {
        self.0 | i64::from(seals) << Self::SEALS_AT
    }

    /// Back from what DescribeProducers of a side lists; `None` for a PID that did not come through `seals` seals.
    pub fn from_upstream(native: i64, seals: u32) -> Option<Self> {
        if native < 0 || native >> Self::SEALS_AT != i64::from(seals) {
            return None;
        }
        Some(Self(native & ((1 << Self::SEALS_AT) - 1)))
    }
}
