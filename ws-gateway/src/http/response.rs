//! HTTP responses. Each one except `101` closes its connection.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::{Response, StatusCode};
use shared::contract::http::problem::{self, REQUEST_ID_HEADER};
use shared::contract::http::security_headers::SECURITY_HEADERS;

/// A complete response.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// The methods of every path, on both ports. `HEAD` is supported wherever `GET` is (RFC 9110, section 9.3.2).
pub(super) const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// `200`.
pub(crate) fn health_ok(request_id: &str) -> HttpResponse {
    response(200, "text/plain; charset=utf-8", request_id, "ok\n".to_owned())
}

/// The response to `OPTIONS`.
pub(crate) fn options_response(request_id: &str) -> HttpResponse {
    let mut response = response(204, "", request_id, String::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(ALLOW, ALLOWED_METHODS);
    response
}

/// The readiness of the admin port.
pub(super) fn json_state(is_ready: bool, json: String) -> HttpResponse {
    response(if is_ready { 200 } else { 503 }, "application/json", &problem::accept_request_id(None), json)
}

/// `101`: WebSocket frames follow on this connection.
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

/// Inserts base64 or a request id. Both consist of valid header characters.
fn insert(headers: &mut hyper::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
