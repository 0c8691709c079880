//! The sentence: counts, and what went wrong, by class.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

/// How many examples of one class are kept; all are counted.
pub const EXAMPLES: usize = 10;

/// Kinds of anomaly; Jepsen's names for Kafka where they exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Acknowledged, and nobody ever saw it.
    LostWrite,
    /// Acknowledged and in the log, but a group or a final read did not get it.
    Unseen,
    /// One record at two offsets, or given to a group twice.
    Duplicate,
    /// One offset of one partition held two records.
    InconsistentOffsets,
    /// A consumer jumped over a record within one assignment.
    PollSkip,
    /// A consumer went backwards within one assignment.
    NonmonotonicPoll,
    /// A producer's records of one partition lie in another order than it sent them.
    NonmonotonicSend,
    /// The same for one key: worse, since order per key is what Kafka promises to applications.
    OrderInversion,
    /// A poll-skip across the boundary of two sides.
    SeamGap,
    /// A nonmonotonic poll back across the boundary of two sides.
    SeamOverlap,
    /// The acknowledged offset is not where the record is.
    AckOffset,
    /// On both sides, or acknowledged on a side outside of its part.
    SplitBrainWrite,
    /// A record that is not what its producer sent.
    ByteDrift,
    /// A failure, a failed commit or a line of a client's log that nobody allowed.
    ClientError,
    /// The events contradict themselves: the harness is at fault, nothing is proven.
    BrokenHistory,
}

impl Class {
    pub const ALL: [Class; 15] = [
        Class::LostWrite,
        Class::Unseen,
        Class::Duplicate,
        Class::InconsistentOffsets,
        Class::PollSkip,
        Class::NonmonotonicPoll,
        Class::NonmonotonicSend,
        Class::OrderInversion,
        Class::SeamGap,
        Class::SeamOverlap,
        Class::AckOffset,
        Class::SplitBrainWrite,
        Class::ByteDrift,
        Class::ClientError,
        Class::BrokenHistory,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Class::LostWrite => "lost-write",
            Class::Unseen => "unseen",
            Class::Duplicate => "duplicate",
            Class::InconsistentOffsets => "inconsistent-offsets",
            Class::PollSkip => "poll-skip",
            Class::NonmonotonicPoll => "nonmonotonic-poll",
            Class::NonmonotonicSend => "nonmonotonic-send",
            Class::OrderInversion => "order-inversion",
            Class::SeamGap => "seam-gap",
            Class::SeamOverlap => "seam-overlap",
            Class::AckOffset => "ack-offset",
            Class::SplitBrainWrite => "split-brain-write",
            Class::ByteDrift => "byte-drift",
            Class::ClientError => "client-error",
            Class::BrokenHistory => "broken-history",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One example of what went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Anomaly {
    pub class: Class,
    pub text: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Verdict {
    /// Records that any client says it sent.
    pub records_sent: u64,
    pub records_acked: u64,
    /// Distinct records that any consumer received.
    pub records_received: u64,
    /// Acknowledged records that a group or a final read did not get, and that their producer may not lose.
    pub lost: u64,
    /// Copies too many, in the log or given to a group, that their producer or group may not have.
    pub duplicated: u64,
    /// Records that lie behind a later one of the same producer and partition.
    pub reordered: u64,
    pub client_errors: u64,
    /// How often each class was seen.
    pub counts: BTreeMap<Class, u64>,
    /// The first of each class.
    pub anomalies: Vec<Anomaly>,
}

impl Verdict {
    pub fn ok(&self) -> bool {
        self.counts.is_empty()
    }

    pub fn count(&self, class: Class) -> u64 {
        self.counts.get(&class).copied().unwrap_or(0)
    }

    /// Counts one; the text is made only if it is kept.
    pub(super) fn blame(&mut self, class: Class, text: impl FnOnce() -> String) {
        let count = self.counts.entry(class).or_default();
        *count += 1;
        if *count <= EXAMPLES as u64 {
            self.anomalies.push(Anomaly { class, text: text() });
        }
        if class == Class::ClientError {
            self.client_errors += 1;
        }
    }
}
