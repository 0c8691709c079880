//! Writes messages through `kafka-protocol`'s encoders. A message that its version cannot express (a field set that the
//! version lacks) makes the writer fail.

use bytes::BytesMut;
use kafka_protocol::messages::{RequestKind, ResponseKind};

use super::chain::ChainWriter;
use super::error::WireError;

pub fn request(request: &RequestKind, version: i16, out: &mut ChainWriter) {
    put(out, |buffer| request.encode(buffer, version).map_err(|error| error.to_string()));
}

pub fn response(response: &ResponseKind, version: i16, out: &mut ChainWriter) {
    put(out, |buffer| response.encode(buffer, version).map_err(|error| error.to_string()));
}

fn put(out: &mut ChainWriter, encode: impl FnOnce(&mut BytesMut) -> Result<(), String>) {
    if let Err(error) = encode(out.tail()) {
        out.fail(WireError::Codec(error));
    }
}
