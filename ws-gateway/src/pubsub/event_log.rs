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

use super::event_decoder::{Unsealing, Unusable};
use crate::hub::Backfill;
use crate::hub::outbound_queue::EncodedEvent;
use crate::redis::Nodes;

/// Entries read at a time. Logs hold a few dozen.
const PAGE: u64 = 512;

/// Logs read at a time. What is read of one is in memory twice for a moment.
const READ_AT_ONCE: usize = 64;

/// How far back a resuming socket's proof reaches: more than can be under way when a socket breaks.
const LOOK_BACK: u64 = 64;

/// What a socket that resumes gets, and gives.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Everything after its cursor.
    pub missed: Vec<Arc<EncodedEvent>>,
    /// Messages that have arrived before, and that nobody has proven.
    pub unproven: Vec<MessageId>,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Redis did not answer, or answered with an error.
    #[error("redis: {0}")]
    Redis(#[from] Error),
    /// What it holds is not a log of ours.
    #[error("the log holds something that is no event")]
    NotALog,
}

/// How long a log lives after a gateway has looked at it.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// One that holds events.
    pub with_events: Duration,
    /// One that was only opened.
    pub with_marker_alone: Duration,
}

/// Reader of all logs.
#[derive(Clone)]
pub struct Logs {
    redis: Nodes,
    tail: Script,
    since: Script,
    receipts: Script,
    rename: Script,
    lives: Lives,
    limit_bytes: usize,
    unsealing: Arc<Unsealing>,
    reading: Arc<Semaphore>,
}

impl Logs {
    /// A reader that keeps logs alive after it looked at them, and replays at most `limit_bytes` of frames at once: more
    /// would not fit into a socket's queue.
    #[must_use]
    pub fn new(redis: Nodes, lives: Lives, limit_bytes: usize, unsealing: Arc<Unsealing>) -> Self {
        let [tail, since, receipts, rename] =
            [channel::TAIL, channel::SINCE, channel::RECEIPTS, channel::RENAME_WRONG_TYPE].map(Script::from_lua);
        let reading = Arc::new(Semaphore::new(READ_AT_ONCE));
        Self { redis, tail, since, receipts, rename, lives, limit_bytes, unsealing, reading }
    }

    /// The newest entry, or the marker that opened the log. Opens a log where there is none, and prolongs its life.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn tail(&self, channel: &Channel) -> Result<Cursor, ReplayError> {
        let millis = |life: Duration| Value::from(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let lives = [millis(self.lives.with_events), millis(self.lives.with_marker_alone)];
        let id: String = self.ask(channel, &self.tail, &lives).await?;
        id.parse().map_err(|_| ReplayError::NotALog)
    }

    /// Asks a conversation's log. A key of another type that stands in its place is moved out of the way: nobody could join that
    /// conversation, and its sockets would never catch up.
    async fn ask<T: FromValue>(&self, channel: &Channel, script: &Script, arguments: &[Value]) -> Result<T, Error> {
        match self.redis.run(script, [channel.log()], arguments.iter().cloned()).await {
            // In boxes: every handshake would hold the room for it.
            // Before Redis 7 a script's error stands behind the name of the script.
            Err(error) if error.details().contains("WRONGTYPE") => {
                Box::pin(self.clear(channel)).await?;
                Box::pin(self.redis.run(script, [channel.log()], arguments.iter().cloned())).await
            }
            done => done,
        }
    }

    async fn clear(&self, channel: &Channel) -> Result<(), Error> {
        let moving = [Value::from("stream"), channel::moved_suffix().into()];
        let moved: Vec<String> = self.redis.run(&self.rename, [channel.log()], moving).await?;
        counter!("redis_keys_moved_total", "key" => "event_log").increment(moved.len() as u64);
        let (location, conversation) = channel.conversation().unwrap_or_default();
        tracing::error!(location, conversation, "a key that was no event log was moved out of its place");
        Ok(())
    }

    /// Everything after `cursor`; `None` when the log does not hold `cursor` any more, too much follows it, or what does
    /// cannot be opened here.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn since(
        &self,
        channel: &Channel,
        cursor: Cursor,
    ) -> Result<Option<Vec<Arc<EncodedEvent>>>, ReplayError> {
        // Never closed.
        let _permit = self.reading.acquire().await;
        let mut deliveries = Vec::new();
        let (mut bytes, mut last) = (0, cursor);
        loop {
            // From the last one seen: its being there is the proof that nothing is missing behind it.
            let left = self.limit_bytes.saturating_sub(bytes);
            let arguments = [last.to_string(), PAGE.to_string(), left.to_string()].map(Value::from);
            let page: Value = self.ask(channel, &self.since, &arguments).await?;
            let Value::Array(values) = page else { return Ok(None) };
            for entry in values.chunks(1 + channel::LOG_FIELDS.len()) {
                // What is no event may stand where one should: what was missed cannot be known.
                let Some((id, kind, header, rest)) = parts(entry) else {
                    self.unsealing.malformed(channel.as_str());
                    return Ok(None);
                };
                let previous = std::mem::replace(&mut last, id);
                let event = match self.unsealing.logged(channel, [last, previous], kind, header, rest) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(Unusable::Sealed) => return Ok(None),
                    Err(Unusable::Invalid(_)) => {
                        self.unsealing.malformed(channel.as_str());
                        return Ok(None);
                    }
                };
                let delivery = EncodedEvent::new(event);
                bytes += delivery.frame().len();
                deliveries.push(delivery);
            }
            if bytes > self.limit_bytes {
                return Ok(None);
            }
            if (values.len() as u64) < PAGE * 4 {
                return Ok(Some(deliveries));
            }
        }
    }

    /// For whoever has seen everything up to `cursor`: what came after it, and which messages to `to` it proves by showing
    /// that cursor. `None` when the log does not hold `cursor` any more, or too much follows it.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn resume(
        &self,
        channel: &Channel,
        cursor: Cursor,
        to: Option<&Participant>,
    ) -> Result<Option<Resumed>, ReplayError> {
        let seen = async {
            match to {
                Some(to) => self.unproven(channel, cursor, to).await,
                None => Ok(Vec::new()),
            }
        };
        // In boxes: every handshake would hold the room for both.
        let (missed, unproven) = try_join!(Box::pin(self.since(channel, cursor)), Box::pin(seen))?;
        Ok(missed.map(|missed| Resumed { missed, unproven }))
    }

    /// Messages to `to` up to `cursor` without a receipt in the log. A socket that breaks takes a Pong or two with it: these
    /// messages have arrived, and nobody has said so.
    async fn unproven(
        &self,
        channel: &Channel,
        cursor: Cursor,
        to: &Participant,
    ) -> Result<Vec<MessageId>, ReplayError> {
        let newest: Vec<Value> = self.ask(channel, &self.receipts, &[LOOK_BACK.to_string().into()]).await?;
        let mut received = HashSet::new();
        let mut unproven = Vec::new();
        // From the newest on: receipts stand behind what they tell of.
        for entry in newest.chunks_exact(3) {
            // What is no event proves nothing.
            let [Some(id), Some(header), Some(receipt)] = [0, 1, 2].map(|n| text(&entry[n])) else { continue };
            match receipt {
                "" if id.parse::<Cursor>().map_err(|_| ReplayError::NotALog)? > cursor => {}
                receipt if !receipt.is_empty() => {
                    received.extend(event::parse_receipt_ids(receipt).unwrap_or_default())
                }
                _ => {
                    if let Ok(Recipient { participant: receiver, message_id }) = header.parse()
                        && receiver == *to
                        && !received.contains(&message_id)
                    {
                        unproven.push(message_id);
                    }
                }
            }
        }
        Ok(unproven)
    }

    /// What a room that stands at `position` has missed.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn backfill(&self, channel: &Channel, position: Cursor) -> Result<Backfill, ReplayError> {
        match self.since(channel, position).await? {
            Some(missed) => Ok(Backfill::Missed(missed)),
            None => Ok(Backfill::Lost(self.tail(channel).await?)),
        }
    }
}

/// An entry's id, type, header and rest; `None` when it is no entry of ours. The rest is no text when it is sealed.
fn parts(entry: &[Value]) -> Option<(Cursor, &str, &str, &[u8])> {
    let [id, kind, header, rest] = entry else { return None };
    Some((text(id)?.parse().ok()?, text(kind)?, text(header)?, rest.as_bytes()?))
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()?).ok()
}
