//! SUBSCRIBE and UNSUBSCRIBE, with a barrier that proves their completion.
//!
//! Redis confirms each subscription with a push. It also executes the commands of a connection in order. So commands
//! are followed by a `PING` with a unique payload: once its reply arrives, every command before it was confirmed or
//! rejected.

use shared::contract::redis::keys::Channel;

use super::subscriber::SubscriberError;
use crate::hub::SubscriptionChanges;
use crate::redis::{BarrierReply, SubscriberWriter, command};

/// Sends the changes to a single server and waits for the confirmation. Returns the new subscriptions.
pub(super) async fn subscribe(
    writer: &SubscriberWriter,
    changes: SubscriptionChanges,
) -> Result<Vec<Channel>, SubscriberError> {
    let SubscriptionChanges { subscribe, unsubscribe } = changes;
    let mut commands = Vec::new();
    for (verb, channels) in [("UNSUBSCRIBE", &unsubscribe), ("SUBSCRIBE", &subscribe)] {
        if !channels.is_empty() {
            let words: Vec<_> = [verb].into_iter().chain(channels.iter().map(Channel::as_str)).collect();
            command(&mut commands, &words);
        }
    }
    let BarrierReply { subscribed, errors } = writer.send_with_barrier(commands).await?;
    if let Some(error) = errors.into_iter().next() {
        return Err(SubscriberError::Rejected(error));
    }
    // Redis confirms in the order of the command.
    if !subscribed.iter().map(String::as_str).eq(subscribe.iter().map(Channel::as_str)) {
        return Err(SubscriberError::Unconfirmed);
    }
    Ok(subscribe)
}

/// The result at one node of a cluster.
#[derive(Debug, Default)]
pub(super) struct ShardedReply {
    pub(super) confirmed: Vec<Channel>,
    /// Channels that the node does not serve.
    pub(super) rejected: Vec<Channel>,
    /// Its errors. They do not name the channel.
    pub(super) errors: Vec<String>,
}

/// Sends the changes to a node of a cluster and waits for the replies.
pub(super) async fn subscribe_sharded(
    writer: &SubscriberWriter,
    changes: SubscriptionChanges,
) -> Result<ShardedReply, SubscriberError> {
    let SubscriptionChanges { subscribe, unsubscribe } = changes;
    if !unsubscribe.is_empty() {
        // A node that no longer serves the slot rejects this, but has ended the subscription already.
        writer.send_with_barrier(one_command_per_channel("SUNSUBSCRIBE", &unsubscribe)).await?;
    }
    if subscribe.is_empty() {
        return Ok(ShardedReply::default());
    }
    let reply = writer.send_with_barrier(one_command_per_channel("SSUBSCRIBE", &subscribe)).await?;
    classify(subscribe, reply)
}

fn classify(
    channels: Vec<Channel>,
    BarrierReply { subscribed, errors }: BarrierReply,
) -> Result<ShardedReply, SubscriberError> {
    // These errors concern one slot. Any other concerns the node.
    let is_slot_error = |error: &&String| ["MOVED ", "CLUSTERDOWN "].iter().any(|word| error.starts_with(word));
    if let Some(error) = errors.iter().find(|error| !is_slot_error(error)) {
        return Err(SubscriberError::Rejected(error.clone()));
    }
    let mut names = subscribed.into_iter().peekable();
    let is_confirmed = |channel: &Channel| names.next_if(|name| name == channel.as_str()).is_some();
    let (confirmed, rejected) = channels.into_iter().partition(is_confirmed);
    Ok(ShardedReply { confirmed, rejected, errors })
}

/// One command per channel, because channels differ in their slot.
fn one_command_per_channel(verb: &str, channels: &[Channel]) -> Vec<u8> {
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
    fn rejected_slot_leaves_other_subscriptions_confirmed() {
        let [first, second, third, fourth] = channels();
        let reply = BarrierReply {
            subscribed: vec![first.as_str().to_owned(), fourth.as_str().to_owned()],
            errors: vec!["MOVED 1 127.0.0.1:2".to_owned(), "CLUSTERDOWN Hash slot not served".to_owned()],
        };
        let requested = vec![first.clone(), second.clone(), third.clone(), fourth.clone()];
        let reply = classify(requested, reply).unwrap();
        assert_eq!(reply.confirmed, [first, fourth]);
        assert_eq!(reply.rejected, [second, third]);
        assert_eq!(reply.errors.len(), 2);
    }

    #[test]
    fn other_error_fails_the_connection() {
        let [first] = channels();
        let reply = BarrierReply { subscribed: vec![], errors: vec!["NOPERM no".to_owned()] };
        assert!(
            matches!(classify(vec![first], reply), Err(SubscriberError::Rejected(error)) if error.starts_with("NOPERM"))
        );
    }
}
