//! HTTP answers: the switch to WebSocket, health, and refusals as problem bodies.
//!
//! Each closes its connection: nothing but a socket stays on this port.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::{Response, StatusCode};
use shared::browser::SECURITY_HEADERS;
use shared::problem::{self, REQUEST_ID_HEADER};

use super::error::HttpError;

/// An answer, whole.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// What every path of both ports answers. Whoever answers `GET` answers `HEAD` (RFC 9110, section 9.3.2).
pub(super) const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// `200`.
pub(crate) fn health_ok(request_id: &str) -> HttpResponse {
    response(200, "text/plain; charset=utf-8", request_id, "ok\n".to_owned())
}

/// The answer to `OPTIONS`: what is served.
pub(crate) fn options_response(request_id: &str) -> HttpResponse {
    let mut response = response(204, "", request_id, String::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(ALLOW, ALLOWED_METHODS);
    response
}

/// For operators.
pub(super) fn json_state(is_ready: bool, json: String) -> HttpResponse {
    response(if is_ready { 200 } else { 503 }, "application/json", &problem::accept_request_id(None), json)
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

pub(super) fn response(status: u16, kind: &'static str, request_id: &str, body: String) -> HttpResponse {
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
