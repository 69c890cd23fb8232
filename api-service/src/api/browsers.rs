//! What browsers are told: whose pages may ask (CORS), and what may be done with an answer. On every answer, whatever it is.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName, ORIGIN,
    STRICT_TRANSPORT_SECURITY, VARY,
};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use shared::browser::{self, AllowedOrigins, SECURITY_HEADERS};
use shared::problem::Problem;
use shared::request::FORWARDED_PROTO_HEADER;

use super::problems::Methods;
use super::refusal::problem_error;
use crate::state::State;

/// What a page of another origin may send. No cookies: tokens come in a header, so there are no credentials to allow.
const REQUEST_HEADERS: &str = "authorization, content-type, x-request-id";
/// What it may read, beside the body.
const ANSWER_HEADERS: &str = "x-request-id, retry-after, www-authenticate";
/// How long a browser may believe it, in seconds.
const MAX_AGE: &str = "600";

/// The answer to the question that a browser asks before a page's request; none to everything else.
pub(super) fn preflight(
    request: &Request,
    methods: &Methods,
    origins: &AllowedOrigins,
) -> Option<poem::Result<Response>> {
    let headers = request.headers();
    let is_preflight = request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let origin = text(headers, &ORIGIN).filter(|_| is_preflight)?;
    let known = methods.get(request.uri().path())?;
    if !origins.allows(origin, text(headers, &HOST)) {
        return Some(Err(problem_error(Problem::new(403, "pages of this origin may not ask here"))));
    }
    let answer = Response::builder().status(StatusCode::NO_CONTENT).header(ACCESS_CONTROL_ALLOW_METHODS, known);
    let answer = answer.header(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS).header(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(Ok(answer.finish()))
}

/// What browsers need to know of an answer, as far as its request says it.
pub(super) struct Dress {
    origin: Option<HeaderValue>,
    is_tls: bool,
}

impl Dress {
    /// For the answer to this request.
    pub(super) fn of(request: &Request, state: &State) -> Self {
        let origin = request.headers().get(ORIGIN).cloned();
        let peer = request.remote_addr().as_socket_addr().map(|peer| peer.ip());
        let scheme = text(request.headers(), &HeaderName::from_static(FORWARDED_PROTO_HEADER));
        Self { origin, is_tls: peer.is_some_and(|peer| state.trusted_proxies.is_tls(peer, scheme)) }
    }

    /// Puts it on the answer, whatever that is.
    pub(super) fn put_on(self, response: &mut Response, state: &State) {
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
        }
        if self.is_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(browser::STRICT_TRANSPORT_SECURITY));
        }
        if !state.origins.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
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
