//! Publishes typing notices to the sockets of a conversation on every gateway.
//!
//! A notice is worthless after a few seconds. What does not fit into the queue, or fails, is dropped
//! (`ehr_chat_gateway_typing_dropped_total`).

use fred::types::scripts::Script;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shared::contract::event;
use shared::contract::participant::Participant;
use shared::contract::redis::keys::Channel;
use shared::kit::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::redis::RedisNodes;

/// Notices that may wait.
pub(crate) const TYPING_QUEUE_CAPACITY: usize = 1024;

/// Queues typing notices of all sockets.
#[derive(Clone)]
pub(crate) struct TypingPublisher(mpsc::Sender<(Channel, String)>);

impl TypingPublisher {
    /// Publishes queued notices until `shutdown`.
    pub(crate) fn start(redis: RedisNodes, shutdown: &Shutdown) -> Self {
        let (sender, mut queue) = mpsc::channel::<(Channel, String)>(TYPING_QUEUE_CAPACITY);
        let ended = shutdown.clone();
        let script = Script::from_lua(redis.topology().publish_ephemeral_script());
        shutdown.spawn("typing", async move {
            // Independent commands: a cluster node that does not respond delays only its own notices.
            let mut publishing = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some((channel, payload)) = queue.recv(), if publishing.len() < TYPING_QUEUE_CAPACITY => {
                        let (redis, script) = (&redis, &script);
                        publishing.push(async move {
                            redis.run_script::<()>(script, [channel.as_str()], [payload]).await
                        });
                    }
                    Some(published) = publishing.next() => {
                        metrics::counter!("ehr_chat_gateway_typing_dropped_total").increment(u64::from(published.is_err()));
                    }
                    () = ended.wait_for_begin() => return,
                }
            }
        });
        Self(sender)
    }

    /// Publishes that `from` is typing.
    pub(crate) fn publish(&self, channel: &Channel, from: &Participant) {
        if self.0.try_send((channel.clone(), event::typing_payload(from))).is_err() {
            metrics::counter!("ehr_chat_gateway_typing_dropped_total").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn full_typing_queue_drops_notices() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let (sender, queue) = mpsc::channel(TYPING_QUEUE_CAPACITY);
        let typing = TypingPublisher(sender);
        let channel = Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(1));
        for _ in 0..TYPING_QUEUE_CAPACITY + 3 {
            typing.publish(&channel, &"user:doc123".parse().unwrap());
        }
        assert_eq!(queue.len(), TYPING_QUEUE_CAPACITY);
        assert!(recorder.handle().render().contains("ehr_chat_gateway_typing_dropped_total 3"));
    }
}
