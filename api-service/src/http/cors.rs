//! CORS and the security headers, which every response carries.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderName, ORIGIN,
    STRICT_TRANSPORT_SECURITY, VARY,
};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::Problem;
use shared::contract::http::request::Site;
use shared::contract::http::security_headers::{self, SECURITY_HEADERS};

use crate::http::error::problem_error;
use crate::http::path_table::{self, PathTable};
use crate::state::AppState;

/// Request headers that pages of other origins may send. No cookies: tokens come in a header.
const ALLOWED_HEADERS: &str = "authorization, content-type, x-request-id, traceparent, tracestate";
/// Response headers that such pages may read.
const EXPOSED_HEADERS: &str = "x-request-id, retry-after, www-authenticate";
/// How long a browser may cache a preflight response, in seconds.
const MAX_AGE_SECONDS: &str = "600";

/// The response to `OPTIONS`, which every path answers: the allowed methods, and for a preflight request whether the origin is
/// allowed. `None` for other methods.
pub(crate) fn options(request: &Request, paths: &PathTable, state: &AppState) -> Option<poem::Result<Response>> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let response = Response::builder().status(StatusCode::NO_CONTENT);
    if request.uri().path() == "*" {
        return Some(Ok(response.header(ALLOW, path_table::all_methods(paths)).finish()));
    }
    let allow = &paths.get(request.uri().path())?.allow;
    let response = response.header(ALLOW, allow);
    let is_preflight = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = text(request.headers(), &ORIGIN).filter(|_| is_preflight) else {
        return Some(Ok(response.finish()));
    };
    if !state.origins.allows(origin, &site(request, state)) {
        let detail = "Pages of this origin may not use this server. An operator can add it to `ALLOWED_ORIGINS`.";
        return Some(Err(problem_error(Problem::new(ProblemCode::OriginNotAllowed, detail))));
    }
    let response = response.header(ACCESS_CONTROL_ALLOW_METHODS, allow);
    let response =
        response.header(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS).header(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    Some(Ok(response.finish()))
}

/// The host and scheme that the client used.
pub(crate) fn site<'a>(request: &'a Request, state: &AppState) -> Site<'a> {
    let peer = request.remote_addr().as_socket_addr().map(|peer| peer.ip());
    state.trusted_proxies.site(peer, |name| {
        let mut lines = request.headers().get_all(name).into_iter();
        lines.next().filter(|_| lines.next().is_none()).and_then(|line| line.to_str().ok())
    })
}

/// The browser headers of a response, as far as they depend on its request.
pub(crate) struct BrowserHeaders {
    origin: Option<HeaderValue>,
    is_tls: bool,
}

impl BrowserHeaders {
    pub(crate) fn from_request(request: &Request, state: &AppState) -> Self {
        let origin = request.headers().get(ORIGIN).cloned();
        Self { origin, is_tls: site(request, state).is_tls }
    }

    /// Adds the headers to a response.
    pub(crate) fn apply(self, response: &mut Response, state: &AppState) {
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
        if self.is_tls {
            headers.insert(
                STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static(security_headers::STRICT_TRANSPORT_SECURITY),
            );
        }
        if !state.origins.is_empty() {
            let vary = if headers.contains_key(VARY) { "accept-encoding, origin" } else { "origin" };
            headers.insert(VARY, HeaderValue::from_static(vary));
        }
        let listed = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| state.origins.contains(origin));
        if let Some(origin) = self.origin.filter(listed) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
