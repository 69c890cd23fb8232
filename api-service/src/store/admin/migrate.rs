//! Migrates the schema. Concurrent runs are safe: one works, the others wait and find nothing to do.
//!
//! Services continue meanwhile. A migration that waits for a table lock blocks every statement behind it, so it waits for
//! [`LOCK_TIMEOUT`] at most. If a reader holds the table longer, for example `pg_dump`, the migration is rolled back and retried.
//! Work that grows with the tables is not part of a migration: [`catch_up`] does it step by step afterwards.

use refinery::Target;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::lock_wait::{LOCK_TIMEOUT, LockWait, is_locked_out, set_lock_timeout};
use super::{first_unread_backfill, grants};
use crate::store::StoreError;
use crate::store::pool::connect::Connector;
use crate::store::settings::{DatabaseConfig, Role};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Key of the advisory lock: "ehrchat" in ASCII.
const ADVISORY_LOCK_KEY: i64 = 0x0065_6872_6368_6174;

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
    let (postgres, connector) = Connector::new(&config.url, config.ca.as_ref())?;
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
    first_unread_backfill::backfill(client, report).await
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
