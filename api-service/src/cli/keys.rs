//! `keys`: manages the keys of content at rest.

use std::sync::Arc;

use shared::kit::env::Env;

use super::arguments::KeyTask;
use crate::envelope::{EnvelopeKeys, commands};
use crate::serve::ServeError;
use crate::{config, store};

#[tokio::main]
pub(super) async fn run_key_command(task: KeyTask) -> Result<(), ServeError> {
    let (database, audit_key, ring) = config::keys(Env::from_process())?;
    let store = store::Store::new(&database, audit_key)?.with_envelope_keys(Some(Arc::new(EnvelopeKeys::new(&ring)?)));
    match task {
        KeyTask::Rewrap => commands::rewrap(&store).await?,
        KeyTask::Rotate { location } => commands::rotate(&store, location.as_ref()).await?,
        KeyTask::Encrypt { accept_plain } => commands::encrypt(&store, accept_plain).await?,
        KeyTask::AllowPlain => commands::allow_plain(&store).await?,
        KeyTask::Purge => commands::purge(&store).await?,
    }
    Ok(())
}
