//! `audit verify` and `audit export`: what an operator asks of the trail. Rows pass by, a page at a time.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use shared::audit::{Action, Entry, Who};
use shared::ids::PersonId;

use crate::ServeError;
use crate::audit::anchors::{self, Anchors};
use crate::audit::fhir::audit_event;
use crate::audit::key::AuditKey;
use crate::audit::verify::{Report, Walk};
use crate::config::DatabaseConfig;
use crate::store::{Filter, Record, Store, Trail};

/// Somebody with a shell, as the system calls its account.
#[must_use]
pub fn operator() -> Who {
    let account = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let name = |text: &str| text.parse::<PersonId>().ok();
    name(&account).or_else(|| name("unknown")).map_or(Who::System, Who::Operator)
}

/// Walks along all chains from `first` on, and compares them with the anchors of a file.
///
/// # Errors
/// When the trail or the file cannot be read.
pub async fn verify(
    database: &DatabaseConfig,
    keys: &[AuditKey],
    first: i64,
    earlier: Option<&Path>,
) -> Result<Report, ServeError> {
    let anchors = match earlier {
        Some(path) => anchors::read(BufReader::new(open(path)?)).map_err(|error| explain(path, &error))?,
        None => Anchors::new(),
    };
    let mut trail = Trail::open(database).await?;
    let mut buffer = Vec::new();
    let begin = |heads| Walk::new(keys, heads, first, anchors);
    let walk = trail.walk(first, begin, |walk, Record { chain, n, row, mac }| {
        walk.row(chain, n, row.as_ref(), &mac, &mut buffer);
    });
    Ok(walk.await?.finish())
}

/// Adds where the chains end to a file that is to be kept elsewhere.
///
/// # Errors
/// When it cannot be written.
pub fn keep_anchors(report: &Report, path: &Path) -> Result<(), ServeError> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::options().create(true).append(true).open(path)?);
        for head in report.heads.iter().filter(|head| head.n > 0) {
            writeln!(file, "{}", anchors::line(head))?;
        }
        file.flush()
    };
    write().map_err(|error| explain(path, &error))
}

/// Writes the rows that pass a filter as AuditEvents, one a line. That they were exported is on record before the first of
/// them is written. Returns their number.
///
/// # Errors
/// When the trail cannot be read or added to, or the output ends.
pub async fn export(
    database: &DatabaseConfig,
    key: AuditKey,
    filter: &Filter,
    output: impl Write,
) -> Result<u64, ServeError> {
    let mut entry = Entry::new(operator(), Action::Export, 200);
    entry.location.clone_from(&filter.location);
    entry.detail = Some(describe(filter));
    Store::new(database, key)?.record(&[entry]).await?;
    let mut output = BufWriter::new(output);
    let mut count = 0;
    let mut trail = Trail::open(database).await?;
    trail
        .filtered(filter, |Record { chain, n, row, .. }| {
            let row = row.ok_or_else(|| format!("chain {chain} row {n} cannot be read: run `audit verify`"))?;
            count += 1;
            writeln!(output, "{}", audit_event(chain, n, &row)).map_err(ServeError::from)
        })
        .await?;
    output.flush()?;
    Ok(count)
}

fn describe(filter: &Filter) -> String {
    let Filter { participant, from, to, .. } = filter;
    let mut parts: Vec<String> = participant.iter().map(|who| format!("participant {who}")).collect();
    parts.extend(from.iter().map(|from| format!("from {from}")));
    parts.extend(to.iter().map(|to| format!("to {to}")));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

fn open(path: &Path) -> Result<File, ServeError> {
    File::open(path).map_err(|error| explain(path, &error))
}

fn explain(path: &Path, error: &io::Error) -> ServeError {
    format!("{}: {error}", path.display()).into()
}
