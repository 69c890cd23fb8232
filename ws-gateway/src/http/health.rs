//! Whether this gateway accepts sockets, for load balancers and operators.

use super::error::HttpError;
use super::response::{HttpResponse, json_state};
use crate::state::AppState;

/// Ready once Redis was reached and has said which tokens are revoked, and from then on until the end. Not while Redis is away: it is away for every gateway,
/// and taking all of them out of the balancer would cut sockets that still hear `degraded` and `recovered`. In a cluster some of its
/// masters are enough: the conversations of the others are refused one by one.
pub(crate) fn is_ready(app: &AppState) -> Result<(), HttpError> {
    if app.shutdown.has_begun() {
        return Err(HttpError::unavailable("this gateway is going away"));
    }
    if !app.hub.has_ever_connected() {
        return Err(HttpError::unavailable("redis has not been reached yet"));
    }
    if !app.revocations.is_loaded() {
        return Err(HttpError::unavailable("which tokens are revoked has not been read yet"));
    }
    Ok(())
}

/// The same for operators, with what it depends on: Redis may be away without that.
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
