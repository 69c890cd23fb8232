//! Publishing events to Redis. The queue in memory is the fast path; what it cannot take is in the outbox anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fred::prelude::*;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use shared::channel::PUBLISH;
use tokio::sync::mpsc;

use crate::config::LogConfig;
use crate::store::OutboxEvent;

/// Events that may wait for Redis in memory.
const QUEUE: usize = 10_000;

/// Hands committed events to the task of [`crate::outbox`]. Clones share the queue.
///
/// Never waits and never loses: every event handed over stands in the outbox, which is read when the queue is full.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<OutboxEvent>,
    overflowed: Arc<AtomicBool>,
}

/// The other end of the queue.
pub struct Committed {
    queue: mpsc::Receiver<OutboxEvent>,
    overflowed: Arc<AtomicBool>,
}

/// A queue for committed events.
#[must_use]
pub fn queue() -> (Publisher, Committed) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let overflowed = Arc::new(AtomicBool::new(false));
    (Publisher { queue: sender, overflowed: overflowed.clone() }, Committed { queue: receiver, overflowed })
}

impl Publisher {
    /// Publishes soon. Call it after the commit, in the order of the commits.
    pub fn publish(&self, events: impl IntoIterator<Item = OutboxEvent>) {
        for event in events {
            if self.queue.try_send(event).is_err() {
                metrics::counter!("publish_queue_overflows_total").increment(1);
                self.overflowed.store(true, Ordering::Release);
            }
        }
    }
}

impl Committed {
    /// Events that wait, up to `most`; none when the queue is closed.
    pub async fn next(&mut self, most: usize) -> Vec<OutboxEvent> {
        let mut events = Vec::new();
        self.queue.recv_many(&mut events, most).await;
        events
    }

    /// Drops what waits, which the outbox holds too.
    pub fn skip(&mut self) {
        while self.queue.try_recv().is_ok() {}
    }

    /// Whether events did not fit since the last call.
    pub fn overflowed(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// Whether nobody can publish any more and nothing waits.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() && self.queue.is_empty()
    }
}

/// Redis, as publishing sees it.
pub struct Broker {
    client: Client,
    script: Script,
    log: LogConfig,
}

impl Broker {
    /// Publishes through `client`, keeping logs as `log` says.
    #[must_use]
    pub fn new(client: Client, log: LogConfig) -> Self {
        Self { client, script: Script::from_lua(PUBLISH), log }
    }

    /// Publishes events in order.
    ///
    /// # Errors
    /// When Redis did not take all of them. Some may be published, so publishing again may double them.
    pub async fn publish(&self, events: &[OutboxEvent]) -> Result<(), Error> {
        match self.pipeline(events).await {
            // A Redis that restarted has forgotten the script, and refused the first event before any other.
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                self.script.load(&self.client).await?;
                self.pipeline(events).await
            }
            done => done,
        }
    }

    /// Commands that are handed to the client together leave together, in order.
    async fn pipeline(&self, events: &[OutboxEvent]) -> Result<(), Error> {
        let publish = |OutboxEvent { channel, draft, .. }: &OutboxEvent| {
            let keys = vec![channel.as_str().to_owned(), channel.log()];
            let args: Vec<Value> = vec![
                draft.kind.into(),
                draft.header().into(),
                draft.rest.as_str().into(),
                self.log.length.into(),
                self.log.ttl_millis.into(),
            ];
            self.client.evalsha::<Value, _, _, _>(self.script.sha1().clone(), keys, args)
        };
        for outcome in join_all(events.iter().map(publish)).await {
            outcome?;
        }
        Ok(())
    }
}
