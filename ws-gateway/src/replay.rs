//! Reads conversations' logs: where they end, and what came after a cursor.
//!
//! One rule: if the log still holds the entry seen last, all that follows it is all that was missed. If not,
//! nothing can be said, and nothing is guessed.

mod budget;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::types::Value;
use fred::types::scripts::Script;
use shared::channel::{self, Channel};
use shared::event::{self, Addressed, Cursor};
use shared::ids::MessageId;
use shared::participant::Participant;
use tokio::sync::Semaphore;
use tokio::try_join;

use crate::hub::Backfill;
use crate::outbound::Delivery;
use crate::redis::run;
use crate::unsealing::{Unsealing, Unusable};
pub(crate) use budget::{Held, ReplayBudget};

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
    pub missed: Vec<Arc<Delivery>>,
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
    client: Client,
    tail: Script,
    since: Script,
    receipts: Script,
    lives: Lives,
    limit_bytes: usize,
    unsealing: Arc<Unsealing>,
    reading: Arc<Semaphore>,
}

impl Logs {
    /// A reader that keeps logs alive after it looked at them, and replays at most `limit_bytes` of frames at once: more
    /// would not fit into a socket's queue.
    #[must_use]
    pub fn new(client: Client, lives: Lives, limit_bytes: usize, unsealing: Arc<Unsealing>) -> Self {
        let [tail, since, receipts] = [channel::TAIL, channel::SINCE, channel::RECEIPTS].map(Script::from_lua);
        let reading = Arc::new(Semaphore::new(READ_AT_ONCE));
        Self { client, tail, since, receipts, lives, limit_bytes, unsealing, reading }
    }

    /// The newest entry, or the marker that opened the log. Opens a log where there is none, and prolongs its life.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn tail(&self, channel: &Channel) -> Result<Cursor, ReplayError> {
        let millis = |life: Duration| Value::from(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let lives = [millis(self.lives.with_events), millis(self.lives.with_marker_alone)];
        let id: String = run(&self.client, &self.tail, channel.log(), &lives).await?;
        id.parse().map_err(|_| ReplayError::NotALog)
    }

    /// Everything after `cursor`; `None` when the log does not hold `cursor` any more, too much follows it, or what does
    /// cannot be opened here.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn since(&self, channel: &Channel, cursor: Cursor) -> Result<Option<Vec<Arc<Delivery>>>, ReplayError> {
        // Never closed.
        let _permit = self.reading.acquire().await;
        let mut deliveries = Vec::new();
        let (mut bytes, mut last) = (0, cursor);
        loop {
            // From the last one seen: its being there is the proof that nothing is missing behind it.
            let left = self.limit_bytes.saturating_sub(bytes);
            let arguments = [last.to_string(), PAGE.to_string(), left.to_string()].map(Value::from);
            let page: Value = run(&self.client, &self.since, channel.log(), &arguments).await?;
            let Value::Array(values) = page else { return Ok(None) };
            for entry in values.chunks(1 + channel::LOG_FIELDS.len()) {
                let previous = last;
                let [id, kind, header, rest] = parts(entry)?;
                last = text(id)?.parse().map_err(|_| ReplayError::NotALog)?;
                let event = match self.unsealing.logged(channel, [last, previous], text(kind)?, text(header)?, rest) {
                    Ok(Some(event)) => event,
                    Ok(None) => continue,
                    Err(Unusable::Sealed) => return Ok(None),
                    Err(Unusable::Invalid(_)) => return Err(ReplayError::NotALog),
                };
                let delivery = Delivery::new(event);
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
        let (missed, unproven) = try_join!(self.since(channel, cursor), seen)?;
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
        let newest: Vec<String> =
            run(&self.client, &self.receipts, channel.log(), &[LOOK_BACK.to_string().into()]).await?;
        let mut received = HashSet::new();
        let mut unproven = Vec::new();
        // From the newest on: receipts stand behind what they tell of.
        for entry in newest.chunks_exact(3) {
            let [id, header, receipt] = entry else { continue };
            match &**receipt {
                "" if id.parse::<Cursor>().map_err(|_| ReplayError::NotALog)? > cursor => {}
                receipt if !receipt.is_empty() => {
                    received.extend(event::receipt_ids(receipt).map_err(|_| ReplayError::NotALog)?);
                }
                _ => {
                    if let Ok(Addressed { to: receiver, message_id }) = header.parse()
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

/// An entry's id, type, header and rest. The rest is no text when it is sealed.
fn parts(entry: &[Value]) -> Result<[&[u8]; 4], ReplayError> {
    let [id, kind, header, rest] = entry else { return Err(ReplayError::NotALog) };
    match [id, kind, header, rest].map(Value::as_bytes) {
        [Some(id), Some(kind), Some(header), Some(rest)] => Ok([id, kind, header, rest]),
        _ => Err(ReplayError::NotALog),
    }
}

fn text(bytes: &[u8]) -> Result<&str, ReplayError> {
    std::str::from_utf8(bytes).map_err(|_| ReplayError::NotALog)
}
