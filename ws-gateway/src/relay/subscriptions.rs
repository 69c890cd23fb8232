//! What a session has subscribed, and on which connection: one for a single server, one a master in a cluster.
//!
//! The client library returns from most of this before Redis has answered, even before the command is written. An
//! answer to what was sent after it on the same connection is the proof.

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::future::{join_all, try_join_all};
use shared::channel::Channel;
use tokio::time::timeout;
use uuid::Uuid;

use super::Loss;
use crate::hub::Interest;
use crate::redis::Slots;

/// Redirections in a row that a channel may meet. One is a slot that was migrated; more is a cluster in disorder.
const REDIRECTIONS: usize = 3;

pub(super) struct Subscriptions {
    clients: Vec<Client>,
    /// In a cluster only: whose place is that of the client.
    slots: Option<Slots>,
    patience: Duration,
}

impl Subscriptions {
    pub(super) fn new(clients: Vec<Client>, slots: Option<Slots>, patience: Duration) -> Self {
        Self { clients, slots, patience }
    }

    /// Sends the changes and waits until Redis has confirmed them. Returns what is subscribed now.
    pub(super) async fn change(&mut self, Interest { subscribe, unsubscribe }: Interest) -> Result<Vec<Channel>, Loss> {
        if self.slots.is_some() {
            self.unsubscribe_sharded(unsubscribe).await?;
            self.subscribe_sharded(subscribe.clone()).await?;
            return Ok(subscribe);
        }
        for client in &self.clients {
            if !unsubscribe.is_empty() {
                client.unsubscribe(names(&unsubscribe)).await?;
            }
            if !subscribe.is_empty() {
                client.subscribe(names(&subscribe)).await?;
            }
            ask(client, self.patience).await?;
        }
        Ok(subscribe)
    }

    /// A node that does not serve the slot any more answers with an error that nobody waits for, and that would be
    /// taken for the answer to something else. The question behind it finds that out, and the session begins anew.
    async fn unsubscribe_sharded(&self, channels: Vec<Channel>) -> Result<(), Loss> {
        let (by_client, patience) = (self.by_client(channels)?, self.patience);
        let all = self.clients.iter().zip(&by_client).filter(|(_, channels)| !channels.is_empty());
        try_join_all(all.map(|(client, channels)| async move {
            for channel in channels {
                client.sunsubscribe(channel.as_str()).await?;
            }
            ask(client, patience).await
        }))
        .await?;
        Ok(())
    }

    async fn subscribe_sharded(&mut self, mut channels: Vec<Channel>) -> Result<(), Loss> {
        for _ in 0..=REDIRECTIONS {
            if channels.is_empty() {
                return Ok(());
            }
            let (by_client, patience) = (self.by_client(channels)?, self.patience);
            let all = self.clients.iter().zip(by_client).filter(|(_, channels)| !channels.is_empty());
            let answers = try_join_all(all.map(|(client, channels)| async move {
                // A command a channel, because no two share a slot; and not the library's own, which sends the next
                // one only after it has the answer to the last.
                let subscribed = join_all(channels.iter().map(|channel| ssubscribe(client, channel))).await;
                ask(client, patience).await?;
                Ok::<_, Loss>(channels.into_iter().zip(subscribed).collect::<Vec<_>>())
            }))
            .await?;
            channels = self.follow(answers.into_iter().flatten())?;
        }
        Err(Loss::Moved)
    }

    /// The channels of each client, in the order of the clients.
    fn by_client(&self, channels: Vec<Channel>) -> Result<Vec<Vec<Channel>>, Loss> {
        let mut by_client = vec![Vec::new(); self.clients.len()];
        for channel in channels {
            let owner = self.slots.as_ref().and_then(|slots| slots.owner(&channel)).ok_or(Loss::Unserved)?;
            by_client.get_mut(owner).ok_or(Loss::Unserved)?.push(channel);
        }
        Ok(by_client)
    }

    /// Learns from the redirections among the answers. Returns the channels that are to be subscribed elsewhere.
    fn follow(&mut self, answers: impl Iterator<Item = (Channel, Result<Value, Error>)>) -> Result<Vec<Channel>, Loss> {
        let mut moved = Vec::new();
        for (channel, answer) in answers {
            match answer {
                Ok(_) => {}
                Err(error) if *error.kind() == ErrorKind::Cluster => {
                    // To a master that is new to us: the next session knows it.
                    let known = self.slots.as_mut().is_some_and(|slots| slots.learn(&channel, error.details()));
                    if !known {
                        return Err(Loss::Moved);
                    }
                    moved.push(channel);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }
}

fn names(channels: &[Channel]) -> Vec<String> {
    channels.iter().map(|channel| channel.as_str().to_owned()).collect()
}

async fn ssubscribe(client: &Client, channel: &Channel) -> Result<Value, Error> {
    let command = CustomCommand::new_static("SSUBSCRIBE", ClusterHash::FirstKey, false);
    client.custom(command, vec![channel.as_str()]).await
}

/// Waits for the answer to a question that nothing else asks: an answer to something else is none.
pub(super) async fn ask(client: &Client, patience: Duration) -> Result<(), Loss> {
    let question = Uuid::now_v7().to_string();
    let answer = timeout(patience, client.ping::<Value>(Some(question.clone()))).await.map_err(|_| Loss::Silent)??;
    if answer.as_string().is_some_and(|answer| answer == question) { Ok(()) } else { Err(Loss::Confused) }
}
