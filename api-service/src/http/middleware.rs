//! The outermost layer: names each request, and makes every failure, whichever layer it comes from, a problem body.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;
use metrics::{Counter, Gauge, Histogram};
use poem::http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use poem::http::uri::Authority;
use poem::http::{HeaderValue, Method, StatusCode, Version};
use poem::{IntoResponse, Request, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError};
use shared::headers::{self, HeadError};
use shared::problem::{self, InputError, Problem, REQUEST_ID_HEADER};
use shared::request::{FORWARDED_FOR_HEADER, RequestContext, TrustedProxies, method_label};
use shared::trace::{RequestSpan, TRACEPARENT_HEADER};
use tracing::Instrument;

use super::router::Router;
use super::{auth, authorization, params};
use crate::http::audit::{AuditContext, action};
use crate::http::auth::budget_error_response;
use crate::http::compression::Compression;
use crate::http::endpoints::messages::SEND_PATH;
use crate::http::error::{ProblemBody, invalid, to_problem, too_many_requests};
use crate::http::openapi::path_table::PathSpec;
use crate::http::server::connection::Connection;
use crate::state::AppState;

/// Longest query: several times what any operation takes.
const MAX_QUERY_BYTES: usize = 4 * 1024;

/// Answers a request, whatever happens.
pub(crate) async fn handle(router: &Router, mut request: Request) -> Response {
    let start = Instant::now();
    let Router { paths, state, metrics, .. } = router;
    let mut request_id_header = request.headers().get_all(REQUEST_ID_HEADER).into_iter();
    let request_id_header = match (request_id_header.next(), request_id_header.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let request_id = problem::request_id(request_id_header);
    let context =
        RequestContext { request_id: request_id.as_str().into(), address: address(&request, &state.trusted_proxies) };
    let audit = AuditContext::new(start);
    let parent = traceparent(&request, state);
    let compression = Compression::from_request(&request);
    let denied = precheck(&request, context.address, state);
    let connection = request.extensions().get::<Connection>().cloned();
    request.extensions_mut().insert(context.clone());
    request.extensions_mut().insert(audit.clone());
    let method = request.method().clone();
    let method_name = method_label(method.as_str());
    let path = request.uri().path().to_owned();
    let query = request.uri().query().map(str::to_owned);
    // The query stays out of the span: only the path is known to hold nothing about anybody.
    let served = paths.get(&path);
    let route = if served.is_some() { path.as_str() } else { "other" };
    let span = tracing::info_span!("request", %request_id, method = method_name, route);
    let _in_flight = InFlight::new(&metrics.in_flight);
    let traced = state.traces.as_ref().map(|traces| traces.request(method_name, route, &request_id, parent.as_deref()));

    let denied = match denied {
        // In a box: it is rare.
        None if !is_routed(&method, &path, served) => Box::pin(auth::count_unrouted(&request, state)).await,
        denied => denied,
    };
    let mut response = match denied {
        Some(denied) => denied,
        None => match call_handler(router, request, traced.as_ref()).instrument(span.clone()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error_response(error),
            Err(_) => {
                span.in_scope(|| tracing::error!("a handler panicked"));
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        },
    };
    if let Some(query) = query
        && matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        && let Some(principal) = audit.principal()
        && let Err(why) = authorization::check_query((&method, path.as_str()), &query, &principal, &audit)
    {
        // Whoever may not ask for this is not told what is wrong with it.
        response = auth::forbidden(why).into_response();
    }
    if let Some(entry) = audit.entry(action(&method, &path), response.status().as_u16(), &context) {
        if entry.is_denied() {
            state.audit_writer.enqueue(entry);
        } else if let Err(error) = state.audit_writer.record(entry, audit.deadline()).await {
            // What is not on record is not to be seen.
            response = span.in_scope(|| ProblemBody::from(to_problem(error.into())).into_response());
        }
    }
    response = compression.apply(response).await;
    // A message that was sent is small beside the work that it took.
    if route != SEND_PATH
        && let Some(principal) = audit.principal()
    {
        let body = response.take_body().into_bytes().await.unwrap_or_default();
        if method == Method::GET && response.status().is_success() {
            match state.response_budget.track(&principal.actor, connection, body) {
                Ok(body) => response.set_body(body),
                // The trail says that it was read, which it was, by this service.
                Err(error) => response = budget_error_response(error),
            }
        } else {
            response.set_body(state.response_budget.force_track(&principal.actor, connection, body));
        }
    }
    if response.status().is_client_error() || response.status().is_server_error() {
        response = into_problem_response(response, &request_id, served).await;
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HeaderName::from_static(REQUEST_ID_HEADER), value);
    }
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));

    let status = response.status().as_u16();
    if status == 201 && route == SEND_PATH {
        metrics.sent.increment(1);
        metrics.send_seconds.record(start.elapsed());
    } else {
        let labels = [("route", route.to_owned()), ("method", method_name.to_owned()), ("status", status.to_string())];
        metrics::counter!("http_requests_total", &labels).increment(1);
        metrics::histogram!("http_request_seconds", "route" => route.to_owned()).record(start.elapsed());
    }
    if let Some(traced) = traced {
        traced.end(status);
    }
    let elapsed_us = start.elapsed().as_micros() as u64;
    // A target of its own, so that it can be turned on alone.
    span.in_scope(|| tracing::debug!(target: "api_service::access", status, elapsed_us, "answered"));
    response
}

/// Whether something answers this request, other than that there is nothing.
fn is_routed(method: &Method, path: &str, served: Option<&PathSpec>) -> bool {
    served.is_some_and(|path| path.serves(method)) || method == Method::OPTIONS && path == "*"
}

/// Calls a handler, whatever it does.
async fn call_handler(
    router: &Router,
    request: Request,
    traced: Option<&RequestSpan>,
) -> std::thread::Result<poem::Result<Response>> {
    let call = AssertUnwindSafe(async { router.call(request).await }).catch_unwind();
    match traced {
        Some(traced) => traced.around(call).await,
        None => call.await,
    }
}

/// The caller's trace, where a proxy that we trust passes it on.
fn traceparent(request: &Request, state: &AppState) -> Option<String> {
    state.traces.as_ref()?;
    let peer = request.remote_addr().as_socket_addr()?.ip();
    let header = request.headers().get(TRACEPARENT_HEADER)?.to_str().ok()?;
    state.trusted_proxies.trust(peer).then(|| header.to_owned())
}

/// Metrics of every request, looked up once: by name and labels it is done for every value.
pub(crate) struct RequestMetrics {
    in_flight: Gauge,
    /// Of sends that were answered with 201, which are most of all.
    sent: Counter,
    send_seconds: Histogram,
}

impl RequestMetrics {
    /// Of the recorder that is there now.
    pub(crate) fn new() -> Self {
        Self {
            in_flight: metrics::gauge!("http_requests_in_flight"),
            sent: metrics::counter!("http_requests_total", "route" => SEND_PATH, "method" => "POST", "status" => "201"),
            send_seconds: metrics::histogram!("http_request_seconds", "route" => SEND_PATH),
        }
    }
}

/// Counts a request for as long as it is not answered, also when its caller has gone away.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Refuses what no handler needs to see. Health is exempt: its askers have the proxies' own addresses.
fn precheck(request: &Request, address: IpAddr, state: &AppState) -> Option<Response> {
    if request.uri().query().map_or(0, str::len) > MAX_QUERY_BYTES {
        let problem = Problem::new(414, format!("the query is longer than {MAX_QUERY_BYTES} bytes"));
        return Some(ProblemBody::from(problem).into_response());
    }
    if let Err(error) = check_head(request) {
        return Some(ProblemBody::from(Problem::new(400, error.to_string())).into_response());
    }
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return None;
    }
    state.rate_limits.check_address(address).err().map(|wait| too_many_requests(wait, "requests from your address"))
}

/// Whether the head of a request contradicts itself, or leaves out what it must have.
fn check_head(request: &Request) -> Result<(), HeadError> {
    let headers = request.headers();
    // Most have no name twice, and both numbers are known without counting.
    if headers.len() > headers.keys_len() {
        headers::check_single(|name| headers.get_all(name).iter().count())?;
    }
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(Authority::as_str);
    headers::check_host(host, authority, request.version() == Version::HTTP_11)
}

/// Who asks. Without an address of its own, which only a test's request lacks, it is nobody's.
fn address(request: &Request, trusted: &TrustedProxies) -> IpAddr {
    let peer = request.remote_addr().as_socket_addr().map_or(IpAddr::from([0; 4]), |peer| peer.ip());
    trusted.address(peer, request.headers().get_all(FORWARDED_FOR_HEADER).into_iter().map(HeaderValue::as_bytes))
}

/// What a failure that poem found, and no handler, is to the caller.
fn error_response(error: poem::Error) -> Response {
    let problem = if let Some(ParseParamError { name, reason }) = error.downcast_ref() {
        let reason = params::cause(reason);
        let errors = vec![InputError::new(format!("?{name}"), reason)];
        match params::is_unparsable(reason) {
            true => Problem::new(400, format!("?{name} {reason}")).with_errors(errors),
            false => invalid(errors),
        }
    } else if error.downcast_ref::<ContentTypeError>().is_some() {
        Problem::new(415, "the body must be `Content-Type: application/json`")
    } else {
        return error.into_response();
    };
    ProblemBody::from(problem).into_response()
}

/// Writes the problem body. Only problems of our own are told; any other text might betray what is inside.
async fn into_problem_response(response: Response, request_id: &str, path: Option<&PathSpec>) -> Response {
    let status = response.status();
    let challenge = response.headers().get(WWW_AUTHENTICATE).cloned();
    let retry_after = response.headers().get(RETRY_AFTER).cloned();
    let encodings = response.headers().get(ACCEPT_ENCODING).cloned();
    let is_problem = response.content_type() == Some(problem::CONTENT_TYPE);
    let body = if is_problem { response.into_body().into_vec().await.unwrap_or_default() } else { Vec::new() };
    let problem = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Problem::new(status.as_u16(), default_detail(status)))
        .for_request(request_id);
    let mut answer = Response::builder().status(status).header(CONTENT_TYPE, problem::CONTENT_TYPE);
    match status {
        StatusCode::UNAUTHORIZED => {
            if let Some(challenge) = challenge {
                answer = answer.header(WWW_AUTHENTICATE, challenge);
            }
        }
        StatusCode::TOO_MANY_REQUESTS => {
            answer = answer.header(RETRY_AFTER, retry_after.unwrap_or(HeaderValue::from_static("1")));
        }
        StatusCode::SERVICE_UNAVAILABLE => answer = answer.header(RETRY_AFTER, "1"),
        StatusCode::METHOD_NOT_ALLOWED => {
            if let Some(path) = path {
                answer = answer.header(ALLOW, &path.allow);
            }
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            if let Some(encodings) = encodings {
                answer = answer.header(ACCEPT_ENCODING, encodings);
            }
        }
        _ => {}
    }
    answer.body(problem.to_json())
}

fn default_detail(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "there is nothing at this path; `/docs` shows what there is",
        StatusCode::METHOD_NOT_ALLOWED => "this path does not know the method; `Allow` names those that it knows",
        StatusCode::BAD_REQUEST => "the request cannot be understood",
        _ if status.is_server_error() => "something went wrong on the server",
        _ => "the request was refused",
    }
}
