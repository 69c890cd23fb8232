//! Counts again what was loaded, and weighs it.

use anyhow::{Result, ensure};
use tokio_postgres::Client;

use crate::shape::Shape;

/// Conversations that are counted again, besides the longest.
const SAMPLE: i64 = 1_000;

/// Whether `last_seq`, the unread counters and the first unread messages of a sample of conversations agree with their messages, and every message was
/// loaded.
pub(crate) async fn consistency(client: &Client, shape: &Shape) -> Result<()> {
    let row = client
        .query_one(
            "with sample as (
                 (select * from conversations order by last_seq desc limit 1)
                 union all
                 (select * from conversations where user_unread + other_unread > 0 order by id limit $1)
                 union all
                 (select * from conversations where user_unread + other_unread = 0 order by id limit $1)
             ), counted as (
                 select c.id,
                        count(*) = c.last_seq and max(m.seq) = c.last_seq and min(m.seq) = 1
                        and max(m.sent_at) = c.last_activity_at
                        and count(*) filter (where not m.is_read and m.receiver_user_id is not distinct from c.user_id)
                            = c.user_unread
                        and count(*) filter (where not m.is_read and m.receiver_user_id is distinct from c.user_id)
                            = c.other_unread
                        and min(m.seq) filter (where not m.is_read and m.receiver_user_id is not distinct from c.user_id)
                            is not distinct from c.user_first_unread
                        and min(m.seq) filter (where not m.is_read and m.receiver_user_id is distinct from c.user_id)
                            is not distinct from c.other_first_unread
                        and count(*) filter (where m.is_read) = c.first_unread_reads
                        and bool_and(m.location_id = c.location_id) as is_right
                 from sample c join messages m on m.conversation_id = c.id
                 group by c.id, c.location_id, c.user_id, c.last_seq, c.last_activity_at, c.user_unread, c.other_unread,
                     c.user_first_unread, c.other_first_unread, c.first_unread_reads
             )
             select count(*), count(*) filter (where is_right) from counted",
            &[&SAMPLE],
        )
        .await?;
    let (counted, right): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    ensure!(counted > 0, "no conversation was found to be counted again");
    ensure!(counted == right, "{} of {counted} conversations do not agree with their messages", counted - right);
    let row = client
        .query_one("select sum(last_seq)::bigint, (select count(*) from messages) from conversations", &[])
        .await?;
    let (counted, there): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    ensure!(
        counted == there && there == shape.order.len() as i64,
        "{there} messages are there, conversations tell of {counted}"
    );
    Ok(())
}

/// Prints the size of each table and index.
pub(crate) async fn sizes(client: &Client, messages: u32) -> Result<()> {
    let rows = client
        .query(
            "select c.relname::text, pg_table_size(c.oid) from pg_class c
             where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'i')
               and (c.relname like 'messages%' or c.relname like 'conversations%')
             order by c.relname",
            &[],
        )
        .await?;
    for row in &rows {
        let (name, bytes): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (mib, each) = (bytes as f64 / 1_048_576.0, bytes as f64 / f64::from(messages));
        println!("{name:28} {mib:9.1} MiB {each:8.1} bytes a message");
    }
    Ok(())
}
