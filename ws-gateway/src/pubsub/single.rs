//! The connection to a Redis that is no cluster. When it breaks every socket hears `degraded`.

use metrics::{counter, gauge};

use super::receiver::{keep_alive, listen};
use super::subscriber::{CHUNK, Loss, Pauses, Relay};
use super::subscriptions::subscribe;
use crate::redis::{Ear, Link};

pub(super) async fn sessions(relay: Relay) {
    let mut pauses = Pauses::new();
    let Some(server) = relay.redis.only_server() else { return tracing::error!("no server of redis is named") };
    loop {
        match relay.redis.subscriber(&server).await {
            Ok((link, ear)) => {
                tracing::info!("live relay is up");
                gauge!("gateway_redis_up").set(1.0);
                gauge!("gateway_redis_nodes_down").set(0.0);
                pauses.start_again();
                relay.hub.connected();
                relay.everybody.reconnected(|_| true);
                let why = session(&relay, link, ear).await;
                gauge!("gateway_redis_up").set(0.0);
                gauge!("gateway_redis_nodes_down").set(1.0);
                counter!("gateway_redis_losses_total").increment(1);
                relay.hub.disconnected();
                tracing::warn!(%why, "live relay is cut");
            }
            Err(error) => {
                gauge!("gateway_redis_nodes_down").set(1.0);
                tracing::warn!(%error, "redis is out of reach");
            }
        }
        pauses.pause().await;
    }
}

async fn session(relay: &Relay, link: Link, ear: Ear) -> Loss {
    tokio::select! {
        loss = keep(relay, &link) => loss,
        loss = listen(ear, relay, |_| true) => loss,
        loss = keep_alive(&link) => loss,
    }
}

/// Subscribes and unsubscribes as the hub wants. One change is under way at a time; what is wanted meanwhile goes together
/// into the next.
async fn keep(relay: &Relay, link: &Link) -> Loss {
    loop {
        let interest = relay.hub.take_interest(CHUNK);
        if interest.is_empty() {
            relay.hub.interest_changed().await;
            continue;
        }
        match subscribe(link, interest).await {
            Ok(channels) => {
                relay.hub.subscribed(&channels);
                relay.everybody.hears(&channels);
            }
            Err(loss) => return loss,
        }
    }
}
