//! The `keys` commands: rewrap, rotate, encrypt, allow-plain and purge. Also announces, in a running service, which master keys
//! it holds.

use std::time::Duration;

use shared::contract::audit::{Action, AuditEntry};
use shared::contract::ids::{LocationId, MessageId};
use shared::kit::shutdown::Shutdown;
use tokio::time::sleep;
use uuid::Uuid;

pub use super::purge::purge;
use crate::audit::commands::operator_actor;
use crate::serve::ServeError;
use crate::store::{PlainMessage, RewrapReport, RunningServicesError, Store, StoreError};

/// How often a running service announces its keys and checks whether all content is encrypted.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// Messages per statement; fewer while the database is slow.
const WINDOW_MESSAGES: i64 = 500;
pub(super) const MIN_WINDOW_MESSAGES: i64 = 8;
/// Attempts per window while the database is down or slow, and the delay before each.
pub(super) const MAX_ATTEMPTS: usize = 30;
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Ids are ordered by time, but a message is committed after its id was made, and clocks differ.
const CLOCK_OVERLAP: Duration = Duration::from_secs(3_600);

/// Announces the master keys of this instance until the shutdown, and notices when all content is encrypted.
pub async fn announce(store: Store, instance: Uuid, shutdown: Shutdown) {
    let mut was_complete = false;
    while !shutdown.has_begun() {
        if let Err(error) = store.register(instance).await {
            tracing::debug!(%error, "master keys not announced");
        }
        match store.refresh_encryption_state().await {
            Ok(is_complete) => {
                if is_complete && !was_complete {
                    tracing::info!("all content encrypted, plain text rejected");
                }
                was_complete = is_complete;
            }
            Err(error) => tracing::debug!(%error, "encryption state not read"),
        }
        tokio::select! {
            () = sleep(ANNOUNCE_INTERVAL) => {}
            () = shutdown.wait_for_begin() => {}
        }
    }
    if let Err(error) = store.deregister(instance).await {
        tracing::debug!(%error, "announcement of master keys not removed");
    }
}

/// Rewraps all data keys with the current master key. Older master keys can be removed afterwards.
///
/// # Errors
/// When a running service lacks that key, or [`StoreError`]. It may be repeated.
pub async fn rewrap(store: &Store) -> Result<(), ServeError> {
    let wrapped = store.rewrap_keys().await.map_err(explain)?;
    record(store, "data keys wrapped with the current master key", Vec::new()).await?;
    match wrapped.skipped.is_empty() {
        true => println!("rewrapped {} data keys; no data key uses an older master key", wrapped.count),
        false => println!("rewrapped {} data keys", wrapped.count),
    }
    report_unopened(&wrapped)
}

/// Gives all locations, or one, a new data key.
///
/// # Errors
/// When a running service lacks the current master key, or [`StoreError`]. It may be repeated.
pub async fn rotate(store: &Store, location: Option<&LocationId>) -> Result<(), ServeError> {
    store.refresh_encryption_state().await?;
    let count = store.rotate_keys(location).await.map_err(explain)?;
    record(store, "new data keys", Vec::new()).await?;
    println!("{count} locations have a new data key; running services use it within half a minute");
    Ok(())
}

/// Encrypts all plain messages, and has plain text rejected from then on. If it is rejected already, plain messages are listed,
/// and encrypted only with `accept_plain`.
///
/// # Errors
/// When unaccepted plain messages exist, when a running service lacks the current master key or does not encrypt, or
/// [`StoreError`]. It may be repeated and continues where it stopped.
pub async fn encrypt(store: &Store, accept_plain: bool) -> Result<(), ServeError> {
    store.check_running().await.map_err(explain)?;
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
    let wrapped = store.mark_encryption_complete().await.map_err(explain)?;
    store.set_backfill_position(None).await?;
    record(store, "all content is encrypted", Vec::new()).await?;
    println!("all content is encrypted; running services reject plain text within ten seconds");
    report_unopened(&wrapped)
}

/// Plain text in a fully encrypted database was not written by this service.
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

/// Has plain text accepted again. Run it before `CONTENT_KEYS` begins with `-`.
///
/// # Errors
/// [`StoreError`]. It may be repeated.
pub async fn allow_plain(store: &Store) -> Result<(), ServeError> {
    let wrapped = store.allow_plain().await?;
    record(store, "text in the open is allowed", Vec::new()).await?;
    println!("{} data keys accept plain text; restart the API services", wrapped.count);
    report_unopened(&wrapped)
}

/// Fails with a list of the data keys that were skipped, if any.
fn report_unopened(wrapped: &RewrapReport) -> Result<(), ServeError> {
    let skipped = &wrapped.skipped;
    if skipped.is_empty() {
        return Ok(());
    }
    skipped.iter().for_each(|key| println!("{key}: does not open, left unchanged"));
    let count = skipped.len();
    Err(format!(
        "{count} data keys do not open: their rows were altered; restore them from a backup, then run this again"
    )
    .into())
}

/// Goes through all messages after `last`, one window at a time. Calls `on_window` with the plain messages and the end of each.
async fn for_each_window(
    store: &Store,
    mut last: MessageId,
    encrypt: bool,
    mut on_window: impl AsyncFnMut(&[PlainMessage], MessageId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (mut window, mut attempts) = (WINDOW_MESSAGES, 1);
    loop {
        match store.encrypt_batch(last, window, encrypt).await {
            Ok((end, plain)) => {
                (window, attempts) = ((2 * window).min(WINDOW_MESSAGES), 1);
                on_window(&plain, end.unwrap_or(last)).await?;
                match end {
                    Some(end) => last = end,
                    None => return Ok(()),
                }
            }
            Err(error) if is_transient(&error) && attempts < MAX_ATTEMPTS => {
                attempts += 1;
                window = (window / 2).max(MIN_WINDOW_MESSAGES);
                sleep(RETRY_DELAY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the database was down, slow or contended, so that a smaller window may succeed later.
fn is_transient(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Locked(_) | StoreError::Contended(_)
    )
}

/// The first id that could be made this long before another.
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

/// Shows what prevents the command without the wording of an internal error.
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
    fn only_transient_errors_are_retried() {
        type Make = fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError;
        let passing: [Make; 4] =
            [StoreError::Unavailable, StoreError::TimedOut, StoreError::Locked, StoreError::Contended];
        for make in passing {
            assert!(is_transient(&make("slow".into())));
        }
        assert!(!is_transient(&StoreError::internal("refused")) && !is_transient(&StoreError::Unreadable(Uuid::nil())));
    }

    #[test]
    fn id_before_precedes_later_ids() {
        let id = Uuid::now_v7();
        let earlier = id_before(id, Duration::from_secs(60));
        assert!(earlier < id && earlier > id_before(id, Duration::from_secs(61)));
        assert_eq!(id_before(MessageId::nil(), CLOCK_OVERLAP), MessageId::nil());
    }
}
