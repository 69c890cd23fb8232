//! Errors of PostgreSQL, classified by SQLSTATE, never by message text.

use deadpool_postgres::PoolError;
use shared::contract::ids::{LocationId, MessageId};
use shared::kit::crypto::seal::SealError;
use shared::kit::net::tls;
use tokio_postgres::error::SqlState;

use crate::envelope::EnvelopeError;

/// A server that answers and rejects writes: a standby, or a primary that was demoted while its connections stayed open.
#[derive(Debug, thiserror::Error)]
#[error("25006 the server is read-only")]
struct ReadOnlyServer;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the store failed. The cause is for logs only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Unreachable, overloaded, restarting, or too slow. A later retry may succeed.
    #[error("the database is out of reach: {0}")]
    Unavailable(#[source] Cause),
    /// A deadlock, a serialization failure or a unique violation. An immediate retry may succeed.
    #[error("another transaction stood in the way: {0}")]
    Contended(#[source] Cause),
    /// A lock was not granted in time. Another transaction holds a row or a table.
    #[error("a lock was not given in time: {0}")]
    Locked(#[source] Cause),
    /// A statement exceeded its timeout. The database answers, so other statements may proceed.
    #[error("the database gave up a statement that took too long: {0}")]
    TimedOut(#[source] Cause),
    /// The data keys of these locations cannot be used, so nothing can be sealed there.
    #[error("the data key of {} cannot be used: {}", location_names(.0), .1)]
    DataKey(Vec<LocationId>, #[source] Cause),
    /// The content of a message was altered, belongs to another message, or is plain text although all content is encrypted.
    #[error("the content of the message {0} was not sealed for it, or was altered, or is not sealed at all")]
    Unreadable(MessageId),
    /// The caller disconnected before the work began.
    #[error("the caller has gone away")]
    Abandoned,
    /// A defect: PostgreSQL rejected the statement, or holds invalid data.
    #[error("the database refused: {0}")]
    Internal(#[source] Cause),
}

/// Whether a server was rejected because of `target_session_attrs`: it accepts no writes, or does where a replica is wanted.
pub(in crate::store) fn is_access_mismatch(error: &tokio_postgres::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied && cause.raw_os_error().is_none())
}

impl StoreError {
    /// A defect of this service.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    /// Whether the server of the connection accepts no writes, so that no other use of the connection could succeed.
    pub(super) fn is_read_only_server(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.is::<ReadOnlyServer>())
    }

    /// The same error for another caller of the same batch.
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
            // No SQLSTATE: the error arose on this side. Either the connection broke, or the types do not match.
            let source = std::error::Error::source(&error);
            // Operators need the reason of a failed connection, for example a certificate.
            if let Some(cause) = source.filter(|_| tls::is_tls_error(&error)) {
                return Self::Unavailable(
                    format!("{error}: {cause}; DATABASE_CA_FILE names the trusted authorities").into(),
                );
            }
            if is_access_mismatch(&error) {
                return Self::Unavailable(
                    "no server of DATABASE_URL accepts writes: those that answer are standbys, or read-only".into(),
                );
            }
            if let Some(cause) = source.filter(|cause| cause.is::<std::io::Error>()) {
                return Self::Unavailable(format!("{error}: {cause}").into());
            }
            return if error.is_closed() { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) };
        };
        // The server's DETAIL may quote a row with content, so only the code and the short message are kept.
        let cause = || -> Cause {
            let message = error.as_db_error().map_or("", |db| db.message());
            format!("{} {message}", state.code()).into()
        };
        match state {
            &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::UNIQUE_VIOLATION => {
                Self::Contended(cause())
            }
            &SqlState::LOCK_NOT_AVAILABLE => Self::Locked(cause()),
            // `statement_timeout`, or a cancelled statement.
            &SqlState::QUERY_CANCELED => Self::TimedOut(cause()),
            // 08 connection, 25P03 idle transaction, 53 out of resources, 57 operator intervention (shutdown, timeout), 58 system
            // error.
            state if ["08", "53", "57", "58"].iter().any(|class| state.code().starts_with(class)) => {
                Self::Unavailable(cause())
            }
            &SqlState::READ_ONLY_SQL_TRANSACTION => Self::Unavailable(Box::new(ReadOnlyServer)),
            &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Self::Unavailable(cause()),
            _ => Self::Internal(cause()),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from(error) {
                // A rejected login can be repaired by an operator, so it counts as unavailable.
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
