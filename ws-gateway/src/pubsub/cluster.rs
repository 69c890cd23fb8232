//! Subscriptions of a Redis Cluster: one independent connection per master. A lost connection affects only the slots
//! of its master.
//!
//! A slot without a connected owner is disconnected. Then the slot map is read repeatedly, until a connected master
//! serves the slot: the same one, or its promoted replica.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::receiver::{heartbeat_loop, receive_loop};
use super::routes::{Changes, ConnectionId, Master, Routes};
use super::subscriber::{Backoff, CHANNELS_PER_COMMAND, MAX_BACKOFF, Subscriber, SubscriberError};
use super::subscriptions::{ShardedReply, subscribe_sharded};
use crate::redis::{SlotMap, SubscriberReader, SubscriberWriter};

struct Cluster {
    subscriber: Subscriber,
    routes: Mutex<Routes>,
    /// Notified if the slot map may be outdated.
    map_refresh: Arc<Notify>,
}

pub(super) async fn reconnect_loop(subscriber: Subscriber, map_refresh: Arc<Notify>) {
    let cluster = &Cluster { subscriber, routes: Mutex::new(Routes::new()), map_refresh };
    let mut nodes = FuturesUnordered::new();
    let mut map_reader = Box::pin(futures_util::stream::unfold(MapReader::new(), |mut map_reader| async move {
        let map = cluster.next_map(&mut map_reader).await;
        Some((map, map_reader))
    }));
    loop {
        tokio::select! {
            Some(map) = map_reader.next() => {
                let mut new = Vec::new();
                cluster.update(|routes| new = routes.apply_map(map));
                nodes.extend(new.into_iter().map(|master| cluster.run_master(master)));
            }
            Some(()) = nodes.next() => {}
            () = cluster.subscriber.hub.subscriptions_changed() => cluster.routes.lock().wake_all(),
        }
    }
}

/// Paces the reads of the slot map.
struct MapReader {
    backoff: Backoff,
    read_at: Instant,
}

impl MapReader {
    fn new() -> Self {
        Self { backoff: Backoff::new(), read_at: Instant::now() }
    }
}

impl Cluster {
    /// Reads the slot map when it may be outdated, and as long as a slot has no connected master.
    async fn next_map(&self, map_reader: &mut MapReader) -> SlotMap {
        loop {
            if self.routes.lock().is_whole() {
                self.map_refresh.notified().await;
            }
            if map_reader.read_at.elapsed() > 2 * MAX_BACKOFF {
                map_reader.backoff.reset();
            }
            map_reader.backoff.wait().await;
            let map = self.subscriber.redis.read_slot_map().await;
            map_reader.read_at = Instant::now();
            match map {
                Ok(map) => return map,
                Err(error) => tracing::warn!(%error, "slot map read failed"),
            }
        }
    }

    /// Changes the routes, and tells hub and presence which slots are affected.
    fn update(&self, change: impl FnOnce(&mut Routes)) {
        let Subscriber { hub, presence, .. } = &self.subscriber;
        let mut routes = self.routes.lock();
        change(&mut routes);
        let Changes { disconnected, moved, connected } = routes.take_changes();
        if !disconnected.is_empty() {
            hub.slots_disconnected(&disconnected);
        }
        if !moved.is_empty() {
            hub.slots_moved(&moved);
        }
        if !connected.is_empty() {
            hub.slots_connected(&connected);
            presence.reconnected(|channel| connected.contains(channel.as_str()));
        }
        gauge!("ehr_chat_gateway_redis_up").set(f64::from(u8::from(routes.is_whole())));
        gauge!("ehr_chat_gateway_redis_nodes_down").set(routes.nodes_down() as f64);
    }

    /// Stays connected to a master until the slot map no longer names it.
    async fn run_master(&self, master: Arc<Master>) {
        tokio::select! {
            biased;
            () = master.removed.notified() => tracing::info!(node = %master.server, "master removed from the slot map"),
            () = self.stay_connected(&master) => {}
        }
    }

    async fn stay_connected(&self, master: &Master) {
        let mut backoff = Backoff::new();
        loop {
            match self.subscriber.redis.connect_subscriber(&master.server).await {
                Ok((writer, reader)) => {
                    backoff.reset();
                    let mut id = None;
                    self.update(|routes| id = routes.connect(master));
                    let Some(id) = id else { return };
                    tracing::info!(node = %master.server, "subscriber connected");
                    let error = self.run_connection(master, id, writer, reader).await;
                    self.update(|routes| routes.disconnect(master, id));
                    self.map_refresh.notify_one();
                    counter!("ehr_chat_gateway_redis_disconnects_total").increment(1);
                    tracing::warn!(node = %master.server, %error, "subscriber disconnected");
                }
                Err(error) => tracing::warn!(node = %master.server, %error, "redis connection failed"),
            }
            backoff.wait().await;
        }
    }

    async fn run_connection(
        &self,
        master: &Master,
        id: ConnectionId,
        writer: SubscriberWriter,
        reader: SubscriberReader,
    ) -> SubscriberError {
        tokio::select! {
            error = self.sync_subscriptions(master, id, &writer) => error,
            error = receive_loop(reader, &self.subscriber, |channel| self.routes.lock().serves(id, channel)) => error,
            error = heartbeat_loop(&writer) => error,
        }
    }

    /// Subscribes and unsubscribes at one node, as the hub requests. One command is in flight; later changes are sent
    /// together.
    async fn sync_subscriptions(
        &self,
        master: &Master,
        id: ConnectionId,
        writer: &SubscriberWriter,
    ) -> SubscriberError {
        loop {
            let changes = {
                let routes = self.routes.lock();
                self.subscriber
                    .hub
                    .take_subscription_changes_in(CHANNELS_PER_COMMAND, |channel| routes.serves(id, channel.as_str()))
            };
            if changes.is_empty() {
                master.changes_ready.notified().await;
                continue;
            }
            match subscribe_sharded(writer, changes).await {
                Ok(reply) => self.confirm(id, reply),
                Err(error) => return error,
            }
        }
    }

    /// A confirmation counts only while the node serves the slot. Rejected channels go to another node.
    fn confirm(&self, id: ConnectionId, ShardedReply { mut confirmed, rejected, errors }: ShardedReply) {
        if !rejected.is_empty() {
            self.update(|routes| {
                for channel in rejected {
                    if routes.serves(id, channel.as_str()) && !routes.redirect(id, &channel, &errors) {
                        self.map_refresh.notify_one();
                    }
                }
            });
        }
        let routes = self.routes.lock();
        confirmed.retain(|channel| routes.serves(id, channel.as_str()));
        drop(routes);
        self.subscriber.hub.confirm_subscriptions(&confirmed);
        self.subscriber.presence.on_subscribed(&confirmed);
    }
}
