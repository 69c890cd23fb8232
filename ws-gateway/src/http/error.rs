//! Rejected requests, as problem bodies (RFC 9457).

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::header::{SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};
use shared::contract::http::problem::{self, InputError, Problem};
use shared::contract::http::query::QueryError;
use shared::contract::token::{AuthorizationError, TokenError};
use shared::kit::rate_limit::RetryAfter;

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
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            problem: Box::new(Problem::new(status.as_u16(), detail)),
            headers: Vec::new(),
            is_invalid_credential: false,
            is_missing_credential: false,
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn not_found(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "method not allowed; see the `Allow` header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(ALLOW, ALLOWED_METHODS)
    }

    pub(super) fn upgrade_required() -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket endpoint: send a WebSocket handshake")
            .with(UPGRADE, HeaderValue::from_static("websocket"))
    }

    pub(super) fn version_required() -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "unknown WebSocket version; send `Sec-WebSocket-Version: 13`")
            .with(UPGRADE, HeaderValue::from_static("websocket"))
            .with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    pub(super) fn missing_token() -> Self {
        let detail =
            "no token: send `Authorization: Bearer <JWT>`, the subprotocols `chat.v1, bearer.<JWT>`, or `?ticket=`";
        // A request without credentials gets no error code (RFC 6750, section 3.1).
        let error = Self::new(StatusCode::UNAUTHORIZED, detail).challenge("Bearer realm=\"chat\"");
        Self { is_missing_credential: true, ..error }
    }

    pub(super) fn invalid_token(error: &TokenError) -> Self {
        let detail = error.to_string();
        let challenge = format!("Bearer realm=\"chat\", error=\"invalid_token\", error_description=\"{detail}\"");
        Self { is_invalid_credential: true, ..Self::new(StatusCode::UNAUTHORIZED, detail).challenge(&challenge) }
    }

    /// Whether the client sent an invalid token or ticket. It may be guessing.
    pub(super) fn is_invalid_credential(&self) -> bool {
        self.is_invalid_credential
    }

    /// Whether the client sent no credential.
    pub(super) fn is_missing_credential(&self) -> bool {
        self.is_missing_credential
    }

    pub(super) fn too_many_requests(wait: RetryAfter, kind: &str) -> Self {
        let seconds = wait.seconds();
        Self::new(StatusCode::TOO_MANY_REQUESTS, format!("too many {kind}: try again in {seconds} s"))
            .with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn query_too_long(max_bytes: usize) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, format!("the query is longer than {max_bytes} bytes; shorten it"))
    }

    pub(super) fn invalid_ticket() -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, RedeemError::Unknown.to_string());
        Self { is_invalid_credential: true, ..error.challenge("Bearer realm=\"chat\"") }
    }

    pub(super) fn origin_not_allowed() -> Self {
        Self::new(StatusCode::FORBIDDEN, "origin not allowed; an operator can add it to `ALLOWED_ORIGINS`")
    }

    fn challenge(self, challenge: &str) -> Self {
        let plain = HeaderValue::from_static("Bearer realm=\"chat\"");
        self.with(WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap_or(plain))
    }

    pub(super) fn forbidden(why: AuthorizationError) -> Self {
        Self::new(StatusCode::FORBIDDEN, why.to_string())
    }

    pub(super) fn invalid(errors: Vec<InputError>) -> Self {
        let details: Vec<String> = errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, details.join("; ")).with_errors(errors)
    }

    pub(super) fn with_errors(mut self, errors: Vec<InputError>) -> Self {
        self.problem.errors = errors;
        self
    }

    pub(super) fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, RETRY_AFTER_SECONDS)
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

/// A malformed query is a 400; a missing or invalid value is a 422.
impl From<QueryError> for HttpError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Unreadable(detail, errors) => Self::bad_request(detail).with_errors(errors),
            QueryError::Invalid(errors) => Self::invalid(errors),
        }
    }
}
