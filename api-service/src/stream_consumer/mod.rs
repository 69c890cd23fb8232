//! Takes from Redis what gateways have to say, in batches. Each entry is taken at least once: whoever takes must bear to be told
//! twice. An instance that dies in the middle costs nothing: another claims what it left, and then removes its consumer.
//! Entries that cannot be taken hold up no others ([`bisection`]).
//!
//! Whoever can write to Redis can add anything to a stream. What is no entry of ours is counted and removed, and ends nothing.

mod bisection;
pub mod conversation_checks;
mod entries;
pub mod receipts;
pub mod socket_audit;

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::scripts::Script;
use shared::channel::{API_GROUP, FORGET_CONSUMERS, RENAME_WRONG_TYPE, moved_suffix};
use shared::redis::{Dedicated, Nodes};
use shared::repeated::Repeated;
use shared::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use crate::store::StoreError;
use entries::{Entry, parse_claimed, parse_read};

/// Entries in one transaction.
const MAX_BATCH: u64 = 500;
/// How long to wait for the first of them. Also how long a shutdown may wait for this task.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often to look for entries of a dead instance, and how long they must have been left alone.
const CLAIM_INTERVAL: Duration = Duration::from_secs(2);
const CLAIM_MIN_IDLE: Duration = Duration::from_secs(5);
/// Pause after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How long a command of this task's own client may take: [`BLOCK_TIMEOUT`], and then some.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);

/// How often to look for consumers of dead instances, and how long they must have been silent.
const CONSUMER_CLEANUP_INTERVAL: Duration = Duration::from_secs(10);
const CONSUMER_MAX_IDLE: Duration = Duration::from_secs(30);

/// What becomes of entries.
pub trait StreamHandler: Send + 'static {
    /// The stream.
    const STREAM: &'static str;
    /// Counts what was taken.
    const HANDLED_METRIC: &'static str;
    /// Counts what could not be taken, ever: a mistake of ours.
    const DROPPED_METRIC: &'static str;
    /// How often an entry is tried that the database refuses, with pauses; then it is dropped. `None`: never, it is left for later
    /// each time.
    const MAX_ATTEMPTS: Option<usize>;
    /// What an entry says.
    type Entry: Clone + Send + Sync;

    /// Reads an entry.
    fn decode(text: &str) -> Option<Self::Entry>;

    /// Takes entries, all or none; more than once when nobody is sure that it worked.
    fn handle(&self, entries: &[Self::Entry]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Places of those entries that need rows which others hold, as far as anybody knows.
    fn locked(&self, _entries: &[Self::Entry]) -> impl Future<Output = HashSet<usize>> + Send {
        async { HashSet::new() }
    }
}

/// Takes entries until the shutdown begins. Its reads block, on a connection of their own to the node of the stream.
pub async fn run<T: StreamHandler>(nodes: Nodes, handler: T, shutdown: Shutdown) {
    let own = Dedicated::new(&nodes, T::STREAM, COMMAND_TIMEOUT);
    let consumer = uuid::Uuid::now_v7().to_string();
    let [remove_consumers, rename] = [FORGET_CONSUMERS, RENAME_WRONG_TYPE].map(Script::from_lua);
    let unreadable = Repeated::default();
    GroupReader { nodes, own, consumer, handler, shutdown, remove_consumers, rename, unreadable }.run().await;
}

/// Waits before something is tried again, unless the shutdown begins.
async fn wait_before_retry(shutdown: &Shutdown) {
    tokio::select! {
        () = sleep(RETRY_DELAY) => {}
        () = shutdown.begun() => {}
    }
}

struct GroupReader<T> {
    nodes: Nodes,
    own: Dedicated,
    consumer: String,
    handler: T,
    shutdown: Shutdown,
    remove_consumers: Script,
    rename: Script,
    unreadable: Repeated,
}

impl<T: StreamHandler> GroupReader<T> {
    async fn run(mut self) {
        let mut claim_at = Instant::now();
        let mut cleanup_at = Instant::now() + CONSUMER_CLEANUP_INTERVAL;
        // What an answer held that never arrived is this consumer's own, and would have to wait until it could be claimed.
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
        // What it leaves unconfirmed would be forgotten with it, so a consumer goes only when it leaves nothing.
        if let Ok(entries) = self.pending().await
            && entries.is_empty()
            && let Ok(client) = self.own.client()
        {
            let _: Result<(), _> = client.xgroup_delconsumer(T::STREAM, API_GROUP, &self.consumer).await;
        }
    }

    async fn reconnect_or_create_group(&mut self, error: &Error) {
        if error.details().starts_with("NOGROUP") {
            // A Redis that is new, or came back empty.
            let created: Result<(), Error> = match self.own.client() {
                Ok(client) => client.xgroup_create(T::STREAM, API_GROUP, "0", true).await,
                Err(error) => Err(error),
            };
            tracing::info!(stream = T::STREAM, created = created.is_ok(), "the group that reads a stream was missing");
            return;
        }
        if error.details().starts_with("WRONGTYPE") && self.move_wrong_type_key().await {
            return;
        }
        tracing::debug!(stream = T::STREAM, error = error.details(), "no entries from Redis");
        if *error.kind() == ErrorKind::Timeout {
            tracing::info!(stream = T::STREAM, "redis did not answer the reader of a stream");
        }
        self.own.failed(error);
        wait_before_retry(&self.shutdown).await;
    }

    /// Something that is no stream stands under the stream's name: gateways cannot add to it, and nobody can read. It is
    /// moved, not removed: it may be somebody's. Returns whether that was done.
    async fn move_wrong_type_key(&self) -> bool {
        let args = [Value::from("stream"), moved_suffix().into()];
        match self.nodes.run::<Vec<String>>(&self.rename, [T::STREAM], args).await {
            Ok(moved) => {
                tracing::error!(
                    key = T::STREAM,
                    moved = !moved.is_empty(),
                    "a key of Redis was no stream and is moved"
                );
                metrics::counter!("redis_keys_moved_total", "key" => T::STREAM).increment(moved.len() as u64);
                !moved.is_empty()
            }
            Err(error) => {
                if let Some(times) = self.unreadable.happened(1) {
                    tracing::error!(key = T::STREAM, times, error = error.details(), "a key of Redis is no stream");
                }
                false
            }
        }
    }

    /// Removes consumers that hold nothing and have been silent for long: their instances are dead. One that only stood still
    /// is there again with its next command.
    async fn remove_idle_consumers(&self) {
        let silent = CONSUMER_MAX_IDLE.as_millis().to_string();
        let args = [API_GROUP.to_owned(), silent];
        // Without the stream or the group there is none.
        if let Ok(count) = self.nodes.run::<u64>(&self.remove_consumers, [T::STREAM], args).await {
            metrics::counter!("stream_consumers_removed_total", "stream" => T::STREAM).increment(count);
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

    /// What was handed to this consumer and is not confirmed.
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

    /// Takes entries, as often as it needs, then confirms them.
    async fn process(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let decoded = entries.iter().filter_map(|entry| Some((entry.id.as_str(), T::decode(entry.text()?)?)));
        let (decoded_ids, decoded): (Vec<&str>, Vec<T::Entry>) = decoded.unzip();
        let unreadable = (entries.len() - decoded.len()) as u64;
        if unreadable > 0 {
            metrics::counter!("stream_entries_unreadable_total", "stream" => T::STREAM).increment(unreadable);
            metrics::counter!(T::DROPPED_METRIC).increment(unreadable);
            if let Some(times) = self.unreadable.happened(unreadable) {
                tracing::error!(stream = T::STREAM, times, "entries that nobody can read were removed");
            }
        }
        let handled = loop {
            if decoded.is_empty() {
                break bisection::HandleOutcome::default();
            }
            match bisection::handle(&self.handler, &decoded, &self.shutdown).await {
                Ok(handled) => break handled,
                Err(error) => {
                    tracing::warn!(stream = T::STREAM, %error, entries = decoded.len(), "entries are not taken yet");
                }
            }
            if self.shutdown.has_begun() {
                // Unconfirmed: another instance claims them.
                return Ok(());
            }
            wait_before_retry(&self.shutdown).await;
        };
        // A mistake of ours that no repetition mends.
        metrics::counter!(T::DROPPED_METRIC).increment(handled.dropped as u64);
        metrics::counter!(T::HANDLED_METRIC)
            .increment((decoded.len() - handled.dropped - handled.deferred.len()) as u64);
        // What is left for later stays unconfirmed, and is claimed when it has been left alone for a while.
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
