//! Reads conversations' logs: where they end, and what came after a cursor.
//!
//! One rule: if the log still holds the entry seen last, all that follows it is all that was missed. If not,
//! nothing can be said, and nothing is guessed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::StreamsInterface;
use fred::types::Value;
use fred::types::scripts::Script;
use shared::channel::{self, Channel};
use shared::event::{self, Addressed, Cursor};
use shared::ids::MessageId;
use shared::participant::Participant;
use tokio::try_join;

use crate::hub::Backfill;
use crate::outbound::Delivery;
use crate::redis::{redirected, run};
use crate::unsealing::{Unsealing, Unusable};

/// Entries read at a time. Logs hold a few dozen.
const PAGE: u64 = 512;

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

/// Reader of all logs.
#[derive(Clone)]
pub struct Logs {
    client: Client,
    tail: Script,
    ttl: Duration,
    limit_bytes: usize,
    unsealing: Arc<Unsealing>,
}

impl Logs {
    /// A reader that keeps logs alive for `ttl` after it looked at them, and replays at most `limit_bytes` of frames
    /// at once: more would not fit into a socket's queue.
    #[must_use]
    pub fn new(client: Client, ttl: Duration, limit_bytes: usize, unsealing: Arc<Unsealing>) -> Self {
        Self { client, tail: Script::from_lua(channel::TAIL), ttl, limit_bytes, unsealing }
    }

    /// The newest entry; an empty log is opened first.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn tail(&self, channel: &Channel) -> Result<Cursor, ReplayError> {
        let life_ms = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        let id: String = run(&self.client, &self.tail, channel.log(), &[life_ms.into()]).await?;
        id.parse().map_err(|_| ReplayError::NotALog)
    }

    /// Everything after `cursor`; `None` when the log does not hold `cursor` any more, too much follows it, or what does
    /// cannot be opened here.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub async fn since(&self, channel: &Channel, cursor: Cursor) -> Result<Option<Vec<Arc<Delivery>>>, ReplayError> {
        let mut deliveries = Vec::new();
        let (mut bytes, mut last) = (0, cursor);
        loop {
            // From the last one seen, and with it: its being there is the proof that nothing is missing behind it.
            let page: Vec<(String, HashMap<String, Value>)> =
                redirected(|| self.client.xrange_values(channel.log(), last.to_string(), "+", Some(PAGE))).await?;
            let full = page.len() as u64 == PAGE;
            let mut entries = page.into_iter();
            match entries.next().map(|(id, _)| id.parse::<Cursor>()) {
                Some(Ok(id)) if id == last => {}
                _ => return Ok(None),
            }
            for (id, fields) in entries {
                let previous = last;
                last = id.parse().map_err(|_| ReplayError::NotALog)?;
                let (kind, header, rest) = parts(&fields)?;
                let event = match self.unsealing.logged(channel, [last, previous], kind, header, rest) {
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
            if !full {
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
        let newest: Vec<(String, HashMap<String, Value>)> =
            redirected(|| self.client.xrevrange_values(channel.log(), "+", "-", Some(LOOK_BACK))).await?;
        let mut received = HashSet::new();
        let mut unproven = Vec::new();
        // From the newest on: receipts stand behind what they tell of.
        for (id, fields) in newest {
            let (kind, header, rest) = parts(&fields)?;
            match kind {
                "delivered" | "read" => {
                    let rest = std::str::from_utf8(rest).map_err(|_| ReplayError::NotALog)?;
                    received.extend(event::receipt_ids(rest).map_err(|_| ReplayError::NotALog)?);
                }
                _ if id.parse::<Cursor>().map_err(|_| ReplayError::NotALog)? > cursor => {}
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

/// An entry's type, header and rest. The rest is no text when it is sealed.
fn parts(fields: &HashMap<String, Value>) -> Result<(&str, &str, &[u8]), ReplayError> {
    let [kind, header, rest] = channel::LOG_FIELDS.map(|name| fields.get(name).and_then(Value::as_bytes));
    match (kind.map(std::str::from_utf8), header.map(std::str::from_utf8), rest) {
        (Some(Ok(kind)), Some(Ok(header)), Some(rest)) => Ok((kind, header, rest)),
        _ => Err(ReplayError::NotALog),
    }
}
