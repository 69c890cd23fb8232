//! What a running stack can be asked to do with its pair of PostgreSQL servers.

use clap::ValueEnum;

/// A command to the pair. *The standby* is the server that is not the primary, whether it runs or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PostgresCommand {
    /// Kill the primary with all its processes (SIGKILL), as if its machine was lost; it is not started again
    KillPrimary,
    /// Make the standby the primary, without a synchronous standby of its own, as failover managers do. A primary that still
    /// runs, frozen say, is left alone
    Promote,
    /// Make the standby from a copy of the primary (pg_basebackup), start it, and wait until commits wait for it
    Rejoin,
    /// Stop the standby; commits wait for it until it is back
    StopStandby,
    /// Start the standby as it is: one that was stopped follows the primary, a former primary is a primary again
    StartStandby,
}

impl PostgresCommand {
    /// Its name on the command line and on the control socket.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
