//! What can go wrong in PostgreSQL, told apart by SQLSTATE, never by message text.

use deadpool_postgres::PoolError;
use shared::ids::{LocationId, MessageId};
use shared::seal::SealError;
use tokio_postgres::error::SqlState;

use crate::envelope::EnvelopeError;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store could not. The cause is for logs, never for outsiders.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is out of reach, overloaded, restarting, or did not answer in time: try again later.
    #[error("the database is out of reach: {0}")]
    Unavailable(#[source] Cause),
    /// Another transaction stood in the way; the same thing may work at once.
    #[error("another transaction stood in the way: {0}")]
    Contended(#[source] Cause),
    /// A lock was not given in time: another transaction holds a row or a table, and nobody knows for how long.
    #[error("a lock was not given in time: {0}")]
    Locked(#[source] Cause),
    /// A statement took longer than it may. The database answers, so that other statements may go on.
    #[error("the database gave up a statement that took too long: {0}")]
    TimedOut(#[source] Cause),
    /// The data keys of these locations cannot be used: nothing can be sealed there.
    #[error("the data key of {} cannot be used: {}", location_names(.0), .1)]
    DataKey(Vec<LocationId>, #[source] Cause),
    /// A message's content is sealed, and not for this message, or was altered, or is in the open where all of it is sealed:
    /// somebody has changed the row.
    #[error("the content of the message {0} was not sealed for it, or was altered, or is not sealed at all")]
    Unreadable(MessageId),
    /// Nothing was done: whoever has asked has gone away.
    #[error("the caller has gone away")]
    Abandoned,
    /// The database refused, or holds what it should not: a mistake of ours.
    #[error("the database refused: {0}")]
    Internal(#[source] Cause),
}

impl StoreError {
    /// A mistake of ours.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// The same error for somebody else who asked for the same thing.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(cause.to_string().into()),
            Self::Contended(cause) => Self::Contended(cause.to_string().into()),
            Self::Locked(cause) => Self::Locked(cause.to_string().into()),
            Self::TimedOut(cause) => Self::TimedOut(cause.to_string().into()),
            Self::DataKey(locations, cause) => Self::DataKey(locations.clone(), cause.to_string().into()),
            Self::Unreadable(id) => Self::Unreadable(*id),
            Self::Abandoned => Self::Abandoned,
            Self::Internal(cause) => Self::Internal(cause.to_string().into()),
        }
    }
}

fn location_names(locations: &[LocationId]) -> String {
    locations.iter().map(LocationId::as_str).collect::<Vec<_>>().join(", ")
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // Without a SQLSTATE it never came from the server: a broken connection, or a mistake of ours in the types.
            let source = std::error::Error::source(&error);
            // Why a connection broke, or was refused, is for operators to read: a certificate, say.
            if let Some(cause) = source.filter(|cause| cause.is::<std::io::Error>()) {
                return Self::Unavailable(format!("{error}: {cause}").into());
            }
            return if error.is_closed() { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) };
        };
        // The server's DETAIL may quote a row, and with it content: keep the code and the short message only.
        let cause = || -> Cause {
            let message = error.as_db_error().map_or("", |db| db.message());
            format!("{} {message}", state.code()).into()
        };
        match state {
            &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::UNIQUE_VIOLATION => {
                Self::Contended(cause())
            }
            &SqlState::LOCK_NOT_AVAILABLE => Self::Locked(cause()),
            // `statement_timeout`, or somebody who cancels statements.
            &SqlState::QUERY_CANCELED => Self::TimedOut(cause()),
            // 08 connection, 25P03 a transaction that was left alone for too long, 53 out of resources, 57 operator intervention (shutdown, timeout), 58 system error,
            // 25006 read-only: a primary that has become a replica.
            state if ["08", "53", "57", "58"].iter().any(|class| state.code().starts_with(class)) => {
                Self::Unavailable(cause())
            }
            &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
                Self::Unavailable(cause())
            }
            _ => Self::Internal(cause()),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from(error) {
                // A login refused is not the caller's doing and may be mended: out of reach, all the same.
                Self::Internal(cause) => Self::Unavailable(cause),
                other => other,
            },
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<EnvelopeError> for StoreError {
    fn from(error: EnvelopeError) -> Self {
        Self::internal(error)
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        Self::internal(error)
    }
}
