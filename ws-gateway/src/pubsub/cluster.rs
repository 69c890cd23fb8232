//! A connection to each master of a cluster, each for itself: connected, heard, kept alive and connected anew. What is lost
//! with one concerns the slots that it served, and no others wait for it.
//!
//! A slot is cut while its owner is not connected, and while it has none. Then the map is read again and again, until
//! a connected node serves it: the same one, or the replica that took its place.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::receiver::{keep_alive, listen};
use super::routes::{Changes, LinkId, Routes, Seat};
use super::subscriber::{CHUNK, LONGEST_PAUSE, Loss, Pauses, Relay};
use super::subscriptions::{Sharded, subscribe_sharded};
use crate::redis::{Ear, Link, Slots};

struct Cluster {
    relay: Relay,
    routes: Mutex<Routes>,
    /// The map may be out of date.
    map_wanted: Arc<Notify>,
}

pub(super) async fn sessions(relay: Relay, map_wanted: Arc<Notify>) {
    let cluster = &Cluster { relay, routes: Mutex::new(Routes::new()), map_wanted };
    let mut nodes = FuturesUnordered::new();
    let mut maps = Box::pin(futures_util::stream::unfold(Maps::new(), |mut maps| async move {
        let map = cluster.next_map(&mut maps).await;
        Some((map, maps))
    }));
    loop {
        tokio::select! {
            Some(map) = maps.next() => {
                let mut new = Vec::new();
                cluster.update(|routes| new = routes.take_map(map));
                nodes.extend(new.into_iter().map(|seat| cluster.attend(seat)));
            }
            Some(()) = nodes.next() => {}
            () = cluster.relay.hub.interest_changed() => cluster.routes.lock().wake_all(),
        }
    }
}

/// When the map is read.
struct Maps {
    pauses: Pauses,
    read_at: Instant,
}

impl Maps {
    fn new() -> Self {
        Self { pauses: Pauses::new(), read_at: Instant::now() }
    }
}

impl Cluster {
    /// Reads the map when it may be out of date, and for as long as no connected master serves some slot.
    async fn next_map(&self, maps: &mut Maps) -> Slots {
        loop {
            if self.routes.lock().is_whole() {
                self.map_wanted.notified().await;
            }
            if maps.read_at.elapsed() > 2 * LONGEST_PAUSE {
                maps.pauses.start_again();
            }
            maps.pauses.pause().await;
            let map = self.relay.redis.slots().await;
            maps.read_at = Instant::now();
            match map {
                Ok(map) => return map,
                Err(error) => tracing::warn!(%error, "no node of redis knows the cluster"),
            }
        }
    }

    /// Changes who serves what, and tells whom it concerns.
    fn update(&self, change: impl FnOnce(&mut Routes)) {
        let Relay { hub, everybody, .. } = &self.relay;
        let mut routes = self.routes.lock();
        change(&mut routes);
        let Changes { cut, moved, reached } = routes.settle();
        if !cut.is_empty() {
            hub.cut(&cut);
        }
        if !moved.is_empty() {
            hub.moved(&moved);
        }
        if !reached.is_empty() {
            hub.reached(&reached);
            everybody.reconnected(|channel| reached.contains(channel.as_str()));
        }
        gauge!("gateway_redis_up").set(f64::from(u8::from(routes.is_whole())));
        gauge!("gateway_redis_nodes_down").set(routes.nodes_down() as f64);
    }

    /// Stays connected to a master until the map does not name it any more.
    async fn attend(&self, seat: Arc<Seat>) {
        tokio::select! {
            biased;
            () = seat.dismissed.notified() => tracing::info!(node = %seat.server, "no master any more"),
            () = self.stay_connected(&seat) => {}
        }
    }

    async fn stay_connected(&self, seat: &Seat) {
        let mut pauses = Pauses::new();
        loop {
            match self.relay.redis.subscriber(&seat.server).await {
                Ok((link, ear)) => {
                    pauses.start_again();
                    let mut id = None;
                    self.update(|routes| id = routes.link(seat));
                    let Some(id) = id else { return };
                    tracing::info!(node = %seat.server, "live relay is up");
                    let why = self.session(seat, id, link, ear).await;
                    self.update(|routes| routes.unlink(seat, id));
                    self.map_wanted.notify_one();
                    counter!("gateway_redis_losses_total").increment(1);
                    tracing::warn!(node = %seat.server, %why, "live relay is cut");
                }
                Err(error) => tracing::warn!(node = %seat.server, %error, "redis is out of reach"),
            }
            pauses.pause().await;
        }
    }

    async fn session(&self, seat: &Seat, id: LinkId, link: Link, ear: Ear) -> Loss {
        tokio::select! {
            loss = self.keep(seat, id, &link) => loss,
            loss = listen(ear, &self.relay, |channel| self.routes.lock().serves(id, channel)) => loss,
            loss = keep_alive(&link) => loss,
        }
    }

    /// Subscribes and unsubscribes at one node as the hub wants. One change is under way at a time; what is wanted meanwhile
    /// goes together into the next.
    async fn keep(&self, seat: &Seat, id: LinkId, link: &Link) -> Loss {
        loop {
            let interest = {
                let routes = self.routes.lock();
                self.relay.hub.take_interest_in(CHUNK, |channel| routes.serves(id, channel.as_str()))
            };
            if interest.is_empty() {
                seat.woken.notified().await;
                continue;
            }
            match subscribe_sharded(link, interest).await {
                Ok(outcome) => self.confirm(id, outcome),
                Err(loss) => return loss,
            }
        }
    }

    /// What a node has confirmed counts for as long as it serves it. What it has turned away is looked for elsewhere.
    fn confirm(&self, id: LinkId, Sharded { mut confirmed, turned_away, refusals }: Sharded) {
        if !turned_away.is_empty() {
            self.update(|routes| {
                for channel in turned_away {
                    if routes.serves(id, channel.as_str()) && !routes.redirect(id, &channel, &refusals) {
                        self.map_wanted.notify_one();
                    }
                }
            });
        }
        let routes = self.routes.lock();
        confirmed.retain(|channel| routes.serves(id, channel.as_str()));
        drop(routes);
        self.relay.hub.subscribed(&confirmed);
        self.relay.everybody.hears(&confirmed);
    }
}
