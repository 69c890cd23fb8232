//! Failures as outsiders see them: RFC 9457 problem details.
//!
//! A `detail` is written for the caller: it never holds SQL, addresses, tokens or message content.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::contract::http::web_security::SECURITY_HEADERS;

/// Media type of a problem body (RFC 9457, section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Header that names a request in answers and logs.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// One thing wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// Where: a JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// What.
    pub detail: String,
}

impl InputError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `parameter_error:blank`: the status says what kind of problem it is (RFC 9457, section 4.2.1).
    pub r#type: Cow<'static, str>,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// HTTP status code.
    pub status: u16,
    /// What happened this time, and what would help.
    pub detail: String,
    /// Value of `X-Request-Id`: name it when asking for help.
    pub request_id: String,
    /// What is wrong with the input, when that is the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<InputError>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank".into(),
            title: title(status).into(),
            status,
            detail: detail.into(),
            request_id: String::new(),
            errors: Vec::new(),
        }
    }

    /// The same, for a request.
    #[must_use]
    pub fn with_request_id(mut self, request_id: &str) -> Self {
        request_id.clone_into(&mut self.request_id);
        self
    }

    /// The same, with what is wrong with the input.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<InputError>) -> Self {
        self.errors = errors;
        self
    }

    /// The body.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| String::from("{}"))
    }
}

/// The status in words (RFC 9110, section 15).
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ if status < 500 => "Client Error",
        _ => "Internal Server Error",
    }
}

/// Written by hand to a client whose request did not arrive in time: there is no request that could be answered.
#[must_use]
pub fn request_timeout() -> String {
    raw_response(408, "the request did not arrive in time")
}

/// Written by hand to a client whose request could not be read: a whole answer, after which the connection ends.
#[must_use]
pub fn raw_response(status: u16, detail: &str) -> String {
    let request_id = accept_request_id(None);
    let body = Problem::new(status, detail).with_request_id(&request_id).to_json();
    let (title, length) = (title(status), body.len());
    let headers = SECURITY_HEADERS.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {length}\r\n\
         x-request-id: {request_id}\r\n{headers}connection: close\r\n\r\n{body}"
    )
}

/// The caller's request id when it is safe to repeat in logs and answers, or a new one.
#[must_use]
pub fn accept_request_id(from_caller: Option<&str>) -> String {
    match from_caller {
        Some(id)
            if (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) =>
        {
            id.to_owned()
        }
        _ => uuid::Uuid::now_v7().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_has_the_members_of_rfc_9457() {
        let problem = Problem::new(422, "1 field is invalid")
            .with_request_id("r1")
            .with_errors(vec![InputError::new("/content", "is empty")]);
        let body: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "about:blank", "title": "Unprocessable Content", "status": 422,
                "detail": "1 field is invalid", "request_id": "r1",
                "errors": [{"pointer": "/content", "detail": "is empty"}]
            })
        );
    }

    #[test]
    fn unsafe_request_ids_are_replaced() {
        assert_eq!(accept_request_id(Some("trace-1.a_B")), "trace-1.a_B");
        for id in ["", "a b", "a\"b", "ä", &"x".repeat(65)] {
            assert_ne!(accept_request_id(Some(id)), id);
        }
        assert_ne!(accept_request_id(None), accept_request_id(None));
    }
}
