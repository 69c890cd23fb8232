//! Tells inboxes how conversations stand, behind the events that have changed them.
//!
//! Beside the fast path, which never waits for it. What is not told stays in the outbox, which is published again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::channel::Channel;
use shared::ids::ConversationId;
use shared::participant::Conversation;
use tokio::sync::mpsc;

use super::settling::Published;
use super::{Outbox, RelayError};
use crate::domain::inbox::{Changed, Standing};
use crate::publisher::InboxRow;
use crate::store::StoreError;

/// Batches that may wait to be told. What finds no room is told when the outbox is swept.
pub(super) const QUEUE: usize = 256;

/// What a batch has changed.
pub(super) struct Told {
    pub(super) changed: Vec<Changed>,
    /// To be settled once it is told.
    pub(super) published: Published,
}

/// Tells until nobody publishes any more. What waits is told together, of each conversation how it stands at last.
pub(super) async fn run(outbox: Arc<Outbox>, mut queue: mpsc::Receiver<Told>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUE).await > 0 {
        let (mut changed, mut published) = (Vec::new(), Vec::new());
        for told in batch.drain(..) {
            changed.extend(told.changed);
            published.push(told.published);
        }
        match outbox.tell(changed).await {
            Ok(()) => published.into_iter().for_each(|published| outbox.settle(published)),
            Err(error) => tracing::warn!(%error, "inboxes are not told yet; the outbox holds what they must know"),
        }
    }
}

impl Outbox {
    /// Publishes the rows of conversations to whoever listens.
    pub(super) async fn tell(&self, changed: Vec<Changed>) -> Result<(), RelayError> {
        let changed = newest(changed);
        let asked: HashSet<Channel> = changed.values().flat_map(|changed| inboxes(changed.conversation())).collect();
        let listened = self.broker.listened(asked.into_iter().collect()).await?;
        if listened.is_empty() {
            return Ok(());
        }
        let (mut standing, mut unknown) = (Vec::new(), Vec::new());
        for changed in changed.into_values() {
            if inboxes(changed.conversation()).iter().any(|channel| listened.contains(channel)) {
                match changed {
                    Changed::To(known) => standing.push(*known),
                    Changed::Somehow(conversation) => unknown.push(conversation),
                }
            }
        }
        // Read when the change is committed, so that it is at least as new.
        if !unknown.is_empty() {
            standing.extend(self.store.standing(&unknown).await?);
        }
        let mut rows = Vec::new();
        for standing in &standing {
            rows.extend(shown(standing)?.into_iter().filter(|row| listened.contains(&row.channel)));
        }
        let count = self.broker.show(&rows).await?;
        metrics::counter!("inbox_rows_published_total").increment(count);
        Ok(())
    }
}

fn inboxes(conversation: &Conversation) -> [Channel; 2] {
    [conversation.first(), conversation.second()].map(|whose| Channel::inbox(conversation.location(), whose))
}

/// What is known last of each conversation.
fn newest(changed: Vec<Changed>) -> HashMap<ConversationId, Changed> {
    let mut newest: HashMap<ConversationId, Changed> = HashMap::with_capacity(changed.len());
    for changed in changed {
        match newest.entry(changed.conversation().id()) {
            Entry::Vacant(entry) => drop(entry.insert(changed)),
            Entry::Occupied(entry) => {
                let (id, known) = entry.remove_entry();
                newest.insert(id, known.and(changed));
            }
        }
    }
    newest
}

fn shown(standing: &Standing) -> Result<Vec<InboxRow>, StoreError> {
    let conversation = standing.conversation();
    let row = |row: crate::domain::inbox::Row| {
        Ok(InboxRow {
            channel: Channel::inbox(conversation.location(), &row.viewer),
            conversation: conversation.id(),
            newness: row.newness(),
            json: serde_json::to_string(&row).map_err(StoreError::internal)?,
        })
    };
    standing.rows().map(row).collect()
}
