//! Deduplication of the sends of a batch, and the numbers of new messages. Knows no SQL.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use shared::contract::ids::{ConversationId, LocationId};
use shared::contract::participant::Participant;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::model::message::{Message, NewMessage};
use crate::model::send::SendRequest;
use crate::store::StoreError;
use crate::store::conversations::{ConversationCounters, CounterDelta};

/// What a send turns out to be.
#[derive(Debug)]
pub(super) enum SendKind {
    New,
    RepeatOfStored(Message),
    /// Equal to an earlier send of the batch, at this index.
    RepeatInBatch(usize),
    IdReused,
}

impl SendKind {
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }
}

pub(super) struct Classified {
    pub(super) kinds: Vec<SendKind>,
    /// What the new messages add to their conversations.
    pub(super) deltas: Vec<CounterDelta>,
}

/// The identity of a send: client id, location and sender.
pub(super) type RepeatKey = (Uuid, LocationId, Participant);

pub(super) fn repeat_key(new: &NewMessage) -> Option<RepeatKey> {
    Some((new.client_message_id?, new.conversation.location().clone(), new.sender.clone()))
}

pub(super) fn is_stored(new: &NewMessage, stored: &HashMap<RepeatKey, Message>) -> bool {
    !stored.is_empty() && repeat_key(new).is_some_and(|key| stored.contains_key(&key))
}

/// Distinguishes new messages from repeats, as far as stored messages are known.
pub(super) fn classify(batch: &[SendRequest], stored: &HashMap<RepeatKey, Message>) -> Classified {
    let mut earlier: HashMap<RepeatKey, usize> = HashMap::new();
    let mut deltas: HashMap<ConversationId, CounterDelta> = HashMap::new();
    let mut kinds = Vec::with_capacity(batch.len());
    for (place, SendRequest { message: new, .. }) in batch.iter().enumerate() {
        if let Some(key) = repeat_key(new) {
            if let Some(message) = stored.get(&key) {
                let same = *message.new == **new;
                kinds.push(if same { SendKind::RepeatOfStored(message.clone()) } else { SendKind::IdReused });
                continue;
            }
            match earlier.entry(key) {
                Slot::Occupied(first) => {
                    let same = batch.get(*first.get()).is_some_and(|first| first.message == *new);
                    kinds.push(if same { SendKind::RepeatInBatch(*first.get()) } else { SendKind::IdReused });
                    continue;
                }
                Slot::Vacant(slot) => slot.insert(place),
            };
        }
        let id = new.conversation.id();
        let delta = deltas.entry(id).or_insert(CounterDelta { id, sent: 0, unread: [0; 2], first_unread: [None; 2] });
        delta.sent += 1;
        let side = usize::from(new.receiver != *new.conversation.first());
        delta.unread[side] += 1;
        delta.first_unread[side].get_or_insert(delta.sent);
        kinds.push(SendKind::New);
    }
    Classified { kinds, deltas: deltas.into_values().collect() }
}

/// Creates the new messages. Their `seq` is relative to the counter after the batch: the last message of a conversation has 0.
pub(super) fn assign_relative_seq(batch: &[SendRequest], classified: &Classified) -> Result<Vec<Message>, StoreError> {
    let mut seqs: HashMap<ConversationId, i64> =
        classified.deltas.iter().map(|bump| (bump.id, -i64::from(bump.sent))).collect();
    let new = classified.kinds.iter().zip(batch).filter(|(kind, _)| kind.is_new());
    new.map(|(_, SendRequest { message: new, .. })| {
        let seq = seqs.get_mut(&new.conversation.id()).ok_or_else(|| StoreError::internal("a send has no counter"))?;
        *seq += 1;
        Ok(Message {
            id: Uuid::now_v7(),
            new: new.clone(),
            seq: *seq,
            sent_at: OffsetDateTime::UNIX_EPOCH,
            delivered_at: None,
            read_at: None,
        })
    })
    .collect()
}

/// Turns relative numbers into final ones, with the counters that the database returned.
pub(super) fn assign_seq(
    new: &mut [Message],
    counters: &HashMap<ConversationId, ConversationCounters>,
) -> Result<(), StoreError> {
    for message in new {
        let counters = counters
            .get(&message.new.conversation.id())
            .ok_or_else(|| StoreError::internal("a conversation is not locked"))?;
        message.seq += counters.last_seq;
        message.sent_at = counters.last_activity_at;
    }
    Ok(())
}
