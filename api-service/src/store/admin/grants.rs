//! Rights of the service's role. They are fewer than those of the migrating role: it owns no table, cannot change or remove audit
//! rows, and cannot delete messages.

use tokio_postgres::Client;

use crate::store::StoreError;
use crate::store::settings::Role;

/// Rights per table. Tables that are not listed are out of reach.
pub(in crate::store) const TABLE_GRANTS: &[(&str, &str)] = &[
    ("conversations", "select, insert, update"),
    ("messages", "select, insert, update"),
    ("revocations", "select, insert"),
    ("outbox", "select, insert, update, delete"),
    ("outbox_relay", "select, update"),
    ("audit_chains", "select, insert, update"),
    ("audit_log", "select, insert"),
    ("data_keys", "select, insert"),
    ("running_services", "select, insert, update, delete"),
    ("progress", "select"),
    // The version of the schema.
    ("refinery_schema_history", "select"),
];

/// Functions that do for the service what its role may not.
pub(in crate::store) const FUNCTION_GRANTS: &[&str] = &["forget_ended_revocations(integer)"];

/// Grants `role` exactly these rights. Idempotent.
pub(in crate::store) async fn grant(client: &mut Client, role: &Role) -> Result<(), StoreError> {
    let schema: String = client.query_one("select quote_ident(current_schema())", &[]).await?.try_get(0)?;
    let role = role.as_str();
    let mut statements = vec![
        format!("revoke all on all tables in schema {schema} from \"{role}\""),
        format!("revoke all on schema {schema} from \"{role}\""),
        format!("grant usage on schema {schema} to \"{role}\""),
    ];
    // A schema of an earlier version lacks some tables.
    let names: Vec<&str> = TABLE_GRANTS.iter().map(|(table, _)| *table).collect();
    let query = "select name from unnest($1::text[]) name where to_regclass(name) is not null";
    let rows = client.query(query, &[&names]).await?;
    let there = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    let needed = TABLE_GRANTS.iter().filter(|(table, _)| there.iter().any(|name| name == table));
    statements.extend(needed.map(|(table, rights)| format!("grant {rights} on {schema}.{table} to \"{role}\"")));
    let query = "select name from unnest($1::text[]) name where to_regprocedure(name) is not null";
    let rows = client.query(query, &[&FUNCTION_GRANTS]).await?;
    let called = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    statements.extend(called.iter().map(|called| format!("grant execute on function {schema}.{called} to \"{role}\"")));
    let transaction = client.transaction().await?;
    transaction.batch_execute(&statements.join(";\n")).await?;
    Ok(transaction.commit().await?)
}
