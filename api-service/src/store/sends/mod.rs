//! The transaction of a batch of sends: conversations, messages, outbox and audit trail together, or nothing.
//!
//! Normally it is one statement ([`write_single_statement()`]). It writes nothing unless every conversation has a row and no send
//! is a repeat. Otherwise it takes two round trips ([`write_multi_statement()`]): count up the conversations, which locks them,
//! and look for repeats; then write and commit. If a send turns out to be a repeat, the transaction is rolled back and started
//! again without it.

mod batch;
mod dedup;
mod multi_statement;
mod single_statement;

use super::audit::Lease;
use super::data_keys;
use super::{Store, StoreError};
use crate::model::send::SendRequest;
pub use batch::BatchResult;
use multi_statement::{PreparedBatch, Statements, write_multi_statement};
use single_statement::write_single_statement;

impl Store {
    /// Writes a batch in one transaction. Returns the outcome of each send, in order.
    ///
    /// # Errors
    /// [`StoreError`] for the whole batch. Nothing was written, except perhaps with [`StoreError::Unavailable`]: the connection
    /// may have failed during the commit, or the reply cannot be read. Then only a repeat with the same `client_message_id` shows
    /// the outcome.
    pub async fn send(&self, batch: &[SendRequest]) -> Result<BatchResult, StoreError> {
        self.with_connection(async |client| {
            let locations = batch.iter().map(|request| request.message.conversation.location());
            let sealing = data_keys::sealing_keys(client, self.envelope_keys.as_deref(), locations).await?;
            let mut lease = Lease::take(&self.chains, client).await?;
            if let Some(written) = write_single_statement(client, &sealing, batch, &mut lease).await? {
                lease.committed();
                return written.to_result(batch);
            }
            // Rare, and its future is larger than all others.
            Box::pin(async {
                let statements = Statements::prepare(client, &sealing).await?;
                let prepared = PreparedBatch { statements, sealing, envelope_keys: self.envelope_keys.as_deref() };
                let done = write_multi_statement(client, &prepared, batch, lease).await;
                if done.is_err() {
                    // On a broken connection this fails, and the pool drops the connection.
                    let _ = client.batch_execute("rollback").await;
                }
                done
            })
            .await
        })
        .await
    }
}
