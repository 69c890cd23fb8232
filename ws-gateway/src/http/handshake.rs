//! Requests of the public port: health, and the WebSocket handshake.
//!
//! A socket opens only after the client is authenticated, authorized and subscribed. Any other request is answered
//! with a problem body.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY};
use hyper::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Version};
use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::error_code::ProblemCode;
use shared::contract::event::Cursor;
use shared::contract::http::allowed_origins::AllowedOrigins;
use shared::contract::http::headers::{self, HeaderError};
use shared::contract::http::request::{FORWARDED_FOR_HEADER, RequestContext, Site, TrustedProxies, method_label};
use shared::contract::token::Principal;
use shared::kit::telemetry::trace::{RequestSpan, TRACEPARENT_HEADER};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::credential::{BEARER_SUBPROTOCOL, authenticate, credential};
use super::error::HttpError;
use super::headers::{has_body, header, is_valid_key, list_members, request_id_of, single_header};
use super::health::{REVOCATIONS_NOT_LOADED, SHUTTING_DOWN, is_ready};
use super::query::{self, ConnectQuery};
use super::response::{self, HttpResponse, health_ok, options_response};
use crate::hub::JoinError;
use crate::session::{self, AcceptedSocket, SubscribeError};
use crate::socket::{CloseReason, Topic};
use crate::state::AppState;
use crate::streams::audit::is_recorded;

/// The subprotocol of this server.
const SUBPROTOCOL: &str = "chat.v1";

/// Several times the longest valid query.
const MAX_QUERY_BYTES: usize = 4 * 1024;

/// A valid and authorized handshake.
#[derive(Debug)]
struct UpgradeRequest {
    topic: Topic,
    cursor: Option<Cursor>,
    accept_key: String,
    subprotocol: bool,
}

/// What happens after the `101` response.
pub(crate) enum Upgrade {
    /// The session starts.
    Accepted(Box<AcceptedSocket>),
    /// The socket is closed at once. A browser can read a close code, but not the status of a failed handshake.
    Rejected(CloseReason),
}

/// What the audit entry of a handshake names, as far as it is known.
#[derive(Debug, Default)]
struct AuditContext {
    actor: Option<AuditActor>,
    topic: Option<Topic>,
}

impl AuditContext {
    /// The audit entry of a rejected handshake.
    fn entry(self, status: u16, context: &RequestContext) -> AuditEntry {
        let actor = self.actor.unwrap_or(AuditActor::Anonymous);
        match &self.topic {
            Some(topic) => topic.entry(Action::SocketOpen, status, actor, context),
            None => AuditEntry::new(actor, Action::SocketOpen, status).with_request(context),
        }
    }
}

/// Handles one request. A socket follows a `101` response.
pub(crate) async fn respond<B>(
    app: &Arc<AppState>,
    request: Request<B>,
    peer: IpAddr,
) -> (HttpResponse, Option<Upgrade>) {
    let started = Instant::now();
    let proxies = &app.config.http.trusted_proxies;
    let context = context(request.headers(), peer, proxies);
    let span = span(app, &request, &context, peer);
    let id = &*context.request_id;
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let outcome = match request.uri().path() {
        "/ws" | "/healthz" | "/readyz" | "*" if *request.method() == Method::OPTIONS => Ok(options_response(id)),
        "/ws" if !readable => Err(HttpError::method_not_allowed()),
        // The session would read a body as WebSocket frames.
        "/ws" if has_body(request.headers()) => {
            Err(HttpError::invalid_handshake("A WebSocket handshake has no body. Send it without."))
        }
        "/ws" => {
            let mut audit = AuditContext::default();
            let site = proxies.site(Some(peer), |name| single_header(request.headers(), name));
            let admitted = upgrade(app, &request, (&context, &site), &mut audit).await;
            metrics::histogram!("ehr_chat_gateway_handshake_duration_seconds").record(started.elapsed());
            match admitted {
                Ok((response, socket)) => {
                    count(if matches!(socket, Upgrade::Accepted(_)) { "accepted" } else { "too_many_sockets" });
                    if let Upgrade::Rejected(close) = socket {
                        app.audit.enqueue(audit.entry(close.code(), &context));
                    }
                    end_span(span, &response);
                    return (response, Some(socket));
                }
                Err(error) => {
                    count(error.outcome());
                    if is_recorded(error.status()) {
                        app.audit.enqueue(audit.entry(error.status(), &context));
                    }
                    Err(error)
                }
            }
        }
        "/healthz" | "/readyz" if !readable => Err(HttpError::method_not_allowed()),
        "/healthz" => Ok(health_ok(id)),
        "/readyz" => is_ready(app).map(|()| health_ok(id)),
        _ => Err(HttpError::not_found(
            "There is nothing at this path. This port serves `/ws`, `/healthz` and `/readyz`.",
        )),
    };
    let response = outcome.unwrap_or_else(|error| error.into_response(id));
    end_span(span, &response);
    (response, None)
}

/// Starts a trace span, if a collector is configured. The span names only the route, never the query.
fn span<B>(app: &AppState, request: &Request<B>, context: &RequestContext, peer: IpAddr) -> Option<RequestSpan> {
    let traces = app.traces.as_ref()?;
    let route = if request.uri().path() == "/ws" { "/ws" } else { "other" };
    let parent = header(request.headers(), &HeaderName::from_static(TRACEPARENT_HEADER));
    let parent = parent.filter(|_| app.config.http.trusted_proxies.trust(peer));
    Some(traces.request_span(method_label(request.method().as_str()), route, &context.request_id, parent))
}

fn end_span(span: Option<RequestSpan>, response: &HttpResponse) {
    if let Some(span) = span {
        span.end(response.status().as_u16());
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("ehr_chat_gateway_handshakes_total", "outcome" => outcome).increment(1);
}

/// Request id and client address.
fn context(headers: &HeaderMap, peer: IpAddr, trusted: &TrustedProxies) -> RequestContext {
    let request_id = request_id_of(headers);
    let address = trusted.address(peer, headers.get_all(FORWARDED_FOR_HEADER).into_iter().map(HeaderValue::as_bytes));
    RequestContext { request_id: request_id.into(), address }
}

async fn upgrade<B>(
    app: &Arc<AppState>,
    request: &Request<B>,
    (context, site): (&RequestContext, &Site<'_>),
    audit: &mut AuditContext,
) -> Result<(HttpResponse, Upgrade), HttpError> {
    if app.shutdown.has_begun() {
        return Err(HttpError::unavailable(ProblemCode::ShuttingDown, SHUTTING_DOWN));
    }
    if !app.revocations.is_loaded() {
        return Err(HttpError::unavailable(ProblemCode::Starting, REVOCATIONS_NOT_LOADED));
    }
    let too_many_requests = |wait| HttpError::too_many_requests(wait, "handshakes");
    app.rate_limits.check_handshake(context.address).map_err(too_many_requests)?;
    check_handshake(request, &app.config.http.origins, site)?;
    let authenticated = match credential(request) {
        Ok(credential) => authenticate(app, credential, context).await,
        Err(error) => Err(error),
    };
    let principal = authenticated.map_err(|error| {
        let (limited, kind) = match () {
            () if error.is_invalid_credential() => {
                (app.rate_limits.record_invalid_token(context.address), "invalid tokens from this address")
            }
            () if error.is_missing_credential() => {
                (app.rate_limits.record_missing_token(context.address), "handshakes without a token from this address")
            }
            () => return error,
        };
        limited.err().map_or(error, |wait| HttpError::too_many_requests(wait, kind))
    })?;
    audit.actor = Some(AuditActor::from(&principal.actor));
    app.rate_limits
        .check_participant(&principal)
        .map_err(|wait| HttpError::too_many_requests(wait, "handshakes of this participant"))?;
    let upgrade_request = authorize(request, &principal, audit)?;
    let principal = Arc::new(principal);
    let permit = app.socket_permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        let detail = "The gateway has no room for another socket. Try again in a second.";
        HttpError::unavailable(ProblemCode::Overloaded, detail)
    })?;
    let subprotocol = upgrade_request.subprotocol.then_some(SUBPROTOCOL);
    let response = response::switching_protocols(&context.request_id, &upgrade_request.accept_key, subprotocol);
    let Ok(permit) = app.rate_limits.acquire_socket(permit, &principal, context.address) else {
        tracing::info!(request_id = &*context.request_id, "socket limit reached");
        return Ok((response, Upgrade::Rejected(CloseReason::TooManySockets)));
    };
    let subscribed = session::subscribe(app, &upgrade_request.topic, &principal, upgrade_request.cursor).await;
    let start = subscribed.map_err(|error| {
        if matches!(error, SubscribeError::Join(JoinError::GoingAway)) {
            return HttpError::unavailable(ProblemCode::ShuttingDown, SHUTTING_DOWN);
        }
        tracing::warn!(request_id = &*context.request_id, %error, "subscription failed");
        let detail = "Live delivery is interrupted. Try again in a second, and load messages over HTTP meanwhile.";
        HttpError::unavailable(ProblemCode::RelayUnavailable, detail)
    })?;
    // The token may have been revoked after verification. Until `subscribe`, the hub could not close this socket.
    let is_good = app.verifier.recheck(&principal, OffsetDateTime::now_utc());
    is_good.map_err(|error| HttpError::invalid_token(&error))?;
    let topic = upgrade_request.topic;
    let admitted = AcceptedSocket { context: context.clone(), principal, topic, start, permit };
    Ok((response, Upgrade::Accepted(Box::new(admitted))))
}

/// Validates the upgrade request and its origin. Authentication and authorization follow.
fn check_handshake<B>(request: &Request<B>, origins: &AllowedOrigins, site: &Site<'_>) -> Result<(), HttpError> {
    let headers = request.headers();
    check_headers(request)?;
    let is_upgrade = request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && list_members(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && list_members(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        return Err(HttpError::upgrade_required());
    }
    if header(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(HttpError::version_required());
    }
    // Browsers always send `Origin`; other clients do not.
    let is_foreign = |origin: &HeaderValue| !origin.to_str().is_ok_and(|origin| origins.allows(origin, site));
    if headers.get(ORIGIN).is_some_and(is_foreign) {
        return Err(HttpError::origin_not_allowed());
    }
    if request.uri().query().map_or(0, str::len) > MAX_QUERY_BYTES {
        return Err(HttpError::query_too_long(MAX_QUERY_BYTES));
    }
    Ok(())
}

/// Rejects contradictory or missing header fields.
fn check_headers<B>(request: &Request<B>) -> Result<(), HeaderError> {
    let headers = request.headers();
    // Most requests repeat no name, and both counts are known already.
    if headers.len() > headers.keys_len() {
        headers::check_not_repeated(|name| headers.get_all(name).iter().count())?;
    }
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(Authority::as_str);
    headers::check_host(host, authority, request.version() == Version::HTTP_11)
}

/// Validates the query and checks that the principal may see the topic.
fn authorize<B>(
    request: &Request<B>,
    principal: &Principal,
    audit: &mut AuditContext,
) -> Result<UpgradeRequest, HttpError> {
    let headers = request.headers();
    let query = request.uri().query().unwrap_or_default();
    let key = header(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_valid_key(key));
    let key =
        key.ok_or_else(|| HttpError::invalid_handshake("`Sec-WebSocket-Key` is not 16 bytes in base64. Correct it."))?;
    let subprotocol = list_members(headers, &SEC_WEBSOCKET_PROTOCOL).any(|name| name == SUBPROTOCOL);
    if !subprotocol && list_members(headers, &SEC_WEBSOCKET_PROTOCOL).any(|name| name.starts_with(BEARER_SUBPROTOCOL)) {
        // The server must select an offered subprotocol, and it never repeats a token.
        let detail = "The subprotocol `bearer.<JWT>` came alone. Offer `chat.v1` along with it.";
        return Err(HttpError::invalid_handshake(detail));
    }
    let connect_query = query::parse(query);
    // Authorization comes first, so that an unauthorized client learns nothing else about its request.
    if let Some(topic) =
        connect_query.as_ref().map_or_else(|_| query::topic(query), |connect_query| Some(connect_query.topic.clone()))
    {
        let allowed = topic.check(principal);
        audit.topic = Some(topic);
        allowed?;
    }
    let ConnectQuery { topic, cursor } = connect_query?;
    Ok(UpgradeRequest { topic, cursor, accept_key: derive_accept_key(key.as_bytes()), subprotocol })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
