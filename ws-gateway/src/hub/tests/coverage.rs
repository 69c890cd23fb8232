//! Nodes of a cluster connect and disconnect.

use super::*;
use crate::redis::SlotSet;
use crate::redis::slot_of;
use crate::socket::OutboundQueue;
use std::sync::Arc;

fn slots_of(channels: &[Channel]) -> SlotSet {
    let mut slots = SlotSet::default();
    channels.iter().for_each(|channel| slots.insert(slot_of(channel.as_str())));
    slots
}

async fn joined(hub: &Arc<Hub>, n: u128) -> (Membership, Arc<OutboundQueue>) {
    let outbound = queue();
    let mut membership = hub.join(channel(n), outbound.clone()).unwrap();
    let changes = hub.take_subscription_changes(10);
    hub.confirm_subscriptions(&changes.subscribe);
    let epoch = membership.wait_until_subscribed().await.unwrap();
    assert!(membership.confirm_position(epoch, cursor(1)));
    (membership, outbound)
}

/// Two conversations, the first on a node of its own.
async fn two_rooms() -> (Arc<Hub>, [(Membership, Arc<OutboundQueue>); 2], SlotSet) {
    let hub = Hub::new();
    hub.connected();
    let rooms = [joined(&hub, 1).await, joined(&hub, 2).await];
    let lost = slots_of(&[channel(1)]);
    assert!(!lost.contains(channel(2).as_str()), "they are not in one slot");
    (hub, rooms, lost)
}

#[tokio::test]
async fn lost_node_degrades_only_its_own_slots() {
    let (hub, [(_here, here), (_there, there)], lost) = two_rooms().await;
    hub.slots_disconnected(&lost);
    assert!(!hub.is_connected() && hub.is_partly_connected() && hub.has_ever_connected());
    assert_eq!(hub.join(channel(1), queue()).unwrap_err(), JoinError::Disconnected);
    assert!(hub.is_node_down(&channel(1)) && !hub.is_node_down(&channel(2)));
    assert!(hub.take_backfills(10).is_empty(), "nothing is read before the subscription stands");
    hub.dispatch(channel(2).as_str(), event(2));
    assert_eq!(received(&there).await, ["2"]);
    let (_third, _) = joined(&hub, 3).await;
    assert!(hub.take_subscription_changes(10).is_empty(), "the lost node gets no commands");

    hub.slots_connected(&lost);
    assert!(hub.is_connected());
    let changes = hub.take_subscription_changes(10);
    assert_eq!(changes.subscribe, [channel(1)], "the others are subscribed still");
    hub.confirm_subscriptions(&changes.subscribe);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&here).await, ["degraded", "2", "recovered"]);
    assert!(received(&there).await.is_empty());
}

#[tokio::test]
async fn lost_node_does_not_block_handshakes_elsewhere() {
    let (hub, _rooms, lost) = two_rooms().await;
    let mut joining = hub.join(channel(1), queue()).unwrap();
    let epoch = joining.wait_until_subscribed().await.unwrap();
    hub.slots_disconnected(&lost);
    hub.slots_connected(&lost);
    assert!(!joining.confirm_position(epoch, cursor(1)), "events in between reached no socket");
}

#[tokio::test]
async fn each_node_takes_only_its_own_changes() {
    let hub = Hub::new();
    hub.connected();
    let _first = hub.join(channel(1), queue()).unwrap();
    let second = hub.join(channel(2), queue()).unwrap();
    let mine = slots_of(&[channel(1)]);
    let is_mine = |channel: &Channel| mine.contains(channel.as_str());
    assert_eq!(hub.take_subscription_changes_in(10, is_mine).subscribe, [channel(1)]);
    assert!(hub.take_subscription_changes_in(10, is_mine).is_empty());
    let theirs = hub.take_subscription_changes_in(10, |channel| !is_mine(channel)).subscribe;
    assert_eq!(theirs, [channel(2)]);
    hub.confirm_subscriptions(&theirs);
    drop(second);
    assert!(hub.take_subscription_changes_in(10, is_mine).is_empty());
    assert_eq!(hub.take_subscription_changes_in(10, |channel| !is_mine(channel)).unsubscribe, [channel(2)]);
}

#[tokio::test]
async fn moved_slots_resubscribe_without_degraded() {
    let (hub, [(_here, here), (_there, there)], moving) = two_rooms().await;
    hub.slots_moved(&moving);
    assert!(hub.take_backfills(10).is_empty());
    let changes = hub.take_subscription_changes(10);
    assert_eq!(changes.subscribe, [channel(1)]);
    hub.confirm_subscriptions(&changes.subscribe);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&here).await, ["2"]);
    assert!(received(&there).await.is_empty());
}

#[tokio::test]
async fn empty_room_is_removed_while_node_is_down() {
    let (hub, [(here, _), _there], lost) = two_rooms().await;
    hub.slots_disconnected(&lost);
    drop(here);
    for _ in 0..100 {
        drop(hub.hold_channel(channel(1)));
    }
    assert!(hub.take_subscription_changes(10).is_empty());
    let shard = hub.shard(channel(1).as_str()).lock();
    assert!(!shard.rooms.contains_key(&channel(1)));
    assert!(shard.to_unsubscribe.is_empty() && shard.to_subscribe.is_empty());
    drop(shard);
    hub.slots_connected(&lost);
    assert!(hub.take_subscription_changes(10).is_empty());
}

#[tokio::test]
async fn held_channel_is_resubscribed_when_node_returns() {
    let (hub, _rooms, _) = two_rooms().await;
    let presence = Channel::presence(&"loc1".parse().unwrap());
    let gone = slots_of(std::slice::from_ref(&presence));
    hub.slots_disconnected(&gone);
    let _attendance = hub.hold_channel(presence.clone());
    assert!(hub.take_subscription_changes(10).is_empty());
    hub.slots_connected(&gone);
    assert_eq!(hub.take_subscription_changes(10).subscribe, [presence]);
}

#[tokio::test]
async fn no_node_counts_as_down_when_all_are_down() {
    let hub = Hub::new();
    assert!(!hub.is_node_down(&channel(1)) && !hub.has_ever_connected() && !hub.is_partly_connected());
    // The first of several nodes connects.
    hub.slots_connected(&slots_of(&[channel(1)]));
    assert!(hub.has_ever_connected() && !hub.is_connected());
    assert!(hub.join(channel(1), queue()).is_ok());
    assert_eq!(hub.join(channel(2), queue()).unwrap_err(), JoinError::Disconnected);
}
