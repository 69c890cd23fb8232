//! The lease of a chain: one transaction extends it, and then says whether it was committed.

use std::sync::Arc;

use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::Statement;
use tokio_postgres::error::SqlState;

use super::chains::{Chain, Chains};
use super::rows::ChainedRows;
use crate::audit::chain::Head;
use crate::audit::row::Row;
use crate::model::message::Message;
use crate::store::StoreError;

/// A leased chain. When dropped without [`Lease::committed`], an unused chain is returned, and a used one becomes doubtful.
pub(in crate::store) struct Lease {
    chains: Arc<Chains>,
    chain: Option<Chain>,
    /// The head after the transaction.
    end: Option<Head>,
}

impl Lease {
    /// Leases a chain for one transaction. `client` must be outside of a transaction, because a chain may have to be opened.
    pub(in crate::store) async fn take(chains: &Arc<Chains>, client: &Object) -> Result<Self, StoreError> {
        Ok(Self { chain: Some(chains.take(client).await?), chains: chains.clone(), end: None })
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

    /// Inserts the rows of this transaction. `statement` is [`super::APPEND`].
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

    /// The transaction was committed: the chain is returned with its new head. Returns this head, if rows were added.
    pub(in crate::store) fn committed(mut self) -> Option<Head> {
        let end = self.end.take();
        if let (Some(chain), Some(end)) = (&mut self.chain, end) {
            chain.head = end;
        }
        end
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

/// Whether PostgreSQL rejected the statement for a reason that no chain can cause: rights, schema or values. A duplicate or
/// missing row may be the chain's fault.
fn is_statement_error(state: &SqlState) -> bool {
    ["22", "42"].iter().any(|class| state.code().starts_with(class))
        || [SqlState::CHECK_VIOLATION, SqlState::NOT_NULL_VIOLATION].contains(state)
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
