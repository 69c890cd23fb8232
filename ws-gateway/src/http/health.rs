//! Whether this gateway accepts sockets, for load balancers and operators.

use shared::contract::error_code::ProblemCode;

use super::error::HttpError;
use super::response::{HttpResponse, json_state};
use crate::state::AppState;

pub(super) const SHUTTING_DOWN: &str = "The gateway is shutting down. Connect again now: another gateway answers.";
pub(super) const REVOCATIONS_NOT_LOADED: &str =
    "The gateway is starting: the revoked tokens are not loaded yet. Try again in a second.";

/// Whether this gateway is ready: it has connected to Redis once and loaded the revocations.
///
/// It stays ready while Redis is down. Redis is down for every gateway, and a load balancer that removes all of them
/// would cut sockets that still receive `degraded` and `recovered`. In a cluster, some masters are enough. Handshakes
/// for the others are rejected one by one.
pub(crate) fn is_ready(app: &AppState) -> Result<(), HttpError> {
    if app.shutdown.has_begun() {
        return Err(HttpError::unavailable(ProblemCode::ShuttingDown, SHUTTING_DOWN));
    }
    if !app.hub.has_ever_connected() {
        let detail = "The gateway is starting: Redis is not connected yet. Try again in a second.";
        return Err(HttpError::unavailable(ProblemCode::Starting, detail));
    }
    if !app.revocations.is_loaded() {
        return Err(HttpError::unavailable(ProblemCode::Starting, REVOCATIONS_NOT_LOADED));
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
