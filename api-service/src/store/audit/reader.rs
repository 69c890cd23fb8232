//! Reads the audit trail in one snapshot, on a connection of its own. Memory holds one page.

use deadpool_postgres::{ClientWrapper, Transaction};
use shared::contract::audit::AuditActor;
use shared::contract::ids::LocationId;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Portal};

use super::Micros;
use crate::audit::row::Row;
use crate::audit::row_check::RowContext;
use crate::audit::verify::StoredHead;
use crate::store::StoreError;
use crate::store::pool::connect::Connector;
use crate::store::settings::DatabaseConfig;

/// Rows per page.
const PAGE: i32 = 1_000;

/// A row as stored.
pub struct StoredRow {
    /// Its chain.
    pub chain: i64,
    /// Its position in the chain.
    pub n: i64,
    /// Its content; `None` when it cannot be decoded.
    pub row: Option<Row>,
    /// Its hash.
    pub mac: Vec<u8>,
}

/// Which rows to export.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this location.
    pub location: Option<LocationId>,
    /// Only rows that name this participant.
    pub participant: Option<AuditActor>,
    /// From this time on.
    pub from: Option<OffsetDateTime>,
    /// Before this time.
    pub to: Option<OffsetDateTime>,
}

macro_rules! select {
    ($text_mac:literal, $rest:literal) => {
        concat!(
            "select l.chain, l.n, l.at, l.times, l.outcome, l.conversation_id, l.event_id, l.actor, l.action, l.acts_for,
                    l.counterpart, l.location_id, l.message_ids, l.detail, l.request_id, l.source, l.mac, ",
            $text_mac,
            " as text_mac",
            $rest
        )
    };
}

/// For trails of any age: an archive may be older than the column.
macro_rules! select_either {
    ($has_text_macs:expr, $rest:literal) => {
        match $has_text_macs {
            true => select!("l.text_mac", $rest),
            false => select!("null::bytea", $rest),
        }
    };
}

/// A connection without time limits.
pub struct AuditReader {
    client: ClientWrapper,
}

/// The trail at one moment, with its messages.
pub struct Snapshot<'a> {
    pub(in crate::store) transaction: Transaction<'a>,
    has_text_macs: bool,
}

/// A cursor over rows.
pub struct RowCursor {
    portal: Portal,
}

impl AuditReader {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn open(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let (postgres, connector) = Connector::new(&config.url, config.ca.as_ref())?;
        let (client, driving) = connector.open_for_command(postgres, "api-service audit").await?;
        Ok(Self { client: ClientWrapper::new(client, driving) })
    }

    /// Starts a read-only snapshot.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn snapshot(&mut self) -> Result<Snapshot<'_>, StoreError> {
        let snapshot = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = snapshot.start().await?;
        let query = "select exists (
            select from pg_attribute where attrelid = to_regclass('audit_log') and attname = 'text_mac' and not attisdropped
        )";
        let has_text_macs = transaction.query_one(query, &[]).await?.try_get(0)?;
        Ok(Snapshot { transaction, has_text_macs })
    }
}

impl Snapshot<'_> {
    /// All heads, by chain.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn heads(&self) -> Result<Vec<StoredHead>, StoreError> {
        let heads = "select id, key_id, opened_at, n, seal from audit_chains order by id";
        let rows = self.transaction.query(heads, &[]).await?;
        let head = |row: &tokio_postgres::Row| {
            let Micros(opened_at) = row.try_get(2)?;
            let (chain, key_id) = (row.try_get(0)?, row.try_get(1)?);
            Ok(StoredHead { chain, key_id, opened_at, n: row.try_get(3)?, seal: row.try_get(4)? })
        };
        rows.iter().map(head).collect()
    }

    /// Opens a scan of all rows, in the order of chain and position.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn scan(&self) -> Result<RowCursor, StoreError> {
        self.open_cursor(select_either!(self.has_text_macs, " from audit_log l order by l.chain, l.n"), &[]).await
    }

    /// Opens a scan of the rows that match a filter, each with what its hash depends on.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn scan_filtered(&self, filter: &Filter) -> Result<RowCursor, StoreError> {
        let location = filter.location.as_ref().map(LocationId::as_str);
        let participant = filter.participant.as_ref().map(ToString::to_string);
        let query = select_either!(
            self.has_text_macs,
            ", h.key_id, h.n as last, p.mac as mac_before
             from audit_log l
             left join audit_chains h on h.id = l.chain
             left join audit_log p on p.chain = l.chain and p.n = l.n - 1 and l.n > 1
             where ($1::text is null or l.location_id = $1)
               and ($2::text is null or $2 in (l.actor, l.acts_for, l.counterpart))
               and ($3::timestamptz is null or l.at >= $3) and ($4::timestamptz is null or l.at < $4)"
        );
        self.open_cursor(query, &[&location, &participant, &filter.from, &filter.to]).await
    }

    pub(in crate::store) async fn open_cursor(
        &self,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<RowCursor, StoreError> {
        Ok(RowCursor { portal: self.transaction.bind(query, parameters).await? })
    }

    /// The next page; empty at the end.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn next_page(&self, cursor: &RowCursor) -> Result<Vec<StoredRow>, StoreError> {
        self.next_rows(cursor).await?.iter().map(stored_row).collect()
    }

    /// The next page of [`Snapshot::scan_filtered`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn next_page_with_context(
        &self,
        cursor: &RowCursor,
    ) -> Result<Vec<(StoredRow, Option<RowContext>)>, StoreError> {
        let with_context = |row: &tokio_postgres::Row| {
            let context = match row.try_get::<_, Option<String>>("key_id")? {
                Some(key_id) => {
                    Some(RowContext { key_id, last: row.try_get("last")?, mac_before: row.try_get("mac_before")? })
                }
                None => None,
            };
            Ok((stored_row(row)?, context))
        };
        self.next_rows(cursor).await?.iter().map(with_context).collect()
    }

    pub(in crate::store) async fn next_rows(&self, cursor: &RowCursor) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        Ok(self.transaction.query_portal(&cursor.portal, PAGE).await?)
    }
}

fn stored_row(row: &tokio_postgres::Row) -> Result<StoredRow, StoreError> {
    let read = || -> Result<Row, tokio_postgres::Error> {
        let Micros(at) = row.try_get(2)?;
        Ok(Row {
            at,
            times: row.try_get(3)?,
            outcome: row.try_get(4)?,
            conversation_id: row.try_get(5)?,
            event_id: row.try_get(6)?,
            actor: row.try_get(7)?,
            action: row.try_get(8)?,
            acts_for: row.try_get(9)?,
            counterpart: row.try_get(10)?,
            location_id: row.try_get(11)?,
            message_ids: row.try_get(12)?,
            detail: row.try_get(13)?,
            request_id: row.try_get(14)?,
            source: row.try_get(15)?,
            text_mac: row.try_get(17)?,
        })
    };
    Ok(StoredRow { chain: row.try_get(0)?, n: row.try_get(1)?, row: read().ok(), mac: row.try_get(16)? })
}
