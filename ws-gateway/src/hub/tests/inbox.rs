//! Inboxes, typing and shards.

use super::*;

/// A hub with one subscribed inbox.
async fn one_inbox() -> (Arc<Hub>, Membership, Arc<OutboundQueue>) {
    let hub = Hub::new();
    hub.connected();
    let outbound = queue();
    let mut membership = hub.join(inbox(), outbound.clone()).unwrap();
    hub.confirm_subscriptions(&hub.take_subscription_changes(10).subscribe);
    assert!(membership.wait_until_subscribed().await.is_ok());
    (hub, membership, outbound)
}

#[tokio::test]
async fn every_shard_gets_its_turn() {
    let hub = Hub::new();
    hub.connected();
    let _members: Vec<_> = (0..500).map(|n| hub.join(channel(n), queue()).unwrap()).collect();
    let mut subscribed = Vec::new();
    while subscribed.len() < 500 {
        hub.subscriptions_changed().await;
        let changes = hub.take_subscription_changes(7);
        assert!((1..=7).contains(&changes.subscribe.len()));
        subscribed.extend(changes.subscribe);
    }
    subscribed.sort();
    subscribed.dedup();
    assert_eq!(subscribed.len(), 500);
}

#[test]
fn channels_spread_evenly_over_shards() {
    let mut rooms = [0; SHARDS];
    for n in 0..256 {
        rooms[shard_index(channel(n).as_str())] += 1;
    }
    assert_eq!(rooms, [256 / SHARDS; SHARDS]);
}

#[tokio::test]
async fn inbox_rows_are_sent_without_backfill_or_reconciliation() {
    let (hub, _member, here) = one_inbox().await;
    for text in ["first", "second"] {
        hub.dispatch(inbox().as_str(), row(text));
    }
    assert_eq!(received(&here).await, ["first", "second"]);
    assert!(hub.positions().is_empty() && hub.take_backfills(10).is_empty());
}

#[tokio::test]
async fn inbox_gets_one_resync_after_each_possible_loss() {
    let (hub, _member, here) = one_inbox().await;
    // A disconnect.
    hub.disconnected();
    hub.connected();
    let subscribe = hub.take_subscription_changes(10).subscribe;
    assert_eq!(received(&here).await, ["degraded"], "a reload before the subscription would miss rows");
    hub.confirm_subscriptions(&subscribe);
    assert_eq!(received(&here).await, ["resync", "recovered"]);
    // A moved slot.
    hub.subscription_ended(inbox().as_str());
    assert!(received(&here).await.is_empty());
    hub.confirm_subscriptions(&hub.take_subscription_changes(10).subscribe);
    assert_eq!(received(&here).await, ["resync"]);
    // A row that cannot be decrypted.
    hub.mark_gap(inbox().as_str());
    assert_eq!(received(&here).await, ["resync"]);
    assert!(hub.take_backfills(10).is_empty());
}

#[test]
fn similar_inboxes_spread_over_shards() {
    let location = "loc1".parse::<LocationId>().unwrap();
    let inbox = |n| Channel::inbox(&location, &format!("user:{n}@clinic.example").replace('@', "-").parse().unwrap());
    let taken: std::collections::HashSet<_> = (0..1000).map(|n| shard_index(inbox(n).as_str())).collect();
    assert_eq!(taken.len(), SHARDS);
}

#[tokio::test]
async fn typing_is_withheld_until_one_check_confirms_conversation() {
    let (hub, _membership, outbound) = one_room().await;
    let typing = || Event::from_channel(b"* contact:pat456\n{\"type\":\"typing\"}").unwrap();
    assert!(hub.dispatch(channel(1).as_str(), typing()), "whether they know each other is to be asked");
    assert!(!hub.dispatch(channel(1).as_str(), typing()), "the check is still pending");
    outbound.push(QueueItem::Degraded);
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::Degraded]), "nothing was sent");
    hub.mark_shared(&channel(1));
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::Event(_)]), "what was withheld, once");
    assert!(!hub.dispatch(channel(1).as_str(), typing()));
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::Event(_)]));
}
