//! `audit verify`: verifies all chains, compares them with anchors, and compares messages with their rows. Streams the trail page
//! by page in one snapshot.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use shared::contract::ids::MessageId;
use shared::kit::env::Env;

use super::error::CommandError;
use crate::audit::anchors::{self, Anchors};
use crate::audit::key::AuditKey;
use crate::audit::message_check::{self, MessageDefect, MessageFinding, StoredText};
use crate::audit::verify::{ChainVerifier, Report, StoredHead};
use crate::config;
use crate::envelope::EnvelopeKeys;
use crate::store::settings::DatabaseConfig;
use crate::store::{AuditReader, StoredRow, UnsentMessage};

/// How long after a chain was opened earlier chains may still have grown: their lifetime plus a margin.
const CHAIN_OVERLAP_MICROS: i64 = 25 * 3_600 * 1_000_000;

/// Returns whether no defect was found.
#[tokio::main]
pub(super) async fn verify(
    anchors: Option<&Path>,
    write_anchors: Option<&Path>,
    first: i64,
) -> Result<bool, CommandError> {
    let (database, keys, ring) = config::verify(Env::from_process())?;
    let envelope_keys = ring.as_ref().map(EnvelopeKeys::new).transpose()?;
    let options = VerifyOptions { keys: &keys, envelope_keys: envelope_keys.as_ref(), from_chain: first, anchors };
    let verified = verify_trail(&database, &options).await?;
    let (report, wrong) = (&verified.report, verified.defects());
    println!("{} rows in {} chains, {wrong} wrong", report.rows, report.chains);
    match &verified.messages {
        Some(messages) => {
            println!("{} messages compared", messages.compared);
            if messages.unopened > 0 {
                println!("{} of them are encrypted and were not opened: CONTENT_KEYS is not set", messages.unopened);
            }
            if messages.older > 0 {
                println!("{} messages are older than the chains that were verified", messages.older);
            }
        }
        None => println!("there are no messages here to compare"),
    }
    let is_right = wrong == 0;
    if let Some(path) = write_anchors.filter(|_| is_right) {
        append_anchors(&verified, path)?;
    }
    Ok(is_right)
}

/// Inputs of a verification.
struct VerifyOptions<'a> {
    /// All keys that chains may have been written with.
    keys: &'a [AuditKey],
    /// Opens sealed messages; without it their texts are not compared.
    envelope_keys: Option<&'a EnvelopeKeys>,
    /// The first chain to verify; earlier ones are archived.
    from_chain: i64,
    /// A file of anchors.
    anchors: Option<&'a Path>,
}

/// The result of a verification.
#[derive(Debug, Default)]
struct Verification {
    /// The result for the chains.
    report: Report,
    /// `None` when the database has no table of messages.
    messages: Option<MessageReport>,
}

/// The result for messages.
#[derive(Debug, Default)]
struct MessageReport {
    /// Messages compared with their audit rows.
    compared: u64,
    /// Messages that differ from their rows, or have none.
    defects: u64,
    /// Sealed messages that were not opened.
    unopened: u64,
    /// Messages older than the chains that were verified.
    older: u64,
}

impl Verification {
    /// Number of defects.
    fn defects(&self) -> u64 {
        self.report.defects + self.messages.as_ref().map_or(0, |messages| messages.defects)
    }
}

/// Verifies chains and messages, and prints each finding as it is found.
async fn verify_trail(database: &DatabaseConfig, options: &VerifyOptions<'_>) -> Result<Verification, CommandError> {
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
        verifier.take_findings().iter().for_each(|finding| println!("{finding}"));
        if let Some(report) = &mut messages {
            let ids: Vec<MessageId> = sent.iter().map(|(id, ..)| *id).collect();
            let stored = snapshot.messages(&ids, options.envelope_keys).await?;
            for (id, key, row) in &sent {
                let stored = stored.get(id);
                report.compared += 1;
                report.unopened += u64::from(stored.is_some_and(|stored| stored.text == StoredText::Sealed));
                if let Some(defect) = message_check::compare(key, row, stored) {
                    report.defects += 1;
                    println!("{}", MessageFinding { id: *id, defect });
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
                println!("{}", MessageFinding { id, defect });
            }
        }
    }
    let mut report = verifier.finish();
    std::mem::take(&mut report.findings).iter().for_each(|finding| println!("{finding}"));
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
fn append_anchors(Verification { report, .. }: &Verification, path: &Path) -> Result<(), CommandError> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::options().create(true).append(true).open(path)?);
        for head in report.heads.iter().filter(|head| head.n > 0) {
            writeln!(file, "{}", anchors::format_line(head))?;
        }
        file.flush()
    };
    write().map_err(|error| explain(path, &error))
}

fn open(path: &Path) -> Result<File, CommandError> {
    File::open(path).map_err(|error| explain(path, &error))
}

fn explain(path: &Path, error: &io::Error) -> CommandError {
    format!("{}: {error}", path.display()).into()
}
