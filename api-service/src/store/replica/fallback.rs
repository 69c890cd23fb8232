//! Why the primary answers a read in place of the replica.

use crate::store::StoreError;

/// Why the primary answers, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// It did not show the audit row of the read in time.
    Behind,
    /// All connections to it were in use.
    Busy,
    /// It cannot be connected to, ended the connection, or was too slow.
    Unreachable,
    /// It is no replica of this primary.
    WrongServer,
    /// It rejected or cancelled the read.
    Failed,
}

impl Fallback {
    /// The values of the label `reason`.
    pub(crate) const LABELS: &'static [&'static str] = &["behind", "busy", "unreachable", "wrong_server", "failed"];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::WrongServer => "wrong_server",
            Self::Failed => "failed",
        }
    }

    /// Counts a read that the primary answers.
    pub(super) fn count(self) {
        metrics::counter!("ehr_chat_replica_fallbacks_total", "reason" => self.label()).increment(1);
    }
}

/// Why a read or a check of the replica failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplicaError {
    /// See [`Fallback::Behind`].
    #[error("it lags behind the primary")]
    Behind,
    /// See [`Fallback::Busy`].
    #[error("all connections to it are in use")]
    Busy,
    /// No answer before the time limit.
    #[error("it did not answer in time")]
    TooSlow,
    /// No connection.
    #[error("no connection: {0}")]
    Unreachable(#[source] StoreError),
    /// See [`Fallback::WrongServer`].
    #[error("{0}")]
    WrongServer(String),
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReplicaError {
    pub(super) fn reason(&self) -> Fallback {
        match self {
            Self::Behind => Fallback::Behind,
            Self::Busy => Fallback::Busy,
            Self::TooSlow | Self::Unreachable(_) | Self::Store(StoreError::Unavailable(_)) => Fallback::Unreachable,
            Self::WrongServer(_) => Fallback::WrongServer,
            Self::Store(_) => Fallback::Failed,
        }
    }

    /// Whether other reads would fail too. Replay cancels single statements that stand in its way (40001), and altered content
    /// concerns one message.
    pub(super) fn affects_all_reads(&self) -> bool {
        !matches!(
            self,
            Self::Busy
                | Self::Store(
                    StoreError::Contended(_)
                        | StoreError::Locked(_)
                        | StoreError::Unreadable(_)
                        | StoreError::Abandoned
                )
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_label() {
        let reasons =
            [Fallback::Behind, Fallback::Busy, Fallback::Unreachable, Fallback::WrongServer, Fallback::Failed];
        assert_eq!(reasons.map(Fallback::label), Fallback::LABELS);
    }

    #[test]
    fn cancelled_statement_leaves_replica_in_use() {
        let conflict = ReplicaError::from(StoreError::Contended("40001 conflict with recovery".into()));
        assert_eq!((conflict.reason(), conflict.affects_all_reads()), (Fallback::Failed, false));
        let slow = ReplicaError::from(StoreError::TimedOut("57014 statement timeout".into()));
        assert_eq!((slow.reason(), slow.affects_all_reads()), (Fallback::Failed, true));
        let ended = ReplicaError::from(StoreError::Unavailable("57P01 shutdown".into()));
        assert_eq!((ended.reason(), ended.affects_all_reads()), (Fallback::Unreachable, true));
    }
}
