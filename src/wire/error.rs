//! What can be wrong with bytes. Every text is safe to show to a client: it holds numbers, never content.

use super::batch::BatchError;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    #[error("the message ends early")]
    Truncated,
    #[error("a length of {len} cannot be")]
    BadLength { len: i64 },
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLarge { len: u64, limit: u64 },
    #[error("a variable-length number is too long")]
    Varint,
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("an array of {count} elements cannot be in {bytes} bytes")]
    Count { count: i64, bytes: usize },
    #[error("more than {limit} elements in one message")]
    TooMany { limit: usize },
    #[error("tagged field {tag} is out of order or not of this version")]
    Tag { tag: u32 },
    #[error("API key {api_key} version {version} is not spoken here")]
    Unsupported { api_key: i16, version: i16 },
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Codec(String),
}
