//! A partition's records as they stand in Produce and Fetch: one slice of the frame they came in, or several pieces
//! after a rewrite.

use bytes::{BufMut, Bytes, BytesMut};

use super::chain::ChainWriter;
use super::rewrite::Rebased;

#[derive(Clone, Default, Debug)]
pub enum Records {
    #[default]
    Null,
    One(Bytes),
    Two([Bytes; 2]),
    Many(Vec<Bytes>),
}

impl Records {
    pub fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Null => &[],
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Two(pieces) => pieces,
            Self::Many(pieces) => pieces,
        }
    }

    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In one piece: without a copy unless a rewrite has cut them.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::One(piece) => piece,
            pieces => pieces.to_bytes(),
        }
    }

    pub fn to_bytes(&self) -> Bytes {
        match self.pieces() {
            [] => Bytes::new(),
            [only] => only.clone(),
            pieces => {
                let mut all = BytesMut::with_capacity(self.len());
                pieces.iter().for_each(|piece| all.put_slice(piece));
                all.freeze()
            }
        }
    }

    /// Length and bytes; null as null.
    pub(super) fn put(&self, out: &mut ChainWriter, compact: bool) {
        match self {
            Self::Null => out.put_null(compact),
            _ => self.put_never_null(out, compact),
        }
    }

    /// Length and bytes; null as empty (librdkafka refuses null in a Fetch answer).
    pub(super) fn put_never_null(&self, out: &mut ChainWriter, compact: bool) {
        out.put_len(self.len(), compact);
        self.pieces().iter().for_each(|piece| out.put_shared(piece.clone()));
    }
}

/// By content: how it is cut into pieces says nothing.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        matches!(self, Self::Null) == matches!(other, Self::Null) && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Records {}

impl From<Bytes> for Records {
    fn from(piece: Bytes) -> Self {
        Self::One(piece)
    }
}

impl From<Option<Bytes>> for Records {
    fn from(piece: Option<Bytes>) -> Self {
        piece.map_or(Self::Null, Self::One)
    }
}

impl From<[Bytes; 2]> for Records {
    fn from(pieces: [Bytes; 2]) -> Self {
        Self::Two(pieces)
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self::Many(pieces)
    }
}

impl From<Rebased> for Records {
    fn from(rebased: Rebased) -> Self {
        Self::Many(rebased.pieces)
    }
}
