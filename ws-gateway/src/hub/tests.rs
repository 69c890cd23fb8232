use super::*;
use shared::event::Header;
use shared::ids::LocationId;
use uuid::Uuid;

fn channel(n: u128) -> Channel {
    Channel::new(&"loc1".parse::<LocationId>().unwrap(), Uuid::from_u128(n))
}

fn cursor(n: u64) -> Cursor {
    format!("{n}-0").parse().unwrap()
}

fn event(n: u64) -> Event {
    Event { header: Header::Logged { cursor: cursor(n), addressed: None }, frame: n.to_string().into() }
}

fn missed(cursors: &[u64]) -> Backfill {
    Backfill::Missed(cursors.iter().map(|n| Delivery::new(event(*n)).unwrap()).collect())
}

fn queue() -> Arc<Outbound> {
    Outbound::new(None, 1 << 20)
}

/// What waits for a socket, in words.
async fn heard(outbound: &Outbound) -> Vec<String> {
    outbound.push(Item::GoingAway);
    let items = outbound.next().await.unwrap().items;
    let word = |item: &Item| match item {
        Item::Event(delivery) => delivery.text.to_string(),
        Item::Degraded => "degraded".to_owned(),
        Item::Recovered => "recovered".to_owned(),
        Item::Resync(_) => "resync".to_owned(),
        Item::GoingAway => String::new(),
    };
    items.iter().map(word).filter(|word| !word.is_empty()).collect()
}

/// A hub with one room, subscribed and settled at 1, and a socket in it.
async fn one_room() -> (Arc<Hub>, Membership, Arc<Outbound>) {
    let hub = Hub::new();
    hub.connected();
    let outbound = queue();
    let mut membership = hub.join(channel(1), outbound.clone()).unwrap();
    let interest = hub.take_interest(10);
    assert_eq!(interest.subscribe, [channel(1)]);
    hub.subscribed(&interest.subscribe);
    let epoch = membership.subscribed().await.unwrap();
    assert!(membership.settle(epoch, cursor(1)));
    (hub, membership, outbound)
}

#[tokio::test]
async fn events_reach_the_sockets_of_their_conversation_and_no_others() {
    let (hub, _first, here) = one_room().await;
    let there = queue();
    let _second = hub.join(channel(2), there.clone()).unwrap();
    hub.dispatch(channel(1).as_str(), event(2));
    hub.dispatch(channel(2).as_str(), event(3));
    hub.dispatch(channel(3).as_str(), event(4));
    assert_eq!(heard(&here).await, ["2"]);
    assert_eq!(heard(&there).await, ["3"]);
}

#[tokio::test]
async fn a_channel_is_subscribed_for_the_first_socket_and_unsubscribed_after_the_last() {
    let (hub, first, _) = one_room().await;
    let mut second = hub.join(channel(1), queue()).unwrap();
    assert!(second.subscribed().await.is_ok(), "the subscription stands already");
    assert!(hub.take_interest(10).is_empty());
    drop(first);
    assert!(hub.take_interest(10).is_empty());
    drop(second);
    assert_eq!(hub.take_interest(10), Interest { subscribe: vec![], unsubscribe: vec![channel(1)] });
    assert!(hub.take_interest(10).is_empty());
    let _third = hub.join(channel(1), queue()).unwrap();
    assert_eq!(hub.take_interest(10).subscribe, [channel(1)]);
}

#[tokio::test]
async fn who_comes_back_before_the_relay_asks_finds_the_subscription_standing() {
    let (hub, first, _) = one_room().await;
    drop(first);
    let mut again = hub.join(channel(1), queue()).unwrap();
    assert!(hub.take_interest(10).is_empty());
    assert!(again.subscribed().await.is_ok());
}

#[tokio::test]
async fn an_event_that_was_read_from_the_log_is_not_sent_again() {
    let (hub, _member, outbound) = one_room().await;
    hub.lagged();
    assert_eq!(hub.take_behind(10), [(channel(1), cursor(1))]);
    hub.dispatch(channel(1).as_str(), event(3));
    hub.dispatch(channel(1).as_str(), event(4));
    assert!(heard(&outbound).await.is_empty(), "held back until the log has shown what came before");
    hub.backfilled(&channel(1), missed(&[2, 3]));
    assert_eq!(heard(&outbound).await, ["2", "3", "4"]);
}

#[tokio::test]
async fn a_loss_while_a_log_is_read_has_it_read_again() {
    let (hub, _member, outbound) = one_room().await;
    hub.lagged();
    hub.take_behind(10);
    hub.dispatch(channel(1).as_str(), event(3));
    hub.lagged();
    assert!(hub.take_behind(10).is_empty(), "it is being read");
    hub.dispatch(channel(1).as_str(), event(6));
    hub.backfilled(&channel(1), missed(&[2, 3]));
    assert_eq!(heard(&outbound).await, ["2", "3"]);
    assert_eq!(hub.take_behind(10), [(channel(1), cursor(3))]);
    hub.backfilled(&channel(1), missed(&[4, 5, 6]));
    assert_eq!(heard(&outbound).await, ["4", "5", "6"]);
}

#[tokio::test]
async fn an_outage_is_told_and_ends_with_what_was_missed() {
    let (hub, _member, outbound) = one_room().await;
    hub.disconnected();
    assert_eq!(hub.join(channel(2), queue()).unwrap_err(), Refused::Cut);
    assert!(hub.take_behind(10).is_empty(), "nothing is read before the subscription stands");
    hub.connected();
    let interest = hub.take_interest(10);
    assert_eq!(interest.subscribe, [channel(1)]);
    hub.subscribed(&interest.subscribe);
    assert_eq!(hub.take_behind(10), [(channel(1), cursor(1))]);
    hub.backfilled(&channel(1), missed(&[2]));
    assert_eq!(heard(&outbound).await, ["degraded", "2", "recovered"]);
}

#[tokio::test]
async fn what_is_lost_for_good_is_said_once_and_new_events_follow() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event(900));
    hub.lagged();
    hub.take_behind(10);
    // The new log's clock runs behind the old one's.
    hub.backfilled(&channel(1), Backfill::Lost(cursor(5)));
    hub.dispatch(channel(1).as_str(), event(6));
    assert_eq!(heard(&outbound).await, ["900", "resync", "6"]);
}

#[tokio::test]
async fn a_log_that_could_not_be_read_is_tried_again() {
    let (hub, _member, _) = one_room().await;
    hub.lagged();
    hub.take_behind(10);
    hub.not_backfilled(&channel(1));
    assert_eq!(hub.take_behind(10).len(), 1);
}

#[tokio::test]
async fn what_was_read_before_a_loss_does_not_count() {
    let hub = Hub::new();
    hub.connected();
    let mut membership = hub.join(channel(1), queue()).unwrap();
    hub.subscribed(&hub.take_interest(10).subscribe);
    let epoch = membership.subscribed().await.unwrap();
    hub.lagged();
    assert!(!membership.settle(epoch, cursor(1)));
}

#[tokio::test]
async fn who_waits_for_a_subscription_hears_of_its_end() {
    let hub = Hub::new();
    hub.connected();
    let mut membership = hub.join(channel(1), queue()).unwrap();
    hub.disconnected();
    assert_eq!(membership.subscribed().await, Err(Refused::Cut));
}

#[tokio::test]
async fn only_a_room_that_stands_still_is_suspect() {
    let (hub, _member, _) = one_room().await;
    assert_eq!(hub.positions(), [(channel(1), cursor(1))]);
    hub.dispatch(channel(1).as_str(), event(2));
    assert!(!hub.suspect(&channel(1), cursor(1)));
    assert!(hub.suspect(&channel(1), cursor(2)));
    assert!(!hub.suspect(&channel(1), cursor(2)), "it is queued already");
}

#[tokio::test]
async fn nobody_joins_a_hub_that_goes_away() {
    let (hub, _member, outbound) = one_room().await;
    hub.go_away();
    assert!(matches!(outbound.next().await.unwrap().items[..], [Item::GoingAway]));
    assert_eq!(hub.join(channel(1), queue()).unwrap_err(), Refused::GoingAway);
}
