//! The transaction of receipts: messages, counters, outbox and audit trail together, or nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use deadpool_postgres::Transaction;
use futures_util::future::try_join_all;
use shared::contract::audit::denials::DenialAggregator;
use shared::contract::audit::{Action, AuditActor, AuditEntry};
use shared::contract::event::OutgoingEvent;
use shared::contract::ids::{ConversationId, LocationId, MessageId};
use shared::contract::participant::{Conversation, Participant};
use shared::contract::receipt::ReceiptKind;
use shared::contract::redis::keys::Channel;
use shared::kit::timestamp::timestamp;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::first_unread::COUNT_READS;
use super::outbox::{self, OutboxEntry, OutboxEvent};
use super::{Class, Store, StoreError, audit, messages};
use crate::audit::row::Row as AuditRow;
use crate::model::inbox::InboxUpdate;
use crate::model::mark::{Mark, Marked};

/// Ids that an audit row lists for a mark without effect. A client can send 500 unknown ids per request.
const MAX_UNCHANGED_IDS: usize = 20;

/// The messages that marks name and may change: `x` is a message with its mark, `g` the locations of a mark, `p` its receiver.
/// This join is the authorization: only messages in the mark's locations whose receiver is `p`.
macro_rules! authorized_marks {
    () => {
        "unnest($1::uuid[], $2::integer[]) as x (id, mark)
         join unnest($3::integer[], $4::text[]) as g (mark, location_id) on g.mark = x.mark
         join unnest($5::integer[], $6::text[], $7::text[], $8::timestamptz[])
              as p (mark, user_id, contact_id, at) on p.mark = x.mark
         join messages m on m.id = x.id and m.location_id = g.location_id
              and (m.receiver_user_id = p.user_id or m.receiver_contact_id = p.contact_id)"
    };
}

/// Locks the conversations whose unread counters will change. Always before the messages, in the order of the ids.
const LOCK_CONVERSATIONS: &str = concat!(
    "select id from conversations where id in (select m.conversation_id from ",
    authorized_marks!(),
    " where m.read_at is null) order by id for update"
);

/// Sets the times that are not set yet, and returns every message that a mark may change.
///
/// A reporter's clock may be wrong. So the time is clamped: not in the future by the database's clock, and not before the latest
/// message of the mark was sent and delivered. All messages of a mark get one time, so that they form one event. The rows are
/// locked, so the result is computed without reading the update: that join would compare every message with every other.
macro_rules! mark_query {
    ($set:literal, $unset:literal, $read_at:literal) => {
        concat!(
            "with theirs as materialized (
                 select m.id, p.mark, p.at, m.sent_at, m.delivered_at, m.read_at, m.location_id, m.conversation_id,
                        m.receiver_user_id, m.receiver_contact_id, m.sender_user_id, m.sender_contact_id
                 from ",
            authorized_marks!(),
            " order by m.id for update of m
             ), timed as materialized (
                 select t.*, greatest(
                     least(t.at, statement_timestamp()),
                     max(greatest(t.sent_at, t.delivered_at)) filter (where t.",
            $unset,
            " is null) over (partition by t.mark)
                 ) as moment from theirs t
             ), changed as (
                 update messages m set ",
            $set,
            "
                 from timed t where m.id = t.id and m.",
            $unset,
            " is null
             )
             select t.id, t.location_id::text, t.conversation_id, t.receiver_user_id, t.receiver_contact_id,
                    t.sender_user_id, t.sender_contact_id,
                    coalesce(t.delivered_at, t.moment) as delivered_at, ",
            $read_at,
            " as read_at, t.",
            $unset,
            " is null as changed
             from timed t order by t.id"
        )
    };
}

const MARK_DELIVERED: &str = mark_query!("delivered_at = t.moment", "delivered_at", "t.read_at");
const MARK_READ: &str = mark_query!(
    "read_at = t.moment, delivered_at = coalesce(m.delivered_at, t.moment)",
    "read_at",
    "coalesce(t.read_at, t.moment)"
);

/// As long as a batch of sends waits for a lock.
const SHORT_LOCK_TIMEOUT: &str = "set local lock_timeout = '100ms'";

/// Messages that a mark would have to wait for: they or their conversations are locked.
const LOCKED_MESSAGES: &str = "with conversation as materialized (
        select id from conversations where id in (select conversation_id from messages where id = any($1::uuid[]))
        order by id for no key update skip locked
    ), message as materialized (
        select id from messages where id = any($1::uuid[]) order by id for no key update skip locked
    )
    select m.id from messages m
    where m.id = any($1::uuid[])
      and (not exists (select from message where message.id = m.id)
           or not exists (select from conversation where conversation.id = m.conversation_id))";

impl Store {
    /// Returns the messages that other transactions hold, directly or through their conversation.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn locked_messages(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>, StoreError> {
        self.ids_locked_by_others(LOCKED_MESSAGES, ids).await
    }

    /// Applies marks in one transaction. Returns every message that they may change, in its new state, and the outbox entries of
    /// those that did change.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was marked.
    pub async fn mark(&self, marks: &[Mark]) -> Result<(Vec<Marked>, Vec<OutboxEntry>), StoreError> {
        let _leave = self.pools.acquire_mark_permit(self.class).await?;
        self.with_connection(async |client| {
            let mut lease = audit::Lease::take(&self.chains, client).await?;
            let transaction = client.transaction().await?;
            if self.class == Class::Background {
                // A batch holds receipts of many participants. It waits only briefly, and proceeds without locked messages.
                transaction.batch_execute(SHORT_LOCK_TIMEOUT).await?;
            }
            let mut marked = Vec::new();
            let mut receipts = Vec::new();
            let mut trail = Vec::new();
            // Reads first: they lock conversations, which must precede all messages.
            for kind in [ReceiptKind::Read, ReceiptKind::Delivered] {
                let columns = MarkColumns::new(marks.iter().filter(|mark| mark.kind == kind));
                if !columns.ids.is_empty() {
                    let rows = execute_marks(&transaction, kind, &columns).await?;
                    trail.extend(audit_rows(marks.iter().filter(|mark| mark.kind == kind), &rows, &self.refusals)?);
                    // An unreadable row fails only this kind of marks, not the whole batch.
                    let (events, stand) = super::without_panic(|| {
                        Ok((events(kind, &rows)?, rows.iter().map(marked_from_row).collect::<Result<Vec<_>, _>>()?))
                    })?;
                    receipts.extend(events);
                    marked.extend(stand);
                }
            }
            let statement = transaction.prepare_cached(outbox::INSERT_RECEIPT).await?;
            // Pipelined, in order.
            let ids =
                try_join_all(receipts.iter().map(|event| event.insert_outbox_row(&transaction, &statement))).await?;
            if !trail.is_empty() {
                let append = transaction.prepare_cached(audit::APPEND).await?;
                lease.append(&transaction, &append, &trail).await?;
            }
            transaction.commit().await?;
            lease.committed();
            let entries = ids.into_iter().zip(receipts).map(|(id, event)| OutboxEntry {
                id,
                events: vec![event.event()],
                updates: vec![InboxUpdate::Stale(event.conversation)],
            });
            Ok((marked, entries.collect()))
        })
        .await
    }
}

/// Marks by column.
#[derive(Default)]
struct MarkColumns<'a> {
    ids: Vec<MessageId>,
    id_marks: Vec<i32>,
    locations: Vec<&'a str>,
    location_marks: Vec<i32>,
    marks: Vec<i32>,
    users: Vec<Option<&'a str>>,
    contacts: Vec<Option<&'a str>>,
    times: Vec<OffsetDateTime>,
}

impl<'a> MarkColumns<'a> {
    /// A message named by several marks belongs to the first.
    fn new(marks: impl Iterator<Item = &'a Mark>) -> Self {
        let mut columns = Self::default();
        let mut seen = std::collections::HashSet::new();
        for (mark, number) in marks.zip(0_i32..) {
            for id in &mark.message_ids {
                if seen.insert((*id, &mark.receiver)) {
                    columns.ids.push(*id);
                    columns.id_marks.push(number);
                }
            }
            let mut locations: Vec<&LocationId> = mark.locations.iter().collect();
            locations.sort_unstable();
            locations.dedup();
            for location in locations {
                columns.locations.push(location.as_str());
                columns.location_marks.push(number);
            }
            columns.marks.push(number);
            columns.users.push(mark.receiver.user_id().map(|id| id.as_str()));
            columns.contacts.push(mark.receiver.contact_id().map(|id| id.as_str()));
            columns.times.push(mark.at);
        }
        columns
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 8] {
        [
            &self.ids,
            &self.id_marks,
            &self.location_marks,
            &self.locations,
            &self.marks,
            &self.users,
            &self.contacts,
            &self.times,
        ]
    }
}

async fn execute_marks(
    transaction: &Transaction<'_>,
    kind: ReceiptKind,
    columns: &MarkColumns<'_>,
) -> Result<Vec<Row>, StoreError> {
    if kind == ReceiptKind::Delivered {
        let statement = transaction.prepare_cached(MARK_DELIVERED).await?;
        return Ok(transaction.query(&statement, &columns.parameters()).await?);
    }
    let lock = transaction.prepare_cached(LOCK_CONVERSATIONS).await?;
    // This statement ignores the time, but the shared text has all parameters.
    transaction.query(&lock, &columns.parameters()).await?;
    let statement = transaction.prepare_cached(MARK_READ).await?;
    let rows = transaction.query(&statement, &columns.parameters()).await?;
    let mut conversations: Vec<ConversationId> = Vec::new();
    let mut readers: Vec<Option<&str>> = Vec::new();
    for row in &rows {
        if row.try_get("changed")? {
            conversations.push(row.try_get("conversation_id")?);
            readers.push(row.try_get("receiver_user_id")?);
        }
    }
    if !conversations.is_empty() {
        let statement = transaction.prepare_cached(COUNT_READS).await?;
        transaction.execute(&statement, &[&conversations, &readers]).await?;
    }
    Ok(rows)
}

/// The audit rows of marks: one per conversation of a mark, and one for unknown messages. A change is always recorded. Marks
/// without effect can be repeated without bound, so floods of them become counts.
fn audit_rows<'a>(
    marks: impl Iterator<Item = &'a Mark>,
    rows: &[Row],
    refusals: &DenialAggregator,
) -> Result<Vec<AuditRow>, StoreError> {
    let mut matched: HashMap<MessageId, MatchedMessage> = HashMap::with_capacity(rows.len());
    for row in rows {
        matched.insert(row.try_get("id")?, MatchedMessage::from_row(row)?);
    }
    let mut trail = Vec::new();
    for mark in marks {
        let entry = |outcome| {
            let entry =
                AuditEntry::new(AuditActor::Participant(mark.receiver.clone()), Action::from(mark.kind), outcome);
            AuditEntry { at: mark.at, request: mark.request.clone(), ..entry }
        };
        let mut conversations: BTreeMap<ConversationId, (AuditEntry, bool)> = BTreeMap::new();
        let mut unknown = Vec::new();
        for id in &mark.message_ids {
            let found = matched.get(id).filter(|matched| matched.is_within(mark));
            let Some(MatchedMessage { conversation, changed, .. }) = found else {
                unknown.push(*id);
                continue;
            };
            let of_conversation = || entry(200).in_conversation(conversation, Some(&mark.receiver));
            let (entry, is_changed) =
                conversations.entry(conversation.id()).or_insert_with(|| (of_conversation(), false));
            entry.message_ids.push(*id);
            *is_changed |= changed;
        }
        let changes_or_is_one_of_few = |(entry, is_changed)| match is_changed {
            true => Some(entry),
            false => refusals.admit_limited(truncate_ids(entry)),
        };
        trail.extend(
            conversations.into_values().filter_map(changes_or_is_one_of_few).map(|entry| AuditRow::from(&entry)),
        );
        if !unknown.is_empty() {
            // Unknown ids and ids of other participants' messages. An auditor can distinguish them.
            let location = mark.locations.first().filter(|_| mark.locations.len() == 1).cloned();
            let unknown = truncate_ids(AuditEntry { location, message_ids: unknown, ..entry(404) });
            trail.extend(refusals.admit_limited(unknown).map(|entry| AuditRow::from(&entry)));
        }
    }
    Ok(trail)
}

/// Shortens the ids of an entry, and notes how many were cut.
fn truncate_ids(mut entry: AuditEntry) -> AuditEntry {
    if entry.message_ids.len() > MAX_UNCHANGED_IDS {
        entry.detail = Some(format!("and {} more messages", entry.message_ids.len() - MAX_UNCHANGED_IDS));
        entry.message_ids.truncate(MAX_UNCHANGED_IDS);
    }
    entry
}

/// A message that a mark may change.
struct MatchedMessage {
    conversation: Conversation,
    receiver: Participant,
    /// Whether this mark was the first.
    changed: bool,
}

impl MatchedMessage {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        let location = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
        let sender = messages::participant(row, "sender_user_id", "sender_contact_id")?;
        let receiver = messages::participant(row, "receiver_user_id", "receiver_contact_id")?;
        let conversation = Conversation::new(location, sender, receiver.clone()).map_err(StoreError::internal)?;
        Ok(Self { conversation, receiver, changed: row.try_get("changed")? })
    }

    fn is_within(&self, mark: &Mark) -> bool {
        self.receiver == mark.receiver && mark.locations.contains(self.conversation.location())
    }
}

fn marked_from_row(row: &Row) -> Result<Marked, StoreError> {
    Ok(Marked { id: row.try_get("id")?, delivered_at: row.try_get("delivered_at")?, read_at: row.try_get("read_at")? })
}

/// One event: some messages of a conversation were marked at one time.
struct ReceiptEvent {
    kind: ReceiptKind,
    conversation: Conversation,
    at: OffsetDateTime,
    message_ids: Vec<MessageId>,
}

impl ReceiptEvent {
    /// Inserts the outbox row and returns its id.
    async fn insert_outbox_row(&self, transaction: &Transaction<'_>, statement: &Statement) -> Result<i64, StoreError> {
        let Self { kind, conversation, at, message_ids } = self;
        let location = conversation.location().as_str();
        let row =
            transaction.query_one(statement, &[&location, &conversation.id(), &kind.as_str(), message_ids, at]).await?;
        Ok(row.try_get(0)?)
    }

    fn event(&self) -> OutboxEvent {
        let draft = OutgoingEvent::receipt(self.kind, &self.message_ids, &timestamp(self.at));
        OutboxEvent { channel: Channel::from(&self.conversation), draft }
    }
}

fn events(kind: ReceiptKind, rows: &[Row]) -> Result<Vec<ReceiptEvent>, StoreError> {
    let mut events: BTreeMap<(ConversationId, OffsetDateTime), ReceiptEvent> = BTreeMap::new();
    for row in rows {
        if !row.try_get::<_, bool>("changed")? {
            continue;
        }
        let at = row.try_get(kind.time_field())?;
        let MatchedMessage { conversation, .. } = MatchedMessage::from_row(row)?;
        let id = conversation.id();
        let fresh = || ReceiptEvent { kind, conversation, at, message_ids: Vec::new() };
        events.entry((id, at)).or_insert_with(fresh).message_ids.push(row.try_get("id")?);
    }
    Ok(events.into_values().collect())
}
