//! The heads of requests and responses. Which version of the head an API's version uses is taken from
//! `kafka_protocol`'s table; ApiVersions answers always have head v0, since the client does not know our versions yet.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::chain::ChainWriter;
use super::cursor::Cursor;
use super::error::WireError;

/// Head of a request (v1, or v2 with tagged fields, which are dropped).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHead {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

/// Key, version and correlation id, which stand first in every version of the head: for answers to what is not spoken.
pub fn peek(frame: &[u8]) -> Option<(i16, i16, i32)> {
    let [k0, k1, v0, v1, c0, c1, c2, c3] = *frame.first_chunk::<8>()?;
    Some((i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]), i32::from_be_bytes([c0, c1, c2, c3])))
}

fn api(api_key: i16, version: i16) -> Result<ApiKey, WireError> {
    ApiKey::try_from(api_key).map_err(|_| WireError::Unsupported { api_key, version })
}

/// Takes the head off `frame`; what is left is the body. Says nothing about whether the version is spoken, so that
/// ApiVersions of any version gives its correlation id. An error leaves `frame` as it was.
pub fn request_head(frame: &mut Bytes) -> Result<RequestHead, WireError> {
    let (api_key, api_version, correlation_id) = peek(frame).ok_or(WireError::Truncated)?;
    let head_version = api(api_key, api_version)?.request_header_version(api_version);
    let mut cursor = Cursor::new(frame.clone());
    cursor.skip(8)?;
    // The client id has an i16 length in both versions (KIP-482).
    let client_id = if head_version >= 1 { cursor.opt_text(false)? } else { None };
    cursor.skip_tags(head_version >= 2)?;
    *frame = cursor.rest();
    Ok(RequestHead { api_key, api_version, correlation_id, client_id })
}

pub fn put_request_head(
    out: &mut ChainWriter,
    api_key: i16,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) {
    let head_version = match api(api_key, version) {
        Ok(api) => api.request_header_version(version),
        Err(unknown) => return out.fail(unknown),
    };
    out.put_i16(api_key);
    out.put_i16(version);
    out.put_i32(correlation_id);
    if head_version >= 1 {
        out.put_opt_str(client_id, false);
    }
    out.put_no_tags(head_version >= 2);
}

/// Takes the head off an answer to (`api_key`, `version`); the correlation id. An error leaves `frame` as it was.
pub fn response_head(frame: &mut Bytes, api_key: i16, version: i16) -> Result<i32, WireError> {
    let head_version = api(api_key, version)?.response_header_version(version);
    let mut cursor = Cursor::new(frame.clone());
    let correlation_id = cursor.i32()?;
    cursor.skip_tags(head_version >= 1)?;
    *frame = cursor.rest();
    Ok(correlation_id)
}

pub fn put_response_head(out: &mut ChainWriter, api_key: i16, version: i16, correlation_id: i32) {
    match api(api_key, version) {
        Ok(api) => {
            out.put_i32(correlation_id);
            out.put_no_tags(api.response_header_version(version) >= 1);
        }
        Err(unknown) => out.fail(unknown),
    }
}
