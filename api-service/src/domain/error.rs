//! Why a use case rejects a request. Knows no HTTP: `http::error` finds the status. Carries no error of PostgreSQL or Redis: what
//! failed below is a [`Cause`] for the log, and the variant says what it means for the caller.

use shared::contract::error_code::ProblemCode;
use shared::contract::token::AuthorizationError;

use crate::audit_writer::AuditError;
use crate::model::deadline::StepError;
use crate::presence_reader::PresenceError;
use crate::send_batcher::error::SendError;
use crate::store::StoreError;
use crate::ticket_issuer::TicketError;

/// The failure below a use case, for the log only.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a use case rejects a request.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The token does not permit this.
    #[error(transparent)]
    Forbidden(#[from] AuthorizationError),
    /// The input breaks a rule: its code, where (a JSON pointer or `?name`), and a sentence for the caller.
    #[error("{2}")]
    Input(ProblemCode, &'static str, &'static str),
    /// A queue is full; nothing was written.
    #[error("too many sends are waiting")]
    Overloaded,
    /// A send waited too long for its transaction; nothing was written.
    #[error("the send has waited for too long")]
    SendTimeout,
    /// The deadline of the request passed; nothing was changed.
    #[error("the answer took too long")]
    DeadlineExceeded,
    /// No ticket could be stored.
    #[error("{0}")]
    TicketsUnavailable(Cause),
    /// Presence could not be read.
    #[error("{0}")]
    PresenceUnavailable(Cause),
    /// The database did not answer. Nothing was written, or the outcome is unknown.
    #[error("{0}")]
    DatabaseUnavailable(Cause),
    /// Other transactions held what this one needs; nothing was written.
    #[error("{0}")]
    Contended(Cause),
    /// The caller disconnected before the work began.
    #[error("the caller has disconnected")]
    CallerDisconnected,
    /// A defect of this service, or of the data that it reads.
    #[error("{0}")]
    Internal(Cause),
}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::TimedOut(_) => Self::DatabaseUnavailable(error.into()),
            StoreError::Contended(_) | StoreError::Locked(_) => Self::Contended(error.into()),
            StoreError::Abandoned => Self::CallerDisconnected,
            StoreError::DataKey(..) | StoreError::Unreadable(_) | StoreError::Internal(_) => {
                Self::Internal(error.into())
            }
        }
    }
}

impl From<SendError> for DomainError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Overloaded => Self::Overloaded,
            SendError::TimedOut => Self::SendTimeout,
            SendError::Store(error) => error.into(),
        }
    }
}

impl From<AuditError> for DomainError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Overloaded => Self::Overloaded,
            AuditError::DeadlineExceeded => Self::DeadlineExceeded,
            AuditError::Store(error) => error.into(),
        }
    }
}

impl From<TicketError> for DomainError {
    fn from(error: TicketError) -> Self {
        Self::TicketsUnavailable(error.into())
    }
}

impl From<PresenceError> for DomainError {
    fn from(error: PresenceError) -> Self {
        Self::PresenceUnavailable(error.into())
    }
}

impl<E: Into<Self>> From<StepError<E>> for DomainError {
    fn from(error: StepError<E>) -> Self {
        match error {
            StepError::DeadlineExceeded => Self::DeadlineExceeded,
            StepError::Failed(error) => error.into(),
        }
    }
}
