//! Reads one stream for its consumer group: new entries, its own pending ones, and those of dead instances. What a handler has
//! applied is acknowledged and deleted.

use std::collections::HashSet;
use std::time::Duration;

use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::scripts::Script;
use shared::contract::redis::keys::{API_GROUP, moved_suffix};
use shared::contract::redis::scripts::{REMOVE_IDLE_CONSUMERS, RENAME_WRONG_TYPE};
use shared::kit::redis::{DedicatedConnection, RedisNodes};
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry::log_throttle::LogThrottle;
use tokio::time::Instant;

use super::bisection;
use super::entries::{Entry, parse_claimed, parse_read};
use super::handler::{StreamHandler, wait_before_retry};

/// Entries per read and transaction.
const MAX_BATCH: u64 = 500;
/// How long a read blocks. A shutdown may wait as long for this task.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two claims, and how long entries must have been idle to be claimed.
const CLAIM_INTERVAL: Duration = Duration::from_secs(2);
const CLAIM_MIN_IDLE: Duration = Duration::from_secs(5);

/// Time limit of a command of this task's client: [`BLOCK_TIMEOUT`] plus a margin.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two removals of idle consumers, and how long they must have been idle.
const CONSUMER_CLEANUP_INTERVAL: Duration = Duration::from_secs(10);
const CONSUMER_MAX_IDLE: Duration = Duration::from_secs(30);

/// Consumes until the shutdown begins. Blocking reads use a separate connection to the stream's node.
pub(crate) async fn run<T: StreamHandler>(nodes: RedisNodes, handler: T, shutdown: Shutdown) {
    let own = DedicatedConnection::new(&nodes, T::STREAM, COMMAND_TIMEOUT);
    let consumer = uuid::Uuid::now_v7().to_string();
    let [remove_consumers, rename] = [REMOVE_IDLE_CONSUMERS, RENAME_WRONG_TYPE].map(Script::from_lua);
    let unreadable = LogThrottle::default();
    GroupReader { nodes, own, consumer, handler, shutdown, remove_consumers, rename, unreadable }.run().await;
}

struct GroupReader<T> {
    nodes: RedisNodes,
    own: DedicatedConnection,
    consumer: String,
    handler: T,
    shutdown: Shutdown,
    remove_consumers: Script,
    rename: Script,
    unreadable: LogThrottle,
}

impl<T: StreamHandler> GroupReader<T> {
    async fn run(mut self) {
        let mut claim_at = Instant::now();
        let mut cleanup_at = Instant::now() + CONSUMER_CLEANUP_INTERVAL;
        // Entries of a reply that was lost belong to this consumer already. They are read as pending, which is faster than
        // claiming.
        let mut may_have_pending = false;
        while !self.shutdown.has_begun() {
            if Instant::now() >= cleanup_at {
                cleanup_at = Instant::now() + CONSUMER_CLEANUP_INTERVAL;
                self.remove_idle_consumers().await;
            }
            let entries = if may_have_pending {
                let entries = self.pending().await;
                may_have_pending = !matches!(&entries, Ok(entries) if entries.is_empty());
                entries
            } else if Instant::now() >= claim_at {
                claim_at = Instant::now() + CLAIM_INTERVAL;
                self.claim().await
            } else {
                self.read().await
            };
            let handled = match entries {
                Ok(entries) if entries.is_empty() => continue,
                Ok(entries) => self.process(&entries).await,
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                may_have_pending = true;
                self.reconnect_or_create_group(&error).await;
            }
        }
        // Deleting a consumer discards its pending entries, so it is deleted only without any.
        if let Ok(entries) = self.pending().await
            && entries.is_empty()
            && let Ok(client) = self.own.client()
        {
            let _: Result<(), _> = client.xgroup_delconsumer(T::STREAM, API_GROUP, &self.consumer).await;
        }
    }

    async fn reconnect_or_create_group(&mut self, error: &Error) {
        if error.details().starts_with("NOGROUP") {
            // A new Redis, or one that lost its data.
            let created: Result<(), Error> = match self.own.client() {
                Ok(client) => client.xgroup_create(T::STREAM, API_GROUP, "0", true).await,
                Err(error) => Err(error),
            };
            tracing::info!(stream = T::STREAM, created = created.is_ok(), "consumer group missing");
            return;
        }
        if error.details().starts_with("WRONGTYPE") && self.move_wrong_type_key().await {
            return;
        }
        tracing::debug!(stream = T::STREAM, error = error.details(), "stream read failed");
        if *error.kind() == ErrorKind::Timeout {
            tracing::info!(stream = T::STREAM, "stream read timed out");
        }
        self.own.record_failure(error);
        wait_before_retry(&self.shutdown).await;
    }

    /// A key of another type has the stream's name, so gateways cannot add entries. It is renamed, not deleted. Returns whether
    /// it was.
    async fn move_wrong_type_key(&self) -> bool {
        let args = [Value::from("stream"), moved_suffix().into()];
        match self.nodes.run_script::<Vec<String>>(&self.rename, [T::STREAM], args).await {
            Ok(moved) => {
                tracing::error!(key = T::STREAM, moved = !moved.is_empty(), "stream key of wrong type renamed");
                metrics::counter!("ehr_chat_redis_keys_moved_total", "key" => T::STREAM).increment(moved.len() as u64);
                !moved.is_empty()
            }
            Err(error) => {
                if let Some(times) = self.unreadable.record(1) {
                    tracing::error!(
                        key = T::STREAM,
                        times,
                        error = error.details(),
                        "stream key of wrong type not renamed"
                    );
                }
                false
            }
        }
    }

    /// Removes consumers that are idle and hold nothing: their instances are dead. A living one reappears with its next command.
    async fn remove_idle_consumers(&self) {
        let silent = CONSUMER_MAX_IDLE.as_millis().to_string();
        let args = [API_GROUP.to_owned(), silent];
        // Fails when the stream or group does not exist; then there are no consumers.
        if let Ok(count) = self.nodes.run_script::<u64>(&self.remove_consumers, [T::STREAM], args).await {
            metrics::counter!("ehr_chat_stream_consumers_removed_total", "stream" => T::STREAM).increment(count);
        }
    }

    async fn read(&mut self) -> Result<Vec<Entry>, Error> {
        let block = u64::try_from(BLOCK_TIMEOUT.as_millis()).ok();
        let answer: Value = self
            .own
            .client()?
            .xreadgroup(API_GROUP, &*self.consumer, Some(MAX_BATCH), block, false, T::STREAM, ">")
            .await?;
        Ok(parse_read(answer))
    }

    /// Reads what this consumer received and has not acknowledged.
    async fn pending(&mut self) -> Result<Vec<Entry>, Error> {
        let answer: Value = self
            .own
            .client()?
            .xreadgroup(API_GROUP, &*self.consumer, Some(MAX_BATCH), None, false, T::STREAM, "0")
            .await?;
        Ok(parse_read(answer))
    }

    async fn claim(&mut self) -> Result<Vec<Entry>, Error> {
        let idle = u64::try_from(CLAIM_MIN_IDLE.as_millis()).unwrap_or(u64::MAX);
        let answer: Value = self
            .own
            .client()?
            .xautoclaim(T::STREAM, API_GROUP, &*self.consumer, idle, "0-0", Some(MAX_BATCH), false)
            .await?;
        Ok(parse_claimed(answer))
    }

    /// Handles entries, with retries, then acknowledges and deletes them.
    async fn process(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let decoded = entries.iter().filter_map(|entry| Some((entry.id.as_str(), T::decode(entry.text()?)?)));
        let (decoded_ids, decoded): (Vec<&str>, Vec<T::Entry>) = decoded.unzip();
        let unreadable = (entries.len() - decoded.len()) as u64;
        if unreadable > 0 {
            metrics::counter!("ehr_chat_stream_entries_unreadable_total", "stream" => T::STREAM).increment(unreadable);
            metrics::counter!(T::DROPPED_METRIC).increment(unreadable);
            if let Some(times) = self.unreadable.record(unreadable) {
                tracing::error!(stream = T::STREAM, times, "unreadable stream entries removed");
            }
        }
        let handled = loop {
            if decoded.is_empty() {
                break bisection::HandleOutcome::default();
            }
            match bisection::handle(&self.handler, &decoded, &self.shutdown).await {
                Ok(handled) => break handled,
                Err(error) => {
                    tracing::warn!(stream = T::STREAM, %error, entries = decoded.len(), "stream entries not handled yet");
                }
            }
            if self.shutdown.has_begun() {
                // Not acknowledged, so another instance claims them.
                return Ok(());
            }
            wait_before_retry(&self.shutdown).await;
        };
        // Dropped entries: a defect that no retry mends.
        metrics::counter!(T::DROPPED_METRIC).increment(handled.dropped as u64);
        metrics::counter!(T::HANDLED_METRIC)
            .increment((decoded.len() - handled.dropped - handled.deferred.len()) as u64);
        // Deferred entries are not acknowledged, and are claimed after being idle.
        let deferred: HashSet<&str> =
            handled.deferred.iter().filter_map(|index| decoded_ids.get(*index).copied()).collect();
        let ids: Vec<&str> =
            entries.iter().map(|entry| entry.id.as_str()).filter(|id| !deferred.contains(id)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let pipeline = self.own.client()?.pipeline();
        let _: () = pipeline.xack(T::STREAM, API_GROUP, ids.clone()).await?;
        let _: () = pipeline.xdel(T::STREAM, ids).await?;
        pipeline.all().await
    }
}
