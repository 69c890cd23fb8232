//! `keys purge`: removes retired data keys that no message uses.

use super::audit;
use super::window::Window;
use crate::cli::error::CommandError;
use crate::store::{PurgeStep, Store};

/// Messages per statement; fewer while the database is slow.
const WINDOW_MESSAGES: i64 = 5_000;

/// Removes the data keys that were retired more than a day ago and that no message names.
pub(super) async fn purge(store: &Store) -> Result<(), CommandError> {
    let mut last = store.begin_purge().await?;
    let mut window = Window::new(WINDOW_MESSAGES);
    let removed = loop {
        match store.purge_window(last, window.messages()).await {
            Ok(PurgeStep::UpTo(end)) => {
                last = end;
                window.succeeded();
            }
            Ok(PurgeStep::Done(removed)) => break removed,
            Ok(PurgeStep::TakenByOther) => {
                return Err("another purge of keys is running: run it again when that has ended".into());
            }
            Err(error) => window.failed(error).await?,
        }
    };
    if removed > 0 {
        audit::record(store, "retired data keys that no message names were removed", Vec::new()).await?;
    }
    println!("{removed} retired data keys were removed; the others open messages, or were retired less than a day ago");
    Ok(())
}
