//! `audit verify` and `audit export`. Both stream the trail page by page in one snapshot.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::ids::{MessageId, ParticipantId};

use crate::audit::anchors::{self, Anchors};
use crate::audit::fhir::audit_event;
use crate::audit::key::AuditKey;
use crate::audit::message_check::{self, MessageDefect, MessageFinding, StoredText};
use crate::audit::row_check;
use crate::audit::verify::{ChainVerifier, Report, StoredHead};
use crate::envelope::EnvelopeKeys;
use crate::serve::ServeError;
use crate::store::settings::DatabaseConfig;
use crate::store::{AuditReader, Filter, Store, StoredRow, UnsentMessage};

/// How long after a chain was opened earlier chains may still have grown: their lifetime plus a margin.
const CHAIN_OVERLAP_MICROS: i64 = 25 * 3_600 * 1_000_000;

/// The operating system account that runs a command.
#[must_use]
pub fn operator_actor() -> AuditActor {
    let account = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let name = |text: &str| text.parse::<ParticipantId>().ok();
    name(&account).or_else(|| name("unknown")).map_or(AuditActor::System, AuditActor::Operator)
}

/// Inputs of a verification.
pub struct VerifyOptions<'a> {
    /// All keys that chains may have been written with.
    pub keys: &'a [AuditKey],
    /// Opens sealed messages; without it their texts are not compared.
    pub envelope_keys: Option<&'a EnvelopeKeys>,
    /// The first chain to verify; earlier ones are archived.
    pub from_chain: i64,
    /// A file of anchors.
    pub anchors: Option<&'a Path>,
}

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verification {
    /// The result for the chains.
    pub report: Report,
    /// `None` when the database has no table of messages.
    pub messages: Option<MessageReport>,
}

/// The result for messages.
#[derive(Debug, Default)]
pub struct MessageReport {
    /// Messages compared with their audit rows.
    pub compared: u64,
    /// Messages that differ from their rows, or have none.
    pub defects: u64,
    /// Sealed messages that were not opened.
    pub unopened: u64,
    /// Messages older than the chains that were verified.
    pub older: u64,
}

impl Verification {
    /// Number of defects.
    #[must_use]
    pub fn defects(&self) -> u64 {
        self.report.defects + self.messages.as_ref().map_or(0, |messages| messages.defects)
    }
}

/// Verifies all chains, compares them with the anchors, and compares messages with their rows. Reports each finding as it is
/// found.
///
/// # Errors
/// When the trail or the file cannot be read.
pub async fn verify(
    database: &DatabaseConfig,
    options: &VerifyOptions<'_>,
    mut report_line: impl FnMut(&dyn Display),
) -> Result<Verification, ServeError> {
    let anchors = match options.anchors {
        Some(path) => anchors::parse(BufReader::new(open(path)?)).map_err(|error| explain(path, &error))?,
        None => Anchors::new(),
    };
    let mut reader = AuditReader::open(database).await?;
    let snapshot = reader.snapshot().await?;
    let heads = snapshot.heads().await?;
    let covered_from = covered_from(&heads, options.from_chain);
    let mut messages = snapshot.has_messages().await?.then(MessageReport::default);
    if let (Some(_), Some(envelope_keys)) = (&messages, options.envelope_keys) {
        snapshot.detect_complete(envelope_keys).await?;
    }
    let mut verifier = ChainVerifier::new(options.keys, heads, options.from_chain, anchors);
    let cursor = snapshot.scan().await?;
    let mut buffer = Vec::new();
    loop {
        let page = snapshot.next_page(&cursor).await?;
        if page.is_empty() {
            break;
        }
        let mut sent = Vec::new();
        for StoredRow { chain, n, row, mac } in page {
            let key = verifier.verify_row(chain, n, row.as_ref(), &mac, &mut buffer);
            if let Some((key, row)) = key.zip(row)
                && let Some(id) = message_check::sent_message_id(&row)
            {
                sent.push((id, key, row));
            }
        }
        verifier.take_findings().iter().for_each(|finding| report_line(finding));
        if let Some(report) = &mut messages {
            let ids: Vec<MessageId> = sent.iter().map(|(id, ..)| *id).collect();
            let stored = snapshot.messages(&ids, options.envelope_keys).await?;
            for (id, key, row) in &sent {
                let stored = stored.get(id);
                report.compared += 1;
                report.unopened += u64::from(stored.is_some_and(|stored| stored.text == StoredText::Sealed));
                if let Some(defect) = message_check::compare(key, row, stored) {
                    report.defects += 1;
                    report_line(&MessageFinding { id: *id, defect });
                }
            }
        }
    }
    if let Some(report) = &mut messages {
        let is_complete = options.envelope_keys.is_some_and(EnvelopeKeys::is_complete);
        let cursor = snapshot.scan_unsent().await?;
        loop {
            let page = snapshot.next_unsent(&cursor).await?;
            if page.is_empty() {
                break;
            }
            for UnsentMessage { id, sent_at, is_plain } in page {
                let defect = match () {
                    () if is_plain && is_complete => MessageDefect::UnexpectedPlain,
                    () if sent_at >= covered_from => MessageDefect::NotSent,
                    () => {
                        report.older += 1;
                        continue;
                    }
                };
                report.defects += 1;
                report_line(&MessageFinding { id, defect });
            }
        }
    }
    let mut report = verifier.finish();
    std::mem::take(&mut report.findings).iter().for_each(|finding| report_line(finding));
    Ok(Verification { report, messages })
}

/// The time, in microseconds since 1970, from which every message must have a row in the chains present. A chain grows for a day,
/// so archived chains may cover messages up to then.
fn covered_from(heads: &[StoredHead], first: i64) -> i64 {
    let begun = heads.iter().filter(|head| head.chain >= first.max(1)).min_by_key(|head| head.chain);
    let overlap = if first > 1 { CHAIN_OVERLAP_MICROS } else { 0 };
    begun.map_or(i64::MIN, |head| head.opened_at.saturating_add(overlap))
}

/// Appends the ends of the chains to a file, which belongs outside the database's reach.
///
/// # Errors
/// When it cannot be written.
pub fn append_anchors(Verification { report, .. }: &Verification, path: &Path) -> Result<(), ServeError> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::options().create(true).append(true).open(path)?);
        for head in report.heads.iter().filter(|head| head.n > 0) {
            writeln!(file, "{}", anchors::format_line(head))?;
        }
        file.flush()
    };
    write().map_err(|error| explain(path, &error))
}

/// The result of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportSummary {
    /// Rows written.
    pub events: u64,
    /// Rows left out because they do not verify.
    pub skipped: u64,
}

/// Writes the rows that match a filter as AuditEvents, one per line. Rows that do not verify are reported and left out. The audit
/// entry of the export is on disk before the first row is written. The first of `keys` is the current one.
///
/// # Errors
/// When the trail cannot be read or extended, or the output ends.
pub async fn export(
    database: &DatabaseConfig,
    keys: &[AuditKey],
    filter: &Filter,
    output: impl Write,
    mut report_line: impl FnMut(&dyn Display),
) -> Result<ExportSummary, ServeError> {
    let key = keys.first().ok_or("there is no AUDIT_KEY")?;
    let mut entry = AuditEntry::new(operator_actor(), Action::Export, 200);
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
                    report_line(&format_args!("chain {chain} row {n} {why}"));
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

fn open(path: &Path) -> Result<File, ServeError> {
    File::open(path).map_err(|error| explain(path, &error))
}

fn explain(path: &Path, error: &io::Error) -> ServeError {
    format!("{}: {error}", path.display()).into()
}
