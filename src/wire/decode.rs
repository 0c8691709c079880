//! The one place that calls `kafka-protocol`'s decoders. No byte reaches them before the counting pass of [`schema`] has
//! found that the message is whole, and that no count or length in it says more than is there.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};

use super::error::WireError;
use super::schema::{self, Message};

/// The body of a request, after its head. Produce and Fetch have decoders of their own.
///
/// Bytes behind the message are passed over, as brokers do: librdkafka leaves three in a Metadata request for all topics
/// (it writes the null of a compact array into the room of a count of four bytes).
pub fn request(api_key: i16, version: i16, mut body: Bytes) -> Result<RequestKind, WireError> {
    let (key, _) = checked(&schema::spoken(api_key, version)?.request, api_key, version, &body)?;
    RequestKind::decode(key, &mut body, version).map_err(refused)
}

/// The body of the answer to (`api_key`, `version`), after its head.
pub fn response(api_key: i16, version: i16, mut body: Bytes) -> Result<ResponseKind, WireError> {
    let (key, left) = checked(&schema::spoken(api_key, version)?.response, api_key, version, &body)?;
    if left > 0 {
        return Err(WireError::Trailing(left));
    }
    ResponseKind::decode(key, &mut body, version).map_err(refused)
}

fn checked(message: &Message, api_key: i16, version: i16, body: &Bytes) -> Result<(ApiKey, usize), WireError> {
    let unsupported = WireError::Unsupported { api_key, version };
    if !message.has(version) {
        return Err(unsupported);
    }
    let left = message.check(version, body)?;
    Ok((ApiKey::try_from(api_key).map_err(|_| unsupported)?, left))
}

/// What is left to the decoder to refuse: a text that is not UTF-8, null where there is none.
fn refused(error: impl std::fmt::Display) -> WireError {
    WireError::Codec(format!("{error:#}"))
}
