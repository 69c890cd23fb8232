//! What a session has subscribed, and on which connection: one for a single server, one a master in a cluster.

use futures_util::future::try_join_all;
use shared::channel::Channel;

use super::Loss;
use crate::hub::Interest;
use crate::redis::{Link, Outcome, Slots, command};

/// Redirections in a row that a channel may meet. One is a slot that was migrated; more is a cluster in disorder.
const REDIRECTIONS: usize = 3;

pub(super) struct Subscriptions {
    links: Vec<Link>,
    /// In a cluster only: whose place is that of the link.
    slots: Option<Slots>,
}

impl Subscriptions {
    pub(super) fn new(links: Vec<Link>, slots: Option<Slots>) -> Self {
        Self { links, slots }
    }

    /// Sends the changes and waits until Redis has confirmed them. Returns what is subscribed now.
    pub(super) async fn change(&mut self, Interest { subscribe, unsubscribe }: Interest) -> Result<Vec<Channel>, Loss> {
        if self.slots.is_some() {
            self.unsubscribe_sharded(unsubscribe).await?;
            self.subscribe_sharded(subscribe.clone()).await?;
            return Ok(subscribe);
        }
        for link in &self.links {
            let mut commands = Vec::new();
            for (verb, channels) in [("UNSUBSCRIBE", &unsubscribe), ("SUBSCRIBE", &subscribe)] {
                if !channels.is_empty() {
                    let words: Vec<_> = [verb].into_iter().chain(channels.iter().map(Channel::as_str)).collect();
                    command(&mut commands, &words);
                }
            }
            let Outcome { subscribed, refusals } = link.ask(commands).await?;
            if let Some(refusal) = refusals.into_iter().next() {
                return Err(Loss::Refused(refusal));
            }
            // Redis confirms in the order in which it was asked.
            if !subscribed.iter().map(String::as_str).eq(subscribe.iter().map(Channel::as_str)) {
                return Err(Loss::Unconfirmed);
            }
        }
        Ok(subscribe)
    }

    /// A node that does not serve the slot any more refuses, and has ended the subscription already.
    async fn unsubscribe_sharded(&self, channels: Vec<Channel>) -> Result<(), Loss> {
        let by_link = self.by_link(channels)?;
        let all = self.links.iter().zip(&by_link).filter(|(_, channels)| !channels.is_empty());
        try_join_all(all.map(|(link, channels)| link.ask(each("SUNSUBSCRIBE", channels)))).await?;
        Ok(())
    }

    async fn subscribe_sharded(&mut self, mut channels: Vec<Channel>) -> Result<(), Loss> {
        for _ in 0..=REDIRECTIONS {
            if channels.is_empty() {
                return Ok(());
            }
            let by_link = self.by_link(channels)?;
            let all = self.links.iter().zip(by_link).filter(|(_, channels)| !channels.is_empty());
            let outcomes = try_join_all(all.map(|(link, channels)| async move {
                let outcome = link.ask(each("SSUBSCRIBE", &channels)).await?;
                Ok::<_, Loss>((channels, outcome))
            }))
            .await?;
            channels = self.follow(outcomes)?;
        }
        Err(Loss::Moved)
    }

    /// The channels of each link, in the order of the links.
    fn by_link(&self, channels: Vec<Channel>) -> Result<Vec<Vec<Channel>>, Loss> {
        let mut by_link = vec![Vec::new(); self.links.len()];
        for channel in channels {
            let owner = self.slots.as_ref().and_then(|slots| slots.owner(&channel)).ok_or(Loss::Unserved)?;
            by_link.get_mut(owner).ok_or(Loss::Unserved)?.push(channel);
        }
        Ok(by_link)
    }

    /// Learns from the redirections among the refusals. Returns the channels that are to be subscribed elsewhere.
    fn follow(&mut self, outcomes: Vec<(Vec<Channel>, Outcome)>) -> Result<Vec<Channel>, Loss> {
        let mut moved = Vec::new();
        for (channels, Outcome { subscribed, refusals }) in outcomes {
            let mut confirmed = subscribed.into_iter().peekable();
            for channel in channels {
                if confirmed.next_if(|name| name == channel.as_str()).is_some() {
                    continue;
                }
                if let Some(refusal) = refusals.iter().find(|refusal| !refusal.starts_with("MOVED ")) {
                    return Err(Loss::Refused(refusal.clone()));
                }
                let slots = self.slots.as_mut().ok_or(Loss::Moved)?;
                // To a master that is new to us: the next session knows it.
                if !refusals.iter().any(|refusal| slots.learn(&channel, refusal)) {
                    return Err(Loss::Moved);
                }
                moved.push(channel);
            }
        }
        Ok(moved)
    }
}

/// A command a channel, because no two share a slot.
fn each(verb: &str, channels: &[Channel]) -> Vec<u8> {
    let mut commands = Vec::new();
    for channel in channels {
        command(&mut commands, &[verb, channel.as_str()]);
    }
    commands
}
