//! Removes retired data keys that no message uses.

use tokio::time::sleep;

use super::commands::{MAX_ATTEMPTS, MIN_WINDOW_MESSAGES, RETRY_DELAY, record};
use crate::serve::ServeError;
use crate::store::{PurgeStep, Store, StoreError};

/// Messages per statement; fewer while the database is slow.
const WINDOW_MESSAGES: i64 = 5_000;

/// Removes the data keys that were retired more than a day ago and that no message names.
///
/// # Errors
/// When another purge runs, or [`StoreError`]. It may be repeated and continues where it stopped.
pub async fn purge(store: &Store) -> Result<(), ServeError> {
    let mut last = store.begin_purge().await?;
    let (mut window, mut attempts) = (WINDOW_MESSAGES, 1);
    let removed = loop {
        match store.purge_window(last, window).await {
            Ok(PurgeStep::UpTo(end)) => (last, window, attempts) = (end, (2 * window).min(WINDOW_MESSAGES), 1),
            Ok(PurgeStep::Done(removed)) => break removed,
            Ok(PurgeStep::TakenByOther) => {
                return Err("another purge of keys is running: run it again when that has ended".into());
            }
            Err(StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Locked(_))
                if attempts < MAX_ATTEMPTS =>
            {
                attempts += 1;
                window = (window / 2).max(MIN_WINDOW_MESSAGES);
                sleep(RETRY_DELAY).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if removed > 0 {
        record(store, "retired data keys that no message names were removed", Vec::new()).await?;
    }
    println!("{removed} retired data keys were removed; the others open messages, or were retired less than a day ago");
    Ok(())
}
