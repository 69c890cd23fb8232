//! The table `conversations`: a send locks and counts up its rows, and the inbox reads them.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::{GenericClient, Object};
use shared::contract::ids::{ConversationId, LocationId};
use shared::contract::participant::{Conversation, Participant, ParticipantKind};
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::first_unread::{self, first_unread, found, holds, lower_bound, to_other, to_user};
use super::{Store, StoreError, messages};
use crate::envelope::EnvelopeKeys;
use crate::model::inbox::{self, InboxCursor};
use crate::model::page::MAX_PAGE_BYTES;
use crate::store::data_keys::{self, OpeningKeys};

/// Counters of a conversation, as a send needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConversationCounters {
    pub(super) last_seq: i64,
    pub(super) last_activity_at: OffsetDateTime,
    /// Unread messages of the first and the second participant.
    pub(super) unread: [i32; 2],
    /// The first of them. `None` when the row does not know it.
    pub(super) first_unread: Option<[Option<i64>; 2]>,
}

/// What a batch adds to the counters of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CounterDelta {
    pub(super) id: ConversationId,
    /// New messages.
    pub(super) sent: i32,
    /// New messages to the first and to the second participant.
    pub(super) unread: [i32; 2],
    /// The first of them: its place among the new messages, counted from 1.
    pub(super) first_unread: [Option<i32>; 2],
}

/// Inserts the rows of new conversations, in a transaction of its own before any lock is held, so that two of these cannot
/// deadlock. A row without messages appears in no inbox.
pub(super) async fn open(client: &Object, new: &[&Conversation]) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "insert into conversations (id, location_id, user_id, contact_id, peer_user_id, last_activity_at)
             select id, location_id, user_id, contact_id, peer_user_id, to_timestamp(0)
             from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
                  as x (id, location_id, user_id, contact_id, peer_user_id)
             order by id
             on conflict (id) do nothing",
        )
        .await?;
    let column = |value: fn(&Conversation) -> Option<&str>| new.iter().map(|c| value(c)).collect::<Vec<_>>();
    let ids: Vec<ConversationId> = new.iter().map(|c| c.id()).collect();
    let locations = column(|c| Some(c.location().as_str()));
    let users = column(|c| Some(c.first().id.as_str()));
    let contacts = column(|c| c.second().contact_id().map(|id| id.as_str()));
    let peers = column(|c| c.second().user_id().map(|id| id.as_str()));
    client.execute(&statement, &[&ids, &locations, &users, &contacts, &peers]).await?;
    Ok(())
}

/// Locks the conversations and counts them up in one statement, in the order of their ids. Every statement locks in this order,
/// so no deadlock arises.
///
/// `last_activity_at` comes from the database's clock, which all instances share. Within a conversation it never runs backwards,
/// and an invalid time (`infinity`) is replaced. `$ids` to `$first_to_other` are the parameters, `$only` is a further condition.
///
/// The first unread message is set where nothing was unread before. With nothing unread at all, every message is read, so both
/// columns hold again.
macro_rules! increment_statement {
    (
        $ids:literal, $sent:literal, $to_user:literal, $to_other:literal,
        $first_to_user:literal, $first_to_other:literal, $only:literal
    ) => {
        concat!(
            "update conversations c
            set last_seq = c.last_seq + x.sent, last_activity_at = greatest(
                    case when c.last_activity_at < '9999-12-31' then c.last_activity_at end, statement_timestamp()
                ),
                user_unread = c.user_unread + x.to_user, other_unread = c.other_unread + x.to_other,
                user_first_unread = case when c.user_unread = 0 then c.last_seq + x.first_to_user else c.user_first_unread end,
                other_first_unread =
                    case when c.other_unread = 0 then c.last_seq + x.first_to_other else c.other_first_unread end,
                first_unread_reads =
                    case when c.user_unread = 0 and c.other_unread = 0 then c.last_seq else c.first_unread_reads end
            from (
                select id, sent, to_user, to_other, first_to_user, first_to_other
                from unnest(",
            $ids,
            "::uuid[], ",
            $sent,
            "::integer[], ",
            $to_user,
            "::integer[], ",
            $to_other,
            "::integer[], ",
            $first_to_user,
            "::integer[], ",
            $first_to_other,
            "::integer[]) as x (id, sent, to_user, to_other, first_to_user, first_to_other)
                order by id
            ) x
            where c.id = x.id",
            $only,
            " returning c.id, c.last_seq, c.last_activity_at, c.user_unread, c.other_unread,
                c.user_first_unread, c.other_first_unread, c.first_unread_reads"
        )
    };
}
pub(super) use increment_statement;

pub(super) const INCREMENT: &str = increment_statement!("$1", "$2", "$3", "$4", "$5", "$6", "");

/// Columns that [`INCREMENT`] returns.
pub(super) const INCREMENT_COLUMNS: usize = 8;

/// Names of the parameters of [`INCREMENT`], in order.
pub(super) const INCREMENT_PARAMETERS: [&str; 6] =
    ["conversation_ids", "sent", "to_first", "to_second", "first_unread_of_first", "first_unread_of_second"];

/// Counts up conversations, which stay locked, and returns the new counters. Conversations without a row are missing in the
/// result. `statement` is [`INCREMENT`].
pub(super) async fn increment(
    client: &Object,
    statement: &Statement,
    deltas: &[CounterDelta],
) -> Result<HashMap<ConversationId, ConversationCounters>, StoreError> {
    read_counters(&client.query(statement, &CounterDeltaColumns::new(deltas).parameters()).await?)
}

/// Counter deltas by column.
pub(super) struct CounterDeltaColumns {
    ids: Vec<ConversationId>,
    sent: Vec<i32>,
    unread: [Vec<i32>; 2],
    first_unread: [Vec<Option<i32>>; 2],
}

impl CounterDeltaColumns {
    pub(super) fn new(deltas: &[CounterDelta]) -> Self {
        Self {
            ids: deltas.iter().map(|delta| delta.id).collect(),
            sent: deltas.iter().map(|delta| delta.sent).collect(),
            unread: [0, 1].map(|side: usize| deltas.iter().map(|delta| delta.unread[side]).collect()),
            first_unread: [0, 1].map(|side: usize| deltas.iter().map(|delta| delta.first_unread[side]).collect()),
        }
    }

    /// In the order of the parameters of [`INCREMENT`].
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); INCREMENT_PARAMETERS.len()] {
        let ([to_user, to_other], [first_to_user, first_to_other]) = (&self.unread, &self.first_unread);
        [&self.ids, &self.sent, to_user, to_other, first_to_user, first_to_other]
    }
}

/// Reads the rows that [`INCREMENT`] returns.
pub(super) fn read_counters(rows: &[Row]) -> Result<HashMap<ConversationId, ConversationCounters>, StoreError> {
    let counters = |row: &Row| {
        let (last_seq, unread) = (row.try_get(1)?, [row.try_get(3)?, row.try_get(4)?]);
        let first_unread = first_unread::stored(last_seq, unread, [row.try_get(5)?, row.try_get(6)?], row.try_get(7)?);
        let last_activity_at = row.try_get(2)?;
        Ok((row.try_get(0)?, ConversationCounters { last_seq, last_activity_at, unread, first_unread }))
    };
    super::without_panic(|| rows.iter().map(counters).collect())
}

/// Snapshots of conversations. Parameters: ids, locations.
const SNAPSHOTS: &str = concat!(
    "select c.user_unread, c.other_unread, c.last_activity_at, ",
    first_unread!(
        conversation: "c.id", receiver: to_user!(), unread: "c.user_unread", first: "c.user_first_unread",
        bound: lower_bound!("c.user_first_unread"), holds: holds!(), most: "1000"
    ),
    " as user_first_unread, ",
    first_unread!(
        conversation: "c.id", receiver: to_other!(), unread: "c.other_unread", first: "c.other_first_unread",
        bound: lower_bound!("c.other_first_unread"), holds: holds!(), most: "1000"
    ),
    " as other_first_unread, ",
    messages::columns!("m"),
    " from unnest($1::uuid[], $2::text[]) as x (id, location_id)
      join conversations c on c.id = x.id and c.location_id = x.location_id
      join messages m on m.conversation_id = c.id and m.seq = c.last_seq"
);

/// Reads snapshots of these conversations. A conversation whose row or last message cannot be read is left out.
pub(super) async fn snapshots(
    client: &impl GenericClient,
    envelope_keys: Option<&EnvelopeKeys>,
    ids: &[ConversationId],
    locations: &[&str],
) -> Result<Vec<inbox::ConversationSnapshot>, StoreError> {
    let statement = client.prepare_cached(SNAPSHOTS).await?;
    let rows = client.query(&statement, &[&ids, &locations]).await?;
    let opening = data_keys::opening_keys(client, envelope_keys, &rows).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        match super::without_panic(|| snapshot(row, &opening)) {
            Ok(snapshot) => found.push(snapshot),
            // The defect concerns this conversation only and must not delay others.
            Err(error) => {
                tracing::error!(%error, "inbox row unreadable, not published");
                metrics::counter!("ehr_chat_inbox_rows_failed_total", "cause" => "unreadable").increment(1);
            }
        }
    }
    Ok(found)
}

fn snapshot(row: &Row, opening: &OpeningKeys) -> Result<inbox::ConversationSnapshot, StoreError> {
    Ok(inbox::ConversationSnapshot {
        last_message: messages::message(row, opening)?,
        unread: [row.try_get("user_unread")?, row.try_get("other_unread")?],
        first_unread: [found(row.try_get("user_first_unread")?), found(row.try_get("other_first_unread")?)],
        last_activity_at: row.try_get("last_activity_at")?,
    })
}

/// A page of one participant's conversations, plus the rest of its last hour.
///
/// The index returns hours newest first, so nothing is sorted here. If PostgreSQL had to sort within hours, it would expect
/// hardly a row and sort everything the participant has. As in a history, content beyond $6 bytes is not read, except for one
/// more row. `$side` is the participant's column, `$unread` its counter, `$first` its first unread message, and `$is_other` says
/// whether it is the second side.
macro_rules! inbox_page {
    ($side:literal, $unread:literal, $first:literal, $is_other:literal) => {
        concat!(
            "(select c.id as conversation, c.user_id, c.contact_id, c.peer_user_id, c.last_seq, c.last_activity_at, c.",
            $unread,
            " as unread, c.",
            $first,
            " as first_unread, ",
            holds!(),
            " as holds, ",
            $is_other,
            " as is_other from conversations c where c.location_id = $1 and c.",
            $side,
            " = $2 and c.last_seq > 0 and c.last_activity_hour <= $3
               and (c.last_activity_at, c.id) < ($3, $4)
             order by c.last_activity_hour desc fetch first $5 rows with ties)"
        )
    };
}

macro_rules! inbox_query {
    ($($page:expr),+) => {
        concat!(
            "select p.* from (
             select c.conversation, c.user_id, c.contact_id, c.peer_user_id, c.last_activity_at, c.unread, ",
            first_unread!(
                conversation: "c.conversation",
                receiver: "(m.receiver_user_id is distinct from c.user_id) = c.is_other", unread: "c.unread",
                first: "c.first_unread", bound: lower_bound!("c.first_unread"), holds: "c.holds", most: "1000"
            ),
            " as first_unread, ",
            messages::columns!("m"),
            ", sum(coalesce(octet_length(m.content), octet_length(m.content_sealed) - 28)) over (
                   order by c.last_activity_at desc, c.conversation desc
                   rows between unbounded preceding and 2 preceding) as bytes_before
               from (select p.conversation, p.user_id, p.contact_id, p.peer_user_id, p.last_seq, p.last_activity_at, p.unread,
                    p.first_unread, p.holds, p.is_other from (",
            $($page),+,
            ") p order by p.last_activity_at desc, p.conversation desc limit $5) c
             join messages m on m.conversation_id = c.conversation and m.seq = c.last_seq
             ) p where coalesce(p.bytes_before, 0) < $6 order by p.last_activity_at desc, p.conversation desc"
        )
    };
}

const INBOX_OF_CONTACT: &str = inbox_query!(inbox_page!("contact_id", "other_unread", "other_first_unread", "true"));
const INBOX_OF_USER: &str = inbox_query!(
    inbox_page!("user_id", "user_unread", "user_first_unread", "false"),
    " union all ",
    inbox_page!("peer_user_id", "other_unread", "other_first_unread", "true")
);

/// Conversations whose rows another transaction holds: rows that exist but cannot be locked now.
const LOCKED_CONVERSATIONS: &str = "with free as materialized (
        select id from conversations where id = any($1::uuid[]) order by id for no key update skip locked
    )
    select c.id from conversations c
    where c.id = any($1::uuid[]) and not exists (select from free where free.id = c.id)";

impl Store {
    /// Returns the conversations that have a message.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn with_messages(
        &self,
        conversations: &[(ConversationId, &LocationId)],
    ) -> Result<HashSet<ConversationId>, StoreError> {
        let (ids, locations): (Vec<_>, Vec<_>) =
            conversations.iter().map(|(id, location)| (*id, location.as_str())).unzip();
        self.with_connection(async |client| {
            let statement = client
                .prepare_cached(
                    "select c.id from unnest($1::uuid[], $2::text[]) as x (id, location_id)
                     join conversations c on c.id = x.id and c.location_id = x.location_id
                     where c.last_seq > 0",
                )
                .await?;
            let rows = client.query(&statement, &[&ids, &locations]).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
        .await
    }

    /// Returns the conversations whose rows another transaction holds.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Locked`] when the whole table is locked.
    pub async fn locked_conversations(
        &self,
        conversations: &[ConversationId],
    ) -> Result<HashSet<ConversationId>, StoreError> {
        self.ids_locked_by_others(LOCKED_CONVERSATIONS, conversations).await
    }

    /// Reads snapshots of these conversations.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn snapshots(
        &self,
        conversations: &[Conversation],
    ) -> Result<Vec<inbox::ConversationSnapshot>, StoreError> {
        let ids: Vec<_> = conversations.iter().map(Conversation::id).collect();
        let locations: Vec<_> = conversations.iter().map(|conversation| conversation.location().as_str()).collect();
        self.with_connection(async |client| snapshots(&*client, self.envelope_keys.as_deref(), &ids, &locations).await)
            .await
    }

    /// Reads the conversations of `viewer` in `location` after `cursor`, newest activity first. At most `limit`, and at most one
    /// more than fits a page.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn inbox(
        &self,
        location: &LocationId,
        viewer: &Participant,
        cursor: Option<InboxCursor>,
        limit: usize,
    ) -> Result<Vec<inbox::InboxRow>, StoreError> {
        let query = if viewer.kind == ParticipantKind::User { INBOX_OF_USER } else { INBOX_OF_CONTACT };
        // Without a cursor: after the end of time.
        let from = cursor.unwrap_or(InboxCursor {
            last_activity_at: time::macros::datetime!(9999-01-01 0:00 UTC),
            conversation_id: ConversationId::max(),
        });
        let limit = i64::try_from(limit).map_err(StoreError::internal)?;
        let max_bytes = i64::try_from(MAX_PAGE_BYTES).map_err(StoreError::internal)?;
        self.with_read_connection(async |client| {
            let statement = client.prepare_cached(query).await?;
            let rows = client
                .query(
                    &statement,
                    &[
                        &location.as_str(),
                        &viewer.id.as_str(),
                        &from.last_activity_at,
                        &from.conversation_id,
                        &limit,
                        &max_bytes,
                    ],
                )
                .await?;
            let opening = data_keys::opening_keys(client, self.envelope_keys.as_deref(), &rows).await?;
            rows.iter().map(|row| inbox_row(row, &opening, location, viewer)).collect()
        })
        .await
    }
}

fn inbox_row(
    row: &Row,
    opening: &OpeningKeys,
    location: &LocationId,
    viewer: &Participant,
) -> Result<inbox::InboxRow, StoreError> {
    let person = |column| messages::person(row, column);
    let first = Participant::user(person("user_id")?.ok_or_else(|| StoreError::internal("no user_id"))?);
    let second = match (person("contact_id")?, person("peer_user_id")?) {
        (Some(contact), _) => Participant::contact(contact),
        (None, Some(peer)) => Participant::user(peer),
        (None, None) => return Err(StoreError::internal("a conversation without a second participant")),
    };
    Ok(inbox::InboxRow {
        conversation: Conversation::new(location.clone(), first, second).map_err(StoreError::internal)?,
        viewer: viewer.clone(),
        last_message: messages::message(row, opening)?,
        unread_count: row.try_get("unread")?,
        first_unread_seq: found(row.try_get("first_unread")?),
        last_activity_at: row.try_get("last_activity_at")?,
    })
}
