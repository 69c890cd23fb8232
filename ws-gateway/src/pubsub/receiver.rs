//! What a connection says, and whether it still says anything.

use std::future::poll_fn;
use std::task::Poll;

use shared::channel::presence;
use shared::event::{self, Event, Header};
use tokio::time::{MissedTickBehavior, interval};

use super::event_decoder::Unusable;
use super::subscriber::{Loss, Relay};
use crate::redis::{Ear, HEARTBEAT, Heard, Link};

/// Asks a server again and again whether it is there, until it does not answer.
pub(super) async fn keep_alive(link: &Link) -> Loss {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heartbeat.tick().await;
        if let Err(error) = link.ask(Vec::new()).await {
            return error.into();
        }
    }
}

/// Passes on what a server says, until it says no more. That a subscription has ended counts where this connection `serves` its channel.
pub(super) async fn listen(mut ear: Ear, relay: &Relay, serves: impl Fn(&str) -> bool) -> Loss {
    loop {
        let heard = match ear.listen().await {
            Ok(()) => ear.hear(|heard| match heard {
                Heard::Event { channel, payload } => match presence::location(channel) {
                    Some(location) => relay.everybody.hear(location, payload),
                    None => pass_on(relay, channel, payload),
                },
                Heard::Unsubscribed(channel) if serves(channel) => relay.hub.unsubscribed(channel),
                Heard::Unsubscribed(_) => {}
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            return error.into();
        }
        let_sockets_write().await;
    }
}

/// Goes to the end of the queue of tasks, behind the sockets that were just woken. So what they can write, and not what Redis
/// can say, is the measure: no queue fills up because the gateway itself is behind.
async fn let_sockets_write() {
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

fn pass_on(relay: &Relay, channel: &str, payload: &[u8]) {
    let Relay { hub, unsealing, everybody, .. } = relay;
    tracing::debug!(channel, request_id = event::parse_request_id(payload), "an event");
    match unsealing.live(channel, payload) {
        Ok(Event { header: Header::PublishStatus { instance: by, is_recovered: is_over }, .. }) => {
            hub.announced(channel, by, is_over)
        }
        Ok(event) => {
            if hub.dispatch(channel, event) {
                everybody.ask_about(channel);
            }
        }
        // The log may open; if it does not either, there is a `resync`.
        Err(Unusable::Sealed) => hub.lost(channel),
        Err(Unusable::Invalid(_)) => unsealing.malformed(channel),
    }
}
