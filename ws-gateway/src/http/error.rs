//! Rejected requests, as problem bodies (RFC 9457).

use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::header::{SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::headers::HeaderError;
use shared::contract::http::problem::{self, Problem};
use shared::contract::http::query::QueryError;
use shared::contract::token::{AuthorizationError, TokenError};
use shared::kit::token_bucket::RetryAfter;

use super::response::{ALLOWED_METHODS, HttpResponse, response};
use crate::auth::RedeemError;

const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A rejected request.
#[derive(Debug)]
pub(crate) struct HttpError {
    /// Boxed, because `Result<_, HttpError>` is returned through many calls.
    problem: Box<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
    is_invalid_credential: bool,
    is_missing_credential: bool,
}

impl HttpError {
    fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 400: the handshake contradicts itself.
    pub(super) fn invalid_handshake(detail: &'static str) -> Self {
        Self::new(ProblemCode::InvalidHandshake, detail)
    }

    pub(crate) fn not_found(detail: &'static str) -> Self {
        Self::new(ProblemCode::NotFound, detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "This path does not serve the method. Use one that `Allow` lists.";
        Self::new(ProblemCode::MethodNotAllowed, detail).with(ALLOW, ALLOWED_METHODS)
    }

    pub(super) fn upgrade_required() -> Self {
        let detail = "This path serves WebSockets only. Send a WebSocket handshake.";
        Self::new(ProblemCode::UpgradeRequired, detail).with(UPGRADE, HeaderValue::from_static("websocket"))
    }

    pub(super) fn version_required() -> Self {
        let detail = "The version of the WebSocket protocol is not supported. Send `Sec-WebSocket-Version: 13`.";
        Self::new(ProblemCode::WebsocketVersionUnsupported, detail)
            .with(UPGRADE, HeaderValue::from_static("websocket"))
            .with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    pub(super) fn missing_token() -> Self {
        let detail = "The handshake has no token. Send `Authorization: Bearer <JWT>`, the subprotocols \
                      `chat.v1, bearer.<JWT>`, or `?ticket=`.";
        // A request without credentials gets no error code (RFC 6750, section 3.1).
        let error = Self::new(ProblemCode::TokenMissing, detail).challenge(&TokenError::Missing);
        Self { is_missing_credential: true, ..error }
    }

    pub(super) fn invalid_token(error: &TokenError) -> Self {
        Self { is_invalid_credential: true, ..Self::from(Problem::from(error)).challenge(error) }
    }

    /// Whether the client sent an invalid token or ticket. It may be guessing.
    pub(super) fn is_invalid_credential(&self) -> bool {
        self.is_invalid_credential
    }

    /// Whether the client sent no credential.
    pub(super) fn is_missing_credential(&self) -> bool {
        self.is_missing_credential
    }

    /// 429. `what` follows "Too many".
    pub(super) fn too_many_requests(wait: RetryAfter, what: &str) -> Self {
        let seconds = wait.seconds();
        let detail = format!("Too many {what} came at once. Try again in {seconds} s.");
        Self::new(ProblemCode::RateLimited, detail).with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn query_too_long(max_bytes: usize) -> Self {
        Self::new(ProblemCode::UriTooLong, format!("The query is longer than {max_bytes} bytes. Shorten it."))
    }

    pub(super) fn invalid_ticket() -> Self {
        let error = Self::new(ProblemCode::TicketInvalid, RedeemError::Unknown.to_string());
        Self { is_invalid_credential: true, ..error.challenge(&TokenError::Missing) }
    }

    pub(super) fn origin_not_allowed() -> Self {
        let detail = "Pages of this origin may not open a socket here. An operator can add it to `ALLOWED_ORIGINS`.";
        Self::new(ProblemCode::OriginNotAllowed, detail)
    }

    fn challenge(self, error: &TokenError) -> Self {
        match HeaderValue::from_str(&error.challenge()) {
            Ok(challenge) => self.with(WWW_AUTHENTICATE, challenge),
            Err(_) => self.challenge(&TokenError::Missing),
        }
    }

    /// 503. The client may try again in a second.
    pub(super) fn unavailable(code: ProblemCode, detail: &'static str) -> Self {
        Self::new(code, detail).with(RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> ProblemCode {
        self.problem.code
    }

    pub(super) fn detail(&self) -> &str {
        &self.problem.detail
    }

    pub(super) fn status(&self) -> u16 {
        self.problem.status
    }

    /// The `outcome` label of the handshake metric.
    pub(super) fn outcome(&self) -> &'static str {
        match self.problem.status {
            400 | 414 | 422 => "invalid",
            401 => "unauthorized",
            403 => "forbidden",
            429 => "rate_limited",
            426 => "no_upgrade",
            503 => "unavailable",
            _ => "refused",
        }
    }

    pub(crate) fn into_response(self, request_id: &str) -> HttpResponse {
        let body = self.problem.with_request_id(request_id);
        let mut response = response(body.status, problem::CONTENT_TYPE, request_id, body.to_json());
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        if response.headers().contains_key(UPGRADE) {
            // A response with `Upgrade` must list it in `Connection` (RFC 9110, section 7.8).
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
        }
        response
    }
}

impl From<Problem> for HttpError {
    fn from(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            headers: Vec::new(),
            is_invalid_credential: false,
            is_missing_credential: false,
        }
    }
}

impl From<QueryError> for HttpError {
    fn from(error: QueryError) -> Self {
        Problem::from(error).into()
    }
}

impl From<AuthorizationError> for HttpError {
    fn from(error: AuthorizationError) -> Self {
        Problem::from(error).into()
    }
}

impl From<HeaderError> for HttpError {
    fn from(error: HeaderError) -> Self {
        Problem::from(error).into()
    }
}
