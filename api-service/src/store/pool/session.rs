//! Settings of a session. Durability and correctness depend on them, and a role or database may set others, so they are set
//! explicitly.

use super::class::ClassLimits;

/// Only where the URL does not set it. Temporary tables come last, so that none hides a table of the schema.
const SEARCH_PATH: &str = "-c search_path=public,pg_temp";

/// Overrides URL, role and database.
///
/// Statements are planned once, often while the tables are nearly empty. PostgreSQL would then scan whole tables for the life of
/// the connection. Every statement here has its index, so scans are disabled. Planning per execution would cost more than half of
/// a send, and JIT even more.
const PLANNER: &str = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_indexscan=on -c plan_cache_mode=force_generic_plan -c jit=off";

/// 201 means on disk. A statement sees what was committed before it. A row security policy causes an error instead of missing
/// rows. Idle pool connections stay open. The server warns of a commit whose wait for a standby was cancelled.
const CORRECTNESS: &str = "-c synchronous_commit=on -c default_transaction_read_only=off \
    -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off -c row_security=off \
    -c idle_session_timeout=0 -c timezone=UTC -c client_min_messages=warning";

/// The `options` of a pool connection, after those of the URL.
pub(in crate::store) fn options(url_options: Option<&str>, limits: ClassLimits) -> String {
    let (statement, lock) = (limits.statement.as_millis(), limits.lock.as_millis());
    format!(
        "{} {PLANNER} -c statement_timeout={statement} -c lock_timeout={lock} \
         -c idle_in_transaction_session_timeout={statement}",
        command_options(url_options)
    )
}

/// The `options` of a command's connection, without time limits.
pub(in crate::store) fn command_options(url_options: Option<&str>) -> String {
    format!("{SEARCH_PATH} {} {CORRECTNESS}", url_options.unwrap_or_default())
}
