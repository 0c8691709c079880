//! Bytes become frames and frames become bytes.
//!
//! * [`chain`]: a frame to be written as pieces, so that record bytes travel uncopied
//! * [`cursor`]: reading a frame without trusting a number in it
//! * [`frame`]: heads of requests and responses
//! * [`io`]: frames in and out of a stream (the only IO here); [`spare`]: the allocations of large ones, kept
//! * [`batch`], [`rewrite`]: record batches; reading their heads, rewriting offsets and producer ids in place
//! * [`produce`], [`fetch`]: our own codecs of the data path
//! * [`decode`], [`encode`]: every other API, through `kafka-protocol`, behind a counting pass over [`schema`]
//! * [`reply`]: an error answer of the right shape for any API and version
//!
//! Nothing here allocates from a length or count before it was held against the bytes that are there, and nothing
//! panics on what a peer sends.

pub mod batch;
pub mod chain;
pub mod cursor;
pub mod decode;
pub mod encode;
pub mod error;
pub mod fetch;
pub mod frame;
pub mod io;
pub mod produce;
pub mod records;
pub mod reply;
pub mod rewrite;
pub mod schema;
pub mod spare;

pub use batch::{BatchError, BatchHead, batches, produce_batch, verify_crc};
pub use chain::{Chain, ChainWriter};
pub use cursor::Cursor;
pub use error::WireError;
pub use frame::{RequestHead, peek, put_request_head, put_response_head, request_head, response_head};
pub use io::{FrameError, FrameReader, write_chains};
pub use records::Records;
pub use reply::refusal;
pub use rewrite::{Rebased, rebase, with_producer};

pub use kafka_protocol::protocol::StrBytes;
