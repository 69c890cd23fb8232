//! The transaction of a batch of sends: conversations, messages, outbox and audit trail together, or nothing.
//!
//! Normally it is one statement ([`write_single_statement()`]). It writes nothing unless every conversation has a row and no send
//! is a repeat. Rows that may be missing are inserted before it, in a transaction of their own and the same round trip. Otherwise it takes two round trips ([`write_multi_statement()`]): count up the conversations, which locks them,
//! and look for repeats; then write and commit. If a send turns out to be a repeat, the transaction is rolled back and started
//! again without it.

mod batch;
mod dedup;
mod known_conversations;
mod multi_statement;
mod single_statement;

use tokio::join;

use super::audit::Lease;
use super::{Store, StoreError};
use super::{conversations, data_keys};
use crate::model::send::SendRequest;
pub use batch::BatchResult;
pub(super) use known_conversations::KnownConversations;
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
        let server = self.pools.server().generation();
        self.with_connection(async |client| {
            let locations = batch.iter().map(|request| request.message.conversation.location());
            let sealing = data_keys::sealing_keys(client, self.envelope_keys.as_deref(), locations, server).await?;
            let mut lease = Lease::take(&self.chains, client).await?;
            let unknown = self.known_conversations.unknown(batch);
            let written = if unknown.is_empty() {
                write_single_statement(client, &sealing, batch, &mut lease).await?
            } else {
                // Statements run in the order in which they are sent. Without the rows the second one writes nothing.
                let (_opened, written) = join!(
                    biased;
                    conversations::open(client, &unknown),
                    write_single_statement(client, &sealing, batch, &mut lease),
                );
                written?
            };
            if let Some(written) = written {
                lease.committed();
                self.known_conversations.add(unknown.iter().map(|one| one.id()));
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
