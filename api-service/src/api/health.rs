//! Whether the service lives, and whether it can do its work.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem::{Response, handler};
use poem_openapi::{ApiResponse, OpenApi};
use serde_json::json;
use shared::problem::Problem;

use super::body::Encoded;
use super::refusal::{ProblemBody, problem};
use super::schema;
use super::tag::Tag;
use crate::domain::error::Refused;
use crate::state::State;
use crate::store::Class;

pub(super) struct Health;

/// It lives.
#[derive(ApiResponse)]
enum Alive {
    /// The process answers.
    #[oai(status = 200)]
    Ok(Encoded<schema::Health>),
}

/// It can work, or not.
#[derive(ApiResponse)]
enum Ready {
    /// The database answers. Redis may be away: sends go on without it.
    #[oai(status = 200)]
    Ok(Encoded<schema::Health>),
    /// The database is out of reach, or the service is going away.
    #[oai(status = 503)]
    Unavailable(ProblemBody),
}

#[OpenApi]
impl Health {
    /// Is the process alive?
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth", tag = "Tag::Health")]
    async fn healthz(&self) -> Alive {
        Alive::Ok(ok())
    }

    /// Can the service do its work?
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness", tag = "Tag::Health")]
    async fn readyz(&self, state: Data<&Arc<State>>) -> Ready {
        match readiness(&state).await {
            Ok(()) => Ready::Ok(ok()),
            Err(problem) => Ready::Unavailable((*problem).into()),
        }
    }
}

fn ok() -> Encoded<schema::Health> {
    Encoded::of_json(r#"{"status":"ok"}"#.to_owned())
}

async fn readiness(state: &State) -> Result<(), Box<Problem>> {
    if state.stopping.has_begun() {
        return Err(Box::new(Problem::new(503, "the service is going away")));
    }
    if !state.revoker.is_loaded() {
        return Err(Box::new(Problem::new(503, "the database has not been read yet")));
    }
    state.store.for_class(Class::Watch).ping().await.map_err(|error| Box::new(problem(Refused::Store(error))))
}

/// The same on the admin port.
#[handler]
pub(super) fn alive() -> &'static str {
    "ok"
}

/// The same on the admin port, with what it depends on: Redis may be away without that.
#[handler]
pub(super) async fn ready(state: Data<&Arc<State>>) -> Response {
    let ready = readiness(&state).await;
    // Not asked again where the answer is known.
    let postgresql = ready.is_ok() || state.store.for_class(Class::Watch).ping().await.is_ok();
    let describe = |is_up: bool| if is_up { "up" } else { "down" };
    let body = json!({
        "status": if ready.is_ok() { "ready" } else { "unavailable" },
        "detail": ready.as_ref().err().map(|problem| problem.detail.clone()).or_else(|| state.clock.warning()),
        "clock_offset_seconds": state.clock.millis().map(|millis| millis as f64 / 1_000.0),
        "dependencies": {
            "postgresql": describe(postgresql),
            "redis": describe(state.redis.is_up()),
            "revocations": if state.revoker.is_loaded() { "known" } else { "unknown" },
        },
    });
    let status = if ready.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Response::builder().status(status).content_type("application/json").body(body.to_string())
}
