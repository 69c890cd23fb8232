//! Maps the error of a use case to a status and a problem body.

use poem::http::StatusCode;
use poem::http::header::RETRY_AFTER;
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::{CONTENT_TYPE, InputError, Problem};
use shared::kit::token_bucket::RetryAfter;

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

/// 429 with `Retry-After`. `what` follows "Too many".
pub(crate) fn too_many_requests(wait: RetryAfter, what: &str) -> Response {
    let seconds = wait.seconds();
    let detail = format!("Too many {what} came at once. Try again in {seconds} s.");
    let problem = Problem::new(ProblemCode::RateLimited, detail);
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
    let (code, detail) = match error {
        DomainError::Forbidden(why) => return why.into(),
        DomainError::Input(code, pointer, detail) => {
            return Problem::of_input(vec![InputError::new(code, pointer, detail)]);
        }
        DomainError::Overloaded => {
            (ProblemCode::Overloaded, "Too many sends are waiting. Nothing was written. Try again in a second.")
        }
        DomainError::SendTimeout => (
            ProblemCode::DeadlineExceeded,
            "The message could not be written in time, and was not written. Send it again.",
        ),
        DomainError::DeadlineExceeded => {
            (ProblemCode::DeadlineExceeded, "The request took too long. Nothing was changed. Try again in a second.")
        }
        DomainError::TicketsUnavailable(error) => {
            tracing::warn!(%error, "ticket not stored");
            (
                ProblemCode::TicketsUnavailable,
                "Tickets cannot be issued at present. Try again in a second, or open the socket with the token.",
            )
        }
        DomainError::PresenceUnavailable(error) => {
            tracing::warn!(%error, "presence lookup failed");
            (ProblemCode::PresenceUnavailable, "It is not known at present who is online. Try again in a second.")
        }
        DomainError::DatabaseUnavailable(error) => {
            tracing::warn!(%error, "database unavailable");
            (
                ProblemCode::DatabaseUnavailable,
                "The database is out of reach. Try again in a second; a message needs the same `client_message_id`.",
            )
        }
        DomainError::Contended(error) => {
            tracing::warn!(%error, "contended rows");
            (
                ProblemCode::ConversationBusy,
                "Too many changes of this conversation came at once. Nothing was changed. Try again in a second.",
            )
        }
        // No client receives this: its connection has ended.
        DomainError::CallerDisconnected => {
            (ProblemCode::DeadlineExceeded, "The caller disconnected before the work began. Nothing was changed.")
        }
        DomainError::Internal(error) => {
            tracing::error!(%error, "internal error");
            return internal_error();
        }
    };
    Problem::new(code, detail)
}

/// 500. The log has the cause.
pub(crate) fn internal_error() -> Problem {
    Problem::new(
        ProblemCode::InternalError,
        "The server failed. Try again; if it fails again, give the operator the `request_id`: the log has the cause.",
    )
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

#[cfg(test)]
mod tests {
    use shared::contract::token::AuthorizationError;

    use super::*;

    fn cause() -> crate::domain::error::Cause {
        "10.0.0.1: select content".into()
    }

    #[test]
    fn each_error_has_its_code_and_hides_its_cause() {
        for (error, code) in [
            (DomainError::Forbidden(AuthorizationError::Location), ProblemCode::Forbidden),
            (DomainError::Forbidden(AuthorizationError::AdminRequired), ProblemCode::AdminRequired),
            (DomainError::Input(ProblemCode::OutOfRange, "/jti", "The `jti` is empty."), ProblemCode::OutOfRange),
            (DomainError::Overloaded, ProblemCode::Overloaded),
            (DomainError::SendTimeout, ProblemCode::DeadlineExceeded),
            (DomainError::DeadlineExceeded, ProblemCode::DeadlineExceeded),
            (DomainError::TicketsUnavailable(cause()), ProblemCode::TicketsUnavailable),
            (DomainError::PresenceUnavailable(cause()), ProblemCode::PresenceUnavailable),
            (DomainError::DatabaseUnavailable(cause()), ProblemCode::DatabaseUnavailable),
            (DomainError::Contended(cause()), ProblemCode::ConversationBusy),
            (DomainError::CallerDisconnected, ProblemCode::DeadlineExceeded),
            (DomainError::Internal(cause()), ProblemCode::InternalError),
        ] {
            let problem = to_problem(error);
            assert_eq!((problem.code, problem.status), (code, code.status()));
            assert!(problem.detail.ends_with('.') && !problem.detail.contains("10.0.0.1"), "{}", problem.detail);
        }
    }
}
