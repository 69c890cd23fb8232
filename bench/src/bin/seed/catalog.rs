//! The schema as PostgreSQL's catalog has it: what is taken away while rows are loaded comes back by its own definition.

use anyhow::Result;
use tokio_postgres::{Client, Transaction};

/// Tables that are filled.
pub(crate) const TABLES: [&str; 2] = ["conversations", "messages"];

/// Something that was dropped.
pub(crate) struct Removed {
    /// For the progress output.
    pub(crate) name: String,
    /// The statement that makes it again.
    pub(crate) definition: String,
}

/// Foreign keys, then keys, then other indexes: of the tables that are filled.
const PARTS: &str = "
    select 1 as rank, k.conname::text as name, 'alter table ' || k.conrelid::regclass || ' drop constraint ' || quote_ident(k.conname) as removal,
           'alter table ' || k.conrelid::regclass || ' add constraint ' || quote_ident(k.conname) || ' '
               || pg_get_constraintdef(k.oid) as definition
    from pg_constraint k where k.contype = 'f' and k.conrelid = any ($1::text[]::regclass[])
    union all
    select 2, k.conname::text, 'alter table ' || k.conrelid::regclass || ' drop constraint ' || quote_ident(k.conname),
           'alter table ' || k.conrelid::regclass || ' add constraint ' || quote_ident(k.conname) || ' '
               || pg_get_constraintdef(k.oid)
    from pg_constraint k where k.contype in ('p', 'u') and k.conrelid = any ($1::text[]::regclass[])
    union all
    select 3, i.indexrelid::regclass::text, 'drop index ' || i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
    from pg_index i
    where i.indrelid = any ($1::text[]::regclass[])
      and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u'))
    order by 1, 2";

/// Drops what costs time at every row. Returned in the order in which it must be made again.
pub(crate) async fn take_away(transaction: &Transaction<'_>) -> Result<Vec<Removed>> {
    let mut removed = Vec::new();
    for row in transaction.query(PARTS, &[&TABLES.as_slice()]).await? {
        transaction.batch_execute(row.try_get("removal")?).await?;
        removed.push(Removed { name: row.try_get("name")?, definition: row.try_get("definition")? });
    }
    // A foreign key needs the key that it points to, and its check is fastest when the index is there.
    let foreign_keys = removed.iter().take_while(|part: &&Removed| part.definition.contains(" FOREIGN KEY ")).count();
    removed.rotate_left(foreign_keys);
    Ok(removed)
}

/// Columns, constraints, indexes, triggers and options of every table, as text.
pub(crate) async fn fingerprint(client: &Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            "with tables as (
                 select c.oid, c.relname, c.reloptions from pg_class c
                 where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
             )
             select concat_ws(' ', t.relname, 'options', t.reloptions::text) from tables t
             union all
             select concat_ws(' ', t.relname, 'column', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                              a.attgenerated, a.attidentity, a.attcollation, a.attstorage, pg_get_expr(d.adbin, d.adrelid))
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
                  left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
             union all
             select concat_ws(' ', t.relname, 'constraint', k.conname, k.convalidated, pg_get_constraintdef(k.oid))
             from tables t join pg_constraint k on k.conrelid = t.oid
             union all
             select concat_ws(' ', t.relname, 'index', i.indisvalid, i.indisprimary, pg_get_indexdef(i.indexrelid))
             from tables t join pg_index i on i.indrelid = t.oid
             union all
             select concat_ws(' ', t.relname, 'trigger', g.tgfoid::regproc, g.tgenabled, g.tgtype)
             from tables t join pg_trigger g on g.tgrelid = t.oid
             order by 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
