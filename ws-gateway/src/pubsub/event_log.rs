//! Reads conversations' logs: where they end, and what came after a cursor.
//!
//! One rule: if the log still holds the entry seen last, all that follows it is all that was missed. If not,
//! nothing can be said, and nothing is guessed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fred::error::Error;
use fred::types::scripts::Script;
use fred::types::{FromValue, Value};
use metrics::counter;
use shared::channel::{self, Channel};
use shared::event::{self, Cursor, Recipient};
use shared::ids::MessageId;
use shared::participant::Participant;
use tokio::sync::Semaphore;
use tokio::try_join;

use super::event_decoder::{EventDecodeError, EventDecoder};
use crate::hub::Backfill;
use crate::hub::outbound_queue::EncodedEvent;
use crate::redis::Nodes;

/// Entries read at a time. Logs hold a few dozen.
const PAGE_ENTRIES: u64 = 512;

/// Logs read at a time. What is read of one is in memory twice for a moment.
const READ_CONCURRENCY: usize = 64;

/// How far back a resuming socket's proof reaches: more than can be under way when a socket breaks.
const RECEIPT_LOOKBACK: u64 = 64;

/// What a socket that resumes gets, and gives.
#[derive(Debug, Default)]
pub struct Replay {
    /// Everything after its cursor.
    pub events: Vec<Arc<EncodedEvent>>,
    /// Messages that have arrived before, and that nobody has proven.
    pub unacknowledged: Vec<MessageId>,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// Redis did not answer, or answered with an error.
    #[error("redis: {0}")]
    Redis(#[from] Error),
    /// What it holds is not a log of ours.
    #[error("the log holds something that is no event")]
    InvalidEntry,
}

/// How long a log lives after a gateway has looked at it.
#[derive(Debug, Clone, Copy)]
pub struct LogTtl {
    /// One that holds events.
    pub with_events: Duration,
    /// One that was only opened.
    pub marker_only: Duration,
}

/// Reader of all logs.
#[derive(Clone)]
pub struct EventLog {
    redis: Nodes,
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
    /// A reader that keeps logs alive after it looked at them, and replays at most `max_replay_bytes` of frames at once: more
    /// would not fit into a socket's queue.
    #[must_use]
    pub fn new(redis: Nodes, ttl: LogTtl, max_replay_bytes: usize, decoder: Arc<EventDecoder>) -> Self {
        let [tail, since, receipts, rename] =
            [channel::LOG_TAIL, channel::LOG_SINCE, channel::LOG_RECEIPTS, channel::RENAME_WRONG_TYPE]
                .map(Script::from_lua);
        let read_permits = Arc::new(Semaphore::new(READ_CONCURRENCY));
        Self { redis, tail, since, receipts, rename, ttl, max_replay_bytes, decoder, read_permits }
    }

    /// The newest entry, or the marker that opened the log. Opens a log where there is none, and prolongs its life.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub async fn read_tail(&self, channel: &Channel) -> Result<Cursor, EventLogError> {
        let millis = |life: Duration| Value::from(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let ttl = [millis(self.ttl.with_events), millis(self.ttl.marker_only)];
        let id: String = self.run_script(channel, &self.tail, &ttl).await?;
        id.parse().map_err(|_| EventLogError::InvalidEntry)
    }

    /// Asks a conversation's log. A key of another type that stands in its place is moved out of the way: nobody could join that
    /// conversation, and its sockets would never catch up.
    async fn run_script<T: FromValue>(
        &self,
        channel: &Channel,
        script: &Script,
        arguments: &[Value],
    ) -> Result<T, Error> {
        match self.redis.run(script, [channel.log_key()], arguments.iter().cloned()).await {
            // In boxes: every handshake would hold the room for it.
            // Before Redis 7 a script's error stands behind the name of the script.
            Err(error) if error.details().contains("WRONGTYPE") => {
                Box::pin(self.move_wrong_type(channel)).await?;
                Box::pin(self.redis.run(script, [channel.log_key()], arguments.iter().cloned())).await
            }
            result => result,
        }
    }

    async fn move_wrong_type(&self, channel: &Channel) -> Result<(), Error> {
        let moving = [Value::from("stream"), channel::moved_suffix().into()];
        let moved: Vec<String> = self.redis.run(&self.rename, [channel.log_key()], moving).await?;
        counter!("redis_keys_moved_total", "key" => "event_log").increment(moved.len() as u64);
        let (location, conversation) = channel.conversation().unwrap_or_default();
        tracing::error!(location, conversation, "a key that was no event log was moved out of its place");
        Ok(())
    }

    /// Everything after `cursor`; `None` when the log does not hold `cursor` any more, too much follows it, or what does
    /// cannot be opened here.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub async fn read_since(
        &self,
        channel: &Channel,
        cursor: Cursor,
    ) -> Result<Option<Vec<Arc<EncodedEvent>>>, EventLogError> {
        // Never closed.
        let _permit = self.read_permits.acquire().await;
        let mut events = Vec::new();
        let (mut bytes, mut last) = (0, cursor);
        loop {
            // From the last one seen: its being there is the proof that nothing is missing behind it.
            let left = self.max_replay_bytes.saturating_sub(bytes);
            let arguments = [last.to_string(), PAGE_ENTRIES.to_string(), left.to_string()].map(Value::from);
            let page: Value = self.run_script(channel, &self.since, &arguments).await?;
            let Value::Array(values) = page else { return Ok(None) };
            for entry in values.chunks(1 + channel::LOG_FIELDS.len()) {
                // What is no event may stand where one should: what was missed cannot be known.
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

    /// For whoever has seen everything up to `cursor`: what came after it, and which messages to `to` it proves by showing
    /// that cursor. `None` when the log does not hold `cursor` any more, or too much follows it.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub async fn replay(
        &self,
        channel: &Channel,
        cursor: Cursor,
        to: Option<&Participant>,
    ) -> Result<Option<Replay>, EventLogError> {
        let seen = async {
            match to {
                Some(to) => self.unacknowledged(channel, cursor, to).await,
                None => Ok(Vec::new()),
            }
        };
        // In boxes: every handshake would hold the room for both.
        let (events, unacknowledged) = try_join!(Box::pin(self.read_since(channel, cursor)), Box::pin(seen))?;
        Ok(events.map(|events| Replay { events, unacknowledged }))
    }

    /// Messages to `to` up to `cursor` without a receipt in the log. A socket that breaks takes a Pong or two with it: these
    /// messages have arrived, and nobody has said so.
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
        // From the newest on: receipts stand behind what they tell of.
        for entry in newest.chunks_exact(3) {
            // What is no event proves nothing.
            let [Some(id), Some(header), Some(receipt)] = [0, 1, 2].map(|n| text(&entry[n])) else { continue };
            match receipt {
                "" if id.parse::<Cursor>().map_err(|_| EventLogError::InvalidEntry)? > cursor => {}
                receipt if !receipt.is_empty() => {
                    received.extend(event::parse_receipt_ids(receipt).unwrap_or_default())
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

    /// What a room that stands at `position` has missed.
    ///
    /// # Errors
    /// [`EventLogError`]
    pub async fn backfill(&self, channel: &Channel, position: Cursor) -> Result<Backfill, EventLogError> {
        match self.read_since(channel, position).await? {
            Some(events) => Ok(Backfill::Events(events)),
            None => Ok(Backfill::Gap(self.read_tail(channel).await?)),
        }
    }
}

/// An entry's id, type, header and rest; `None` when it is no entry of ours. The rest is no text when it is sealed.
fn parse_entry(entry: &[Value]) -> Option<(Cursor, &str, &str, &[u8])> {
    let [id, kind, header, rest] = entry else { return None };
    Some((text(id)?.parse().ok()?, text(kind)?, text(header)?, rest.as_bytes()?))
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()?).ok()
}
