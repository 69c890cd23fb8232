//! The tables `audit_log` and `audit_chains`. They are append-only.
//!
//! A transaction leases one chain, and adds rows only within itself. If its outcome is unknown, the chain is read again before it
//! is reused ([`chains`]).

pub(in crate::store) mod chains;
pub(in crate::store) mod message_reader;
pub(in crate::store) mod reader;

use std::sync::Arc;

use deadpool_postgres::{GenericClient, Object};
use shared::audit::AuditEntry;
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::audit::chain::Head;
use crate::audit::key::Mac;
use crate::audit::row::Row;
use crate::model::message::Message;
use crate::store::{Store, StoreError};
use chains::{Chain, Chains};

/// PostgreSQL's epoch (2000-01-01), in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Moves the head of a chain, under the condition `$only`. Parameters: chain, new end, new seal.
macro_rules! move_end {
    ($only:literal) => {
        concat!("update audit_chains set n = $2::bigint, seal = $3::bytea where id = $1::bigint", $only)
    };
}
pub(in crate::store) use move_end;

/// Inserts rows, under the condition `$only`. Parameters: `$1` to `$3` as in `move_end`, then the columns of the rows up to
/// `$21`. `$text_macs` is the number of one more parameter. [`ROW_PARAMETERS`] names them.
macro_rules! add_rows {
    ($text_macs:literal, $only:literal) => {
        concat!(
            "insert into audit_log (chain, n, at, times, outcome, conversation_id, event_id, actor, action, acts_for,
                counterpart, location_id, message_ids, detail, request_id, source, mac, text_mac)
            select $1::bigint, n, at, times, outcome, conversation_id, event_id, actor, action, acts_for, counterpart,
                location_id, case when first <= last then ($18::uuid[])[first:last] end, detail, request_id, source, mac, text_mac
            from unnest($4::bigint[], $5::timestamptz[], $6::integer[], $7::smallint[], $8::uuid[], $9::uuid[],
                $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
                $19::integer[], $20::integer[], $21::bytea[], ",
            $text_macs,
            "::bytea[]) as x (n, at, times, outcome, conversation_id, event_id, actor, action, acts_for, counterpart,
                      location_id, detail, request_id, source, first, last, mac, text_mac)",
            $only
        )
    };
}
pub(in crate::store) use add_rows;

/// Names of the parameters of `add_rows` and `move_end`, in order: the first is `$1`. The last part of [`APPEND`], `text_macs`, has a
/// number that depends on the statement.
pub(in crate::store) const ROW_PARAMETERS: [&str; 21] = [
    "chain",
    "chain_end",
    "chain_seal",
    "positions",
    "at",
    "times",
    "outcomes",
    "conversation_ids",
    "event_ids",
    "actors",
    "actions",
    "acts_for",
    "counterparts",
    "location_ids",
    "details",
    "request_ids",
    "sources",
    "message_ids of all rows",
    "first message of a row",
    "last message of a row",
    "macs",
];

/// Inserts rows and moves the head. Parameters: [`Columns::parameters`] and [`Columns::text_macs`].
pub(in crate::store) const APPEND: &str = concat!("with head as (", move_end!(""), ") ", add_rows!("$22", ""));

/// A leased chain. When dropped without [`Lease::committed`], an unused chain is returned, and a used one becomes doubtful.
pub(in crate::store) struct Lease {
    chains: Arc<Chains>,
    chain: Option<Chain>,
    /// The head after the transaction.
    end: Option<Head>,
}

impl Lease {
    pub(in crate::store) fn new(chains: Arc<Chains>, chain: Chain) -> Self {
        Self { chains, chain: Some(chain), end: None }
    }

    /// The HMAC of a new message's text.
    pub(in crate::store) fn text_mac(&self, message: &Message) -> Vec<u8> {
        self.chains.key.text_mac(message.id, message.new.content.as_str())
    }

    /// Assigns positions and hashes to the rows of this transaction. Only once per lease.
    pub(in crate::store) fn chain_rows<'a>(&mut self, rows: &'a [Row]) -> Result<ChainedRows<'a>, StoreError> {
        let chain = self.chain.as_ref().filter(|_| self.end.is_none());
        let mut head = chain.ok_or_else(|| StoreError::internal("a chain was added to twice"))?.head;
        let (first, mut macs, mut buffer) = (head.n + 1, Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            head.advance(&self.chains.key, row, &mut buffer);
            macs.push(head.mac);
        }
        self.end = Some(head);
        Ok(ChainedRows { rows, first, macs, head, seal: head.seal(&self.chains.key) })
    }

    /// The rows were certainly not written: the chain is unchanged.
    pub(in crate::store) fn rollback(&mut self) {
        self.end = None;
    }

    /// Inserts the rows of this transaction. `statement` is [`APPEND`].
    pub(in crate::store) async fn append(
        &mut self,
        client: &impl GenericClient,
        statement: &Statement,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let chained = self.chain_rows(rows)?;
        let columns = chained.columns()?;
        let added = client.execute(statement, &[&columns.parameters()[..], &[columns.text_macs()]].concat()).await;
        if let Err(error) = added {
            self.statement_failed(&error);
            return Err(error.into());
        }
        Ok(())
    }

    /// Called when a statement of the chain has failed. If PostgreSQL rejected the statement itself, nothing was written and the
    /// chain is reused. Otherwise every retry would open another chain.
    pub(in crate::store) fn statement_failed(&mut self, error: &tokio_postgres::Error) {
        if error.code().is_some_and(is_statement_error) {
            self.rollback();
        }
    }

    /// Whether the row of the chain is unlocked. `client` must be outside of a transaction.
    pub(in crate::store) async fn is_free(&self, client: &Object) -> bool {
        let Some(chain) = &self.chain else { return false };
        let look = "select from audit_chains where id = $1 for no key update skip locked";
        let looked = async { client.query_opt(&client.prepare_cached(look).await?, &[&chain.head.chain]).await };
        matches!(looked.await, Ok(Some(_)))
    }

    /// The transaction was committed: the chain is returned with its new head.
    pub(in crate::store) fn committed(mut self) {
        if let (Some(chain), Some(end)) = (&mut self.chain, self.end.take()) {
            chain.head = end;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match (self.chain.take(), self.end) {
            (Some(chain), None) => self.chains.release(chain),
            (Some(chain), Some(_)) => self.chains.mark_doubtful(chain),
            (None, _) => {}
        }
    }
}

/// Rows with positions and hashes.
pub(in crate::store) struct ChainedRows<'a> {
    rows: &'a [Row],
    first: i64,
    macs: Vec<Mac>,
    head: Head,
    seal: Mac,
}

/// Whether PostgreSQL rejected the statement for a reason that no chain can cause: rights, schema or values. A duplicate or
/// missing row may be the chain's fault.
fn is_statement_error(state: &SqlState) -> bool {
    ["22", "42"].iter().any(|class| state.code().starts_with(class))
        || [SqlState::CHECK_VIOLATION, SqlState::NOT_NULL_VIOLATION].contains(state)
}

impl ChainedRows<'_> {
    /// The parameters of a statement that inserts the rows.
    pub(in crate::store) fn columns(&self) -> Result<Columns<'_>, StoreError> {
        fn column<'a, T>(rows: &'a [Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
            rows.iter().map(value).collect()
        }
        let rows = self.rows;
        let (mut ids, mut firsts, mut lasts) = (Vec::<Uuid>::new(), Vec::<i32>::new(), Vec::<i32>::new());
        for row in rows {
            firsts.push(i32::try_from(ids.len() + 1).map_err(StoreError::internal)?);
            ids.extend(row.message_ids.iter().flatten());
            lasts.push(i32::try_from(ids.len()).map_err(StoreError::internal)?);
        }
        Ok(Columns {
            chain: self.head.chain,
            end: self.head.n,
            seal: &self.seal,
            positions: (self.first..=self.head.n).collect(),
            at: column(rows, |row| Micros(row.at)),
            times: column(rows, |row| row.times),
            outcomes: column(rows, |row| row.outcome),
            conversations: column(rows, |row| row.conversation_id),
            events: column(rows, |row| row.event_id),
            words: [column(rows, |row| row.actor.as_str()), column(rows, |row| row.action.as_str())],
            texts: [
                column(rows, |row| row.acts_for.as_deref()),
                column(rows, |row| row.counterpart.as_deref()),
                column(rows, |row| row.location_id.as_deref()),
                column(rows, |row| row.detail.as_deref()),
                column(rows, |row| row.request_id.as_deref()),
                column(rows, |row| row.source.as_deref()),
            ],
            ids,
            firsts,
            lasts,
            macs: self.macs.iter().map(Mac::as_slice).collect(),
            text_macs: column(rows, |row| row.text_mac.as_deref()),
        })
    }
}

/// Rows by column.
pub(in crate::store) struct Columns<'a> {
    chain: i64,
    end: i64,
    seal: &'a [u8],
    positions: Vec<i64>,
    at: Vec<Micros>,
    times: Vec<i32>,
    outcomes: Vec<i16>,
    conversations: Vec<Option<Uuid>>,
    events: Vec<Option<Uuid>>,
    words: [Vec<&'a str>; 2],
    texts: [Vec<Option<&'a str>>; 6],
    /// Ids of the messages of all rows. The ids of a row go from its first to its last index, which count from 1.
    ids: Vec<Uuid>,
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    macs: Vec<&'a [u8]>,
    text_macs: Vec<Option<&'a [u8]>>,
}

impl Columns<'_> {
    /// The parameter that has no fixed number.
    pub(in crate::store) fn text_macs(&self) -> &(dyn ToSql + Sync) {
        &self.text_macs
    }

    /// In the order of [`ROW_PARAMETERS`].
    pub(in crate::store) fn parameters(&self) -> [&(dyn ToSql + Sync); ROW_PARAMETERS.len()] {
        let [actor, action] = &self.words;
        let [acts_for, counterpart, location, detail, request, source] = &self.texts;
        [
            &self.chain,
            &self.end,
            &self.seal,
            &self.positions,
            &self.at,
            &self.times,
            &self.outcomes,
            &self.conversations,
            &self.events,
            actor,
            action,
            acts_for,
            counterpart,
            location,
            detail,
            request,
            source,
            &self.ids,
            &self.firsts,
            &self.lasts,
            &self.macs,
        ]
    }
}

impl Store {
    /// Writes entries durably, all or none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn record(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.with(async |client| append(client, self.chains.lend(client).await?, entries.iter()).await).await
    }

    /// Writes entries that may have been written before; their event ids tell.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Contended`] when another instance is writing one of them.
    pub async fn record_once(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        const KNOWN: &str = "select event_id from audit_log where event_id = any($1)";
        self.with(async |client| {
            let statement = client.prepare_cached(KNOWN).await?;
            let events: Vec<Uuid> = entries.iter().filter_map(|entry| entry.event).collect();
            let rows = client.query(&statement, &[&events]).await?;
            let mut known =
                rows.iter().map(|row| row.try_get(0)).collect::<Result<std::collections::HashSet<Uuid>, _>>()?;
            let new = entries.iter().filter(|entry| entry.event.is_none_or(|event| known.insert(event)));
            append(client, self.chains.lend(client).await?, new).await
        })
        .await
    }

    /// Logs the ends of this process's chains that have changed. Kept elsewhere, the log lines reveal a restored trail.
    pub fn log_anchors(&self) {
        self.chains.log_anchors();
    }
}

/// A transaction of a single statement.
async fn append(
    client: &Object,
    mut lease: Lease,
    entries: impl Iterator<Item = &AuditEntry>,
) -> Result<(), StoreError> {
    let rows: Vec<Row> = entries.map(Row::from).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let statement = client.prepare_cached(APPEND).await?;
    lease.append(client, &statement, &rows).await?;
    lease.committed();
    Ok(())
}

/// Any time in microseconds since 1970. The verifier must be able to read rows that were tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Micros(pub(in crate::store) i64);

impl ToSql for Micros {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.wrapping_sub(EPOCH_MICROS).to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_sql(ty, raw)?.wrapping_add(EPOCH_MICROS)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statement_errors_do_not_abandon_chain() {
        for state in ["42501", "42P01", "42703", "22021", "23514", "23502"] {
            assert!(is_statement_error(&SqlState::from_code(state)), "{state}");
        }
        for state in ["23505", "23503", "55P03", "57014", "57P01", "08006", "40001", "53100", "XX000"] {
            assert!(!is_statement_error(&SqlState::from_code(state)), "{state}");
        }
    }
}
