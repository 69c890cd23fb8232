//! Publishing rows of inboxes: state, which needs no log and no order. Whoever listens hears of the newest.
//!
//! Most people look at no inbox at any moment, so it is asked first who listens; only for those is anything written.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand};
use futures_util::future::{join_all, try_join_all};
use shared::channel::{Channel, Topology};
use shared::ids::ConversationId;
use shared::inbox_rows::InboxPublishBatch;
use shared::redis::is_answer;

use super::{Broker, SCRIPT};

/// Channels in one question; each takes Redis 50 ns.
const CHANNELS: usize = 512;

/// A row as an inbox gets it.
pub struct InboxRow {
    /// Of whose inbox.
    pub channel: Channel,
    /// Which conversation.
    pub conversation: ConversationId,
    /// How new it is among the conversation's rows.
    pub newness: i64,
    /// The row.
    pub json: String,
}

impl Broker {
    /// Those of the channels that a gateway listens to. In a cluster a channel whose node does not answer counts as one that
    /// nobody listens to: its sockets have lost that node as well, and load their inboxes when it is back.
    ///
    /// # Errors
    /// When a single Redis did not say so of all.
    pub async fn listened(&self, channels: Vec<Channel>) -> Result<HashSet<Channel>, Error> {
        let asked = match self.redis.only() {
            Some(single) => try_join_all(channels.chunks(CHANNELS).map(|some| listeners(single, some))).await?.concat(),
            // Of a node that does not serve its slot any more nobody hears anything; a script is sent on to the one that does.
            None => {
                let asked = join_all(channels.iter().map(|channel| self.listeners_there(channel))).await;
                count_failed(asked.iter().filter(|asked| asked.is_err()).count());
                asked.into_iter().map(|listeners| listeners.unwrap_or(0)).collect()
            }
        };
        let listened = channels.into_iter().zip(asked).filter(|(_, listeners)| *listeners > 0);
        Ok(listened.map(|(channel, _)| channel).collect())
    }

    async fn listeners_there(&self, channel: &Channel) -> Result<u64, Error> {
        let name = channel.as_str();
        self.run(&self.listening, vec![name.to_owned()], vec![Bytes::copy_from_slice(name.as_bytes())]).await
    }

    /// Publishes rows, but for those that are not newer than what their inboxes got last. Returns how many. A row that is
    /// refused alone is counted and left out: the next change of its conversation shows it.
    ///
    /// # Errors
    /// When a single Redis did not answer. Whatever is published again will be known there.
    pub async fn show(&self, rows: &[InboxRow]) -> Result<u64, Error> {
        let show = async |rows: &[InboxRow]| {
            let mut shown = InboxPublishBatch::default();
            for InboxRow { channel, conversation, newness, json } in rows {
                let added = shown.add(channel, *conversation, *newness, json, &self.relay_keys);
                added.map_err(|error| Error::new(ErrorKind::Unknown, error.to_string()))?;
            }
            let (keys, args) = shown.into_parts();
            self.run::<u64>(&self.show, keys, args).await
        };
        // In a cluster each inbox is on a node of its own.
        let at_once = if self.topology == Topology::Cluster { 1 } else { SCRIPT };
        let mut count = 0;
        for (some, shown) in rows.chunks(at_once).zip(join_all(rows.chunks(at_once).map(show)).await) {
            match shown {
                Ok(shown) => count += shown,
                Err(error) if self.topology == Topology::Single && !is_answer(&error) => return Err(error),
                Err(_) if some.len() == 1 => count_failed(1),
                // One by one: a row that is refused takes no other with it.
                Err(_) => {
                    for shown in join_all(some.chunks(1).map(show)).await {
                        match shown {
                            Ok(shown) => count += shown,
                            Err(error) if !is_answer(&error) => return Err(error),
                            Err(_) => count_failed(1),
                        }
                    }
                }
            }
        }
        Ok(count)
    }
}

async fn listeners(single: &Client, channels: &[Channel]) -> Result<Vec<u64>, Error> {
    let names = channels.iter().map(Channel::as_str);
    let args: Vec<&str> = ["NUMSUB"].into_iter().chain(names.clone()).collect();
    let command = CustomCommand::new_static("PUBSUB", ClusterHash::Random, false);
    let counts: HashMap<String, u64> = single.custom(command, args).await?;
    Ok(names.map(|name| counts.get(name).copied().unwrap_or(0)).collect())
}

fn count_failed(rows: usize) {
    metrics::counter!("inbox_rows_failed_total", "cause" => "redis").increment(rows as u64);
}
