//! Migrates the schema. Concurrent runs are safe: one works, the others wait and find nothing to do.
//!
//! Services continue meanwhile. A migration that waits for a table lock blocks every statement behind it, so it waits for
//! [`LOCK_TIMEOUT`] at most. If a reader holds the table longer, for example `pg_dump`, the migration is rolled back and retried.
//! Work that grows with the tables is not part of a migration: [`catch_up`] does it step by step afterwards.

use std::time::Duration;

use refinery::Target;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{first_unread_backfill, grants};
use crate::store::StoreError;
use crate::store::pool::connect::Connector;
use crate::store::settings::{DatabaseConfig, Role};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Key of the advisory lock: "ehrchat" in ASCII.
const ADVISORY_LOCK_KEY: i64 = 0x0065_6872_6368_6174;
/// Maximum wait for a table lock. Sends behind it wait as long.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// Between two attempts: 20 times as long as sends may be blocked.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between two reports of blockers.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// PostgreSQL cancels a blocking autovacuum only for a waiter that has waited for `deadlock_timeout` (1 s). That would block
/// sends too long, so autovacuum is cancelled explicitly. Where the role may not do that, one attempt per minute waits this long.
const LONG_LOCK_TIMEOUT: Duration = Duration::from_millis(1_500);
const LONG_ATTEMPT_INTERVAL: Duration = Duration::from_secs(60);

/// Versions of the schema that this build needs.
pub(in crate::store) fn needed_versions() -> Vec<i32> {
    embedded::migrations::runner().get_migrations().iter().map(|migration| migration.version()).collect()
}

/// Constraints that migrations added as `not valid`. Validating reads the whole table and blocks nothing.
const TO_VALIDATE: &[(&str, &str)] = &[
    ("audit_chains", "audit_chains_number"),
    ("audit_log", "audit_log_place"),
    ("messages", "messages_content_plain_or_sealed"),
];

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

/// Applies missing migrations, up to version `last` if given, then grants the role `service` its rights. Reports blockers through
/// `report`. Returns the names of the migrations.
///
/// # Errors
/// [`StoreError`]; a failed migration leaves no changes.
pub async fn migrate(
    config: &DatabaseConfig,
    service: Option<&Role>,
    last: Option<u32>,
    mut report: impl FnMut(&str),
) -> Result<Vec<String>, StoreError> {
    let (postgres, connector) = Connector::new(config)?;
    let (mut client, connection) = connector.open_for_command(postgres, "api-service migrate").await?;
    client.execute("select pg_advisory_lock($1)", &[&ADVISORY_LOCK_KEY]).await?;
    set_lock_timeout(&client, LOCK_TIMEOUT).await?;
    let names = run(&mut client, last, &mut report).await?;
    if let Some(role) = service {
        grants::grant(&mut client, role).await?;
    }
    if last.is_none() {
        catch_up(&mut client, &mut report).await?;
    }
    // The session ends, and the advisory lock with it.
    drop(client);
    connection.await.map_err(StoreError::internal)?;
    Ok(names)
}

async fn run(client: &mut Client, last: Option<u32>, report: &mut impl FnMut(&str)) -> Result<Vec<String>, StoreError> {
    let target = last.map_or(Target::Latest, |last| Target::Version(last.try_into().unwrap_or(i32::MAX)));
    let (mut names, mut lock_wait) = (Vec::new(), LockWait::default());
    loop {
        let done = embedded::migrations::runner().set_target(target).run_async(client).await;
        let migrated = done.as_ref().map_or_else(refinery::Error::report, Some);
        names.extend(migrated.into_iter().flat_map(|report| report.applied_migrations()).map(ToString::to_string));
        match done {
            Ok(_) => return Ok(names),
            Err(error) if is_locked_out(&error) => lock_wait.wait(client, report).await?,
            Err(error) => return Err(failed(&error)),
        }
    }
}

/// Does the work that grows with the tables. Each step is separate and skipped when done.
async fn catch_up(client: &mut Client, report: &mut impl FnMut(&str)) -> Result<(), StoreError> {
    let mut lock_wait = LockWait::default();
    for (table, constraint) in TO_VALIDATE {
        let is_open = "select exists (
            select from pg_constraint where conrelid = to_regclass($1) and conname = $2 and not convalidated
        )";
        if !client.query_one(is_open, &[table, constraint]).await?.try_get::<_, bool>(0)? {
            continue;
        }
        loop {
            let done = client.batch_execute(&format!("alter table {table} validate constraint {constraint}")).await;
            match done {
                Ok(()) => break,
                Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => {
                    report(&format!(
                        "{table} holds rows that no service has written ({constraint}): run `audit verify`"
                    ));
                    break;
                }
                Err(error) if is_locked_out(&error) => lock_wait.wait(client, report).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    first_unread_backfill::backfill(client, &mut lock_wait, report).await
}

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

async fn set_lock_timeout(client: &Client, lock_timeout: Duration) -> Result<(), StoreError> {
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
        if self.reported_at.is_none_or(|reported_at| reported_at.elapsed() >= LOG_INTERVAL) {
            self.reported_at = Some(Instant::now());
            let blockers = if blockers.is_empty() { "many short transactions".to_owned() } else { blockers.join("; ") };
            report(&format!("waiting for a lock, and trying again until it is free: {blockers}"));
        }
        Ok(())
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

/// The error with its cause.
fn failed(error: &refinery::Error) -> StoreError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        match cause.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::as_db_error) {
            // Without the server's DETAIL, which may quote a row.
            Some(refused) => {
                text.push_str(&format!(": {} {}", refused.code().code(), refused.message()));
                break;
            }
            None => text.push_str(&format!(": {cause}")),
        }
        source = cause.source();
    }
    StoreError::internal(text)
}
