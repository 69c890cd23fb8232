//! Receives events of one connection, and checks that it is alive.

use std::future::poll_fn;
use std::task::Poll;

use shared::contract::event::{self, Event, Header};
use shared::contract::redis::presence as presence_channel;
use tokio::time::{MissedTickBehavior, interval};

use super::event_decoder::EventDecodeError;
use super::subscriber::{Subscriber, SubscriberError};
use crate::redis::{HEARTBEAT_INTERVAL, Push, SubscriberReader, SubscriberWriter};

/// Sends heartbeats until one is not answered.
pub(super) async fn heartbeat_loop(writer: &SubscriberWriter) -> SubscriberError {
    let mut heartbeat = interval(HEARTBEAT_INTERVAL);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heartbeat.tick().await;
        if let Err(error) = writer.send_with_barrier(Vec::new()).await {
            return error.into();
        }
    }
}

/// Dispatches what a connection receives until it fails. The end of a subscription counts only while this connection
/// `serves` its channel.
pub(super) async fn receive_loop(
    mut reader: SubscriberReader,
    subscriber: &Subscriber,
    serves: impl Fn(&str) -> bool,
) -> SubscriberError {
    loop {
        let push = match reader.read_more().await {
            Ok(()) => reader.handle_received(|push| match push {
                Push::Event { channel, payload } => match presence_channel::parse_location(channel) {
                    Some(location) => subscriber.presence.on_notice(location, payload),
                    None => dispatch(subscriber, channel, payload),
                },
                Push::Unsubscribed(channel) if serves(channel) => subscriber.hub.subscription_ended(channel),
                Push::Unsubscribed(_) => {}
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = push {
            return error.into();
        }
        yield_to_writers().await;
    }
}

/// Yields to the sessions that were just woken. So input from Redis is read no faster than the sockets can write, and
/// no queue overflows because the gateway itself is slow.
async fn yield_to_writers() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        // Not `tokio::task::yield_now`: that one also waits for the I/O driver.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn dispatch(subscriber: &Subscriber, channel: &str, payload: &[u8]) {
    let Subscriber { hub, decoder, presence, .. } = subscriber;
    tracing::debug!(channel, request_id = event::parse_request_id(payload), "event received");
    match decoder.decode_live(channel, payload) {
        Ok(Event { header: Header::PublishStatus { instance, is_recovered }, .. }) => {
            hub.record_publish_outage(channel, instance, is_recovered);
        }
        Ok(event) => {
            if hub.dispatch(channel, event) {
                presence.check_conversation(channel);
            }
        }
        // The log may hold a readable copy. Otherwise the sockets receive `resync`.
        Err(EventDecodeError::Undecryptable) => hub.mark_gap(channel),
        Err(EventDecodeError::Invalid(_)) => decoder.report_malformed(channel),
    }
}
