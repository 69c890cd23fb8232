//! Liveness and readiness.

use std::sync::Arc;

use poem::Response;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi};
use serde_json::json;
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::Problem;

use crate::http::body::RawJson;
use crate::http::error::ProblemBody;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::state::{AppState, NotReady};

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
    ///
    /// For a supervisor that restarts the process. It does not look at the database.
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth", tag = "Tag::Health")]
    async fn healthz(&self) -> HealthResponse {
        HealthResponse::Ok(ok())
    }

    /// Can the service do its work?
    ///
    /// For load balancers, which send requests to services that are ready.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness", tag = "Tag::Health")]
    async fn readyz(&self, state: Data<&Arc<AppState>>) -> ReadinessResponse {
        match state.readiness() {
            Ok(()) => ReadinessResponse::Ok(ok()),
            Err(why) => ReadinessResponse::Unavailable(problem(&why).into()),
        }
    }
}

fn ok() -> RawJson<schema::Health> {
    RawJson::from_string(r#"{"status":"ok"}"#.to_owned())
}

/// The problem that clients receive.
fn problem(why: &NotReady) -> Problem {
    let (code, detail) = match why {
        NotReady::Stopping => (ProblemCode::ShuttingDown, "The service is shutting down."),
        NotReady::DatabaseNotRead => {
            (ProblemCode::Starting, "The service is starting: it has not read the database yet.")
        }
        NotReady::DatabaseUnreachable(_) => (ProblemCode::DatabaseUnavailable, "The database is out of reach."),
        NotReady::DatabaseBlocked(_) => (ProblemCode::DatabaseUnavailable, "The database takes no writes at present."),
        NotReady::DatabaseUnfit(_) => (ProblemCode::DatabaseIncompatible, "The database does not fit this service."),
    };
    Problem::new(code, detail)
}

/// The readiness problem with its cause, for operators.
fn operator_detail(state: &AppState) -> Option<String> {
    let Err(why) = state.readiness() else { return state.clock_offset.warning() };
    let detail = problem(&why).detail;
    Some(match why {
        NotReady::DatabaseUnreachable(cause) | NotReady::DatabaseBlocked(cause) | NotReady::DatabaseUnfit(cause) => {
            format!("{detail} Cause: {cause}")
        }
        NotReady::Stopping | NotReady::DatabaseNotRead => detail,
    })
}

/// The readiness report of the admin port, with the state of each dependency. Redis may be down while the service is ready.
pub(crate) fn readiness_report(state: &AppState) -> Response {
    let ready = state.readiness();
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
