//! Publishes events and inbox rows to Redis.

mod node_map;
mod outcome;
mod probe;
mod publish_inbox_rows;

use std::collections::HashMap;

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use shared::contract::event::publish_batch::{PublishBatch, PublishMode};
use shared::contract::event::relay_keys::RelayKeys;
use shared::contract::redis::keys::Channel;
use shared::contract::redis::scripts;
use shared::kit::redis::Topology;
use shared::kit::redis::{RedisNodes, is_redis_reply};
use tokio::time::Instant;

use crate::outbox::settings::EventLogConfig;
use crate::store::OutboxEvent;

pub use node_map::{Node, NodeMap};
pub use outcome::{PublishOutcome, PublishRejection, RejectionScope};
pub use publish_inbox_rows::EncodedInboxRow;

/// Events per script call, so that none blocks Redis for more than a fraction of a millisecond.
const MAX_EVENTS_PER_SCRIPT: usize = 32;

/// An event, and the mode in which it is published.
pub type PublishRequest<'a> = (&'a OutboxEvent, PublishMode);

/// Publishes to Redis.
pub struct Broker {
    redis: RedisNodes,
    topology: Topology,
    publish_script: Script,
    subscribers_script: Script,
    rows_script: Script,
    rename_script: Script,
    announce_script: Script,
    event_log: EventLogConfig,
    relay_keys: RelayKeys,
}

impl Broker {
    /// Uses `redis`. `event_log` bounds the logs; messages are sealed if `relay_keys` has a sealing key.
    #[must_use]
    pub fn new(redis: RedisNodes, event_log: EventLogConfig, relay_keys: RelayKeys) -> Self {
        let topology = redis.topology();
        let [publish_script, subscribers_script, rows_script, rename_script, announce_script] = [
            topology.publish_script(),
            scripts::SUBSCRIBER_COUNT,
            topology.publish_rows_script(),
            scripts::RENAME_WRONG_TYPE,
            topology.publish_ephemeral_script(),
        ]
        .map(Script::from_lua);
        Self {
            redis,
            topology,
            publish_script,
            subscribers_script,
            rows_script,
            rename_script,
            announce_script,
            event_log,
            relay_keys,
        }
    }

    /// The map that the cluster reported last.
    #[must_use]
    pub fn node_map(&self) -> NodeMap {
        NodeMap::from(self.redis.slots())
    }

    /// Publishes events, in order within each conversation, and returns the outcome of each. A rejected conversation or node
    /// delays no other.
    ///
    /// # Errors
    /// When a single Redis does not answer. Some events may have been published, so a repeat may publish them twice.
    pub async fn publish(&self, events: &[PublishRequest<'_>]) -> Result<Vec<PublishOutcome>, Error> {
        let began = Instant::now();
        let published = self.publish_all(events).await;
        if published.is_ok() {
            metrics::histogram!("ehr_chat_publish_batch_size").record(events.len() as f64);
            metrics::histogram!("ehr_chat_publish_duration_seconds").record(began.elapsed());
        }
        published
    }

    async fn publish_all(&self, events: &[PublishRequest<'_>]) -> Result<Vec<PublishOutcome>, Error> {
        if self.topology == Topology::Cluster {
            return self.publish_by_conversation(events).await;
        }
        let publish = |single: Client| async move {
            match self.pipeline(&single, events).await {
                // A restarted Redis has no script cache, and rejected the first call before any other.
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    self.publish_script.load(&single).await?;
                    self.pipeline(&single, events).await
                }
                done => done,
            }
        };
        self.redis.execute("", publish).await
    }

    /// Commands that are passed to the client together are sent together, in order.
    async fn pipeline(&self, single: &Client, events: &[PublishRequest<'_>]) -> Result<Vec<PublishOutcome>, Error> {
        let publish = |events: &[PublishRequest<'_>]| {
            let batch = self.batch(events);
            async move {
                let (logs, args) = batch?.into_parts();
                single.evalsha::<Vec<Option<String>>, _, _, _>(self.publish_script.sha1().clone(), logs, args).await
            }
        };
        let mut out = Vec::with_capacity(events.len());
        for (some, cursors) in
            events.chunks(MAX_EVENTS_PER_SCRIPT).zip(join_all(events.chunks(MAX_EVENTS_PER_SCRIPT).map(publish)).await)
        {
            match cursors {
                Ok(cursors) => {
                    out.extend(cursors.iter().map(|cursor| PublishOutcome::from_script_reply(cursor.as_deref())));
                }
                Err(error) if !is_redis_reply(&error) || error.details().starts_with("NOSCRIPT") => {
                    return Err(error);
                }
                Err(error) => match PublishRejection::from(&error) {
                    rejection @ PublishRejection { scope: RejectionScope::Node, .. } => {
                        out.extend(some.iter().map(|_| PublishOutcome::Rejected(rejection.clone())));
                    }
                    // It is unknown how far the script came. Events are published one by one, skipping those that the logs hold.
                    PublishRejection { scope: RejectionScope::Conversation, .. } => {
                        let again: Vec<PublishRequest<'_>> =
                            some.iter().map(|(event, _)| (*event, PublishMode::Deduplicate)).collect();
                        out.extend(self.publish_by_conversation(&again).await?);
                    }
                },
            }
        }
        Ok(out)
    }

    /// Conversations concurrently, the events of each one after the other. Pipelined events could overtake one that is
    /// redirected.
    async fn publish_by_conversation(&self, events: &[PublishRequest<'_>]) -> Result<Vec<PublishOutcome>, Error> {
        let mut conversations: HashMap<&Channel, Vec<(usize, PublishRequest<'_>)>> = HashMap::new();
        for (index, due) in events.iter().enumerate() {
            conversations.entry(&due.0.channel).or_default().push((index, *due));
        }
        let mut out = vec![PublishOutcome::PredecessorMissing; events.len()];
        for published in join_all(conversations.into_values().map(|events| self.publish_in_order(events))).await {
            for (index, outcome) in published? {
                out[index] = outcome;
            }
        }
        Ok(out)
    }

    /// Publishes the events of one conversation until one is rejected; the following ones are rejected with it.
    async fn publish_in_order(
        &self,
        events: Vec<(usize, PublishRequest<'_>)>,
    ) -> Result<Vec<(usize, PublishOutcome)>, Error> {
        let mut out = Vec::with_capacity(events.len());
        let mut refused = None;
        for (index, due) in events {
            let outcome = match &refused {
                Some(rejection) => PublishOutcome::Rejected(PublishRejection::clone(rejection)),
                None => match self.publish_one(due).await {
                    Ok(outcome) => outcome,
                    Err(error) if self.topology == Topology::Single && !is_redis_reply(&error) => {
                        return Err(error);
                    }
                    Err(error) => PublishOutcome::Rejected(PublishRejection::from(&error)),
                },
            };
            if let PublishOutcome::Rejected(rejection) = &outcome {
                refused = Some(rejection.clone());
            }
            out.push((index, outcome));
        }
        Ok(out)
    }

    async fn publish_one(&self, due: PublishRequest<'_>) -> Result<PublishOutcome, Error> {
        let (log, args) = self.batch(&[due])?.into_parts();
        let cursors: Vec<Option<String>> = self.run(&self.publish_script, log, args).await?;
        Ok(PublishOutcome::from_script_reply(cursors.first().and_then(Option::as_deref)))
    }

    async fn run<T: FromValue>(&self, script: &Script, keys: Vec<String>, args: Vec<Bytes>) -> Result<T, Error> {
        self.redis.run_script(script, keys, args).await
    }

    fn batch(&self, events: &[PublishRequest<'_>]) -> Result<PublishBatch, Error> {
        let mut batch = PublishBatch::new(self.event_log.length, self.event_log.ttl_millis);
        for (OutboxEvent { channel, draft }, mode) in events {
            let added = batch.add(channel, draft, *mode, &self.relay_keys);
            added.map_err(|error| Error::new(ErrorKind::Unknown, error.to_string()))?;
        }
        Ok(batch)
    }
}
