//! Publishing rows of inboxes: state, which needs no log and no order. Whoever listens hears of the newest.
//!
//! Most people look at no inbox at any moment, so it is asked first who listens; only for those is anything written.

use std::collections::HashSet;

use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::*;
use futures_util::future::try_join_all;
use shared::channel::{Channel, Topology};
use shared::ids::ConversationId;
use shared::inbox_rows::InboxRows;

use super::{Broker, SCRIPT};

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
    /// Those of the channels that a gateway listens to.
    ///
    /// # Errors
    /// When Redis did not say so of all.
    pub async fn listened(&self, channels: Vec<Channel>) -> Result<HashSet<Channel>, Error> {
        let ask = async |channels: &[Channel]| {
            let names = channels.iter().map(|channel| Bytes::copy_from_slice(channel.as_str().as_bytes())).collect();
            // Only a cluster cares where it is asked.
            let keys = channels.iter().take(1).map(|channel| channel.as_str().to_owned()).collect();
            let counts: Vec<u64> = self.run(&self.listening, keys, names).await?;
            let listened = channels.iter().zip(counts).filter(|(_, count)| *count > 0);
            Ok::<_, Error>(listened.map(|(channel, _)| channel.clone()).collect::<Vec<_>>())
        };
        Ok(try_join_all(channels.chunks(self.chunk()).map(ask)).await?.into_iter().flatten().collect())
    }

    /// Publishes rows, but for those that are not newer than what their inboxes got last. Returns how many.
    ///
    /// # Errors
    /// When Redis did not take all of them. Whatever is published again will be known there.
    pub async fn show(&self, rows: &[InboxRow]) -> Result<u64, Error> {
        let show = async |rows: &[InboxRow]| {
            let mut shown = InboxRows::default();
            for InboxRow { channel, conversation, newness, json } in rows {
                let added = shown.add(channel, *conversation, *newness, json, &self.relay_keys);
                added.map_err(|error| Error::new(ErrorKind::Unknown, error.to_string()))?;
            }
            let (keys, args) = shown.into_parts();
            self.run::<u64>(&self.show, keys, args).await
        };
        Ok(try_join_all(rows.chunks(self.chunk()).map(show)).await?.into_iter().sum())
    }

    /// How many inboxes one script may be about: in a cluster each is on a node of its own.
    fn chunk(&self) -> usize {
        if self.topology == Topology::Cluster { 1 } else { SCRIPT }
    }
}
