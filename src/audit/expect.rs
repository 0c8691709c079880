//! What the caller of the judge knows: what each producer promises, how each consumer reads, where the seams are.

use std::collections::{HashMap, HashSet};

use crate::ids::Side;

use super::allow::AllowList;

/// What a run may show. A producer that is not named promises the most; a consumer that is not named is an error.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    pub producers: HashMap<String, Producing>,
    pub readers: HashMap<String, Reading>,
    /// Which library a client is, for the allow-list, where its `ready` does not say.
    pub libs: HashMap<String, String>,
    pub allow: AllowList,
    /// Clients that the run kills: they never say `done`.
    pub vanishing: HashSet<String>,
    /// Per partition, the segments of its virtual log where they are known: seams, and where dumps lie.
    pub layout: HashMap<String, Vec<Segment>>,
}

impl Expectations {
    pub fn producing(mut self, client: &str, promise: Producing) -> Self {
        self.producers.insert(client.to_owned(), promise);
        self
    }

    pub fn reading(mut self, client: &str, reading: Reading) -> Self {
        self.readers.insert(client.to_owned(), reading);
        self
    }

    pub fn segments(mut self, partition: &str, segments: Vec<Segment>) -> Self {
        self.layout.insert(partition.to_owned(), segments);
        self
    }

    pub fn producer(&self, client: &str) -> Producing {
        self.producers.get(client).copied().unwrap_or_default()
    }
}

/// What a producer's settings allow. The default allows nothing: idempotent, acks=all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Producing {
    pub duplicates: Duplicates,
    /// An acknowledged record may be lost.
    pub loss: bool,
    /// Sequences may land out of order (retries with several requests in flight, not idempotent).
    pub reordering: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Duplicates {
    #[default]
    Never,
    /// Only if this client logged a lost connection, since a resend is then its right.
    AfterConnectionLoss,
    Always,
}

impl Producing {
    pub fn idempotent() -> Self {
        Self::default()
    }

    /// acks=all without idempotence.
    pub fn acks_all() -> Self {
        Self { duplicates: Duplicates::AfterConnectionLoss, ..Self::default() }
    }

    /// acks=1: the leader alone has it. `loss` when the run kills leaders.
    pub fn acks_one(loss: bool) -> Self {
        Self { duplicates: Duplicates::AfterConnectionLoss, loss, reordering: false }
    }

    /// acks=0: "acknowledged" means written to a socket. `loss` when the run breaks connections.
    pub fn acks_none(loss: bool) -> Self {
        Self { duplicates: Duplicates::Never, loss, reordering: false }
    }
}

/// How a consumer reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reading {
    /// As a member: the group as a whole gets each record once. `redelivery` when members are killed between
    /// a poll and its commit.
    Group { name: String, redelivery: bool },
    /// By itself. `complete` if it reads all partitions from start to end: a final read.
    Assign { complete: bool },
}

impl Reading {
    pub fn group(name: &str) -> Self {
        Self::Group { name: name.to_owned(), redelivery: false }
    }
}

/// A piece of a partition's virtual log (DESIGN.md section 1), as `report` lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub side: Side,
    /// First virtual offset.
    pub start: i64,
    /// Where that lies on its side.
    pub native: i64,
    /// `None` for the open tail.
    pub length: Option<i64>,
    /// A mirrored copy of what another segment holds: the same records on the other side are meant to be there.
    pub copy: bool,
}

impl Segment {
    /// The virtual offset of a native one of this side.
    pub fn to_virtual(&self, native: i64) -> Option<i64> {
        let at = native.checked_sub(self.native)?;
        let inside = at >= 0 && self.length.is_none_or(|length| at < length);
        if inside { self.start.checked_add(at) } else { None }
    }
}

/// The virtual offsets at which a log goes over from one side to the other.
pub fn seams(segments: &[Segment]) -> Vec<i64> {
    let mut own: Vec<&Segment> = segments.iter().filter(|s| !s.copy).collect();
    own.sort_by_key(|s| s.start);
    own.windows(2).filter(|w| w[0].side != w[1].side).map(|w| w[1].start).collect()
}
