//! Polls the blocked conversations on a separate connection, and unblocks each once its lock is free.

use std::collections::HashSet;
use std::time::Duration;

use shared::contract::ids::ConversationId;
use tokio::time::sleep;

use super::shared_queue::SharedQueue;
use crate::store::Store;

/// Between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Conversations per poll.
const MAX_CONVERSATIONS: usize = 1_000;

/// Runs until it is dropped.
pub(super) async fn watch(store: &Store, queue: &SharedQueue) {
    loop {
        let blocked = queue.blocked(MAX_CONVERSATIONS);
        if blocked.is_empty() {
            queue.block.notified().await;
        }
        sleep(POLL_INTERVAL).await;
        if blocked.is_empty() {
            continue;
        }
        match store.locked_conversations(&blocked).await {
            Ok(locked) => unblock(queue, blocked, &locked),
            // No harm: every send waits for a bounded time.
            Err(error) => tracing::debug!(%error, "lock check failed"),
        }
    }
}

fn unblock(queue: &SharedQueue, blocked: Vec<ConversationId>, locked: &HashSet<ConversationId>) {
    let mut free = blocked.into_iter().filter(|id| !locked.contains(id)).peekable();
    if free.peek().is_some() {
        queue.unblock(free);
    }
}
