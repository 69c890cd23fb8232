//! Failures as outsiders see them: RFC 9457 problem details.
//!
//! A `detail` is written for the caller: whole sentences that say what happened, and what the caller can do. It never holds SQL,
//! addresses, tokens or message content.

use std::borrow::Cow;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::contract::error_code::ProblemCode;
use crate::contract::http::security_headers::SECURITY_HEADERS;

/// Media type of a problem body (RFC 9457, section 3).
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Header that names a request in answers and logs.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// One thing wrong with the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// Where: a JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// What, in a whole sentence.
    pub detail: String,
    /// The cause. A problem shows it if it is the only one.
    #[serde(skip, default = "invalid_input")]
    pub code: ProblemCode,
}

fn invalid_input() -> ProblemCode {
    ProblemCode::InvalidInput
}

impl InputError {
    /// An error at `pointer`. `detail` is a sentence.
    pub fn new(code: ProblemCode, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into(), code }
    }

    /// An error of a field of the body. `predicate` completes the sentence "The field … .".
    pub fn field(code: ProblemCode, field: &str, predicate: impl Display) -> Self {
        Self::new(code, format!("/{field}"), format!("The field `{field}` {predicate}."))
    }

    /// An error of a query parameter. `predicate` completes the sentence "The parameter … .".
    pub fn parameter(code: ProblemCode, name: &str, predicate: impl Display) -> Self {
        Self::new(code, format!("?{name}"), format!("The parameter `{name}` {predicate}."))
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is (RFC 9457, section 4.2.1).
    pub r#type: Cow<'static, str>,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// HTTP status code.
    pub status: u16,
    /// What happened this time, and what would help.
    pub detail: String,
    /// The cause, for programs.
    pub code: ProblemCode,
    /// Value of `X-Request-Id`: name it when asking for help.
    pub request_id: String,
    /// What is wrong with the input, when that is the problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<InputError>,
}

impl Problem {
    /// A problem of this cause, which decides its status.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let status = code.status();
        Self {
            r#type: "about:blank".into(),
            title: title(status).into(),
            status,
            detail: detail.into(),
            code,
            request_id: String::new(),
            errors: Vec::new(),
        }
    }

    /// The problem of wrong input: with the cause of its errors, or [`ProblemCode::InvalidInput`] if they have several.
    #[must_use]
    pub fn of_input(errors: Vec<InputError>) -> Self {
        let code = match &errors[..] {
            [first, rest @ ..] if rest.iter().all(|error| error.code == first.code) => first.code,
            _ => ProblemCode::InvalidInput,
        };
        let details: Vec<&str> = errors.iter().map(|error| &*error.detail).collect();
        Self::new(code, details.join(" ")).with_errors(errors)
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
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ if status < 500 => "Client Error",
        _ => "Internal Server Error",
    }
}

/// Written by hand to a client whose request did not arrive in time: there is no request that could be answered.
#[must_use]
pub fn request_timeout() -> String {
    raw_response(ProblemCode::RequestTimeout, "The request did not arrive in time. Send it again, without a pause.")
}

/// Written by hand to a client whose request could not be read: a whole answer, after which the connection ends.
#[must_use]
pub fn raw_response(code: ProblemCode, detail: &str) -> String {
    let request_id = accept_request_id(None);
    let status = code.status();
    let body = Problem::new(code, detail).with_request_id(&request_id).to_json();
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
    fn problem_has_the_members_of_rfc_9457_and_a_code() {
        let errors = vec![InputError::field(ProblemCode::ContentEmpty, "content", "is empty")];
        let body = Problem::of_input(errors).with_request_id("r1").to_json();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "about:blank", "title": "Unprocessable Content", "status": 422,
                "detail": "The field `content` is empty.", "code": "content_empty", "request_id": "r1",
                "errors": [{"pointer": "/content", "detail": "The field `content` is empty."}]
            })
        );
    }

    #[test]
    fn errors_of_one_cause_keep_it() {
        let field = |name| InputError::field(ProblemCode::MissingField, name, "is missing");
        let limit = InputError::parameter(ProblemCode::OutOfRange, "limit", "must lie between 1 and 200");
        for (errors, code) in [
            (vec![field("a")], ProblemCode::MissingField),
            (vec![field("a"), field("b")], ProblemCode::MissingField),
            (vec![field("a"), limit.clone(), field("b")], ProblemCode::InvalidInput),
        ] {
            let problem = Problem::of_input(errors);
            assert_eq!((problem.code, problem.status), (code, 422));
        }
        let problem = Problem::of_input(vec![field("a"), limit]);
        assert_eq!(problem.detail, "The field `a` is missing. The parameter `limit` must lie between 1 and 200.");
    }

    #[test]
    fn every_status_has_a_title() {
        for code in ProblemCode::ALL {
            let title = title(code.status());
            assert!(title != "Client Error" && (code.status() == 500) == (title == "Internal Server Error"), "{code}");
        }
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
