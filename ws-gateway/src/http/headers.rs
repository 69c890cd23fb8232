//! Header fields of a request.

use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use shared::contract::http::problem::{REQUEST_ID_HEADER, accept_request_id};

/// The client's request id if it is valid, otherwise a new one.
pub(crate) fn request_id_of(headers: &HeaderMap) -> String {
    accept_request_id(single_header(headers, REQUEST_ID_HEADER))
}

/// Whether the request announces a body (RFC 9112, section 6).
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).into_iter().any(|length| length.as_bytes() != b"0")
}

/// The value of a field that occurs exactly once.
pub(super) fn single_header<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    let mut lines = headers.get_all(name).into_iter();
    lines.next().filter(|_| lines.next().is_none()).and_then(|line| line.to_str().ok())
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The members of a list field, over all its lines (RFC 9110, section 5.6.1).
pub(super) fn list_members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Whether this is 16 bytes in base64 (RFC 6455, section 4.1).
pub(super) fn is_valid_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key.bytes().take(22).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}
