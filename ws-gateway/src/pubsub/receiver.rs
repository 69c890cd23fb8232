//! What a connection says, and whether it still says anything.

use std::future::poll_fn;
use std::task::Poll;

use shared::channel::presence as presence_channel;
use shared::event::{self, Event, Header};
use tokio::time::{MissedTickBehavior, interval};

use super::event_decoder::EventDecodeError;
use super::subscriber::{Subscriber, SubscriberError};
use crate::redis::{HEARTBEAT_INTERVAL, Push, SubscriberReader, SubscriberWriter};

/// Asks a server again and again whether it is there, until it does not answer.
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

/// Passes on what a server says, until it says no more. That a subscription has ended counts where this connection `serves` its channel.
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

/// Goes to the end of the queue of tasks, behind the sockets that were just woken. So what they can write, and not what Redis
/// can say, is the measure: no queue fills up because the gateway itself is behind.
async fn yield_to_writers() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        // Not tokio's own: that one waits until the runtime has looked for what came over the network.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn dispatch(subscriber: &Subscriber, channel: &str, payload: &[u8]) {
    let Subscriber { hub, decoder, presence, .. } = subscriber;
    tracing::debug!(channel, request_id = event::parse_request_id(payload), "an event");
    match decoder.decode_live(channel, payload) {
        Ok(Event { header: Header::PublishStatus { instance, is_recovered }, .. }) => {
            hub.record_publish_outage(channel, instance, is_recovered)
        }
        Ok(event) => {
            if hub.dispatch(channel, event) {
                presence.check_conversation(channel);
            }
        }
        // The log may open; if it does not either, there is a `resync`.
        Err(EventDecodeError::Undecryptable) => hub.mark_gap(channel),
        Err(EventDecodeError::Invalid(_)) => decoder.report_malformed(channel),
    }
}
