//! What a batch of sends writes beside its messages, and what its callers receive. Knows no SQL.

use std::collections::HashMap;

use shared::contract::audit::Action;
use shared::contract::event::OutgoingEvent;
use shared::contract::ids::{ConversationId, MessageId};
use shared::contract::redis::keys::Channel;

use super::dedup::SendKind;
use crate::audit::row::Row as AuditRow;
use crate::model::inbox::{ConversationSnapshot, InboxUpdate};
use crate::model::message::Message;
use crate::model::send::{SendOutcome, SendRequest};
use crate::store::StoreError;
use crate::store::audit::Lease;
use crate::store::conversations::ConversationCounters;
use crate::store::outbox::{OutboxEntry, OutboxEvent};

/// The outcome of a batch.
#[derive(Debug, Clone)]
pub struct BatchResult {
    /// Per send, in order.
    pub outcomes: Vec<SendOutcome>,
    /// The events of the new messages, to be published. If this process dies, the outbox row remains.
    pub entry: Option<OutboxEntry>,
}

/// The batch was committed, but the reply cannot be read. It must never be written again.
pub(super) fn outcome_unknown(cause: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("what became of sends cannot be read: {cause}").into())
}

/// A committed batch.
pub(super) struct CommittedBatch {
    pub(super) kinds: Vec<SendKind>,
    pub(super) new: Vec<Message>,
    pub(super) counters: HashMap<ConversationId, ConversationCounters>,
    pub(super) outbox_id: i64,
}

impl CommittedBatch {
    pub(super) fn to_result(&self, batch: &[SendRequest]) -> Result<BatchResult, StoreError> {
        let updates = inbox_updates(&self.new, &self.counters).map_err(outcome_unknown)?;
        build_result(&self.kinds, batch, &self.new, Some((self.outbox_id, updates))).map_err(outcome_unknown)
    }
}

/// The audit rows of a batch: one per send, with the HMAC of each new text.
pub(super) fn audit_rows(kinds: &[SendKind], batch: &[SendRequest], new: &[Message], lease: &Lease) -> Vec<AuditRow> {
    let mut new = new.iter();
    let mut ids: Vec<Option<MessageId>> = Vec::with_capacity(batch.len());
    let mut rows = Vec::with_capacity(batch.len());
    for (kind, SendRequest { message: sent, origin }) in kinds.iter().zip(batch) {
        let written = if kind.is_new() { new.next() } else { None };
        let (outcome, id) = match kind {
            SendKind::New => (201, written.map(|message| message.id)),
            SendKind::RepeatOfStored(message) => (200, Some(message.id)),
            SendKind::RepeatInBatch(place) => (200, ids.get(*place).copied().flatten()),
            SendKind::IdReused => (409, None),
        };
        ids.push(id);
        let mut entry = origin.entry(Action::Send, outcome).in_conversation(&sent.conversation, Some(&sent.sender));
        entry.message_ids.extend(id);
        let text_mac = written.map(|message| lease.text_mac(message));
        rows.push(AuditRow { text_mac, ..AuditRow::from(&entry) });
    }
    rows
}

/// The inbox updates of the new messages.
fn inbox_updates(
    new: &[Message],
    counters: &HashMap<ConversationId, ConversationCounters>,
) -> Result<Vec<InboxUpdate>, StoreError> {
    let newest: HashMap<ConversationId, &Message> =
        new.iter().map(|message| (message.new.conversation.id(), message)).collect();
    let stands = |(id, message): (ConversationId, &Message)| {
        let counters = counters.get(&id).ok_or_else(|| StoreError::internal("a conversation is not locked"))?;
        let (unread, last_activity_at) = (counters.unread, counters.last_activity_at);
        let Some(first_unread) = counters.first_unread else {
            return Ok(InboxUpdate::Stale(message.new.conversation.clone()));
        };
        Ok(InboxUpdate::Snapshot(Box::new(ConversationSnapshot {
            last_message: message.clone(),
            unread,
            first_unread,
            last_activity_at,
        })))
    };
    newest.into_iter().map(stands).collect()
}

pub(super) fn build_result(
    kinds: &[SendKind],
    batch: &[SendRequest],
    new: &[Message],
    kept: Option<(i64, Vec<InboxUpdate>)>,
) -> Result<BatchResult, StoreError> {
    let mut new = new.iter();
    let mut events = Vec::with_capacity(new.len());
    let mut outcomes: Vec<SendOutcome> = Vec::with_capacity(batch.len());
    for (kind, SendRequest { origin, .. }) in kinds.iter().zip(batch) {
        outcomes.push(match kind {
            SendKind::New => {
                let message = new.next().ok_or_else(|| StoreError::internal("a message was not placed"))?;
                let json = message.to_json().map_err(StoreError::internal)?;
                let channel = Channel::from(&message.new.conversation);
                let draft =
                    OutgoingEvent { request_id: Some(origin.request.request_id.clone()), ..message.event(&json) };
                events.push(OutboxEvent { channel, draft });
                SendOutcome::Created(json.into())
            }
            SendKind::RepeatOfStored(message) => {
                SendOutcome::Repeated(message.to_json().map_err(StoreError::internal)?.into())
            }
            SendKind::RepeatInBatch(place) => match outcomes.get(*place) {
                Some(SendOutcome::Created(first)) => SendOutcome::Repeated(first.clone()),
                _ => return Err(StoreError::internal("a repeat of what was not sent")),
            },
            SendKind::IdReused => SendOutcome::IdReused,
        });
    }
    Ok(BatchResult { outcomes, entry: kept.map(|(id, updates)| OutboxEntry { id, events, updates }) })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::dedup::{Classified, RepeatKey, assign_relative_seq, assign_seq, classify, repeat_key};
    use super::*;
    use crate::model::deadline::Deadline;
    use crate::model::message::{Content, NewMessage, now};
    use crate::model::request_origin::RequestOrigin;
    use shared::contract::http::request::RequestContext;
    use shared::contract::participant::{Conversation, Participant};
    use shared::contract::token::{Actor, Principal, VerificationKeyId};
    use std::sync::Arc;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn origin() -> RequestOrigin {
        let principal = Principal {
            subject: "doc123".parse().unwrap(),
            key: VerificationKeyId::SECRET,
            actor: Actor::Participant("user:doc123".parse().unwrap()),
            locations: vec![],
            expires_at: OffsetDateTime::UNIX_EPOCH,
            issued_at: None,
            jti: None,
        };
        let request = RequestContext { request_id: "r1".into(), address: [127, 0, 0, 1].into() };
        RequestOrigin {
            principal: Arc::new(principal),
            request,
            deadline: Deadline::from_arrival(std::time::Instant::now()),
        }
    }

    pub(in crate::store::sends) fn new(from: &str, to: &str, content: &str, client_id: Option<u128>) -> SendRequest {
        let (sender, receiver): (Participant, Participant) = (from.parse().unwrap(), to.parse().unwrap());
        let message = Arc::new(NewMessage {
            conversation: Conversation::new("loc1".parse().unwrap(), sender.clone(), receiver.clone()).unwrap(),
            sender,
            receiver,
            content: Content::new(content.to_owned()).unwrap(),
            client_message_id: client_id.map(Uuid::from_u128),
        });
        SendRequest { message, origin: origin() }
    }

    fn counters(
        batch: &[SendRequest],
        classified: &Classified,
        at: OffsetDateTime,
    ) -> HashMap<ConversationId, ConversationCounters> {
        let sent = |id| classified.deltas.iter().find(|bump| bump.id == id).map_or(0, |bump| i64::from(bump.sent));
        let first_unread = Some([Some(2), Some(1)]);
        let stands =
            |id| ConversationCounters { last_seq: 10 + sent(id), last_activity_at: at, unread: [3, 4], first_unread };
        let ids = batch.iter().map(|request| request.message.conversation.id());
        ids.map(|id| (id, stands(id))).collect()
    }

    fn placed(
        batch: &[SendRequest],
        classified: &Classified,
        counters: &HashMap<ConversationId, ConversationCounters>,
    ) -> Vec<Message> {
        let mut new = assign_relative_seq(batch, classified).unwrap();
        assign_seq(&mut new, counters).unwrap();
        new
    }

    fn stored(SendRequest { message: new, .. }: &SendRequest) -> (RepeatKey, Message) {
        let message = Message { new: new.clone(), ..crate::model::message::tests::example() };
        (repeat_key(new).unwrap(), message)
    }

    #[test]
    fn send_outcomes_hide_content_in_debug() {
        let batch = [new("user:d", "contact:p", "hunter2", None)];
        let classified = classify(&batch, &HashMap::new());
        let placed = placed(&batch, &classified, &counters(&batch, &classified, now()));
        let done = build_result(&classified.kinds, &batch, &placed, Some((1, Vec::new()))).unwrap();
        assert!(matches!(&done.outcomes[0], SendOutcome::Created(json) if json.expose().contains("hunter2")));
        assert!(!format!("{done:?} {placed:?} {batch:?}").contains("hunter2"));
    }

    #[test]
    fn seq_and_unread_count_per_conversation() {
        let batch = [
            new("user:d", "contact:p", "1", None),
            new("contact:p", "user:d", "2", None),
            new("user:d", "contact:q", "3", None),
            new("user:d", "contact:p", "4", None),
        ];
        let classified = classify(&batch, &HashMap::new());
        let delta = classified.deltas.iter().find(|delta| delta.id == batch[0].message.conversation.id()).unwrap();
        assert_eq!((delta.sent, delta.unread), (3, [1, 2]));
        assert_eq!(delta.first_unread, [Some(2), Some(1)], "places among the messages of the batch");
        let at = now();
        let placed = placed(&batch, &classified, &counters(&batch, &classified, at));
        assert_eq!(placed.iter().map(|message| message.seq).collect::<Vec<_>>(), [11, 12, 11, 13]);
        assert!(placed.iter().all(|message| message.sent_at == at), "the time is the database's word");
    }

    #[test]
    fn batch_yields_one_update_per_conversation() {
        let batch = ["1", "2", "3"].map(|text| new("user:d", "contact:p", text, None));
        let other = new("user:d", "contact:q", "4", None);
        let batch = [&batch[..], &[other]].concat();
        let classified = classify(&batch, &HashMap::new());
        let counters = counters(&batch, &classified, now());
        let placed = placed(&batch, &classified, &counters);
        let mut rows: Vec<_> = inbox_updates(&placed, &counters)
            .unwrap()
            .into_iter()
            .map(|changed| match changed {
                InboxUpdate::Snapshot(standing) => {
                    assert_eq!(standing.first_unread, [Some(2), Some(1)]);
                    (standing.last_message.seq, standing.last_message.id, standing.unread)
                }
                InboxUpdate::Stale(_) => panic!("it is known"),
            })
            .collect();
        rows.sort_unstable();
        assert_eq!(rows, [(11, placed[3].id, [3, 4]), (13, placed[2].id, [3, 4])]);
    }

    #[test]
    fn row_that_does_not_know_its_first_unread_is_read_again() {
        let batch = [new("user:d", "contact:p", "1", None)];
        let classified = classify(&batch, &HashMap::new());
        let mut counters = counters(&batch, &classified, now());
        let placed = placed(&batch, &classified, &counters);
        counters.values_mut().for_each(|counters| counters.first_unread = None);
        let updates = inbox_updates(&placed, &counters).unwrap();
        assert!(matches!(&updates[..], [InboxUpdate::Stale(of)] if *of == batch[0].message.conversation));
    }

    #[test]
    fn repeats_are_recognized_and_take_no_seq() {
        let batch = [
            new("user:d", "contact:p", "1", Some(1)),
            new("user:d", "contact:p", "2", Some(2)),
            new("user:d", "contact:p", "2", Some(2)),
            new("user:d", "contact:p", "other", Some(2)),
            new("contact:p", "user:d", "2", Some(2)),
            new("user:d", "contact:p", "other", Some(1)),
        ];
        let classified = classify(&batch, &HashMap::from([stored(&batch[0])]));
        let kinds = &classified.kinds;
        assert!(matches!(&kinds[0], SendKind::RepeatOfStored(_)));
        assert!(matches!(&kinds[1], SendKind::New));
        assert!(matches!(&kinds[2], SendKind::RepeatInBatch(1)));
        assert!(matches!(&kinds[3], SendKind::IdReused));
        assert!(matches!(&kinds[4], SendKind::New), "another sender's ids are its own");
        assert!(matches!(&kinds[5], SendKind::IdReused));
        let placed = placed(&batch, &classified, &counters(&batch, &classified, now()));
        assert_eq!(placed.iter().map(|message| message.seq).collect::<Vec<_>>(), [11, 12]);
        let done = build_result(&classified.kinds, &batch, &placed, Some((1, Vec::new()))).unwrap();
        let events = done.entry.unwrap().events;
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| event.draft.request_id.as_deref() == Some("r1")));
        assert!(matches!(&done.outcomes[..], [
            SendOutcome::Repeated(_), SendOutcome::Created(first), SendOutcome::Repeated(second), SendOutcome::IdReused,
            SendOutcome::Created(_), SendOutcome::IdReused
        ] if first == second));
    }
}
