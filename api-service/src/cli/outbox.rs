//! `outbox list` and `outbox retry`, for rows that could not be rebuilt. Both write an audit entry; neither reads content.

use std::io::{BufWriter, Write};

use shared::contract::audit::Action;
use shared::kit::env::Env;
use shared::kit::timestamp::timestamp;

use super::error::CommandError;
use super::operator;
use crate::config;
use crate::store::{FailedRow, Store};

/// Rows per page.
const PAGE: i64 = 1_000;
/// Ids that an audit entry lists.
const NAMED: usize = 20;

#[tokio::main]
pub(super) async fn list() -> Result<(), CommandError> {
    let (database, key) = config::audit(Env::from_process())?;
    let count = print_failed(&Store::new(&database, key)?, std::io::stdout().lock()).await?;
    eprintln!("{count} rows");
    Ok(())
}

#[tokio::main]
pub(super) async fn retry(ids: Option<&[i64]>) -> Result<(), CommandError> {
    let (database, key) = config::audit(Env::from_process())?;
    let count = requeue(&Store::new(&database, key)?, ids).await?;
    println!("requeued {count} rows; rows that still cannot be rebuilt fail again");
    Ok(())
}

/// Prints the failed rows, oldest first. Returns their number.
async fn print_failed(store: &Store, output: impl Write) -> Result<usize, CommandError> {
    store.record(&[operator::entry(Action::OutboxList)]).await?;
    let mut output = BufWriter::new(output);
    let (mut after, mut count) = (i64::MIN, 0);
    loop {
        let rows = store.failed_rows(after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        count += rows.len();
        for row in &rows {
            writeln!(output, "{}", line(row))?;
        }
    }
    output.flush()?;
    Ok(count)
}

/// Requeues failed rows: these, or all. Returns their number.
async fn requeue(store: &Store, ids: Option<&[i64]>) -> Result<u64, CommandError> {
    let mut entry = operator::entry(Action::OutboxRetry);
    entry.detail = Some(match ids {
        None => "all".to_owned(),
        Some(ids) if ids.len() > NAMED => format!("{} rows", ids.len()),
        Some(ids) => ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" "),
    });
    Ok(store.retry_failed(ids, &entry).await?)
}

/// A row in tab-separated columns; `-` for absent values.
fn line(row: &FailedRow) -> String {
    let nothing = || "-".to_owned();
    [
        row.id.to_string(),
        row.reason.clone(),
        timestamp(row.failed_at),
        timestamp(row.created_at),
        row.location.clone().unwrap_or_else(nothing),
        row.conversation.map_or_else(nothing, |id| id.to_string()),
        row.kind.clone(),
        row.message_ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    ]
    .join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;
    use uuid::Uuid;

    #[test]
    fn failed_row_prints_as_columns() {
        let row = FailedRow {
            id: 7,
            kind: "message".to_owned(),
            reason: "message_missing".to_owned(),
            failed_at: datetime!(2026-11-30 8:00 UTC),
            created_at: datetime!(2026-11-30 7:00 UTC),
            location: None,
            conversation: None,
            message_ids: vec![Uuid::from_u128(1)],
        };
        let expected = "7\tmessage_missing\t2026-11-30T08:00:00.000000Z\t2026-11-30T07:00:00.000000Z\t-\t-\tmessage\t\
                        00000000-0000-0000-0000-000000000001";
        assert_eq!(line(&row), expected);
    }
}
