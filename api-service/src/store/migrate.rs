//! Brings the schema up to date. Many instances may ask at once: one works, the others wait and find nothing to do.

use super::StoreError;
use super::connect::Connector;
use super::grants::{self, Role};
use crate::config::DatabaseConfig;

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Key of the advisory lock: "ehrchat" in ASCII.
const LOCK: i64 = 0x0065_6872_6368_6174;

/// Runs the migrations that the database does not have, and then grants `service`, the role that serves, what it needs.
/// Returns their names.
///
/// # Errors
/// [`StoreError`]; a migration that fails leaves nothing behind.
pub async fn migrate(config: &DatabaseConfig, service: Option<&Role>) -> Result<Vec<String>, StoreError> {
    let (postgres, connector) = Connector::new(config)?;
    let (mut client, connection) = connector.open_for_command(postgres, "api-service migrate").await?;
    client.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let report = embedded::migrations::runner().run_async(&mut client).await.map_err(StoreError::internal)?;
    let names = report.applied_migrations().iter().map(ToString::to_string).collect();
    if let Some(role) = service {
        grants::grant(&mut client, role).await?;
    }
    // The lock ends with the session.
    drop(client);
    connection.await.map_err(StoreError::internal)?;
    Ok(names)
}
