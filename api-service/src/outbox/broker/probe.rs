//! Commands for conversations and nodes that reject events: probes, notices to sockets whose events wait, and keys of another
//! type in the place of a log.

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::KeysInterface;
use fred::types::{Expiration, Value};
use futures_util::future::join_all;
use shared::contract::event;
use shared::contract::redis::keys::{self, Channel};
use uuid::Uuid;

use super::{Broker, PublishRejection};

impl Broker {
    /// Writes a short-lived key to check that the node of a channel accepts writes.
    ///
    /// # Errors
    /// The rejection.
    pub async fn probe(&self, channel: &Channel) -> Result<(), PublishRejection> {
        let key = channel.probe_key();
        let expiry = Some(Expiration::PX(1));
        let (name, expiry) = (&key, &expiry);
        let write = |client: Client| async move { client.set::<(), _, _>(name, "", expiry.clone(), None, false).await };
        let written = self.redis.execute(name, write).await;
        written.map_err(|error| PublishRejection::from(&error))
    }

    /// Notifies sockets of these conversations that their events wait, or were all published. A node that is full still
    /// publishes; sockets of a dead node have lost it themselves.
    pub async fn announce(&self, by: Uuid, channels: &[Channel], is_over: bool) {
        let payload = Bytes::from(event::publish_status_payload(by, is_over));
        let sent = channels.iter().map(|channel| {
            self.run::<Value>(&self.announce_script, vec![channel.as_str().to_owned()], vec![payload.clone()])
        });
        for result in join_all(sent).await {
            if let Err(error) = result {
                tracing::debug!(error = error.details(), "sockets not notified of waiting events");
            }
        }
    }

    /// Renames a key of another type that has the name of a conversation's event log. Returns whether there was one.
    ///
    /// # Errors
    /// Errors of Redis.
    pub async fn move_wrong_type_log(&self, channel: &Channel) -> Result<bool, Error> {
        let args = vec![Bytes::from_static(b"stream"), keys::moved_suffix().into()];
        let moved: Vec<String> = self.run(&self.rename_script, vec![channel.log_key()], args).await?;
        metrics::counter!("ehr_chat_redis_keys_moved_total", "key" => "event_log").increment(moved.len() as u64);
        Ok(!moved.is_empty())
    }
}
