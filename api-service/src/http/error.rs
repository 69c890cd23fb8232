//! Maps the error of a use case to a status and a problem body.

use poem::http::StatusCode;
use poem::http::header::RETRY_AFTER;
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use shared::contract::http::problem::{CONTENT_TYPE, InputError, Problem};
use shared::kit::rate_limit::RetryAfter;

use crate::domain::error::DomainError;
use crate::http::openapi::schema;

/// A problem body. The middleware adds the request id and the headers of the status.
pub(crate) struct ProblemBody(Box<Problem>);

impl From<Problem> for ProblemBody {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl Payload for ProblemBody {
    const CONTENT_TYPE: &'static str = CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        schema::Problem::schema_ref()
    }

    fn register(registry: &mut Registry) {
        schema::Problem::register(registry);
    }
}

impl IntoResponse for ProblemBody {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Response::builder().status(status).content_type(CONTENT_TYPE).body(self.0.to_json())
    }
}

/// A problem as poem's error type.
pub(crate) fn problem_error(problem: Problem) -> poem::Error {
    poem::Error::from_response(ProblemBody::from(problem).into_response())
}

/// 429 with `Retry-After`.
pub(crate) fn too_many_requests(wait: RetryAfter, what: &str) -> Response {
    let seconds = wait.seconds();
    let problem = Problem::new(429, format!("too many {what}: try again in {seconds} s"));
    ProblemBody::from(problem).with_header(RETRY_AFTER, seconds.to_string()).into_response()
}

/// Error responses of every operation that needs a token.
#[derive(ApiResponse)]
pub(crate) enum ApiError {
    /// The body is not JSON, or the query cannot be parsed.
    #[oai(status = 400)]
    BadRequest(ProblemBody),
    /// The token is missing, malformed, expired, or its signature does not match.
    #[oai(status = 401)]
    Unauthorized(ProblemBody),
    /// The token is good, but not for this participant or location.
    #[oai(status = 403)]
    Forbidden(ProblemBody),
    /// Well-formed, but invalid: `errors` says what and where.
    #[oai(status = 422)]
    Invalid(ProblemBody),
    /// Too many requests, or too many refused tokens: try again after `Retry-After` seconds.
    #[oai(status = 429)]
    TooMany(ProblemBody),
    /// A mistake of the server's. Its log has the cause under the `request_id`.
    #[oai(status = 500)]
    Internal(ProblemBody),
    /// The database is out of reach, or more waits than may: try again after `Retry-After` seconds. Nothing is half done.
    #[oai(status = 503)]
    Unavailable(ProblemBody),
}

/// The problem of a use-case error. Logs the cause where the caller is not to blame.
pub(crate) fn to_problem(error: DomainError) -> Problem {
    match error {
        DomainError::Forbidden(why) => Problem::new(403, why.to_string()),
        DomainError::Field(field, why) => invalid(vec![InputError::new(pointer(field), why)]),
        DomainError::Overloaded => Problem::new(503, "too many sends are waiting; nothing was written"),
        DomainError::SendTimeout => {
            Problem::new(503, "the message could not be written in time, and was not written: send it again")
        }
        DomainError::DeadlineExceeded => Problem::new(503, "the answer took too long; nothing was changed: ask again"),
        DomainError::TicketsUnavailable(error) => {
            tracing::warn!(%error, "ticket not stored");
            Problem::new(503, "tickets cannot be given out at the moment")
        }
        DomainError::PresenceUnavailable(error) => {
            tracing::warn!(%error, "presence lookup failed");
            Problem::new(503, "who is online is not known at the moment")
        }
        DomainError::DatabaseUnavailable(error) => {
            tracing::warn!(%error, "database unavailable");
            Problem::new(503, "the database is out of reach")
        }
        DomainError::Contended(error) => {
            tracing::warn!(%error, "contended rows");
            Problem::new(503, "too many changes to the same conversation at once")
        }
        // No client receives this: its connection has ended.
        DomainError::CallerDisconnected => Problem::new(503, "the caller has gone away"),
        DomainError::Internal(error) => {
            tracing::error!(%error, "internal error");
            Problem::new(500, "something went wrong on the server")
        }
    }
}

/// A JSON pointer for body fields; query parameters keep their `?name`.
fn pointer(field: &'static str) -> String {
    if field.starts_with('?') { field.to_owned() } else { format!("/{field}") }
}

/// 422 with all errors.
pub(crate) fn invalid(errors: Vec<InputError>) -> Problem {
    let details: Vec<String> = errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
    Problem::new(422, details.join("; ")).with_errors(errors)
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        let status = problem.status;
        let body = problem.into();
        match status {
            400 => Self::BadRequest(body),
            401 => Self::Unauthorized(body),
            403 => Self::Forbidden(body),
            422 => Self::Invalid(body),
            429 => Self::TooMany(body),
            503 => Self::Unavailable(body),
            _ => Self::Internal(body),
        }
    }
}

impl From<DomainError> for ApiError {
    fn from(error: DomainError) -> Self {
        to_problem(error).into()
    }
}
