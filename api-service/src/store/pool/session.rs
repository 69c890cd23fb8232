//! How a session with PostgreSQL is set up. Whatever durability or correctness rests on is said here, because a role or a
//! database may say otherwise.

use super::ClassLimits;

/// Only where the URL says nothing of the kind. Temporary tables come last, so that none stands in for one of ours.
const SEARCH_PATH: &str = "-c search_path=public,pg_temp";

/// Whatever the URL, the role or the database says.
///
/// Statements are planned once and for all, often when the tables are as good as empty; then PostgreSQL would read them whole,
/// for as long as the connection lives. Every statement of ours has its index. To plan anew for each set of values costs more
/// than half of a send, and to compile what reads a few rows even more.
const PLANNER: &str = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_indexscan=on -c plan_cache_mode=force_generic_plan -c jit=off";

/// 201 means on disk; a transaction sees what was committed before each statement; a policy on rows is an error, never a row
/// that is missing; idle connections of the pool stay.
const CORRECTNESS: &str = "-c synchronous_commit=on -c default_transaction_read_only=off \
    -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off -c row_security=off \
    -c idle_session_timeout=0 -c timezone=UTC";

/// The `options` of a connection, behind those of the URL.
pub(in crate::store) fn options(url_options: Option<&str>, limits: ClassLimits) -> String {
    let (statement, lock) = (limits.statement.as_millis(), limits.lock.as_millis());
    format!(
        "{} {PLANNER} -c statement_timeout={statement} -c lock_timeout={lock} \
         -c idle_in_transaction_session_timeout={statement}",
        command_options(url_options)
    )
}

/// The same for a command that may take its time.
pub(in crate::store) fn command_options(url_options: Option<&str>) -> String {
    format!("{SEARCH_PATH} {} {CORRECTNESS}", url_options.unwrap_or_default())
}
