//! `keys`: manages the keys of content at rest. Every command may be repeated, and continues where it stopped. Each writes an audit
//! entry.

mod audit;
mod encrypt;
mod error;
mod purge;
mod window;

use std::sync::Arc;

use shared::contract::ids::LocationId;
use shared::kit::env::Env;

use super::arguments::KeyTask;
use super::error::CommandError;
use crate::config;
use crate::envelope::EnvelopeKeys;
use crate::store::Store;

#[tokio::main]
pub(super) async fn run(task: KeyTask) -> Result<(), CommandError> {
    let (database, audit_key, ring) = config::keys(Env::from_process())?;
    let store = Store::new(&database, audit_key)?.with_envelope_keys(Some(Arc::new(EnvelopeKeys::new(&ring)?)));
    match task {
        KeyTask::Rewrap => rewrap(&store).await,
        KeyTask::Rotate { location } => rotate(&store, location.as_ref()).await,
        KeyTask::Encrypt { accept_plain } => encrypt::encrypt(&store, accept_plain).await,
        KeyTask::AllowPlain => allow_plain(&store).await,
        KeyTask::Purge => purge::purge(&store).await,
    }
}

/// Rewraps all data keys with the current master key. Older master keys can be removed afterwards.
async fn rewrap(store: &Store) -> Result<(), CommandError> {
    let wrapped = store.rewrap_keys().await.map_err(error::explain)?;
    audit::record(store, "data keys wrapped with the current master key", Vec::new()).await?;
    match wrapped.skipped.is_empty() {
        true => println!("rewrapped {} data keys; no data key uses an older master key", wrapped.count),
        false => println!("rewrapped {} data keys", wrapped.count),
    }
    error::reject_unopened(&wrapped)
}

/// Gives all locations, or one, a new data key.
async fn rotate(store: &Store, location: Option<&LocationId>) -> Result<(), CommandError> {
    store.refresh_encryption_state().await?;
    let count = store.rotate_keys(location).await.map_err(error::explain)?;
    audit::record(store, "new data keys", Vec::new()).await?;
    println!("{count} locations have a new data key; running services use it within half a minute");
    Ok(())
}

/// Has plain text accepted again. Run it before `CONTENT_KEYS` begins with `-`.
async fn allow_plain(store: &Store) -> Result<(), CommandError> {
    let wrapped = store.allow_plain().await?;
    audit::record(store, "text in the open is allowed", Vec::new()).await?;
    println!("{} data keys accept plain text; restart the API services", wrapped.count);
    error::reject_unopened(&wrapped)
}
