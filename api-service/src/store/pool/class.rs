//! Classes of work: how many connections each may use, and for how long.

use std::time::Duration;

use crate::store::settings::PoolSizes;

/// A class of work, with its own connections and timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Batches of sends, one at a time, and the check for locked conversations. Its lock timeout is short: a batch delays all
    /// senders and proceeds without locked conversations.
    Send,
    /// Audit entries, marks and revocations: callers wait for them.
    Write,
    /// Pages that callers read: as slow as the disk.
    Read,
    /// The outbox, the gateways' streams and operator commands: no caller waits.
    Background,
    /// The database monitor and reads of revocations. Separate connections, so that no load makes the service unready or delays a
    /// revocation.
    Watch,
}

/// Time limits of a class.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct ClassLimits {
    /// From the request for a connection to the end of its use.
    pub(in crate::store) deadline: Duration,
    /// The server's limit per statement, and between two statements of a transaction. Shorter than `deadline`, so that the server
    /// gives up first and the connection survives.
    pub(in crate::store) statement: Duration,
    /// The server's limit for a lock.
    pub(in crate::store) lock: Duration,
}

impl Class {
    pub(in crate::store) const ALL: [Self; 5] = [Self::Send, Self::Write, Self::Read, Self::Background, Self::Watch];

    /// The label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Write => "write",
            Self::Read => "read",
            Self::Background => "background",
            Self::Watch => "watch",
        }
    }

    /// Whether its work commits, and so may wait for a synchronous standby.
    pub(in crate::store) fn commits(self) -> bool {
        matches!(self, Self::Send | Self::Write | Self::Background)
    }

    pub(in crate::store) fn limits(self) -> ClassLimits {
        let [deadline, statement, lock] = match self {
            // Two instances that send into one conversation wait for each other's commit: a few milliseconds.
            Self::Send => [3_200, 2_200, 100],
            Self::Write => [5_000, 4_000, 2_000],
            // Reads conflict only with the locks of migrations.
            Self::Read => [6_000, 4_000, 1_000],
            Self::Background => [10_000, 8_000, 2_000],
            Self::Watch => [5_000, 2_000, 500],
        }
        .map(Duration::from_millis);
        ClassLimits { deadline, statement, lock }
    }

    /// The maximum duration of a use.
    #[cfg(test)]
    pub(crate) fn max_duration(self) -> Duration {
        self.limits().deadline
    }

    pub(super) fn size(self, sizes: &PoolSizes) -> usize {
        match self {
            Self::Send => PoolSizes::SEND,
            Self::Write => sizes.write,
            Self::Read => sizes.read(),
            Self::Background => sizes.background,
            Self::Watch => PoolSizes::WATCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timeouts_precede_client_deadlines() {
        for class in Class::ALL {
            let ClassLimits { deadline, statement, lock } = class.limits();
            assert!(lock < statement && statement < deadline, "{class:?}");
        }
    }
}
