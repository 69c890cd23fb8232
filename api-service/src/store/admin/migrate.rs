//! Brings the schema up to date. Many instances may ask at once: one works, the others wait and find nothing to do.
//!
//! Sends go on meanwhile. Whoever waits for a lock on a table makes everybody behind it wait as well, so a migration waits for
//! [`LOCK_TIMEOUT`] at most; when somebody reads the table for longer, `pg_dump` say, it is undone and tried again. Work that takes
//! as long as the tables are large is no migration: it is done behind them ([`catch_up`]), beside running services, and goes on
//! where it was when it is done again.

use std::time::Duration;

use refinery::Target;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::grants::{self, Role};
use crate::store::StoreError;
use crate::store::pool::connect::Connector;
use crate::store::settings::DatabaseConfig;

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Key of the advisory lock: "ehrchat" in ASCII.
const ADVISORY_LOCK_KEY: i64 = 0x0065_6872_6368_6174;
/// Longest wait for a lock on a table. Sends that came behind it wait as long, so it is shorter than what they bear.
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// Between two attempts. Sends have twenty times as long as they may be held up.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between two lines about who is waited for.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// PostgreSQL ends an autovacuum that is in the way by itself, but only for whoever has waited for `deadlock_timeout`, a second. That is
/// more than sends should be held up, so it is asked to, and where the role may not ask, one try in a minute waits for as long.
const LONG_LOCK_TIMEOUT: Duration = Duration::from_millis(1_500);
const LONG_ATTEMPT_INTERVAL: Duration = Duration::from_secs(60);

/// The versions of the schema that this service is made for.
pub(in crate::store) fn needed_versions() -> Vec<i32> {
    embedded::migrations::runner().get_migrations().iter().map(|migration| migration.version()).collect()
}

/// Constraints that a migration has added without looking at what was there before. To look reads the whole table, and holds
/// up nobody.
const TO_VALIDATE: &[(&str, &str)] = &[
    ("audit_chains", "audit_chains_number"),
    ("audit_log", "audit_log_place"),
    ("messages", "messages_content_plain_or_sealed"),
];

/// Who reads for so long that a migration waits. What it asks stays out: a query may hold anything.
/// What runs for no role is autovacuum; whoever is not allowed to see more knows it by that.
const BLOCKING_SESSIONS: &str = "select a.pid, coalesce(a.usename::text, '?'), coalesce(a.application_name, '?'),
        string_agg(distinct l.relation::regclass::text, ', '), a.usesysid is null
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.granted and l.relation in (
              select oid from pg_class where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')
          )
      and a.datname = current_database() and a.pid <> pg_backend_pid()
      and coalesce(a.xact_start < clock_timestamp() - interval '1 second', true)
    group by a.pid, a.usesysid, a.usename, a.application_name, a.xact_start order by a.xact_start limit 3";

/// Runs the migrations that the database does not have, up to version `last` if one is given, and then grants `service`, the role
/// that serves, what it needs. `tell` is told what it waits for. Returns their names.
///
/// # Errors
/// [`StoreError`]; a migration that fails leaves nothing behind.
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
        catch_up(&client, &mut report).await?;
    }
    // The lock ends with the session.
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

/// Does what takes long: each step by itself, and none that is done already.
async fn catch_up(client: &Client, report: &mut impl FnMut(&str)) -> Result<(), StoreError> {
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
    Ok(())
}

/// Whether somebody else's lock stood in the way for too long, somewhere below an error.
fn is_locked_out(error: &(dyn std::error::Error + 'static)) -> bool {
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

/// Waits between two attempts, and says for whom now and then.
#[derive(Default)]
struct LockWait {
    reported_at: Option<Instant>,
    /// When a try waited for long, last.
    long_attempt_at: Option<Instant>,
}

impl LockWait {
    async fn wait(&mut self, client: &Client, report: &mut impl FnMut(&str)) -> Result<(), StoreError> {
        // Who has just begun is most likely gone by the next try, and is not worth a word.
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

    /// Asks autovacuums to end; they begin again later. Returns whether the next try must wait for PostgreSQL to do so: the role may not
    /// ask.
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

/// With the cause: which migration failed is of little use without why.
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
