//! Whether this gateway accepts sockets, for load balancers and operators.

use super::error::HttpError;
use super::response::{HttpResponse, json_state};
use crate::state::AppState;

/// Whether this gateway is ready: it has connected to Redis once and loaded the revocations.
///
/// It stays ready while Redis is down. Redis is down for every gateway, and a load balancer that removes all of them
/// would cut sockets that still receive `degraded` and `recovered`. In a cluster, some masters are enough. Handshakes
/// for the others are rejected one by one.
pub(crate) fn is_ready(app: &AppState) -> Result<(), HttpError> {
    if app.shutdown.has_begun() {
        return Err(HttpError::unavailable("gateway is shutting down"));
    }
    if !app.hub.has_ever_connected() {
        return Err(HttpError::unavailable("starting up: redis is not connected yet; retry"));
    }
    if !app.revocations.is_loaded() {
        return Err(HttpError::unavailable("starting up: revoked tokens are not loaded yet; retry"));
    }
    Ok(())
}

/// The same for operators, with the state of each dependency. Redis may be down while the gateway is ready.
pub(crate) fn readiness(app: &AppState) -> HttpResponse {
    let ready = is_ready(app);
    let hub = &app.hub;
    let redis = match (hub.is_connected(), hub.is_partly_connected()) {
        (true, _) => "up",
        (false, true) => "partly up",
        (false, false) => "down",
    };
    let body = serde_json::json!({
        "status": if ready.is_ok() { "ready" } else { "unavailable" },
        "detail": ready.as_ref().err().map(HttpError::detail),
        "dependencies": {
            "redis": redis,
            "revocations": if app.revocations.is_loaded() { "known" } else { "unknown" },
        },
    });
    json_state(ready.is_ok(), body.to_string())
}
