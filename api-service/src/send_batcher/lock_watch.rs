//! Watches the conversations that were set aside, on a connection of its own, and lets each take part again once it is free.

use std::collections::HashSet;
use std::time::Duration;

use shared::ids::ConversationId;
use tokio::time::sleep;

use super::shared_queue::Line;
use crate::store::Store;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Conversations in one look.
const AT_ONCE: usize = 1_000;

/// Never ends by itself.
pub(super) async fn watch(store: &Store, line: &Line) {
    loop {
        let aside = line.aside(AT_ONCE);
        if aside.is_empty() {
            line.set_aside.notified().await;
        }
        sleep(LOOK_EVERY).await;
        if aside.is_empty() {
            continue;
        }
        match store.locked(&aside).await {
            Ok(locked) => release(line, aside, &locked),
            // Whoever waits does so for a bounded time.
            Err(error) => tracing::debug!(%error, "nobody knows which conversations are locked"),
        }
    }
}

fn release(line: &Line, aside: Vec<ConversationId>, locked: &HashSet<ConversationId>) {
    let mut free = aside.into_iter().filter(|id| !locked.contains(id)).peekable();
    if free.peek().is_some() {
        line.release(free);
    }
}
