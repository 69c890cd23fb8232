//! Publishing events to Redis. The queue in memory is the fast path; what it cannot take is in the outbox anyway.

mod inbox_rows;
mod outcome;
mod recovery;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use shared::channel::{self, Channel, Topology};
use shared::publication::{PublishBatch, PublishMode};
use shared::redis::{Nodes, is_answer};
use shared::relay_keys::RelayKeys;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::LogConfig;
use crate::store::{OutboxEntry, OutboxEvent};

pub use inbox_rows::InboxRow;
pub use outcome::{Outcome, Reach, Refusal};
pub use recovery::{Node, NodeMap};

/// Events that may wait for Redis in memory.
const QUEUE: usize = 10_000;
/// Events in one script: none of them may hold Redis up for more than a fraction of a millisecond.
const SCRIPT: usize = 32;

/// Hands committed events to the task of [`crate::outbox`]. Clones share the queue.
///
/// Never waits and never loses: every event handed over stands in the outbox, which is read when the queue is full.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<OutboxEntry>,
    gauge: Arc<Gauge>,
}

/// The other end of the queue.
pub struct Committed {
    queue: mpsc::Receiver<OutboxEntry>,
    gauge: Arc<Gauge>,
}

/// How full the queue is.
#[derive(Default)]
struct Gauge {
    events: AtomicUsize,
    overflowed: AtomicBool,
}

/// A queue for committed events.
#[must_use]
pub fn queue() -> (Publisher, Committed) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let gauge = Arc::new(Gauge::default());
    (Publisher { queue: sender, gauge: gauge.clone() }, Committed { queue: receiver, gauge })
}

impl Publisher {
    /// Publishes soon. Call it after the commit, in the order of the commits.
    pub fn publish(&self, entries: impl IntoIterator<Item = OutboxEntry>) {
        for entry in entries {
            let events = entry.events.len();
            let fits = self.gauge.events.fetch_add(events, Ordering::AcqRel) + events <= QUEUE;
            if !fits || self.queue.try_send(entry).is_err() {
                self.gauge.events.fetch_sub(events, Ordering::AcqRel);
                metrics::counter!("publish_queue_overflows_total").increment(events as u64);
                self.gauge.overflowed.store(true, Ordering::Release);
            }
        }
    }
}

impl Publisher {
    /// Events that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.gauge.events.load(Ordering::Acquire)
    }
}

impl Committed {
    /// Entries that wait, until they have `enough` events between them; none when the queue is closed.
    pub async fn next(&mut self, enough: usize) -> Vec<OutboxEntry> {
        let mut entries = Vec::new();
        let mut events = 0;
        let mut next = self.queue.recv().await;
        while let Some(entry) = next {
            events += entry.events.len();
            entries.push(entry);
            next = if events < enough { self.queue.try_recv().ok() } else { None };
        }
        self.gauge.events.fetch_sub(events, Ordering::AcqRel);
        entries
    }

    /// Drops what waits, which the outbox holds too.
    pub fn skip(&mut self) {
        while let Ok(entry) = self.queue.try_recv() {
            self.gauge.events.fetch_sub(entry.events.len(), Ordering::AcqRel);
        }
    }

    /// Whether events did not fit since the last call.
    pub fn overflowed(&self) -> bool {
        self.gauge.overflowed.swap(false, Ordering::AcqRel)
    }

    /// Whether nobody can publish any more and nothing waits.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() && self.queue.is_empty()
    }
}

/// An event, and how it is published.
pub type Due<'a> = (&'a OutboxEvent, PublishMode);

/// Redis, as publishing sees it.
pub struct Broker {
    redis: Nodes,
    topology: Topology,
    script: Script,
    listening: Script,
    show: Script,
    rename: Script,
    announce: Script,
    log: LogConfig,
    relay_keys: RelayKeys,
}

impl Broker {
    /// Publishes through `redis`, keeping logs as `log` says, messages sealed if `relay_keys` has a key for that.
    #[must_use]
    pub fn new(redis: Nodes, log: LogConfig, relay_keys: RelayKeys) -> Self {
        let topology = redis.topology();
        let [script, listening, show, rename, announce] = [
            topology.publish_script(),
            channel::SUBSCRIBER_COUNT,
            topology.publish_rows_script(),
            channel::RENAME_WRONG_TYPE,
            topology.publish_ephemeral_script(),
        ]
        .map(Script::from_lua);
        Self { redis, topology, script, listening, show, rename, announce, log, relay_keys }
    }

    /// Publishes events, those of one conversation in order, and says of each what became of it. What Redis refuses of one
    /// conversation, or of one node, keeps nothing else from being published.
    ///
    /// # Errors
    /// When a single Redis does not answer. Some events may be published, so publishing again may double them.
    pub async fn publish(&self, events: &[Due<'_>]) -> Result<Vec<Outcome>, Error> {
        let began = Instant::now();
        let published = self.publish_all(events).await;
        if published.is_ok() {
            metrics::histogram!("publish_batch_size").record(events.len() as f64);
            metrics::histogram!("publish_seconds").record(began.elapsed());
        }
        published
    }

    async fn publish_all(&self, events: &[Due<'_>]) -> Result<Vec<Outcome>, Error> {
        let Some(single) = self.redis.only() else { return self.by_conversation(events).await };
        match self.pipeline(single, events).await {
            // A Redis that restarted has forgotten the script, and refused the first events before any other.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                self.script.load(single).await?;
                self.pipeline(single, events).await
            }
            done => done,
        }
    }

    /// Commands that are handed to the client together leave together, in order.
    async fn pipeline(&self, single: &Client, events: &[Due<'_>]) -> Result<Vec<Outcome>, Error> {
        let publish = |events: &[Due<'_>]| {
            let publication = self.publication(events);
            async move {
                let (logs, args) = publication?.into_parts();
                single.evalsha::<Vec<Option<String>>, _, _, _>(self.script.sha1().clone(), logs, args).await
            }
        };
        let mut out = Vec::with_capacity(events.len());
        for (some, cursors) in events.chunks(SCRIPT).zip(join_all(events.chunks(SCRIPT).map(publish)).await) {
            match cursors {
                Ok(cursors) => out.extend(cursors.iter().map(|cursor| Outcome::read(cursor.as_deref()))),
                Err(error) if !is_answer(&error) || error.details().starts_with("NOSCRIPT") => {
                    return Err(error);
                }
                Err(error) => match Refusal::from(&error) {
                    refusal @ Refusal { reach: Reach::Node, .. } => {
                        out.extend(some.iter().map(|_| Outcome::Refused(refusal.clone())));
                    }
                    // Nobody knows how far the script came: one by one, and only what the logs do not hold.
                    Refusal { reach: Reach::Conversation, .. } => {
                        let again: Vec<Due<'_>> =
                            some.iter().map(|(event, _)| (*event, PublishMode::Deduplicate)).collect();
                        out.extend(self.by_conversation(&again).await?);
                    }
                },
            }
        }
        Ok(out)
    }

    /// Conversations side by side, and in each of them one event after the other: an event that is redirected would be
    /// overtaken by those that were sent behind it.
    async fn by_conversation(&self, events: &[Due<'_>]) -> Result<Vec<Outcome>, Error> {
        let mut conversations: HashMap<&Channel, Vec<(usize, Due<'_>)>> = HashMap::new();
        for (place, due) in events.iter().enumerate() {
            conversations.entry(&due.0.channel).or_default().push((place, *due));
        }
        let mut out = vec![Outcome::TooEarly; events.len()];
        for published in join_all(conversations.into_values().map(|events| self.in_order(events))).await {
            for (place, outcome) in published? {
                out[place] = outcome;
            }
        }
        Ok(out)
    }

    /// The events of one conversation, up to the first that is refused; those behind it are refused with it.
    async fn in_order(&self, events: Vec<(usize, Due<'_>)>) -> Result<Vec<(usize, Outcome)>, Error> {
        let mut out = Vec::with_capacity(events.len());
        let mut refused = None;
        for (place, due) in events {
            let outcome = match &refused {
                Some(refusal) => Outcome::Refused(Refusal::clone(refusal)),
                None => match self.publish_one(due).await {
                    Ok(outcome) => outcome,
                    Err(error) if self.topology == Topology::Single && !is_answer(&error) => {
                        return Err(error);
                    }
                    Err(error) => Outcome::Refused(Refusal::from(&error)),
                },
            };
            if let Outcome::Refused(refusal) = &outcome {
                refused = Some(refusal.clone());
            }
            out.push((place, outcome));
        }
        Ok(out)
    }

    async fn publish_one(&self, due: Due<'_>) -> Result<Outcome, Error> {
        let (log, args) = self.publication(&[due])?.into_parts();
        let cursors: Vec<Option<String>> = self.run(&self.script, log, args).await?;
        Ok(Outcome::read(cursors.first().and_then(Option::as_deref)))
    }

    async fn run<T: FromValue>(&self, script: &Script, keys: Vec<String>, args: Vec<Bytes>) -> Result<T, Error> {
        self.redis.run(script, keys, args).await
    }

    fn publication(&self, events: &[Due<'_>]) -> Result<PublishBatch, Error> {
        let mut publication = PublishBatch::new(self.log.length, self.log.ttl_millis);
        for (OutboxEvent { channel, draft }, manner) in events {
            let added = publication.add(channel, draft, *manner, &self.relay_keys);
            added.map_err(|error| Error::new(ErrorKind::Unknown, error.to_string()))?;
        }
        Ok(publication)
    }
}
