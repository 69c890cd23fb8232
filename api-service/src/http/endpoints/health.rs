//! Liveness and readiness.

use std::sync::Arc;

use poem::Response;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi};
use serde_json::json;
use shared::contract::http::problem::Problem;

use crate::database_monitor::DatabaseState;
use crate::http::body::RawJson;
use crate::http::error::ProblemBody;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::state::AppState;

pub(crate) struct Health;

/// It lives.
#[derive(ApiResponse)]
enum HealthResponse {
    /// The process answers.
    #[oai(status = 200)]
    Ok(RawJson<schema::Health>),
}

/// It can work, or not.
#[derive(ApiResponse)]
enum ReadinessResponse {
    /// The database answers, and is one that this service can work on. Redis may be away: sends go on without it.
    #[oai(status = 200)]
    Ok(RawJson<schema::Health>),
    /// The database is out of reach or does not fit, or the service is going away.
    #[oai(status = 503)]
    Unavailable(ProblemBody),
}

#[OpenApi]
impl Health {
    /// Is the process alive?
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth", tag = "Tag::Health")]
    async fn healthz(&self) -> HealthResponse {
        HealthResponse::Ok(ok())
    }

    /// Can the service do its work?
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness", tag = "Tag::Health")]
    async fn readyz(&self, state: Data<&Arc<AppState>>) -> ReadinessResponse {
        match readiness(&state) {
            Ok(()) => ReadinessResponse::Ok(ok()),
            Err(problem) => ReadinessResponse::Unavailable((*problem).into()),
        }
    }
}

fn ok() -> RawJson<schema::Health> {
    RawJson::from_string(r#"{"status":"ok"}"#.to_owned())
}

fn readiness(state: &AppState) -> Result<(), Box<Problem>> {
    if state.stopping.has_begun() {
        return Err(Box::new(Problem::new(503, "the service is going away")));
    }
    let why = match state.database.state() {
        DatabaseState::Ready if state.revocation.is_loaded() => return Ok(()),
        DatabaseState::Ready | DatabaseState::Unknown => "the database has not been read yet",
        DatabaseState::Unreachable(_) => "the database is out of reach",
        DatabaseState::Unfit(_) => "the database is not one that this service can work on",
    };
    Err(Box::new(Problem::new(503, why)))
}

/// Whether the service is ready.
pub(crate) fn is_ready(state: &AppState) -> bool {
    readiness(state).is_ok()
}

/// The readiness problem with its cause, for operators.
fn operator_detail(state: &AppState) -> Option<String> {
    let Err(problem) = readiness(state) else { return state.clock_offset.warning() };
    Some(match state.database.state() {
        DatabaseState::Unreachable(cause) | DatabaseState::Unfit(cause) => format!("{}: {cause}", problem.detail),
        DatabaseState::Ready | DatabaseState::Unknown => problem.detail,
    })
}

/// The readiness report of the admin port, with the state of each dependency. Redis may be down while the service is ready.
pub(crate) fn readiness_report(state: &AppState) -> Response {
    let ready = readiness(state);
    let describe = |is_up: bool| if is_up { "up" } else { "down" };
    let body = json!({
        "status": if ready.is_ok() { "ready" } else { "unavailable" },
        "detail": operator_detail(state),
        "clock_offset_seconds": state.clock_offset.millis().map(|millis| millis as f64 / 1_000.0),
        "dependencies": {
            "postgresql": describe(state.database.is_up()),
            "redis": describe(state.redis.is_up()),
            "revocations": if state.revocation.is_loaded() { "known" } else { "unknown" },
        },
    });
    let status = if ready.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Response::builder().status(status).content_type("application/json").body(body.to_string())
}
