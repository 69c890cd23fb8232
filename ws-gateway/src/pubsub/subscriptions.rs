//! What is asked of a connection: to subscribe and to unsubscribe.

use shared::channel::Channel;

use super::subscriber::Loss;
use crate::hub::Interest;
use crate::redis::{Link, Outcome, command};

/// Sends the changes to a single server and waits until it has confirmed them. Returns what is subscribed now.
pub(super) async fn subscribe(link: &Link, interest: Interest) -> Result<Vec<Channel>, Loss> {
    let Interest { subscribe, unsubscribe } = interest;
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
    Ok(subscribe)
}

/// What became of subscriptions at one node of a cluster.
#[derive(Debug, Default)]
pub(super) struct Sharded {
    pub(super) confirmed: Vec<Channel>,
    /// The node does not serve them.
    pub(super) turned_away: Vec<Channel>,
    /// What it said of those; it does not say of which.
    pub(super) refusals: Vec<String>,
}

/// Sends the changes to a node of a cluster and waits until it has answered them.
pub(super) async fn subscribe_sharded(link: &Link, interest: Interest) -> Result<Sharded, Loss> {
    let Interest { subscribe, unsubscribe } = interest;
    if !unsubscribe.is_empty() {
        // A node that does not serve the slot any more refuses, and has ended the subscription already.
        link.ask(each("SUNSUBSCRIBE", &unsubscribe)).await?;
    }
    if subscribe.is_empty() {
        return Ok(Sharded::default());
    }
    let outcome = link.ask(each("SSUBSCRIBE", &subscribe)).await?;
    sort(subscribe, outcome)
}

fn sort(channels: Vec<Channel>, Outcome { subscribed, refusals }: Outcome) -> Result<Sharded, Loss> {
    // Of one slot. Anything else concerns the node.
    let is_of_a_slot = |refusal: &&String| ["MOVED ", "CLUSTERDOWN "].iter().any(|word| refusal.starts_with(word));
    if let Some(refusal) = refusals.iter().find(|refusal| !is_of_a_slot(refusal)) {
        return Err(Loss::Refused(refusal.clone()));
    }
    let mut names = subscribed.into_iter().peekable();
    let is_confirmed = |channel: &Channel| names.next_if(|name| name == channel.as_str()).is_some();
    let (confirmed, turned_away) = channels.into_iter().partition(is_confirmed);
    Ok(Sharded { confirmed, turned_away, refusals })
}

/// A command a channel, because no two share a slot.
fn each(verb: &str, channels: &[Channel]) -> Vec<u8> {
    let mut commands = Vec::new();
    for channel in channels {
        command(&mut commands, &[verb, channel.as_str()]);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn channels<const N: usize>() -> [Channel; N] {
        std::array::from_fn(|n| Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n as u128)))
    }

    #[test]
    fn a_slot_that_a_node_does_not_serve_costs_the_others_nothing() {
        let [first, second, third, fourth] = channels();
        let outcome = Outcome {
            subscribed: vec![first.as_str().to_owned(), fourth.as_str().to_owned()],
            refusals: vec!["MOVED 1 127.0.0.1:2".to_owned(), "CLUSTERDOWN Hash slot not served".to_owned()],
        };
        let asked = vec![first.clone(), second.clone(), third.clone(), fourth.clone()];
        let sorted = sort(asked, outcome).unwrap();
        assert_eq!(sorted.confirmed, [first, fourth]);
        assert_eq!(sorted.turned_away, [second, third]);
        assert_eq!(sorted.refusals.len(), 2);
    }

    #[test]
    fn a_node_that_refuses_for_another_reason_is_of_no_use() {
        let [first] = channels();
        let outcome = Outcome { subscribed: vec![], refusals: vec!["NOPERM no".to_owned()] };
        assert!(matches!(sort(vec![first], outcome), Err(Loss::Refused(refusal)) if refusal.starts_with("NOPERM")));
    }
}
