//! Waits for locks that other sessions hold, without delaying the sends behind it, and reports the sessions that hold them.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// Maximum wait for a table lock. Sends behind it wait as long.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// Between two attempts: 20 times as long as sends may be blocked.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between two reports of blockers.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// PostgreSQL cancels a blocking autovacuum only for a waiter that has waited for `deadlock_timeout` (1 s). That would block
/// sends too long, so autovacuum is cancelled explicitly. Where the role may not do that, one attempt per minute waits this long.
const LONG_LOCK_TIMEOUT: Duration = Duration::from_millis(1_500);
const LONG_ATTEMPT_INTERVAL: Duration = Duration::from_secs(60);

/// Sessions that block a migration. Their queries stay out, because they may contain data. A process without a role is an
/// autovacuum.
const BLOCKING_SESSIONS: &str = "select a.pid, coalesce(a.usename::text, '?'), coalesce(a.application_name, '?'),
        string_agg(distinct l.relation::regclass::text, ', '), a.usesysid is null
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.granted and l.relation in (
              select oid from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
          )
      and a.datname = current_database() and a.pid <> pg_backend_pid()
      and coalesce(a.xact_start < clock_timestamp() - interval '1 second', true)
    group by a.pid, a.usesysid, a.usename, a.application_name, a.xact_start order by a.xact_start limit 3";

/// Whether an error was caused by a lock of another session.
pub(super) fn is_locked_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let code = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
        if matches!(code, Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED)) {
            return true;
        }
        cause = error.source();
    }
    false
}

pub(super) async fn set_lock_timeout(client: &Client, lock_timeout: Duration) -> Result<(), StoreError> {
    Ok(client.batch_execute(&format!("set lock_timeout = {}", lock_timeout.as_millis())).await?)
}

/// Waits between attempts, and reports the blockers now and then.
#[derive(Default)]
pub(super) struct LockWait {
    reported_at: Option<Instant>,
    /// When the last long attempt was made.
    long_attempt_at: Option<Instant>,
}

impl LockWait {
    pub(super) async fn wait(&mut self, client: &Client, report: &mut impl FnMut(&str)) -> Result<(), StoreError> {
        // Most blockers are gone by the next attempt and need no report.
        sleep(RETRY_DELAY).await;
        let rows = client.query(BLOCKING_SESSIONS, &[]).await?;
        let (mut blockers, mut autovacuums) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            let (pid, role, program): (i32, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let tables: &str = row.try_get(3)?;
            if row.try_get(4)? {
                autovacuums.push(pid);
                blockers.push(format!("process {pid} (autovacuum) holds {tables}"));
            } else {
                blockers.push(format!("process {pid} ({program}, role {role}) holds {tables}"));
            }
        }
        let is_long = !autovacuums.is_empty()
            && autovacuums.len() == rows.len()
            && self.needs_long_attempt(client, &autovacuums).await?;
        set_lock_timeout(client, if is_long { LONG_LOCK_TIMEOUT } else { LOCK_TIMEOUT }).await?;
        let blockers = if blockers.is_empty() { "many short transactions".to_owned() } else { blockers.join("; ") };
        self.report(&blockers, report);
        Ok(())
    }

    fn report(&mut self, blockers: &str, report: &mut impl FnMut(&str)) {
        if self.reported_at.is_none_or(|reported_at| reported_at.elapsed() >= LOG_INTERVAL) {
            self.reported_at = Some(Instant::now());
            report(&format!("waiting for a lock, and trying again until it is free: {blockers}"));
        }
    }

    /// Cancels blocking autovacuums, which restart later. Returns whether the next attempt must wait long, because the role may
    /// not cancel them.
    async fn needs_long_attempt(&mut self, client: &Client, autovacuums: &[i32]) -> Result<bool, StoreError> {
        match client
            .execute("select pg_cancel_backend(pid) from unnest($1::integer[]) as x (pid)", &[&autovacuums])
            .await
        {
            Ok(_) => return Ok(false),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(error) => return Err(error.into()),
        }
        let is_due = self.long_attempt_at.is_none_or(|tried| tried.elapsed() >= LONG_ATTEMPT_INTERVAL);
        if is_due {
            self.long_attempt_at = Some(Instant::now());
        }
        Ok(is_due)
    }
}
