//! What can go wrong in PostgreSQL, told apart by SQLSTATE, never by message text.

use deadpool_postgres::PoolError;
use shared::ids::MessageId;
use shared::seal::SealError;
use tokio_postgres::error::SqlState;

use crate::vault::VaultError;

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
    /// A message's content is sealed, and not for this message, or was altered, or is in the open where all of it is sealed:
    /// somebody has changed the row.
    #[error("the content of the message {0} was not sealed for it, or was altered, or is not sealed at all")]
    Unreadable(MessageId),
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
    pub fn repeat(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(cause.to_string().into()),
            Self::Contended(cause) => Self::Contended(cause.to_string().into()),
            Self::Unreadable(id) => Self::Unreadable(*id),
            Self::Internal(cause) => Self::Internal(cause.to_string().into()),
        }
    }
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
            &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::UNIQUE_VIOLATION
            // `lock_timeout`
            | &SqlState::LOCK_NOT_AVAILABLE => Self::Contended(cause()),
            // 08 connection, 53 out of resources, 57 operator intervention (shutdown, timeout), 58 system error,
            // 25006 read-only: a primary that has become a replica.
            state if ["08", "53", "57", "58"].iter().any(|class| state.code().starts_with(class)) => {
                Self::Unavailable(cause())
            }
            &SqlState::READ_ONLY_SQL_TRANSACTION => Self::Unavailable(cause()),
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

impl From<VaultError> for StoreError {
    fn from(error: VaultError) -> Self {
        Self::internal(error)
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        Self::internal(error)
    }
}
