//! What browsers are told: whose pages may ask (CORS), and what may be done with an answer. On every answer, whatever it is.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderName, ORIGIN,
    STRICT_TRANSPORT_SECURITY, VARY,
};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use shared::browser::{self, SECURITY_HEADERS};
use shared::problem::Problem;
use shared::request::Site;

use crate::http::error::problem_error;
use crate::http::openapi::path_table::{self, Paths};
use crate::state::State;

/// What a page of another origin may send. No cookies: tokens come in a header, so there are no credentials to allow.
const REQUEST_HEADERS: &str = "authorization, content-type, x-request-id, traceparent, tracestate";
/// What it may read, beside the body.
const ANSWER_HEADERS: &str = "x-request-id, retry-after, www-authenticate";
/// How long a browser may believe it, in seconds.
const MAX_AGE: &str = "600";

/// The answer to `OPTIONS`, which every path knows: what is served there, and, when a browser asks before a page's request,
/// whether pages of its origin may ask. None to everything else.
pub(crate) fn options(request: &Request, paths: &Paths, state: &State) -> Option<poem::Result<Response>> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let answer = Response::builder().status(StatusCode::NO_CONTENT);
    if request.uri().path() == "*" {
        return Some(Ok(answer.header(ALLOW, path_table::of_all(paths)).finish()));
    }
    let known = &paths.get(request.uri().path())?.allow;
    let answer = answer.header(ALLOW, known);
    let is_preflight = request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = text(request.headers(), &ORIGIN).filter(|_| is_preflight) else {
        return Some(Ok(answer.finish()));
    };
    if !state.origins.allows(origin, &site(request, state)) {
        return Some(Err(problem_error(Problem::new(403, "pages of this origin may not ask here"))));
    }
    let answer = answer.header(ACCESS_CONTROL_ALLOW_METHODS, known);
    let answer = answer.header(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS).header(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(Ok(answer.finish()))
}

/// Under which name, and how, this system was asked.
pub(crate) fn site<'a>(request: &'a Request, state: &State) -> Site<'a> {
    let peer = request.remote_addr().as_socket_addr().map(|peer| peer.ip());
    state.trusted_proxies.site(peer, |name| {
        let mut lines = request.headers().get_all(name).into_iter();
        lines.next().filter(|_| lines.next().is_none()).and_then(|line| line.to_str().ok())
    })
}

/// What browsers need to know of an answer, as far as its request says it.
pub(crate) struct Dress {
    origin: Option<HeaderValue>,
    is_tls: bool,
}

impl Dress {
    /// For the answer to this request.
    pub(crate) fn of(request: &Request, state: &State) -> Self {
        let origin = request.headers().get(ORIGIN).cloned();
        Self { origin, is_tls: site(request, state).is_tls }
    }

    /// Puts it on the answer, whatever that is.
    pub(crate) fn put_on(self, response: &mut Response, state: &State) {
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
        if self.is_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(browser::STRICT_TRANSPORT_SECURITY));
        }
        if !state.origins.is_empty() {
            let vary = if headers.contains_key(VARY) { "accept-encoding, origin" } else { "origin" };
            headers.insert(VARY, HeaderValue::from_static(vary));
        }
        let listed = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| state.origins.lists(origin));
        if let Some(origin) = self.origin.filter(listed) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
