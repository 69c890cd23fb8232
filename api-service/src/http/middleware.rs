//! The public port and its outermost layer: assigns request ids, enforces limits, writes missing audit entries, and turns every
//! failure into a problem body.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use metrics::{Counter, Gauge, Histogram};
use poem::http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use poem::http::uri::Authority;
use poem::http::{HeaderValue, Method, StatusCode, Version};
use poem::{Endpoint, IntoResponse, Request, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::headers::{self, HeaderError};
use shared::contract::http::problem::{self, InputError, Problem, REQUEST_ID_HEADER};
use shared::contract::http::request::{FORWARDED_FOR_HEADER, RequestContext, TrustedProxies, method_label};
use shared::kit::telemetry::trace::{RequestSpan, TRACEPARENT_HEADER};
use tracing::Instrument;

use super::router::Router;
use super::{auth, authorization, cors, params};
use crate::http::audit::{AuditContext, action};
use crate::http::auth::budget_error_response;
use crate::http::body::UNSUPPORTED_MEDIA_TYPE;
use crate::http::compression::Compression;
use crate::http::endpoints::messages::SEND_PATH;
use crate::http::error::{ProblemBody, internal_error, to_problem, too_many_requests};
use crate::http::path_table::PathSpec;
use crate::limits::connection::Connection;
use crate::state::AppState;

/// Maximum length of a query: several times what any operation needs.
const MAX_QUERY_BYTES: usize = 4 * 1024;

/// The endpoint of the public port.
pub fn public(state: Arc<AppState>) -> impl Endpoint<Output = Response> + 'static {
    PublicPort { router: Router::new(state), metrics: RequestMetrics::new() }
}

/// Middleware and router in one endpoint. poem's own `around` would move the request and a future of several kilobytes per layer.
struct PublicPort {
    router: Router,
    metrics: RequestMetrics,
}

impl Endpoint for PublicPort {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let state = &self.router.state;
        let headers = cors::BrowserHeaders::from_request(&request, state);
        let mut response = handle(self, request).await;
        headers.apply(&mut response, state);
        Ok(response)
    }
}

/// Handles one request. Never fails.
async fn handle(PublicPort { router, metrics }: &PublicPort, mut request: Request) -> Response {
    let start = Instant::now();
    let Router { paths, state, .. } = router;
    let mut request_id_header = request.headers().get_all(REQUEST_ID_HEADER).into_iter();
    let request_id_header = match (request_id_header.next(), request_id_header.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let request_id = problem::accept_request_id(request_id_header);
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
    // The query is not logged: it names participants. The path names none.
    let served = paths.get(&path);
    let route = if served.is_some() { path.as_str() } else { "other" };
    let span = tracing::info_span!("request", %request_id, method = method_name, route);
    let _in_flight = InFlight::new(&metrics.in_flight);
    let traced =
        state.traces.as_ref().map(|traces| traces.request_span(method_name, route, &request_id, parent.as_deref()));

    let denied = match denied {
        // Boxed, because it is rare and its future is large.
        None if !is_routed(&method, &path, served) => Box::pin(auth::count_unrouted(&request, state)).await,
        denied => denied,
    };
    let mut response = match denied {
        Some(denied) => denied,
        None => match call_handler(router, request, traced.as_ref()).instrument(span.clone()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error_response(error),
            Err(_) => {
                span.in_scope(|| tracing::error!("handler panicked"));
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        },
    };
    if let Some(query) = query
        && matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        && let Some(principal) = audit.principal()
        && let Err(why) = authorization::check_query((&method, path.as_str()), &query, &principal, &audit)
    {
        // A caller without the right to the target does not learn what else is wrong.
        response = auth::forbidden(why).into_response();
    }
    if let Some(entry) = audit.entry(action(&method, &path), response.status().as_u16(), &context) {
        if entry.is_denied() {
            state.audit_writer.enqueue(entry);
        } else if let Err(error) = state.audit_writer.record(entry, audit.deadline()).await {
            // A read without an audit entry is not returned.
            response = span.in_scope(|| ProblemBody::from(to_problem(error.into())).into_response());
        }
    }
    response = compression.apply(response).await;
    // A sent message is small, so its response is not tracked.
    if route != SEND_PATH
        && let Some(principal) = audit.principal()
    {
        let body = response.take_body().into_bytes().await.unwrap_or_default();
        if method == Method::GET && response.status().is_success() {
            match state.response_budget.track(&principal.actor, connection, body) {
                Ok(body) => response.set_body(body),
                // The audit trail keeps the entry: the service did read the data.
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
        metrics::counter!("ehr_chat_http_requests_total", &labels).increment(1);
        metrics::histogram!("ehr_chat_http_request_duration_seconds", "route" => route.to_owned())
            .record(start.elapsed());
    }
    if let Some(traced) = traced {
        traced.end(status);
    }
    let elapsed_us = start.elapsed().as_micros() as u64;
    // A separate target, so that access logs can be enabled alone.
    span.in_scope(|| tracing::debug!(target: "api_service::access", status, elapsed_us, "answered"));
    response
}

/// Whether some endpoint answers this request.
fn is_routed(method: &Method, path: &str, served: Option<&PathSpec>) -> bool {
    served.is_some_and(|path| path.serves(method)) || method == Method::OPTIONS && path == "*"
}

/// Calls the handler and catches panics.
async fn call_handler(
    router: &Router,
    request: Request,
    traced: Option<&RequestSpan>,
) -> std::thread::Result<poem::Result<Response>> {
    let call = AssertUnwindSafe(async { router.call(request).await }).catch_unwind();
    match traced {
        Some(traced) => traced.in_span(call).await,
        None => call.await,
    }
}

/// The client's trace context, if a trusted proxy passed it on.
fn traceparent(request: &Request, state: &AppState) -> Option<String> {
    state.traces.as_ref()?;
    let peer = request.remote_addr().as_socket_addr()?.ip();
    let header = request.headers().get(TRACEPARENT_HEADER)?.to_str().ok()?;
    state.trusted_proxies.trust(peer).then(|| header.to_owned())
}

/// Handles of the request metrics. Looking them up by name for every request would cost more.
struct RequestMetrics {
    in_flight: Gauge,
    /// Sends answered with 201, which are most requests.
    sent: Counter,
    send_seconds: Histogram,
}

impl RequestMetrics {
    /// Handles of the current recorder.
    fn new() -> Self {
        Self {
            in_flight: metrics::gauge!("ehr_chat_http_requests_in_flight"),
            sent: metrics::counter!("ehr_chat_http_requests_total", "route" => SEND_PATH, "method" => "POST", "status" => "201"),
            send_seconds: metrics::histogram!("ehr_chat_http_request_duration_seconds", "route" => SEND_PATH),
        }
    }
}

/// Counts a request as in flight until it is dropped.
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

/// Rejects requests before any handler runs. Health checks are exempt: they come from the proxies' addresses.
fn precheck(request: &Request, address: IpAddr, state: &AppState) -> Option<Response> {
    if request.uri().query().map_or(0, str::len) > MAX_QUERY_BYTES {
        let detail = format!("The query is longer than {MAX_QUERY_BYTES} bytes. Shorten it.");
        let problem = Problem::new(ProblemCode::UriTooLong, detail);
        return Some(ProblemBody::from(problem).into_response());
    }
    if let Err(error) = check_head(request) {
        return Some(ProblemBody::from(Problem::from(error)).into_response());
    }
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return None;
    }
    state.rate_limits.check_address(address).err().map(|wait| too_many_requests(wait, "requests from this address"))
}

/// Checks headers that must occur at most once, and `Host`.
fn check_head(request: &Request) -> Result<(), HeaderError> {
    let headers = request.headers();
    // `keys_len` is known without counting, so requests without repeated headers skip the check.
    if headers.len() > headers.keys_len() {
        headers::check_not_repeated(|name| headers.get_all(name).iter().count())?;
    }
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(Authority::as_str);
    headers::check_host(host, authority, request.version() == Version::HTTP_11)
}

/// The client's address. Only requests made by tests lack a socket address.
fn address(request: &Request, trusted: &TrustedProxies) -> IpAddr {
    let peer = request.remote_addr().as_socket_addr().map_or(IpAddr::from([0; 4]), |peer| peer.ip());
    trusted.address(peer, request.headers().get_all(FORWARDED_FOR_HEADER).into_iter().map(HeaderValue::as_bytes))
}

/// The response to an error that poem raised before a handler ran.
fn error_response(error: poem::Error) -> Response {
    let problem = if let Some(ParseParamError { name, reason }) = error.downcast_ref() {
        let (code, predicate) = params::cause(reason);
        Problem::of_input(vec![InputError::parameter(code, name, predicate)])
    } else if error.downcast_ref::<ContentTypeError>().is_some() {
        Problem::new(ProblemCode::UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE)
    } else {
        return error.into_response();
    };
    ProblemBody::from(problem).into_response()
}

/// Writes the problem body. Only problems of this service pass; other text could reveal internals.
async fn into_problem_response(response: Response, request_id: &str, path: Option<&PathSpec>) -> Response {
    let found = response.status();
    let challenge = response.headers().get(WWW_AUTHENTICATE).cloned();
    let retry_after = response.headers().get(RETRY_AFTER).cloned();
    let encodings = response.headers().get(ACCEPT_ENCODING).cloned();
    let is_problem = response.content_type() == Some(problem::CONTENT_TYPE);
    let body = if is_problem { response.into_body().into_vec().await.unwrap_or_default() } else { Vec::new() };
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| default_problem(found)).with_request_id(request_id);
    let status = StatusCode::from_u16(problem.status).unwrap_or(found);
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

/// The problem of a response that has none. Its status is that of its code.
fn default_problem(status: StatusCode) -> Problem {
    let (code, detail) = match status {
        StatusCode::NOT_FOUND => (ProblemCode::NotFound, "There is nothing at this path. `/docs` lists the paths."),
        StatusCode::METHOD_NOT_ALLOWED => {
            (ProblemCode::MethodNotAllowed, "This path does not serve the method. Use one that `Allow` lists.")
        }
        _ if status.is_client_error() => {
            (ProblemCode::MalformedRequest, "The request cannot be understood. Correct the request.")
        }
        _ => return internal_error(),
    };
    Problem::new(code, detail)
}
