//! Subscriptions of a single Redis server, or of the master that Sentinels name. When the connection fails or the master
//! is replaced, every socket receives `degraded`.

use metrics::{counter, gauge};

use super::receiver::{heartbeat_loop, receive_loop};
use super::subscriber::{Backoff, CHANNELS_PER_COMMAND, Subscriber, SubscriberError};
use super::subscriptions::subscribe;
use crate::redis::{MasterWatch, SubscriberReader, SubscriberWriter};

pub(super) async fn reconnect_loop(subscriber: Subscriber, mut master: MasterWatch) {
    let mut backoff = Backoff::new();
    gauge!("ehr_chat_gateway_redis_nodes_down").set(1.0);
    loop {
        let server = master.server().await;
        match subscriber.redis.connect_subscriber(&server).await {
            Ok((writer, reader)) => {
                tracing::info!("subscriber connected");
                gauge!("ehr_chat_gateway_redis_up").set(1.0);
                gauge!("ehr_chat_gateway_redis_nodes_down").set(0.0);
                backoff.reset();
                subscriber.hub.connected();
                subscriber.presence.reconnected(|_| true);
                let error = tokio::select! {
                    error = run_connection(&subscriber, writer, reader) => error,
                    () = master.replaced(&server) => SubscriberError::MasterReplaced,
                };
                gauge!("ehr_chat_gateway_redis_up").set(0.0);
                gauge!("ehr_chat_gateway_redis_nodes_down").set(1.0);
                counter!("ehr_chat_gateway_redis_disconnects_total").increment(1);
                subscriber.hub.disconnected();
                tracing::warn!(%error, "subscriber disconnected");
            }
            Err(error) => {
                gauge!("ehr_chat_gateway_redis_nodes_down").set(1.0);
                tracing::warn!(%error, "redis connection failed");
            }
        }
        backoff.wait().await;
    }
}

async fn run_connection(
    subscriber: &Subscriber,
    writer: SubscriberWriter,
    reader: SubscriberReader,
) -> SubscriberError {
    tokio::select! {
        error = sync_subscriptions(subscriber, &writer) => error,
        error = receive_loop(reader, subscriber, |_| true) => error,
        error = heartbeat_loop(&writer) => error,
    }
}

/// Subscribes and unsubscribes as the hub requests. One command is in flight; later changes are sent together.
async fn sync_subscriptions(subscriber: &Subscriber, writer: &SubscriberWriter) -> SubscriberError {
    loop {
        let changes = subscriber.hub.take_subscription_changes(CHANNELS_PER_COMMAND);
        if changes.is_empty() {
            subscriber.hub.subscriptions_changed().await;
            continue;
        }
        match subscribe(writer, changes).await {
            Ok(channels) => {
                subscriber.hub.confirm_subscriptions(&channels);
                subscriber.presence.on_subscribed(&channels);
            }
            Err(error) => return error,
        }
    }
}
