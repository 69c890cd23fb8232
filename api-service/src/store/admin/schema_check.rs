//! Checks whether a database fits this service: version, tables, columns, rights, and the settings that make a 201 durable.

use tokio_postgres::Row;

use super::grants::{FUNCTION_GRANTS, TABLE_GRANTS};
use super::migrate;
use crate::store::{Store, StoreError};

/// Columns that the statements use. A test compares them with the migrations.
const COLUMNS: &[(&str, &str)] = &[
    (
        "conversations",
        "id location_id user_id contact_id peer_user_id last_seq last_activity_at last_activity_hour user_unread other_unread \
         user_first_unread other_first_unread first_unread_reads",
    ),
    (
        "messages",
        "id location_id sender_user_id receiver_user_id sender_contact_id receiver_contact_id content sent_at read_at is_read \
         conversation_id seq delivered_at client_message_id content_sealed content_key",
    ),
    (
        "outbox",
        "id location_id conversation_id kind message_ids at created_at published_at failed_at failed_reason deferred_at \
         deferred_conversations",
    ),
    ("revocations", "id jti sub issued_before created_at expires_at"),
    ("audit_chains", "id key_id opened_at n seal"),
    (
        "audit_log",
        "chain n at times outcome conversation_id event_id actor action acts_for counterpart location_id message_ids detail \
         request_id source mac text_mac",
    ),
    ("data_keys", "id location_id master_key_id wrapped created_at retired_at"),
    ("outbox_relay", "only_row holder ends_at"),
    ("running_services", "instance master_keys seals started_at seen_at"),
    ("progress", "name position at"),
    (HISTORY_TABLE, "version"),
];

/// Table of applied migrations.
pub(in crate::store) const HISTORY_TABLE: &str = "refinery_schema_history";

/// Per table: whether it exists, and which rights and columns are missing. Parameters: names, rights, columns.
const TABLES: &str = "select t.name, to_regclass(t.name) is not null as found,
        array(select r from unnest(string_to_array(t.rights, ', ')) r
              where not has_table_privilege(to_regclass(t.name), r)) as rights,
        array(select c from unnest(string_to_array(t.columns, ' ')) c
              where not exists (select from pg_attribute a
                                where a.attrelid = to_regclass(t.name) and a.attname = c and not a.attisdropped)) as columns
    from unnest($1::text[], $2::text[], $3::text[]) as t (name, rights, columns)";

/// Functions of $1 that the role cannot call.
const FUNCTIONS: &str = "select f from unnest($1::text[]) f
    where not coalesce(has_function_privilege(to_regprocedure(f), 'execute'), false)";

const SETTINGS: &str = "select current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('session_replication_role'), pg_is_in_recovery(), current_setting('transaction_read_only')";

/// The latest version, and the missing versions of $1.
const VERSION: &str = "select coalesce(max(version), 0),
        array(select v from unnest($1::integer[]) v where v not in (select version from refinery_schema_history) order by v)
    from refinery_schema_history";

impl Store {
    /// Returns the defects of this database, in words for operators.
    ///
    /// # Errors
    /// [`StoreError`] when the check itself fails.
    pub async fn schema_problems(&self) -> Result<Vec<String>, StoreError> {
        let columns_of =
            |table: &str| COLUMNS.iter().find(|(name, _)| *name == table).map_or("", |(_, columns)| columns);
        let (names, rights): (Vec<_>, Vec<_>) = TABLE_GRANTS.iter().copied().unzip();
        let columns: Vec<_> = names.iter().map(|table| columns_of(table)).collect();
        self.with_connection(async |client| {
            let (settings, tables) = (client.prepare_cached(SETTINGS).await?, client.prepare_cached(TABLES).await?);
            let mut problems = setting_problems(&client.query_one(&settings, &[]).await?)?;
            let rows = client.query(&tables, &[&names, &rights, &columns]).await?;
            let mut lacking = Vec::new();
            for row in &rows {
                lacking.extend(missing_objects(row)?);
            }
            let functions = client.prepare_cached(FUNCTIONS).await?;
            for row in client.query(&functions, &[&FUNCTION_GRANTS]).await? {
                let function: &str = row.try_get(0)?;
                lacking.push(format!("the function {function} is missing, or the role may not call it"));
            }
            if lacking.iter().all(|lack| !lack.contains(HISTORY_TABLE)) {
                let needed = migrate::needed_versions();
                let row = client.query_one(VERSION, &[&needed]).await?;
                let (found, missing): (i32, Vec<i32>) = (row.try_get(0)?, row.try_get(1)?);
                if !missing.is_empty() {
                    let needed = needed.iter().max().unwrap_or(&0);
                    problems.push(format!(
                        "the schema has version {found}, this service needs version {needed}; it lacks {missing:?}: run \
                         `api-service migrate`"
                    ));
                }
            }
            problems.append(&mut lacking);
            Ok(problems)
        })
        .await
    }
}

fn setting_problems(row: &Row) -> Result<Vec<String>, StoreError> {
    let text = |place: usize| row.try_get::<_, &str>(place);
    let mut problems = Vec::new();
    if text(0)? != "on" {
        problems.push("fsync is off: a crash of the server could lose what was confirmed".to_owned());
    }
    if matches!(text(1)?, "off" | "local" | "remote_write") {
        problems.push(format!("synchronous_commit is {} in the sessions of this service", text(1)?));
    }
    if text(2)? != "origin" {
        problems.push(format!("session_replication_role is {}: constraints would not hold", text(2)?));
    }
    if row.try_get(3)? {
        problems.push("the server is a standby".to_owned());
    } else if text(4)? != "off" {
        problems.push("transactions are read-only in the sessions of this service".to_owned());
    }
    Ok(problems)
}

fn missing_objects(row: &Row) -> Result<Vec<String>, StoreError> {
    let table: &str = row.try_get("name")?;
    if !row.try_get::<_, bool>("found")? {
        return Ok(vec![format!("the table {table} is missing, or in a schema that the role cannot use")]);
    }
    let (rights, columns): (Vec<&str>, Vec<&str>) = (row.try_get("rights")?, row.try_get("columns")?);
    let mut lacks = Vec::new();
    if !rights.is_empty() {
        lacks.push(format!(
            "the role may not {} on the table {table}: migrate with DATABASE_SERVICE_ROLE",
            rights.join(", ")
        ));
    }
    if !columns.is_empty() {
        lacks.push(format!("the table {table} lacks the column {}", columns.join(", ")));
    }
    Ok(lacks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Columns that the migrations create. Expects lower case and one column per line.
    fn columns_of_migrations() -> BTreeMap<String, BTreeSet<String>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        for path in paths {
            let text = std::fs::read_to_string(path).unwrap();
            let (mut table, mut is_new) = (String::new(), false);
            for line in text.lines().map(|line| line.split("--").next().unwrap().trim()) {
                let words: Vec<&str> = line.split_whitespace().collect();
                match &words[..] {
                    ["create", "table", name, ..] => (table, is_new) = ((*name).to_owned(), true),
                    ["alter", "table", name, rest @ ..] => {
                        (table, is_new) = ((*name).to_owned(), false);
                        if let ["add", "column", column, ..] = rest {
                            tables.entry(table.clone()).or_default().insert((*column).to_owned());
                        }
                    }
                    ["add", "column", column, ..] => {
                        tables.entry(table.clone()).or_default().insert((*column).to_owned());
                    }
                    ["check" | "primary" | "unique" | "constraint" | "foreign" | "generated", ..] => {}
                    [column, _, ..] if is_new && column.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                        tables.entry(table.clone()).or_default().insert((*column).to_owned());
                    }
                    _ if line.starts_with(')') => is_new = false,
                    _ => {}
                }
            }
        }
        tables
    }

    #[test]
    fn checked_columns_match_migrations() {
        let made = columns_of_migrations();
        let named: BTreeMap<String, BTreeSet<String>> = COLUMNS
            .iter()
            .filter(|(table, _)| *table != HISTORY_TABLE)
            .map(|(table, columns)| ((*table).to_owned(), columns.split(' ').map(str::to_owned).collect()))
            .collect();
        assert_eq!(named, made);
        let granted: BTreeSet<&str> = TABLE_GRANTS.iter().map(|(table, _)| *table).collect();
        assert_eq!(granted, COLUMNS.iter().map(|(table, _)| *table).collect());
    }
}
