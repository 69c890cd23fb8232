//! `keys encrypt`: encrypts the messages from before encryption was switched on.

use std::time::Duration;

use shared::contract::ids::MessageId;
use uuid::Uuid;

use super::window::Window;
use super::{audit, error};
use crate::cli::error::CommandError;
use crate::store::{PlainMessage, Store, StoreError};

/// Messages per statement; fewer while the database is slow.
const WINDOW_MESSAGES: i64 = 500;
/// Ids are ordered by time, but a message is committed after its id was made, and clocks differ.
const CLOCK_OVERLAP: Duration = Duration::from_secs(3_600);

/// Encrypts all plain messages, and has plain text rejected from then on. If it is rejected already, plain messages are listed,
/// and encrypted only with `accept_plain`.
pub(super) async fn encrypt(store: &Store, accept_plain: bool) -> Result<(), CommandError> {
    store.check_running().await.map_err(error::explain)?;
    if store.refresh_encryption_state().await? {
        return encrypt_unexpected(store, accept_plain).await;
    }
    let begun = Uuid::now_v7();
    let from = store.backfill_position().await?.map_or(MessageId::nil(), |position| id_before(position, CLOCK_OVERLAP));
    let mut count = 0;
    for_each_window(store, from, true, async |plain, end| {
        count += plain.len();
        store.set_backfill_position(Some(end)).await
    })
    .await?;
    // Messages that were written in the meantime. The overlap covers clocks that disagree.
    for_each_window(store, id_before(begun, CLOCK_OVERLAP), true, async |plain, _| {
        count += plain.len();
        Ok(())
    })
    .await?;
    println!("{count} messages encrypted; `vacuum full messages` returns their space to the disk");
    let wrapped = store.mark_encryption_complete().await.map_err(error::explain)?;
    store.set_backfill_position(None).await?;
    audit::record(store, "all content is encrypted", Vec::new()).await?;
    println!("all content is encrypted; running services reject plain text within ten seconds");
    error::reject_unopened(&wrapped)
}

/// Plain text in a fully encrypted database was not written by this service.
async fn encrypt_unexpected(store: &Store, accept_plain: bool) -> Result<(), CommandError> {
    let (mut count, mut ids) = (0, Vec::new());
    for_each_window(store, MessageId::nil(), accept_plain, async |plain, _| {
        count += plain.len();
        ids.extend(plain.iter().map(|plain| plain.id));
        plain.iter().for_each(|plain| println!("{plain}"));
        if accept_plain && !ids.is_empty() {
            let ids = std::mem::take(&mut ids);
            audit::record(store, "text in the open accepted and encrypted", ids).await?;
        }
        Ok(())
    })
    .await?;
    match count {
        0 => println!("all content is encrypted"),
        _ if accept_plain => println!("{count} messages encrypted that this service had not written"),
        _ => {
            return Err(format!(
                "{count} messages are plain text, though all content of this database is encrypted. They were not written by this \
                 service, and no client receives them. Nothing was encrypted. `audit verify` shows which of them were ever sent; \
                 `keys encrypt --accept-plain` encrypts them as they are"
            )
            .into());
        }
    }
    Ok(())
}

/// Goes through all messages after `last`, one window at a time. Calls `on_window` with the plain messages and the end of each.
async fn for_each_window(
    store: &Store,
    mut last: MessageId,
    encrypt: bool,
    mut on_window: impl AsyncFnMut(&[PlainMessage], MessageId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut window = Window::new(WINDOW_MESSAGES);
    loop {
        match store.encrypt_batch(last, window.messages(), encrypt).await {
            Ok((end, plain)) => {
                window.succeeded();
                on_window(&plain, end.unwrap_or(last)).await?;
                match end {
                    Some(end) => last = end,
                    None => return Ok(()),
                }
            }
            Err(error) => window.failed(error).await?,
        }
    }
}

/// The first id that could be made this long before another.
fn id_before(id: MessageId, duration: Duration) -> MessageId {
    let millis = (id.as_u128() >> 80).saturating_sub(duration.as_millis());
    MessageId::from_u128(millis << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_before_precedes_later_ids() {
        let id = Uuid::now_v7();
        let earlier = id_before(id, Duration::from_secs(60));
        assert!(earlier < id && earlier > id_before(id, Duration::from_secs(61)));
        assert_eq!(id_before(MessageId::nil(), CLOCK_OVERLAP), MessageId::nil());
    }
}
