//! HTTP answers: the switch to WebSocket, health, and refusals as problem bodies.
//!
//! Each closes its connection: nothing but a socket stays on this port.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use shared::browser::SECURITY_HEADERS;
use shared::limit::RetryAfter;
use shared::problem::{self, InputError, Problem, REQUEST_ID_HEADER};
use shared::token::{AuthorizationError, TokenError};

use crate::auth::RedeemError;

/// An answer, whole.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// What every path of both ports answers. Whoever answers `GET` answers `HEAD` (RFC 9110, section 9.3.2).
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct HttpError {
    /// Boxed: refusals are passed up through many hands.
    problem: Box<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
    is_invalid_credential: bool,
    is_missing_credential: bool,
}

impl HttpError {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
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

    pub(super) fn method_not_allowed() -> Self {
        let detail = "this path does not know the method; `Allow` names those that it knows";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(ALLOW, METHODS)
    }

    pub(super) fn upgrade_required() -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket endpoint: send a WebSocket handshake")
            .with(UPGRADE, HeaderValue::from_static("websocket"))
    }

    pub(super) fn version_required() -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, "this server speaks WebSocket version 13 (RFC 6455)")
            .with(UPGRADE, HeaderValue::from_static("websocket"))
            .with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    pub(super) fn missing_token() -> Self {
        let detail =
            "no token: send `Authorization: Bearer <JWT>`, the subprotocols `chat.v1, bearer.<JWT>`, or `?ticket=`";
        // Without a token there is no error to name (RFC 6750, section 3.1).
        let error = Self::new(StatusCode::UNAUTHORIZED, detail).challenge("Bearer realm=\"chat\"");
        Self { is_missing_credential: true, ..error }
    }

    pub(super) fn invalid_token(error: &TokenError) -> Self {
        let detail = error.to_string();
        let challenge = format!("Bearer realm=\"chat\", error=\"invalid_token\", error_description=\"{detail}\"");
        Self { is_invalid_credential: true, ..Self::new(StatusCode::UNAUTHORIZED, detail).challenge(&challenge) }
    }

    /// Whether a token or a ticket came that is no good, which may be an attempt to guess one.
    pub(super) fn is_invalid_credential(&self) -> bool {
        self.is_invalid_credential
    }

    /// Whether nothing came that could be a token.
    pub(super) fn is_missing_credential(&self) -> bool {
        self.is_missing_credential
    }

    pub(super) fn too_many_requests(wait: RetryAfter, of: &str) -> Self {
        let seconds = wait.seconds();
        Self::new(StatusCode::TOO_MANY_REQUESTS, format!("too many {of}: try again in {seconds} s"))
            .with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(super) fn query_too_long(most: usize) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, format!("the query is longer than {most} bytes"))
    }

    pub(super) fn invalid_ticket() -> Self {
        let error = Self::new(StatusCode::UNAUTHORIZED, RedeemError::Unknown.to_string());
        Self { is_invalid_credential: true, ..error.challenge("Bearer realm=\"chat\"") }
    }

    pub(super) fn origin_not_allowed() -> Self {
        Self::new(StatusCode::FORBIDDEN, "pages of this origin may not open sockets here")
    }

    fn challenge(self, challenge: &str) -> Self {
        let plain = HeaderValue::from_static("Bearer realm=\"chat\"");
        self.with(WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap_or(plain))
    }

    pub(super) fn forbidden(why: AuthorizationError) -> Self {
        Self::new(StatusCode::FORBIDDEN, why.to_string())
    }

    pub(super) fn invalid(errors: Vec<InputError>) -> Self {
        let detail = match errors.len() {
            1 => "1 query parameter is missing or invalid".to_owned(),
            count => format!("{count} query parameters are missing or invalid"),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(errors)
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

    /// A label for metrics.
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
        let body = self.problem.for_request(request_id);
        let mut response = response(body.status, problem::CONTENT_TYPE, request_id, body.to_json());
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        if response.headers().contains_key(UPGRADE) {
            // Who sends `Upgrade` must name it here (RFC 9110, section 7.8).
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
        }
        response
    }
}

/// `200`.
pub(crate) fn health_ok(request_id: &str) -> HttpResponse {
    response(200, "text/plain; charset=utf-8", request_id, "ok\n".to_owned())
}

/// The answer to `OPTIONS`: what is served.
pub(crate) fn options_response(request_id: &str) -> HttpResponse {
    let mut response = response(204, "", request_id, String::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// For operators.
pub(super) fn json_state(is_ready: bool, json: String) -> HttpResponse {
    response(if is_ready { 200 } else { 503 }, "application/json", &problem::request_id(None), json)
}

/// `101`: what follows on this connection is WebSocket.
pub(super) fn switching_protocols(
    request_id: &str,
    accept_key: &str,
    subprotocol: Option<&'static str>,
) -> HttpResponse {
    let mut response = HttpResponse::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    insert(headers, SEC_WEBSOCKET_ACCEPT, accept_key);
    insert(headers, HeaderName::from_static(REQUEST_ID_HEADER), request_id);
    if let Some(name) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    response
}

fn response(status: u16, kind: &'static str, request_id: &str, body: String) -> HttpResponse {
    let mut response = HttpResponse::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    insert(headers, HeaderName::from_static(REQUEST_ID_HEADER), request_id);
    response
}

/// Both base64 and request ids are made of what a header may hold.
fn insert(headers: &mut hyper::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// For a path that the admin port does not serve: a socket is opened on the public port only.
pub(crate) fn admin_not_found(request_id: &str) -> HttpResponse {
    let detail = "this port has `/metrics`, `/healthz` and `/readyz`";
    HttpError::new(StatusCode::NOT_FOUND, detail).into_response(request_id)
}

/// For a method that a path does not know.
pub(crate) fn method_not_allowed(request_id: &str) -> HttpResponse {
    HttpError::method_not_allowed().into_response(request_id)
}
