//! Publishing events to Redis. The queue in memory is the fast path; what it cannot take is in the outbox anyway.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fred::prelude::*;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use shared::channel::{Channel, Topology};
use tokio::sync::mpsc;

use crate::config::LogConfig;
use crate::redis::redirected;
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
    topology: Topology,
    script: Script,
    log: LogConfig,
}

impl Broker {
    /// Publishes through `client`, keeping logs as `log` says.
    #[must_use]
    pub fn new(client: Client, topology: Topology, log: LogConfig) -> Self {
        Self { client, topology, script: Script::from_lua(topology.publish_script()), log }
    }

    /// Publishes events, those of one conversation in order.
    ///
    /// # Errors
    /// When Redis did not take all of them. Some may be published, so publishing again may double them.
    pub async fn publish(&self, events: &[OutboxEvent]) -> Result<(), Error> {
        if self.topology == Topology::Cluster {
            return self.by_conversation(events).await;
        }
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
        let publish = |event| {
            let (log, args) = self.command(event);
            self.client.evalsha::<Value, _, _, _>(self.script.sha1().clone(), log, args)
        };
        for outcome in join_all(events.iter().map(publish)).await {
            outcome?;
        }
        Ok(())
    }

    /// Conversations side by side, and in each of them one event after the other: an event that is redirected would be
    /// overtaken by those that were sent behind it.
    async fn by_conversation(&self, events: &[OutboxEvent]) -> Result<(), Error> {
        let mut conversations: HashMap<&Channel, Vec<&OutboxEvent>> = HashMap::new();
        for event in events {
            conversations.entry(&event.channel).or_default().push(event);
        }
        for outcome in join_all(conversations.into_values().map(|events| self.in_order(events))).await {
            outcome?;
        }
        Ok(())
    }

    async fn in_order(&self, events: Vec<&OutboxEvent>) -> Result<(), Error> {
        for event in events {
            self.publish_one(event).await?;
        }
        Ok(())
    }

    async fn publish_one(&self, event: &OutboxEvent) -> Result<(), Error> {
        let (log, args) = self.command(event);
        let _cursor: Value = redirected(|| async {
            match self.client.evalsha(self.script.sha1().clone(), log.as_str(), args.clone()).await {
                // This node has never seen the script, or has restarted since. Now it has.
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    self.client.eval(self.topology.publish_script(), log.as_str(), args.clone()).await
                }
                done => done,
            }
        })
        .await?;
        Ok(())
    }

    /// Key and arguments of the script.
    fn command(&self, OutboxEvent { channel, draft, .. }: &OutboxEvent) -> (String, Vec<Value>) {
        let args = vec![
            draft.kind.into(),
            draft.header().into(),
            draft.rest.as_str().into(),
            self.log.length.into(),
            self.log.ttl_millis.into(),
            channel.as_str().into(),
        ];
        (channel.log(), args)
    }
}
