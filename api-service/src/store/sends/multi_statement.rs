//! A batch in two round trips, which looks for repeats after locking. Used when the batch holds a repeat or the first message of
//! a conversation, or when another transaction interfered.

use std::collections::HashMap;

use deadpool_postgres::Object;
use tokio::try_join;
use tokio_postgres::Statement;

use super::batch::{BatchResult, CommittedBatch, audit_rows, build_result, outcome_unknown};
use super::dedup::{Classified, RepeatKey, assign_relative_seq, assign_seq, classify, is_stored, repeat_key};
use crate::audit::row::Row as AuditRow;
use crate::envelope::EnvelopeKeys;
use crate::model::message::Message;
use crate::model::send::SendRequest;
use crate::store::audit::{self, Lease};
use crate::store::conversations::{self, ConversationCounters};
use crate::store::data_keys::{self, SealingKeys};
use crate::store::{StoreError, messages, outbox};
use shared::contract::ids::ConversationId;

/// What is needed before the transaction begins.
pub(super) struct PreparedBatch<'a> {
    pub(super) statements: Statements,
    pub(super) sealing: SealingKeys,
    pub(super) envelope_keys: Option<&'a EnvelopeKeys>,
}

/// Prepared in advance, because statements within the transaction are pipelined.
pub(super) struct Statements {
    increment: Statement,
    repeats: Statement,
    insert: Statement,
    insert_outbox: Statement,
    audit: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Object, sealing: &SealingKeys) -> Result<Self, StoreError> {
        let (increment, repeats, insert, insert_outbox, audit) = try_join!(
            client.prepare_cached(conversations::INCREMENT),
            client.prepare_cached(messages::BY_CLIENT_ID),
            client.prepare_cached(messages::insert_statement(sealing)),
            client.prepare_cached(outbox::INSERT_MESSAGES),
            client.prepare_cached(audit::APPEND),
        )?;
        Ok(Self { increment, repeats, insert, insert_outbox, audit })
    }
}

/// Writes a batch that the single statement cannot write. The caller rolls back after an error.
pub(super) async fn write_multi_statement(
    client: &Object,
    prepared: &PreparedBatch<'_>,
    batch: &[SendRequest],
    mut lease: Lease,
) -> Result<BatchResult, StoreError> {
    let mut stored: HashMap<RepeatKey, Message> = HashMap::new();
    loop {
        let classified = classify(batch, &stored);
        if classified.deltas.is_empty() {
            let trail = audit_rows(&classified.kinds, batch, &[], &lease);
            lease.append(client, &prepared.statements.audit, &trail).await?;
            lease.committed();
            return build_result(&classified.kinds, batch, &[], None);
        }
        let locked = LockedBatch::begin(client, prepared, batch, &classified).await?;
        if locked.counters.len() < classified.deltas.len() {
            // The first message of a conversation.
            client.batch_execute("rollback").await?;
            let conversations = batch.iter().map(|request| &request.message.conversation);
            let new: Vec<_> = conversations.filter(|one| !locked.counters.contains_key(&one.id())).collect();
            conversations::open(client, &new).await?;
            continue;
        }
        let known = stored.len();
        stored.extend(locked.repeats.into_iter().filter_map(|message| Some((repeat_key(&message.new)?, message))));
        if classified
            .kinds
            .iter()
            .zip(batch)
            .any(|(kind, request)| kind.is_new() && is_stored(&request.message, &stored))
        {
            debug_assert!(stored.len() > known, "what was known was no new message");
            client.batch_execute("rollback").await?;
            continue;
        }
        let mut new = assign_relative_seq(batch, &classified)?;
        assign_seq(&mut new, &locked.counters)?;
        let trail = audit_rows(&classified.kinds, batch, &new, &lease);
        let outbox_id = write(client, prepared, &new, &trail, &mut lease).await?;
        lease.committed();
        return CommittedBatch { kinds: classified.kinds, new, counters: locked.counters, outbox_id }.to_result(batch);
    }
}

/// The state after the conversations are locked.
struct LockedBatch {
    counters: HashMap<ConversationId, ConversationCounters>,
    /// Messages that were sent under client ids of this batch.
    repeats: Vec<Message>,
}

impl LockedBatch {
    /// Begins the transaction, counts up the conversations and looks for repeats, in one round trip. The statements run in order,
    /// so the search sees every transaction that held the locks before.
    async fn begin(
        client: &Object,
        PreparedBatch { statements, envelope_keys, .. }: &PreparedBatch<'_>,
        batch: &[SendRequest],
        classified: &Classified,
    ) -> Result<Self, StoreError> {
        let new = classified.kinds.iter().zip(batch).filter(|(kind, _)| kind.is_new());
        let (mut client_ids, mut locations, mut senders) = (Vec::new(), Vec::new(), Vec::new());
        for (_, SendRequest { message: new, .. }) in new {
            if let Some(client_id) = new.client_message_id {
                client_ids.push(client_id);
                locations.push(new.conversation.location().as_str());
                senders.push(new.sender.to_string());
            }
        }
        let repeats = async {
            match client_ids.is_empty() {
                true => Ok(Vec::new()),
                false => Ok(client.query(&statements.repeats, &[&client_ids, &locations, &senders]).await?),
            }
        };
        let ((), counters, repeats) = try_join!(
            biased;
            async { Ok(client.batch_execute("begin").await?) },
            conversations::increment(client, &statements.increment, &classified.deltas),
            repeats,
        )?;
        let opening = data_keys::opening_keys(client, *envelope_keys, &repeats).await?;
        let repeats = repeats.iter().map(|row| messages::message(row, &opening)).collect::<Result<_, _>>()?;
        Ok(Self { counters, repeats })
    }
}

/// Writes what is new and commits, in one round trip. After a failed write the commit is a rollback, and the write reports the
/// error. Returns the id of the outbox row.
async fn write(
    client: &Object,
    PreparedBatch { statements, sealing, .. }: &PreparedBatch<'_>,
    new: &[Message],
    trail: &[AuditRow],
    lease: &mut Lease,
) -> Result<i64, StoreError> {
    let ids: Vec<_> = new.iter().map(|message| message.id).collect();
    let ((), row, (), ()) = try_join!(
        biased;
        messages::insert(client, &statements.insert, new, sealing),
        async { Ok(client.query_one(&statements.insert_outbox, &[&ids]).await?) },
        lease.append(client, &statements.audit, trail),
        async { Ok(client.batch_execute("commit").await?) },
    )?;
    // The batch is committed.
    row.try_get(0).map_err(outcome_unknown)
}
