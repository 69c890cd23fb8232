//! What operators do with keys: wrap them anew, change them, seal what was written before, remove those that nobody needs; and a
//! running service's word on which it holds.

use std::time::Duration;

use shared::audit::{Action, AuditEntry};
use shared::ids::{LocationId, MessageId};
use shared::shutdown::Shutdown;
use tokio::time::sleep;
use uuid::Uuid;

pub use super::purge::purge;
use crate::audit::commands::operator_actor;
use crate::serve::ServeError;
use crate::store::{PlainMessage, RewrapReport, RunningServicesError, Store, StoreError};

/// How often a running service says which keys it holds, and looks whether all content is sealed.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// Messages that one statement looks at; fewer when the database is slow.
const WINDOW: i64 = 500;
pub(super) const MIN_WINDOW: i64 = 8;
/// How often a window is tried while the database is away or slow, and the pause before that.
pub(super) const MAX_ATTEMPTS: usize = 30;
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Ids are in the order of time; a message may be written a moment after its id was made, and clocks may differ.
const OVERLAP: Duration = Duration::from_secs(3_600);

/// Says which keys the service holds for as long as it runs, and learns when all content is sealed.
pub async fn announce(store: Store, instance: Uuid, shutdown: Shutdown) {
    let mut was_complete = false;
    while !shutdown.has_begun() {
        if let Err(error) = store.register(instance).await {
            tracing::debug!(%error, "nobody is told which keys this service holds");
        }
        match store.refresh_encryption_state().await {
            Ok(is_complete) => {
                if is_complete && !was_complete {
                    tracing::info!("all content of this database is encrypted: text in the open is refused");
                }
                was_complete = is_complete;
            }
            Err(error) => tracing::debug!(%error, "whether all content is encrypted is not known"),
        }
        tokio::select! {
            () = sleep(ANNOUNCE_INTERVAL) => {}
            () = shutdown.begun() => {}
        }
    }
    if let Err(error) = store.deregister(instance).await {
        tracing::debug!(%error, "whoever wraps keys anew must wait until this service is forgotten");
    }
}

/// Wraps all data keys with the current master key, after which older ones can go.
///
/// # Errors
/// When a running service lacks that key, or [`StoreError`]; it may be done again.
pub async fn rewrap(store: &Store) -> Result<(), ServeError> {
    let wrapped = store.rewrap_keys().await.map_err(explain)?;
    record(store, "data keys wrapped with the current master key", Vec::new()).await?;
    match wrapped.skipped.is_empty() {
        true => println!(
            "{} data keys are wrapped with the current master key now; none is left under another",
            wrapped.count
        ),
        false => println!("{} data keys are wrapped with the current master key now", wrapped.count),
    }
    report_unopened(&wrapped)
}

/// Gives locations, or one, a new data key.
///
/// # Errors
/// When a running service lacks the current master key, or [`StoreError`]; it may be done again.
pub async fn rotate(store: &Store, location: Option<&LocationId>) -> Result<(), ServeError> {
    store.refresh_encryption_state().await?;
    let count = store.rotate_keys(location).await.map_err(explain)?;
    record(store, "new data keys", Vec::new()).await?;
    println!("{count} locations have a new data key; running services use it within half a minute");
    Ok(())
}

/// Seals all messages that are stored as they are, and has text in the open refused from then on. Where it is refused already, such
/// messages are listed, and sealed only when they are `accepted`.
///
/// # Errors
/// When there are some that nobody has accepted, when a running service lacks the current master key or does not seal, or [`StoreError`];
/// it may be done again, and goes on where it was.
pub async fn encrypt(store: &Store, accept_plain: bool) -> Result<(), ServeError> {
    store.check_running().await.map_err(explain)?;
    if store.refresh_encryption_state().await? {
        return encrypt_unexpected(store, accept_plain).await;
    }
    let begun = Uuid::now_v7();
    let from = store.backfill_position().await?.map_or(MessageId::nil(), |position| id_before(position, OVERLAP));
    let mut count = 0;
    for_each_window(store, from, true, async |plain, end| {
        count += plain.len();
        store.set_backfill_position(Some(end)).await
    })
    .await?;
    // What came while others were looked at, whichever clock it was named by.
    for_each_window(store, id_before(begun, OVERLAP), true, async |plain, _| {
        count += plain.len();
        Ok(())
    })
    .await?;
    println!("{count} messages were sealed; `vacuum full messages` gives the room that they leave back to the disk");
    let wrapped = store.mark_encryption_complete().await.map_err(explain)?;
    store.set_backfill_position(None).await?;
    record(store, "all content is encrypted", Vec::new()).await?;
    println!("all content is encrypted: running services refuse text in the open within ten seconds");
    report_unopened(&wrapped)
}

/// What is in the open after all content was sealed was written past the service.
async fn encrypt_unexpected(store: &Store, accept_plain: bool) -> Result<(), ServeError> {
    let (mut count, mut ids) = (0, Vec::new());
    for_each_window(store, MessageId::nil(), accept_plain, async |plain, _| {
        count += plain.len();
        ids.extend(plain.iter().map(|plain| plain.id));
        plain.iter().for_each(|plain| println!("{plain}"));
        if accept_plain && !ids.is_empty() {
            let ids = std::mem::take(&mut ids);
            record_entry(store, "text in the open accepted and encrypted", ids).await?;
        }
        Ok(())
    })
    .await?;
    match count {
        0 => println!("all content is encrypted"),
        _ if accept_plain => println!("{count} messages were sealed that were written past the service"),
        _ => {
            return Err(format!(
                "{count} messages are in the open, though all content of this database is encrypted: somebody has written them past the \
                 service, and nobody is shown them. Nothing was encrypted. `audit verify` says which of them were ever sent; \
                 `keys encrypt --accept-plain` encrypts them as they are"
            )
            .into());
        }
    }
    Ok(())
}

/// Has text in the open opened again, which must be before `CONTENT_KEYS` begins with `-`.
///
/// # Errors
/// [`StoreError`]; it may be done again.
pub async fn allow_plain(store: &Store) -> Result<(), ServeError> {
    let wrapped = store.allow_plain().await?;
    record(store, "text in the open is allowed", Vec::new()).await?;
    println!("{} data keys allow text in the open; restart the API services", wrapped.count);
    report_unopened(&wrapped)
}

/// Lists the data keys that were left out, if any.
fn report_unopened(wrapped: &RewrapReport) -> Result<(), ServeError> {
    let skipped = &wrapped.skipped;
    if skipped.is_empty() {
        return Ok(());
    }
    skipped.iter().for_each(|key| println!("{key}: it does not open, and was left as it is"));
    let count = skipped.len();
    Err(format!(
        "{count} data keys do not open: their rows were altered; restore them from a backup, then run this again"
    )
    .into())
}

/// Looks at all messages behind `last`, a window at a time, and tells `each` window's plain messages and where it ended.
async fn for_each_window(
    store: &Store,
    mut last: MessageId,
    encrypt: bool,
    mut on_window: impl AsyncFnMut(&[PlainMessage], MessageId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (mut window, mut attempts) = (WINDOW, 1);
    loop {
        match store.encrypt_batch(last, window, encrypt).await {
            Ok((end, plain)) => {
                (window, attempts) = ((2 * window).min(WINDOW), 1);
                on_window(&plain, end.unwrap_or(last)).await?;
                match end {
                    Some(end) => last = end,
                    None => return Ok(()),
                }
            }
            Err(error) if is_transient(&error) && attempts < MAX_ATTEMPTS => {
                attempts += 1;
                window = (window / 2).max(MIN_WINDOW);
                sleep(RETRY_DELAY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the database was away, slow, or held up by others: a smaller window may do it, later.
fn is_transient(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Locked(_) | StoreError::Contended(_)
    )
}

/// The first id that could be made so long before another one.
fn id_before(id: MessageId, duration: Duration) -> MessageId {
    let millis = (id.as_u128() >> 80).saturating_sub(duration.as_millis());
    MessageId::from_u128(millis << 80)
}

pub(super) async fn record(store: &Store, what: &str, ids: Vec<MessageId>) -> Result<(), ServeError> {
    Ok(record_entry(store, what, ids).await?)
}

async fn record_entry(store: &Store, what: &str, ids: Vec<MessageId>) -> Result<(), StoreError> {
    let mut entry = AuditEntry::new(operator_actor(), Action::Keys, 200);
    (entry.detail, entry.message_ids) = (Some(what.to_owned()), ids);
    store.record(&[entry]).await
}

/// What stands in the way of an operator is told as it is.
fn explain(error: StoreError) -> ServeError {
    match error {
        StoreError::Internal(cause) if cause.is::<RunningServicesError>() => cause,
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_on_after_what_passes_and_ends_with_what_does_not() {
        type Make = fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError;
        let passing: [Make; 4] =
            [StoreError::Unavailable, StoreError::TimedOut, StoreError::Locked, StoreError::Contended];
        for make in passing {
            assert!(is_transient(&make("slow".into())));
        }
        assert!(!is_transient(&StoreError::internal("refused")) && !is_transient(&StoreError::Unreadable(Uuid::nil())));
    }

    #[test]
    fn an_id_of_earlier_comes_before_all_that_were_made_later() {
        let id = Uuid::now_v7();
        let earlier = id_before(id, Duration::from_secs(60));
        assert!(earlier < id && earlier > id_before(id, Duration::from_secs(61)));
        assert_eq!(id_before(MessageId::nil(), OVERLAP), MessageId::nil());
    }
}
