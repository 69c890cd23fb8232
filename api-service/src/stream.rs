//! Takes from Redis what gateways have to say, in batches. Each entry is taken at least once: whoever takes must bear to be told
//! twice. An instance that dies in the middle costs nothing: another claims what it left.
//! Entries that cannot be taken hold up no others ([`division`]).

mod division;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::streams::XReadResponse;
use shared::channel::{API_GROUP, ENTRY_FIELD};
use shared::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use crate::redis::Connected;
use crate::store::StoreError;

/// Entries in one transaction.
const BATCH: u64 = 500;
/// How long to wait for the first of them. Also how long a shutdown may wait for this task.
const BLOCK: Duration = Duration::from_secs(1);
/// How often to look for entries of a dead instance, and how long they must have been left alone.
const CLAIM_EVERY: Duration = Duration::from_secs(2);
const CLAIM_IDLE: Duration = Duration::from_secs(5);
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long a command of this task's own client may take: [`BLOCK`], and then some.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);

type Entries = Vec<(String, HashMap<String, String>)>;

/// What becomes of entries.
pub trait Taker: Send + 'static {
    /// The stream.
    const STREAM: &'static str;
    /// Counts what was taken.
    const TAKEN: &'static str;
    /// Counts what could not be taken, ever: a mistake of ours.
    const DROPPED: &'static str;
    /// How often entries are tried that the database refuses for no fault of its own; then they are dropped.
    const ATTEMPTS: usize;
    /// What an entry says.
    type Entry: Clone + Send + Sync;

    /// Reads an entry.
    fn decode(text: &str) -> Option<Self::Entry>;

    /// Takes entries, all or none; more than once when nobody is sure that it worked.
    fn take(&self, entries: &[Self::Entry]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Places of those entries that need rows which others hold, as far as anybody knows.
    fn locked(&self, _entries: &[Self::Entry]) -> impl Future<Output = HashSet<usize>> + Send {
        async { HashSet::new() }
    }
}

/// Takes entries until the shutdown begins. `redis` is this task's own: its reads block.
pub async fn run<T: Taker>(redis: Connected, taker: T, shutdown: Shutdown) {
    let client = redis.client.clone();
    let consumer = uuid::Uuid::now_v7().to_string();
    Reader { redis, client, consumer, taker, shutdown }.run().await;
}

struct Reader<T> {
    redis: Connected,
    client: Client,
    consumer: String,
    taker: T,
    shutdown: Shutdown,
}

impl<T: Taker> Reader<T> {
    async fn run(mut self) {
        let mut claim_at = Instant::now();
        // What an answer held that never arrived is this consumer's own, and would have to wait until it could be claimed.
        let mut missed = false;
        while !self.shutdown.has_begun() {
            let entries = if missed {
                let entries = self.pending().await;
                missed = !matches!(&entries, Ok(entries) if entries.is_empty());
                entries
            } else if Instant::now() >= claim_at {
                claim_at = Instant::now() + CLAIM_EVERY;
                self.claim().await
            } else {
                self.read().await
            };
            let taken = match entries {
                Ok(entries) if entries.is_empty() => continue,
                Ok(entries) => self.take(&entries).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                missed = true;
                self.recover(&error).await;
            }
        }
        // What it leaves unconfirmed would be forgotten with it, so a consumer goes only when it leaves nothing.
        if let Ok(entries) = self.pending().await
            && entries.is_empty()
        {
            let _: Result<(), _> = self.client.xgroup_delconsumer(T::STREAM, API_GROUP, &self.consumer).await;
        }
    }

    async fn recover(&mut self, error: &Error) {
        if error.details().starts_with("NOGROUP") {
            // A Redis that is new, or came back empty.
            let created: Result<(), _> = self.client.xgroup_create(T::STREAM, API_GROUP, "0", true).await;
            tracing::info!(stream = T::STREAM, created = created.is_ok(), "the group that reads a stream was missing");
            return;
        }
        tracing::debug!(stream = T::STREAM, error = error.details(), "no entries from Redis");
        let (redis, shutdown) = (&mut self.redis, &self.shutdown);
        let recovering = async {
            sleep(RETRY_AFTER).await;
            if *error.kind() == ErrorKind::Timeout {
                // A connection that was cut without a word looks like one that waits for entries: the library
                // does not watch connections that block, and would use this one for ever.
                tracing::info!(stream = T::STREAM, "redis did not answer the reader of a stream");
                redis.renew().await;
            }
        };
        tokio::select! {
            () = recovering => {}
            () = shutdown.begun() => {}
        }
    }

    async fn read(&self) -> Result<Entries, Error> {
        let block = u64::try_from(BLOCK.as_millis()).ok();
        let read = self.client.xreadgroup_map(API_GROUP, &*self.consumer, Some(BATCH), block, false, T::STREAM, ">");
        entries(read.await?)
    }

    /// What was handed to this consumer and is not confirmed.
    async fn pending(&self) -> Result<Entries, Error> {
        let read = self.client.xreadgroup_map(API_GROUP, &*self.consumer, Some(BATCH), None, false, T::STREAM, "0");
        entries(read.await?)
    }

    async fn claim(&self) -> Result<Entries, Error> {
        let idle = u64::try_from(CLAIM_IDLE.as_millis()).unwrap_or(u64::MAX);
        let claim =
            self.client.xautoclaim_values(T::STREAM, API_GROUP, &*self.consumer, idle, "0-0", Some(BATCH), false);
        let (_, entries) = claim.await?;
        Ok(entries)
    }

    /// Takes entries, as often as it needs, then confirms them.
    async fn take(&self, entries: &Entries) -> Result<(), Error> {
        let said = entries.iter().filter_map(|(id, fields)| Some((id.as_str(), T::decode(fields.get(ENTRY_FIELD)?)?)));
        let (ids_of_said, said): (Vec<&str>, Vec<T::Entry>) = said.unzip();
        let unreadable = entries.len() - said.len();
        if unreadable > 0 {
            tracing::error!(stream = T::STREAM, unreadable, "entries that nobody can read");
            metrics::counter!(T::DROPPED).increment(unreadable as u64);
        }
        let taken = loop {
            match division::take(&self.taker, &said).await {
                Ok(taken) => break taken,
                Err(error) => {
                    tracing::warn!(stream = T::STREAM, %error, entries = said.len(), "entries are not taken yet")
                }
            }
            if self.shutdown.has_begun() {
                // Unconfirmed: another instance claims them.
                return Ok(());
            }
            sleep(RETRY_AFTER).await;
        };
        // A mistake of ours that no repetition mends.
        metrics::counter!(T::DROPPED).increment(taken.never as u64);
        metrics::counter!(T::TAKEN).increment((said.len() - taken.never - taken.later.len()) as u64);
        // What is left for later stays unconfirmed, and is claimed when it has been left alone for a while.
        let later: HashSet<&str> = taken.later.iter().filter_map(|place| ids_of_said.get(*place).copied()).collect();
        let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).filter(|id| !later.contains(id)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let pipeline = self.client.pipeline();
        let _: () = pipeline.xack(T::STREAM, API_GROUP, ids.clone()).await?;
        let _: () = pipeline.xdel(T::STREAM, ids).await?;
        pipeline.all().await
    }
}

fn entries(response: XReadResponse<String, String, String, String>) -> Result<Entries, Error> {
    Ok(response.into_values().flatten().collect())
}
