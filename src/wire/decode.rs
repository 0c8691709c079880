//! The one place that calls `kafka-protocol`'s decoders. No byte reaches them before the counting pass of [`schema`] has
//! found that the message is whole, and that no count or length in it says more than is there.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};

use super::cursor::Cursor;
use super::error::WireError;
use super::schema::{self, Message};

/// The body of a request, after its head. Produce and Fetch have decoders of their own.
///
/// Bytes behind the message are passed over, as brokers do: librdkafka leaves three in a Metadata request for all topics
/// (it writes the null of a compact array into the room of a count of four bytes).
pub fn request(api_key: i16, version: i16, body: Bytes) -> Result<RequestKind, WireError> {
    weighed_request(api_key, version, body).map(|(request, _)| request)
}

/// The same, with the number of elements in its arrays: decoded, they weigh far more than their bytes.
pub fn weighed_request(api_key: i16, version: i16, mut body: Bytes) -> Result<(RequestKind, usize), WireError> {
    let mut cursor = Cursor::new(body.clone());
    let key = checked(&schema::spoken(api_key, version)?.request, api_key, version, &mut cursor)?;
    let request = RequestKind::decode(key, &mut body, version).map_err(refused)?;
    Ok((request, cursor.elements()))
}

/// The body of the answer to (`api_key`, `version`), after its head.
pub fn response(api_key: i16, version: i16, mut body: Bytes) -> Result<ResponseKind, WireError> {
    let mut cursor = Cursor::of_answer(body.clone());
    let key = checked(&schema::spoken(api_key, version)?.response, api_key, version, &mut cursor)?;
    cursor.finish()?;
    ResponseKind::decode(key, &mut body, version).map_err(refused)
}

fn checked(message: &Message, api_key: i16, version: i16, cursor: &mut Cursor) -> Result<ApiKey, WireError> {
    let unsupported = WireError::Unsupported { api_key, version };
    if !message.has(version) {
        return Err(unsupported);
    }
    message.check(version, cursor)?;
    ApiKey::try_from(api_key).map_err(|_| unsupported)
}

/// What is left to the decoder to refuse: a text that is not UTF-8, null where there is none.
fn refused(error: impl std::fmt::Display) -> WireError {
    WireError::Codec(format!("{error:#}"))
}
