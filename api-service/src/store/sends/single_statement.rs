//! A batch in one statement and one round trip, as it is nearly always.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Object;

use super::dedup::{assign_relative_seq, assign_seq, classify};
use super::{CommittedBatch, audit_rows, outcome_unknown};
use crate::model::message::NewMessage;
use crate::model::origin::Origin;
use crate::store::audit::{self, Lease};
use crate::store::conversations::{self, CounterDeltaColumns};
use crate::store::keys::data_keys::SealingKeys;
use crate::store::{StoreError, messages};

/// All that a batch of new messages writes, in one statement. Parameters: those of [`audit::APPEND`], $1 to $21; those of
/// [`conversations::INCREMENT`], $22 to $25; then the messages' columns, of which `$content` are those from $35 on, of the types
/// `$types`; and the hashes of their texts, `$text_macs`. Places in a conversation are relative to where it then stands.
///
/// `bumped` counts nothing when a conversation is not open or a client id is known, and everything else is written when it has
/// counted all of them: behind the locks, so the outbox is in the order of the commits. What was committed while it waited for a
/// lock it does not see: a repeat of that violates the index of client ids, which undoes everything.
/// So does a conversation that was deleted meanwhile: the outbox takes no row without ids.
macro_rules! single_statement {
    ($content:literal, $types:literal, $text_macs:literal) => {
        concat!(
            "with bumped as (",
            conversations::increment_statement!(
                "$22",
                "$23",
                "$24",
                "$25",
                " and (select count(*) from conversations where id = any($22::uuid[])) = cardinality($22::uuid[])
                  and not exists (
                      select from unnest($34::uuid[], $27::text[], $28::text[], $30::text[])
                          as x (client_message_id, location_id, user_id, contact_id)
                      join messages m on m.client_message_id = x.client_message_id and m.location_id = x.location_id
                           and coalesce('user:' || m.sender_user_id::text, 'contact:' || m.sender_contact_id::text)
                               = coalesce('user:' || x.user_id, 'contact:' || x.contact_id)
                  )"
            ),
            "), written as (
                insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                    receiver_contact_id, conversation_id, seq, client_message_id, sent_at, ",
            $content,
            ") select x.id, x.location_id, x.sender_user_id, x.receiver_user_id, x.sender_contact_id,
                    x.receiver_contact_id, x.conversation_id, b.last_seq + x.seq, x.client_message_id, b.last_activity_at, ",
            $content,
            "   from unnest($26::uuid[], $27::text[], $28::text[], $29::text[], $30::text[], $31::text[], $32::uuid[],
                    $33::bigint[], $34::uuid[], ",
            $types,
            ") as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                    receiver_contact_id, conversation_id, seq, client_message_id, ",
            $content,
            ")  join bumped b on b.id = x.conversation_id
            ), remembered as (
                insert into outbox (kind, message_ids)
                select 'message', case when (select count(*) from bumped) = cardinality($22::uuid[]) then $26::uuid[] end
                where exists (select from bumped)
                returning id
            ), head as (",
            audit::move_end!(" and (select count(*) from bumped) = cardinality($22::uuid[])"),
            "), noted as (",
            audit::add_rows!($text_macs, " where (select count(*) from bumped) = cardinality($22::uuid[])"),
            ") select b.*, (select id from remembered) from bumped b"
        )
    };
}

fn statement_text(sealing: &SealingKeys) -> &'static str {
    const PLAIN: &str = single_statement!("content", "$35::text[]", "$36");
    const SEALED: &str = single_statement!("content_key, content_sealed", "$35::uuid[], $36::bytea[]", "$37");
    if sealing.is_some() { SEALED } else { PLAIN }
}

/// Writes a batch as if all of it were new and every conversation open. `None`, and nothing is written, when that is not so
/// or another transaction stands in the way.
pub(super) async fn write_single_statement(
    client: &Object,
    sealing: &SealingKeys,
    batch: &[Arc<NewMessage>],
    origins: &[Origin],
    lease: &mut Lease,
) -> Result<Option<CommittedBatch>, StoreError> {
    let classified = classify(batch, &HashMap::new());
    let mut new = assign_relative_seq(batch, &classified)?;
    let trail = audit_rows(&classified.kinds, batch, origins, &new, lease)?;
    let statement = client.prepare_cached(statement_text(sealing)).await?;
    let chained = lease.chain_rows(&trail)?;
    let rows = {
        let (trail, deltas) = (chained.columns()?, CounterDeltaColumns::new(&classified.deltas));
        let messages = messages::Columns::new(&new, sealing)?;
        let text_macs = [trail.text_macs()];
        let parameters = [&trail.parameters()[..], &deltas.parameters(), &messages.parameters(), &text_macs].concat();
        match client.query(&statement, &parameters).await {
            Ok(rows) => rows,
            Err(error) => {
                lease.statement_failed(&error);
                match StoreError::from(error) {
                    // Undone, and certainly so: the other transaction is looked at behind the locks.
                    StoreError::Contended(_) => Vec::new(),
                    // Undone as well. If it is this chain that is locked, it is given up with the lease.
                    error @ (StoreError::Locked(_) | StoreError::TimedOut(_)) => {
                        if lease.is_free(client).await {
                            lease.rollback();
                        }
                        return Err(error);
                    }
                    error => return Err(error),
                }
            }
        }
    };
    let Some(row) = rows.first() else {
        lease.rollback();
        return Ok(None);
    };
    // It is committed. Whatever cannot be read from here on, nobody may take it for something that was not written.
    let outbox_id = row.try_get(5).map_err(outcome_unknown)?;
    let counters = conversations::read_counters(&rows).map_err(outcome_unknown)?;
    assign_seq(&mut new, &counters).map_err(outcome_unknown)?;
    Ok(Some(CommittedBatch { kinds: classified.kinds, new, counters, outbox_id }))
}
