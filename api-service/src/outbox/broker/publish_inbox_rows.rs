//! Publishes inbox rows. They are state, so they need no log and no order: the row with the highest version wins.
//!
//! Few inboxes are open at a time. So the broker first asks which channels have subscribers (PUBSUB NUMSUB), and publishes only
//! those rows.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand};
use futures_util::future::{join_all, try_join_all};
use shared::contract::event::inbox_publish_batch::InboxPublishBatch;
use shared::contract::ids::ConversationId;
use shared::contract::redis::keys::Channel;
use shared::kit::redis::Topology;
use shared::kit::redis::is_redis_reply;

use super::{Broker, MAX_EVENTS_PER_SCRIPT};

/// Channels per command; each costs Redis about 50 ns.
const MAX_CHANNELS: usize = 512;

/// A row as an inbox receives it.
pub struct EncodedInboxRow {
    /// The channel of the inbox.
    pub channel: Channel,
    /// The conversation.
    pub conversation: ConversationId,
    /// The version of the row within its conversation.
    pub version: i64,
    /// The row as JSON.
    pub json: String,
}

impl Broker {
    /// Returns the channels that have subscribers. In a cluster, a channel whose node does not answer counts as having none: its
    /// sockets lost that node too, and reload their inboxes when it is back.
    ///
    /// # Errors
    /// When a single Redis does not answer for all channels.
    pub async fn channels_with_subscribers(&self, channels: Vec<Channel>) -> Result<HashSet<Channel>, Error> {
        let counts = match self.topology {
            Topology::Single => {
                let ask = |single: Client| {
                    let channels = &channels;
                    async move {
                        try_join_all(channels.chunks(MAX_CHANNELS).map(|some| subscriber_counts(&single, some))).await
                    }
                };
                self.redis.execute("", ask).await?.concat()
            }
            // An old node of a slot has no subscribers; scripts are redirected to the current one.
            Topology::Cluster => {
                let counts = join_all(channels.iter().map(|channel| self.shard_subscriber_count(channel))).await;
                count_failed(counts.iter().filter(|count| count.is_err()).count());
                counts.into_iter().map(|count| count.unwrap_or(0)).collect()
            }
        };
        let subscribed = channels.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        Ok(subscribed.map(|(channel, _)| channel).collect())
    }

    async fn shard_subscriber_count(&self, channel: &Channel) -> Result<u64, Error> {
        let name = channel.as_str();
        self.run(&self.subscribers_script, vec![name.to_owned()], vec![Bytes::copy_from_slice(name.as_bytes())]).await
    }

    /// Publishes rows, except those whose version is not higher than the last one. Returns how many were published. A row that is
    /// rejected alone is counted and skipped: the next change of its conversation repeats it.
    ///
    /// # Errors
    /// When a single Redis does not answer. Repeated rows are recognized by their version.
    pub async fn publish_rows(&self, rows: &[EncodedInboxRow]) -> Result<u64, Error> {
        let publish = async |rows: &[EncodedInboxRow]| {
            let mut published = InboxPublishBatch::default();
            for EncodedInboxRow { channel, conversation, version, json } in rows {
                let added = published.add(channel, *conversation, *version, json, &self.relay_keys);
                added.map_err(|error| Error::new(ErrorKind::Unknown, error.to_string()))?;
            }
            let (keys, args) = published.into_parts();
            self.run::<u64>(&self.rows_script, keys, args).await
        };
        // In a cluster each inbox channel may be on another node.
        let rows_per_script = if self.topology == Topology::Cluster { 1 } else { MAX_EVENTS_PER_SCRIPT };
        let mut count = 0;
        for (some, published) in
            rows.chunks(rows_per_script).zip(join_all(rows.chunks(rows_per_script).map(publish)).await)
        {
            match published {
                Ok(published) => count += published,
                Err(error) if self.topology == Topology::Single && !is_redis_reply(&error) => return Err(error),
                Err(_) if some.len() == 1 => count_failed(1),
                // One by one, so that a rejected row affects no other.
                Err(_) => {
                    for published in join_all(some.chunks(1).map(publish)).await {
                        match published {
                            Ok(published) => count += published,
                            Err(error) if !is_redis_reply(&error) => return Err(error),
                            Err(_) => count_failed(1),
                        }
                    }
                }
            }
        }
        Ok(count)
    }
}

async fn subscriber_counts(single: &Client, channels: &[Channel]) -> Result<Vec<u64>, Error> {
    let names = channels.iter().map(Channel::as_str);
    let args: Vec<&str> = ["NUMSUB"].into_iter().chain(names.clone()).collect();
    let command = CustomCommand::new_static("PUBSUB", ClusterHash::Random, false);
    let counts: HashMap<String, u64> = single.custom(command, args).await?;
    Ok(names.map(|name| counts.get(name).copied().unwrap_or(0)).collect())
}

fn count_failed(rows: usize) {
    metrics::counter!("ehr_chat_inbox_rows_failed_total", "cause" => "redis").increment(rows as u64);
}
