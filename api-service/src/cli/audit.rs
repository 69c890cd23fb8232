//! `audit verify` and `audit export`.

use std::path::Path;

use shared::kit::env::Env;

use crate::audit::commands;
use crate::config;
use crate::envelope::EnvelopeKeys;
use crate::serve::ServeError;
use crate::store::Filter;

/// Returns whether no defect was found.
#[tokio::main]
pub(super) async fn verify(
    anchors: Option<&Path>,
    write_anchors: Option<&Path>,
    first: i64,
) -> Result<bool, ServeError> {
    let (database, keys, ring) = config::verify(Env::from_process())?;
    let envelope_keys = ring.as_ref().map(EnvelopeKeys::new).transpose()?;
    let options =
        commands::VerifyOptions { keys: &keys, envelope_keys: envelope_keys.as_ref(), from_chain: first, anchors };
    let verified = commands::verify(&database, &options, |finding| println!("{finding}")).await?;
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
        commands::append_anchors(&verified, path)?;
    }
    Ok(is_right)
}

#[tokio::main]
pub(super) async fn export(filter: &Filter) -> Result<(), ServeError> {
    let (database, keys) = config::export(Env::from_process())?;
    let report = |refused: &dyn std::fmt::Display| eprintln!("{refused}");
    let exported = commands::export(&database, &keys, filter, std::io::stdout().lock(), report).await?;
    eprintln!("{} events", exported.events);
    match exported.skipped {
        0 => Ok(()),
        refused => Err(format!("{refused} rows do not verify and were left out; run `audit verify`").into()),
    }
}
