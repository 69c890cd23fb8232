//! `audit export`: prints rows of the trail as FHIR AuditEvents.

use std::io::{BufWriter, Write};

use shared::contract::audit::Action;
use shared::kit::env::Env;

use super::error::CommandError;
use super::operator;
use crate::audit::fhir::audit_event;
use crate::audit::key::AuditKey;
use crate::audit::row_check;
use crate::config;
use crate::store::settings::DatabaseConfig;
use crate::store::{AuditReader, Filter, Store, StoredRow};

#[tokio::main]
pub(super) async fn export(filter: &Filter) -> Result<(), CommandError> {
    let (database, keys) = config::export(Env::from_process())?;
    let exported = write_events(&database, &keys, filter, std::io::stdout().lock()).await?;
    eprintln!("{} events", exported.events);
    match exported.skipped {
        0 => Ok(()),
        refused => Err(format!("{refused} rows do not verify and were left out; run `audit verify`").into()),
    }
}

/// The result of an export.
#[derive(Default)]
struct ExportSummary {
    /// Rows written.
    events: u64,
    /// Rows left out because they do not verify.
    skipped: u64,
}

/// Writes the rows that match a filter as AuditEvents, one per line. Rows that do not verify are reported and left out. The audit
/// entry of the export is on disk before the first row is written. The first of `keys` is the current one.
async fn write_events(
    database: &DatabaseConfig,
    keys: &[AuditKey],
    filter: &Filter,
    output: impl Write,
) -> Result<ExportSummary, CommandError> {
    let key = keys.first().ok_or("there is no AUDIT_KEY")?;
    let mut entry = operator::entry(Action::Export);
    entry.location.clone_from(&filter.location);
    entry.detail = Some(describe(filter));
    Store::new(database, key.clone())?.record(&[entry]).await?;
    let mut output = BufWriter::new(output);
    let mut summary = ExportSummary::default();
    let mut reader = AuditReader::open(database).await?;
    let snapshot = reader.snapshot().await?;
    let cursor = snapshot.scan_filtered(filter).await?;
    loop {
        let page = snapshot.next_page_with_context(&cursor).await?;
        if page.is_empty() {
            break;
        }
        for (StoredRow { chain, n, row, mac }, context) in page {
            match (row_check::check(keys, (chain, n), row.as_ref(), &mac, context.as_ref()), row) {
                (Ok(()), Some(row)) => {
                    summary.events += 1;
                    writeln!(output, "{}", audit_event(chain, n, &row))?;
                }
                (Ok(()), None) => {}
                (Err(why), _) => {
                    summary.skipped += 1;
                    eprintln!("chain {chain} row {n} {why}");
                }
            }
        }
    }
    output.flush()?;
    Ok(summary)
}

fn describe(filter: &Filter) -> String {
    let Filter { participant, from, to, .. } = filter;
    let mut parts: Vec<String> = participant.iter().map(|who| format!("participant {who}")).collect();
    parts.extend(from.iter().map(|from| format!("from {from}")));
    parts.extend(to.iter().map(|to| format!("to {to}")));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}
