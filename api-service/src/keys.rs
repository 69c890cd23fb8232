//! What operators do with keys: wrap them anew, change them, seal what was written before; and the look at them that comes
//! before a service serves.

use std::time::Duration;

use shared::env::BadEnv;
use shared::ids::{LocationId, MessageId};
use tokio::time::sleep;

use crate::store::{Store, StoreError, WrongKeys};

/// Between two attempts to look into a database that is away, or that nobody has migrated.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until the database answers.
///
/// # Errors
/// When its content needs keys that are not there.
pub async fn check(store: &Store) -> Result<(), BadEnv> {
    loop {
        match store.check_keys().await {
            Ok(fit) => return fit.map_err(|wrong: WrongKeys| BadEnv(vec![format!("CONTENT_KEYS: {wrong}")])),
            Err(error) => tracing::debug!(%error, "the keys of this database are not known yet"),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Wraps all data keys with the current master key, after which older ones can go.
///
/// # Errors
/// [`StoreError`]; it may be done again.
pub async fn rewrap(store: &Store) -> Result<(), StoreError> {
    let count = store.rewrap_keys().await?;
    println!("{count} data keys are wrapped with the current master key now; none is left under another");
    Ok(())
}

/// Gives locations, or one, a new data key.
///
/// # Errors
/// [`StoreError`]; it may be done again.
pub async fn rotate(store: &Store, location: Option<&LocationId>) -> Result<(), StoreError> {
    let count = store.rotate_keys(location).await?;
    println!("{count} locations have a new data key; running services use it within half a minute");
    Ok(())
}

/// Seals all messages that are stored as they are.
///
/// # Errors
/// [`StoreError`]; it may be done again, and goes on where it was.
pub async fn encrypt(store: &Store) -> Result<(), StoreError> {
    let (mut last, mut count) = (MessageId::nil(), 0);
    while let Some((newest, sealed)) = store.seal_messages(last).await? {
        (last, count) = (newest, count + sealed);
    }
    println!("{count} messages were sealed; `vacuum full messages` gives the room that they leave back to the disk");
    Ok(())
}
