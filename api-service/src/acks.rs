//! Takes the gateways' receipts from Redis and applies them in batches. Each is applied at least once, and marking
//! is idempotent, so an instance that dies in the middle costs nothing: another claims what it left.

use std::collections::HashMap;
use std::time::Duration;

use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::streams::XReadResponse;
use shared::channel::{ACK_FIELD, ACKS, ACKS_GROUP};
use shared::receipt::Receipt;
use shared::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use crate::domain::mark::{self, Mark};
use crate::publisher::Publisher;
use crate::redis::Connected;
use crate::store::{Store, StoreError};

/// Receipts in one transaction.
const BATCH: u64 = 500;
/// How long to wait for the first of them. Also how long a shutdown may wait for this task.
const BLOCK: Duration = Duration::from_secs(1);
/// How often to look for receipts of a dead instance, and how long they must have been left alone.
const CLAIM_EVERY: Duration = Duration::from_secs(2);
const CLAIM_IDLE: Duration = Duration::from_secs(5);
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How long a command of this task's own client may take: [`BLOCK`], and then some.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);

type Entries = Vec<(String, HashMap<String, String>)>;

/// Applies receipts until the shutdown begins. `redis` is this task's own: its reads block.
pub async fn run(mut redis: Connected, store: Store, publisher: Publisher, shutdown: Shutdown) {
    let client = redis.client.clone();
    let consumer = uuid::Uuid::now_v7().to_string();
    let mut claim_at = Instant::now();
    // What an answer held that never arrived is this consumer's own, and would have to wait until it could be claimed.
    let mut missed = false;
    while !shutdown.has_begun() {
        let entries = if missed {
            let entries = pending(&client, &consumer).await;
            missed = !matches!(&entries, Ok(entries) if entries.is_empty());
            entries
        } else if Instant::now() >= claim_at {
            claim_at = Instant::now() + CLAIM_EVERY;
            claim(&client, &consumer).await
        } else {
            read(&client, &consumer).await
        };
        let applied = match entries {
            Ok(entries) if entries.is_empty() => continue,
            Ok(entries) => apply(&client, &store, &publisher, &shutdown, &entries).await,
            Err(error) => Err(error),
        };
        if let Err(error) = applied {
            missed = true;
            if error.details().starts_with("NOGROUP") {
                // A Redis that is new, or came back empty.
                let created: Result<(), _> = client.xgroup_create(ACKS, ACKS_GROUP, "0", true).await;
                tracing::info!(created = created.is_ok(), "the group that reads receipts was missing");
            } else {
                tracing::debug!(error = error.details(), "no receipts from Redis");
                let recovering = async {
                    sleep(RETRY_AFTER).await;
                    if *error.kind() == ErrorKind::Timeout {
                        // A connection that was cut without a word looks like one that waits for receipts: the library
                        // does not watch connections that block, and would use this one for ever.
                        tracing::info!("redis did not answer the reader of receipts");
                        redis.renew().await;
                    }
                };
                tokio::select! {
                    () = recovering => {}
                    () = shutdown.begun() => {}
                }
            }
        }
    }
    // What it leaves unconfirmed would be forgotten with it, so a consumer goes only when it leaves nothing.
    if let Ok(entries) = pending(&client, &consumer).await
        && entries.is_empty()
    {
        let _: Result<(), _> = client.xgroup_delconsumer(ACKS, ACKS_GROUP, &consumer).await;
    }
}

async fn read(client: &Client, consumer: &str) -> Result<Entries, Error> {
    let block = u64::try_from(BLOCK.as_millis()).ok();
    entries(client.xreadgroup_map(ACKS_GROUP, consumer, Some(BATCH), block, false, ACKS, ">").await?)
}

/// What was handed to this consumer and is not confirmed.
async fn pending(client: &Client, consumer: &str) -> Result<Entries, Error> {
    entries(client.xreadgroup_map(ACKS_GROUP, consumer, Some(BATCH), None, false, ACKS, "0").await?)
}

fn entries(response: XReadResponse<String, String, String, String>) -> Result<Entries, Error> {
    Ok(response.into_values().flatten().collect())
}

async fn claim(client: &Client, consumer: &str) -> Result<Entries, Error> {
    let idle = u64::try_from(CLAIM_IDLE.as_millis()).unwrap_or(u64::MAX);
    let (_, entries) = client.xautoclaim_values(ACKS, ACKS_GROUP, consumer, idle, "0-0", Some(BATCH), false).await?;
    Ok(entries)
}

/// Applies entries, as often as it takes, then confirms them.
async fn apply(
    client: &Client,
    store: &Store,
    publisher: &Publisher,
    shutdown: &Shutdown,
    entries: &Entries,
) -> Result<(), Error> {
    let receipts = entries.iter().filter_map(|(_, fields)| Receipt::decode(fields.get(ACK_FIELD)?).ok());
    let marks: Vec<Mark> = receipts.map(Mark::from).collect();
    let mut attempts = 0;
    while let Err(error) = mark::apply(store, publisher, &marks).await {
        attempts += 1;
        tracing::warn!(%error, receipts = marks.len(), "receipts are not applied yet");
        let hopeless = matches!(error, StoreError::Internal(_)) && attempts > 3;
        if hopeless {
            // A mistake of ours that no repetition mends; the messages show as undelivered until they are read.
            metrics::counter!("receipts_dropped_total").increment(marks.len() as u64);
            break;
        }
        if shutdown.has_begun() {
            // Unconfirmed: another instance claims them.
            return Ok(());
        }
        sleep(RETRY_AFTER).await;
    }
    metrics::counter!("receipts_applied_total").increment(marks.len() as u64);
    let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
    let pipeline = client.pipeline();
    let _: () = pipeline.xack(ACKS, ACKS_GROUP, ids.clone()).await?;
    let _: () = pipeline.xdel(ACKS, ids).await?;
    pipeline.all().await
}
