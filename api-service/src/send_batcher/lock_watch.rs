//! Watches the conversations that were set aside, on a connection of its own, and lets each take part again once it is free.

use std::collections::HashSet;
use std::time::Duration;

use shared::ids::ConversationId;
use tokio::time::sleep;

use super::shared_queue::SharedQueue;
use crate::store::Store;

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Conversations in one look.
const MAX_CONVERSATIONS: usize = 1_000;

/// Never ends by itself.
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
            // Whoever waits does so for a bounded time.
            Err(error) => tracing::debug!(%error, "nobody knows which conversations are locked"),
        }
    }
}

fn unblock(queue: &SharedQueue, blocked: Vec<ConversationId>, locked: &HashSet<ConversationId>) {
    let mut free = blocked.into_iter().filter(|id| !locked.contains(id)).peekable();
    if free.peek().is_some() {
        queue.unblock(free);
    }
}
