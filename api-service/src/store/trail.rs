//! Reading the audit trail from end to end, on a connection of its own and in one snapshot: a page is in memory at a time,
//! however many rows there are.

use shared::audit::Who;
use shared::ids::LocationId;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::StoreError;
use super::audit::Micros;
use super::connect::Connector;
use crate::audit::row::Row;
use crate::audit::verify::StoredHead;
use crate::config::DatabaseConfig;

/// Rows in memory.
const PAGE: i32 = 1_000;

/// A row as it stands in the table.
pub struct Record {
    /// Its chain.
    pub chain: i64,
    /// Its place there.
    pub n: i64,
    /// What it says; `None` when that cannot be read.
    pub row: Option<Row>,
    /// Its hash.
    pub mac: Vec<u8>,
}

/// Which rows to export.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only in this location.
    pub location: Option<LocationId>,
    /// Only by, for, or with this one.
    pub participant: Option<Who>,
    /// Not before this moment.
    pub from: Option<OffsetDateTime>,
    /// Before this moment.
    pub to: Option<OffsetDateTime>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select chain, n, at, times, outcome, conversation_id, event_id, actor, action, acts_for, counterpart, location_id,
                    message_ids, detail, request_id, source, mac
             from audit_log ",
            $rest
        )
    };
}

/// A connection to read with. Nothing hurries it.
pub struct Trail {
    client: Client,
}

impl Trail {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn open(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let (postgres, connector) = Connector::new(config)?;
        let (client, _driving) = connector.open_for_command(postgres, "api-service audit").await?;
        Ok(Self { client })
    }

    /// Reads all heads, then every row from chain `first` on in the order of chain and place; all as of one moment.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn walk<W>(
        &mut self,
        first: i64,
        begin: impl FnOnce(Vec<StoredHead>) -> W,
        mut each: impl FnMut(&mut W, Record),
    ) -> Result<W, StoreError> {
        let snapshot = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = snapshot.start().await?;
        let heads = "select id, key_id, opened_at, n, seal from audit_chains where id >= $1 order by id";
        let mut walk = begin(
            transaction
                .query(heads, &[&first])
                .await?
                .iter()
                .map(|row| {
                    let Micros(opened_at) = row.try_get(2)?;
                    let (chain, key_id) = (row.try_get(0)?, row.try_get(1)?);
                    Ok(StoredHead { chain, key_id, opened_at, n: row.try_get(3)?, seal: row.try_get(4)? })
                })
                .collect::<Result<_, StoreError>>()?,
        );
        pages(&transaction, select!("where chain >= $1 order by chain, n"), &[&first], |record| {
            each(&mut walk, record);
            Ok::<_, StoreError>(())
        })
        .await?;
        Ok(walk)
    }

    /// Reads the rows that pass a filter, in no order.
    ///
    /// # Errors
    /// [`StoreError`], and whatever `each` fails with.
    pub async fn filtered<E: From<StoreError>>(
        &mut self,
        filter: &Filter,
        each: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let transaction = self.client.build_transaction().read_only(true).start().await.map_err(StoreError::from)?;
        let location = filter.location.as_ref().map(LocationId::as_str);
        let participant = filter.participant.as_ref().map(ToString::to_string);
        pages(
            &transaction,
            select!(
                "where ($1::text is null or location_id = $1)
                   and ($2::text is null or $2 in (actor, acts_for, counterpart))
                   and ($3::timestamptz is null or at >= $3) and ($4::timestamptz is null or at < $4)"
            ),
            &[&location, &participant, &filter.from, &filter.to],
            each,
        )
        .await
    }
}

async fn pages<E: From<StoreError>>(
    transaction: &Transaction<'_>,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
    mut each: impl FnMut(Record) -> Result<(), E>,
) -> Result<(), E> {
    let portal = transaction.bind(query, parameters).await.map_err(StoreError::from)?;
    loop {
        let page = transaction.query_portal(&portal, PAGE).await.map_err(StoreError::from)?;
        if page.is_empty() {
            return Ok(());
        }
        for row in page {
            each(record(&row)?)?;
        }
    }
}

fn record(row: &tokio_postgres::Row) -> Result<Record, StoreError> {
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
        })
    };
    Ok(Record { chain: row.try_get(0)?, n: row.try_get(1)?, row: read().ok(), mac: row.try_get(16)? })
}
