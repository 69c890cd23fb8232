//! Reads the event logs of conversations: their end, and the entries after a cursor.
//!
//! If a log still holds the cursor's entry, all entries after it are all that was missed. If not, nothing is known
//! about missed events.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fred::error::Error;
use fred::types::scripts::Script;
use fred::types::{FromValue, Value};
use metrics::counter;
use shared::contract::event::{self, Cursor, Recipient};
use shared::contract::ids::MessageId;
use shared::contract::participant::Participant;
use shared::contract::redis::keys::{self, Channel};
use shared::contract::redis::scripts;
use tokio::sync::Semaphore;
use tokio::try_join;

use super::event_decoder::{EventDecodeError, EventDecoder};
use crate::hub::Backfill;
use crate::redis::RedisNodes;
use crate::socket::EncodedEvent;

/// Entries per read. A log usually holds a few dozen.
const PAGE_ENTRIES: u64 = 512;

/// Concurrent reads. The content of one is briefly in memory twice.
const READ_CONCURRENCY: usize = 64;

/// How many entries a resuming socket checks for missing receipts: more than can be in flight when a connection
/// fails.
const RECEIPT_LOOKBACK: u64 = 64;

/// What a resuming socket receives, and what its cursor acknowledges.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// All events after its cursor.
    pub(crate) events: Vec<Arc<EncodedEvent>>,
    /// Delivered messages without a receipt.
    pub(crate) unacknowledged: Vec<MessageId>,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EventLogError {
    /// Redis did not reply, or replied with an error.
    #[error("redis: {0}")]
    Redis(#[from] Error),
    /// The log contains an invalid entry.
    #[error("invalid entry in the event log")]
    InvalidEntry,
}

/// How long a log lives after a read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogTtl {
    /// A log with events.
    pub(crate) with_events: Duration,
    /// A log with only its opening marker.
    pub(crate) marker_only: Duration,
}

/// Reads all logs.
#[derive(Clone)]
pub(crate) struct EventLog {
    redis: RedisNodes,
    tail: Script,
    since: Script,
    receipts: Script,
    rename: Script,
    ttl: LogTtl,
    max_replay_bytes: usize,
    decoder: Arc<EventDecoder>,
    read_permits: Arc<Semaphore>,
}

impl EventLog {
    /// A reader that renews the logs it reads. One replay returns at most `max_replay_bytes` of frames, which is what
    /// fits in a socket's queue.
    #[must_use]
    pub(crate) fn new(redis: RedisNodes, ttl: LogTtl, max_replay_bytes: usize, decoder: Arc<EventDecoder>) -> Self {
        let [tail, since, receipts, rename] =
            [scripts::LOG_TAIL, scripts::LOG_SINCE, scripts::LOG_RECEIPTS, scripts::RENAME_WRONG_TYPE]
                .map(Script::from_lua);
        let read_permits = Arc::new(Semaphore::new(READ_CONCURRENCY));
        Self { redis, tail, since, receipts, rename, ttl, max_replay_bytes, decoder, read_permits }
    }

    /// The cursor of the newest entry, or of the opening marker. Opens the log if there is none, and renews it.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub(crate) async fn read_tail(&self, channel: &Channel) -> Result<Cursor, EventLogError> {
        let millis = |life: Duration| Value::from(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let ttl = [millis(self.ttl.with_events), millis(self.ttl.marker_only)];
        let id: String = self.run_script(channel, &self.tail, &ttl).await?;
        id.parse().map_err(|_| EventLogError::InvalidEntry)
    }

    /// Runs a script on a log. A key of another type would block the conversation, so it is renamed.
    async fn run_script<T: FromValue>(
        &self,
        channel: &Channel,
        script: &Script,
        arguments: &[Value],
    ) -> Result<T, Error> {
        match self.redis.run_script(script, [channel.log_key()], arguments.iter().cloned()).await {
            // Boxed, because every handshake would reserve memory for it. Before Redis 7, a script's error follows
            // the script's name.
            Err(error) if error.details().contains("WRONGTYPE") => {
                Box::pin(self.move_wrong_type(channel)).await?;
                Box::pin(self.redis.run_script(script, [channel.log_key()], arguments.iter().cloned())).await
            }
            result => result,
        }
    }

    async fn move_wrong_type(&self, channel: &Channel) -> Result<(), Error> {
        let moving = [Value::from("stream"), keys::moved_suffix().into()];
        let moved: Vec<String> = self.redis.run_script(&self.rename, [channel.log_key()], moving).await?;
        counter!("ehr_chat_redis_keys_moved_total", "key" => "event_log").increment(moved.len() as u64);
        let (location, conversation) = channel.conversation().unwrap_or_default();
        tracing::error!(location, conversation, "event log key of another type renamed");
        Ok(())
    }

    /// The events after `cursor`. `None` if the log no longer holds `cursor`, too much follows it, or an entry cannot
    /// be decrypted.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub(crate) async fn read_since(
        &self,
        channel: &Channel,
        cursor: Cursor,
    ) -> Result<Option<Vec<Arc<EncodedEvent>>>, EventLogError> {
        // The semaphore is never closed.
        let _permit = self.read_permits.acquire().await;
        let mut events = Vec::new();
        let (mut bytes, mut last) = (0, cursor);
        loop {
            // Starts at the last entry read. If the log still holds it, nothing is missing after it.
            let left = self.max_replay_bytes.saturating_sub(bytes);
            let arguments = [last.to_string(), PAGE_ENTRIES.to_string(), left.to_string()].map(Value::from);
            let page: Value = self.run_script(channel, &self.since, &arguments).await?;
            let Value::Array(values) = page else { return Ok(None) };
            for entry in values.chunks(1 + keys::LOG_FIELDS.len()) {
                // An invalid entry may replace an event, so what was missed is unknown.
                let Some((id, kind, header, rest)) = parse_entry(entry) else {
                    self.decoder.report_malformed(channel.as_str());
                    return Ok(None);
                };
                let previous = std::mem::replace(&mut last, id);
                let event = match self.decoder.decode_logged(channel, [last, previous], kind, header, rest) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(EventDecodeError::Undecryptable) => return Ok(None),
                    Err(EventDecodeError::Invalid(_)) => {
                        self.decoder.report_malformed(channel.as_str());
                        return Ok(None);
                    }
                };
                let event = EncodedEvent::new(event);
                bytes += event.frame().len();
                events.push(event);
            }
            if bytes > self.max_replay_bytes {
                return Ok(None);
            }
            if (values.len() as u64) < PAGE_ENTRIES * 4 {
                return Ok(Some(events));
            }
        }
    }

    /// For a client that has everything up to `cursor`: the events after it, and the messages to `to` that the cursor
    /// acknowledges. `None` if the log no longer holds `cursor`, or too much follows it.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub(crate) async fn replay(
        &self,
        channel: &Channel,
        cursor: Cursor,
        to: Option<&Participant>,
    ) -> Result<Option<Replay>, EventLogError> {
        let acknowledged = async {
            match to {
                Some(to) => self.unacknowledged(channel, cursor, to).await,
                None => Ok(Vec::new()),
            }
        };
        // Boxed, because every handshake would reserve memory for both.
        let (events, unacknowledged) = try_join!(Box::pin(self.read_since(channel, cursor)), Box::pin(acknowledged))?;
        Ok(events.map(|events| Replay { events, unacknowledged }))
    }

    /// Messages to `to` up to `cursor` without a receipt in the log. A failing connection loses the last Pongs,
    /// although the client has the messages.
    async fn unacknowledged(
        &self,
        channel: &Channel,
        cursor: Cursor,
        to: &Participant,
    ) -> Result<Vec<MessageId>, EventLogError> {
        let newest: Vec<Value> =
            self.run_script(channel, &self.receipts, &[RECEIPT_LOOKBACK.to_string().into()]).await?;
        let mut received = HashSet::new();
        let mut unacknowledged = Vec::new();
        // Newest first: a receipt follows its message.
        for entry in newest.chunks_exact(3) {
            // An invalid entry acknowledges nothing.
            let [Some(id), Some(header), Some(receipt)] = [0, 1, 2].map(|n| text(&entry[n])) else { continue };
            match receipt {
                "" if id.parse::<Cursor>().map_err(|_| EventLogError::InvalidEntry)? > cursor => {}
                receipt if !receipt.is_empty() => {
                    received.extend(event::parse_receipt_ids(receipt).unwrap_or_default());
                }
                _ => {
                    if let Ok(Recipient { participant: receiver, message_id }) = header.parse()
                        && receiver == *to
                        && !received.contains(&message_id)
                    {
                        unacknowledged.push(message_id);
                    }
                }
            }
        }
        Ok(unacknowledged)
    }

    /// What a room at `position` has missed.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub(crate) async fn backfill(&self, channel: &Channel, position: Cursor) -> Result<Backfill, EventLogError> {
        match self.read_since(channel, position).await? {
            Some(events) => Ok(Backfill::Events(events)),
            None => Ok(Backfill::Gap(self.read_tail(channel).await?)),
        }
    }
}

/// Id, type, header and body of an entry; `None` if it is invalid. A sealed body is not UTF-8.
fn parse_entry(entry: &[Value]) -> Option<(Cursor, &str, &str, &[u8])> {
    let [id, kind, header, rest] = entry else { return None };
    Some((text(id)?.parse().ok()?, text(kind)?, text(header)?, rest.as_bytes()?))
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()?).ok()
}
