mod coverage;

use super::*;
use shared::event::Header;
use shared::ids::LocationId;
use shared::participant::Participant;
use shared::revocation::Revocation;
use shared::token::{Actor, Principal};
use uuid::Uuid;

pub(crate) fn channel(n: u128) -> Channel {
    Channel::new(&"loc1".parse::<LocationId>().unwrap(), Uuid::from_u128(n))
}

pub(crate) fn cursor(n: u64) -> Cursor {
    format!("{n}-0").parse().unwrap()
}

/// The nth event of a log that misses none.
pub(crate) fn event(n: u64) -> Event<'static> {
    event_after(n.checked_sub(1), n)
}

fn event_after(previous: Option<u64>, n: u64) -> Event<'static> {
    let header = Header::Logged { cursor: cursor(n), previous: previous.map(cursor), recipient: None };
    Event { header, frame: n.to_string().into() }
}

pub(crate) fn backfill_of(cursors: &[u64]) -> Backfill {
    Backfill::Events(cursors.iter().map(|n| EncodedEvent::new(event(*n))).collect())
}

impl Hub {
    /// Any event may have been lost, in any room.
    fn mark_all_gaps(&self) {
        for mut guard in self.lock_shards() {
            let shard = &mut *guard;
            shard.epoch += 1;
            for (channel, room) in &mut shard.rooms {
                if room.mark_gap() && room.subscription == SubscriptionState::Active {
                    shard.backfill_queue.push(channel.clone());
                }
            }
        }
        self.backfill_requested.notify_one();
    }
}

/// Somebody with a token of this name.
pub(crate) fn principal(who: &str, jti: Option<&str>) -> Arc<Principal> {
    let person: Participant = who.parse().unwrap();
    Arc::new(Principal {
        subject: person.id.clone(),
        key: shared::token::VerificationKeyId::SECRET,
        actor: Actor::Participant(person),
        locations: vec![],
        expires_at: time::OffsetDateTime::UNIX_EPOCH,
        issued_at: Some(100),
        jti: jti.map(str::to_owned),
    })
}

pub(crate) fn queue() -> Arc<OutboundQueue> {
    OutboundQueue::new(principal("user:doc123", None), 1 << 20)
}

/// What waits for a socket, in words.
pub(crate) async fn received(outbound: &OutboundQueue) -> Vec<String> {
    outbound.push(QueueItem::GoingAway);
    let items = outbound.next().await.unwrap();
    let word = |item: &QueueItem| match item {
        QueueItem::Event(delivery) => String::from_utf8_lossy(&delivery.frame()[2..]).into_owned(),
        QueueItem::Degraded => "degraded".to_owned(),
        QueueItem::Recovered => "recovered".to_owned(),
        QueueItem::Resync(_) => "resync".to_owned(),
        QueueItem::GoingAway => String::new(),
    };
    items.iter().map(word).filter(|word| !word.is_empty()).collect()
}

/// A hub with one room, subscribed and settled at 1, and a socket in it.
pub(crate) async fn one_room() -> (Arc<Hub>, Membership, Arc<OutboundQueue>) {
    let hub = Hub::new();
    hub.connected();
    let outbound = queue();
    let mut membership = hub.join(channel(1), outbound.clone()).unwrap();
    let changes = hub.take_subscription_changes(10);
    assert_eq!(changes.subscribe, [channel(1)]);
    hub.confirm_subscriptions(&changes.subscribe);
    let epoch = membership.wait_until_subscribed().await.unwrap();
    assert!(membership.confirm_position(epoch, cursor(1)));
    (hub, membership, outbound)
}

#[tokio::test]
async fn events_reach_the_sockets_of_their_conversation_and_no_others() {
    let (hub, _first, here) = one_room().await;
    let there = queue();
    let _second = hub.join(channel(2), there.clone()).unwrap();
    hub.dispatch(channel(1).as_str(), event(2));
    hub.dispatch(channel(2).as_str(), event(3));
    assert!(hub.take_backfills(10).is_empty());
    hub.dispatch(channel(3).as_str(), event(4));
    assert_eq!(received(&here).await, ["2"]);
    assert_eq!(received(&there).await, ["3"]);
}

#[tokio::test]
async fn a_channel_is_subscribed_for_the_first_socket_and_unsubscribed_after_the_last() {
    let (hub, first, _) = one_room().await;
    let mut second = hub.join(channel(1), queue()).unwrap();
    assert!(second.wait_until_subscribed().await.is_ok(), "the subscription stands already");
    assert!(hub.take_subscription_changes(10).is_empty());
    drop(first);
    assert!(hub.take_subscription_changes(10).is_empty());
    drop(second);
    assert_eq!(
        hub.take_subscription_changes(10),
        SubscriptionChanges { subscribe: vec![], unsubscribe: vec![channel(1)] }
    );
    assert!(hub.take_subscription_changes(10).is_empty());
    let _third = hub.join(channel(1), queue()).unwrap();
    assert_eq!(hub.take_subscription_changes(10).subscribe, [channel(1)]);
}

#[tokio::test]
async fn who_comes_back_before_the_relay_asks_finds_the_subscription_standing() {
    let (hub, first, _) = one_room().await;
    drop(first);
    let mut again = hub.join(channel(1), queue()).unwrap();
    assert!(hub.take_subscription_changes(10).is_empty());
    assert!(again.wait_until_subscribed().await.is_ok());
}

#[tokio::test]
async fn an_event_that_was_read_from_the_log_is_not_sent_again() {
    let (hub, _member, outbound) = one_room().await;
    hub.mark_all_gaps();
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.dispatch(channel(1).as_str(), event(3));
    hub.dispatch(channel(1).as_str(), event(4));
    assert!(received(&outbound).await.is_empty(), "held back until the log has shown what came before");
    hub.apply_backfill(&channel(1), backfill_of(&[2, 3]));
    assert_eq!(received(&outbound).await, ["2", "3", "4"]);
}

#[tokio::test]
async fn a_loss_while_a_log_is_read_has_it_read_again() {
    let (hub, _member, outbound) = one_room().await;
    hub.mark_all_gaps();
    hub.take_backfills(10);
    hub.dispatch(channel(1).as_str(), event(3));
    hub.mark_all_gaps();
    assert!(hub.take_backfills(10).is_empty(), "it is being read");
    hub.dispatch(channel(1).as_str(), event(6));
    hub.apply_backfill(&channel(1), backfill_of(&[2, 3]));
    assert_eq!(received(&outbound).await, ["2", "3"]);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(3))]);
    hub.apply_backfill(&channel(1), backfill_of(&[4, 5, 6]));
    assert_eq!(received(&outbound).await, ["4", "5", "6"]);
}

#[tokio::test]
async fn an_outage_is_told_and_ends_with_what_was_missed() {
    let (hub, _member, outbound) = one_room().await;
    hub.disconnected();
    assert_eq!(hub.join(channel(2), queue()).unwrap_err(), JoinError::Disconnected);
    assert!(hub.take_backfills(10).is_empty(), "nothing is read before the subscription stands");
    hub.connected();
    let changes = hub.take_subscription_changes(10);
    assert_eq!(changes.subscribe, [channel(1)]);
    hub.confirm_subscriptions(&changes.subscribe);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["degraded", "2", "recovered"]);
}

#[tokio::test]
async fn what_is_lost_for_good_is_said_once_and_new_events_follow() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event_after(Some(1), 900));
    hub.mark_all_gaps();
    hub.take_backfills(10);
    // The new log's clock runs behind the old one's.
    hub.apply_backfill(&channel(1), Backfill::Gap(cursor(5)));
    hub.dispatch(channel(1).as_str(), event(6));
    assert_eq!(received(&outbound).await, ["900", "resync", "6"]);
}

#[tokio::test]
async fn a_log_that_could_not_be_read_is_tried_again() {
    let (hub, _member, _) = one_room().await;
    hub.mark_all_gaps();
    hub.take_backfills(10);
    hub.backfill_failed(&channel(1));
    assert_eq!(hub.take_backfills(10).len(), 1);
}

#[tokio::test]
async fn what_was_read_before_a_loss_does_not_count() {
    let hub = Hub::new();
    hub.connected();
    let mut membership = hub.join(channel(1), queue()).unwrap();
    hub.confirm_subscriptions(&hub.take_subscription_changes(10).subscribe);
    let epoch = membership.wait_until_subscribed().await.unwrap();
    hub.mark_all_gaps();
    assert!(!membership.confirm_position(epoch, cursor(1)));
}

#[tokio::test]
async fn who_waits_for_a_subscription_hears_of_its_end() {
    let hub = Hub::new();
    hub.connected();
    let mut membership = hub.join(channel(1), queue()).unwrap();
    hub.disconnected();
    assert_eq!(membership.wait_until_subscribed().await, Err(JoinError::Disconnected));
}

#[tokio::test]
async fn only_a_room_that_stands_still_is_suspect() {
    let (hub, _member, _) = one_room().await;
    assert_eq!(hub.positions(), [(channel(1), cursor(1))]);
    hub.dispatch(channel(1).as_str(), event(2));
    assert!(!hub.resubscribe_if_at(&channel(1), cursor(1)));
    assert!(hub.resubscribe_if_at(&channel(1), cursor(2)));
    assert!(!hub.resubscribe_if_at(&channel(1), cursor(2)), "it is queued already");
}

#[tokio::test]
async fn a_suspect_room_is_subscribed_anew_before_its_log_is_read() {
    let (hub, member, outbound) = one_room().await;
    assert!(hub.resubscribe_if_at(&channel(1), cursor(1)));
    assert!(hub.take_backfills(10).is_empty(), "what comes between reading and subscribing would be lost");
    let mut other = hub.join(channel(1), queue()).unwrap();
    let changes = hub.take_subscription_changes(10);
    assert_eq!(changes.subscribe, [channel(1)]);
    hub.confirm_subscriptions(&changes.subscribe);
    assert!(other.wait_until_subscribed().await.is_ok());
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["2"]);
    // Redis may have it subscribed all the while, so that it must be told of the end.
    assert!(hub.resubscribe_if_at(&channel(1), cursor(2)));
    drop((member, other));
    assert_eq!(
        hub.take_subscription_changes(10),
        SubscriptionChanges { subscribe: vec![], unsubscribe: vec![channel(1)] }
    );
}

#[tokio::test]
async fn an_event_that_did_not_arrive_is_read_before_what_follows_it_is_passed_on() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event(2));
    hub.dispatch(channel(1).as_str(), event(4));
    hub.dispatch(channel(1).as_str(), event(5));
    assert_eq!(received(&outbound).await, ["2"]);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(2))]);
    hub.dispatch(channel(1).as_str(), event(6));
    hub.dispatch(channel(1).as_str(), event(7));
    // The log was read before 7 came.
    hub.apply_backfill(&channel(1), backfill_of(&[3, 4, 5, 6]));
    assert_eq!(received(&outbound).await, ["3", "4", "5", "6", "7"]);
    assert!(hub.take_backfills(10).is_empty());
}

#[tokio::test]
async fn a_gap_among_what_was_held_back_has_the_log_read_once_more() {
    let (hub, _member, outbound) = one_room().await;
    hub.mark_all_gaps();
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    for n in [3, 5, 6] {
        hub.dispatch(channel(1).as_str(), event(n));
    }
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["2", "3"]);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(3))]);
    hub.apply_backfill(&channel(1), backfill_of(&[4, 5, 6]));
    assert_eq!(received(&outbound).await, ["4", "5", "6"]);
}

#[tokio::test]
async fn a_log_that_was_opened_anew_is_a_gap() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event_after(None, 9));
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), Backfill::Gap(cursor(9)));
    hub.dispatch(channel(1).as_str(), event(10));
    assert_eq!(received(&outbound).await, ["resync", "10"]);
}

#[tokio::test]
async fn a_log_that_begins_anew_before_the_end_of_the_old_one_is_a_gap_too() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event_after(Some(1), 9));
    // The clock of the Redis that took over is behind.
    hub.dispatch(channel(1).as_str(), event_after(None, 5));
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(9))]);
    hub.apply_backfill(&channel(1), Backfill::Gap(cursor(5)));
    hub.dispatch(channel(1).as_str(), event_after(Some(5), 6));
    assert_eq!(received(&outbound).await, ["9", "resync", "6"]);
}

#[tokio::test]
async fn an_event_that_the_log_has_lost_since_means_resync() {
    let (hub, _member, outbound) = one_room().await;
    // 2 did not arrive; 3 did, and a failover has lost it.
    hub.dispatch(channel(1).as_str(), event(3));
    hub.take_backfills(10);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["2", "resync"]);
    hub.dispatch(channel(1).as_str(), event_after(Some(2), 4));
    assert_eq!(received(&outbound).await, ["4"]);
    assert!(hub.take_backfills(10).is_empty());
}

#[tokio::test]
async fn a_gap_before_the_subscription_is_confirmed_is_looked_at_when_it_is() {
    let hub = Hub::new();
    hub.connected();
    let outbound = queue();
    let _member = hub.join(channel(1), outbound.clone()).unwrap();
    let changes = hub.take_subscription_changes(10);
    hub.dispatch(channel(1).as_str(), event(2));
    hub.dispatch(channel(1).as_str(), event(4));
    assert!(hub.take_backfills(10).is_empty());
    hub.confirm_subscriptions(&changes.subscribe);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(2))]);
}

/// Two sockets that join an empty room at once, both subscribed.
async fn two_unconfirmed() -> (Arc<Hub>, [(Membership, Epoch, Arc<OutboundQueue>); 2]) {
    let hub = Hub::new();
    hub.connected();
    let queues = [queue(), queue()];
    let members = queues.clone().map(|queue| hub.join(channel(1), queue).unwrap());
    hub.confirm_subscriptions(&hub.take_subscription_changes(10).subscribe);
    let [mut a, mut b] = members;
    let epochs = [a.wait_until_subscribed().await.unwrap(), b.wait_until_subscribed().await.unwrap()];
    let [first, second] = queues;
    (hub, [(a, epochs[0], first), (b, epochs[1], second)])
}

#[tokio::test]
async fn who_has_read_less_than_the_room_began_with_joins_anew() {
    let (hub, [(a, epoch, _), (b, same_epoch, backfill_queue)]) = two_unconfirmed().await;
    // `a` has read 3, which comes live after that; `b` had read the log before.
    assert!(a.confirm_position(epoch, cursor(3)));
    hub.dispatch(channel(1).as_str(), event(3));
    assert!(received(&backfill_queue).await.is_empty());
    assert!(!b.confirm_position(same_epoch, cursor(2)));
    drop(b);
    let mut again = hub.join(channel(1), queue()).unwrap();
    let epoch = again.wait_until_subscribed().await.unwrap();
    assert!(again.confirm_position(epoch, cursor(3)));
}

#[tokio::test]
async fn who_has_read_less_than_what_stood_before_the_first_event_joins_anew() {
    let (hub, [(a, epoch, _), (b, same_epoch, _)]) = two_unconfirmed().await;
    hub.dispatch(channel(1).as_str(), event(3));
    assert!(!a.confirm_position(epoch, cursor(1)), "2 did not arrive");
    assert!(b.confirm_position(same_epoch, cursor(2)));
    let (hub, [(a, epoch, _), (b, same_epoch, _)]) = two_unconfirmed().await;
    hub.dispatch(channel(1).as_str(), event_after(None, 3));
    assert!(!a.confirm_position(epoch, cursor(1)), "of a log that is gone");
    assert!(b.confirm_position(same_epoch, cursor(3)));
}

#[tokio::test]
async fn what_a_room_holds_back_is_bounded_and_read_from_the_log_instead() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (hub, _member, outbound) = one_room().await;
    hub.mark_all_gaps();
    assert_eq!(hub.take_backfills(10).len(), 1);
    let large = |n: u64| Event { frame: "x".repeat(300_000).into(), ..event(n) };
    for n in 2..=5 {
        hub.dispatch(channel(1).as_str(), large(n));
    }
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["2"], "what did not fit was let go");
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(2))]);
    hub.apply_backfill(&channel(1), backfill_of(&[3, 4, 5]));
    assert_eq!(received(&outbound).await, ["3", "4", "5"]);
    assert!(recorder.handle().render().contains("gateway_held_overflows_total 1"));
}

#[tokio::test]
async fn sockets_of_tokens_that_are_taken_back_are_closed_and_no_others() {
    let hub = Hub::new();
    hub.connected();
    let queue = |jti| OutboundQueue::new(principal("user:doc123", Some(jti)), 1 << 20);
    let (first, second) = (queue("t1"), queue("t2"));
    let _members = [(1, &first), (2, &second)].map(|(n, queue)| hub.join(channel(n), queue.clone()).unwrap());
    let revocations = RevocationSet::default();
    let token = |jti: &str| [Revocation::Token { jti: jti.to_owned(), expires_at: None }.entry(i64::MAX)];
    revocations.add(token("t1"));
    assert_eq!(hub.close_revoked(&revocations), 1);
    assert_eq!(first.closed().await, CloseReason::TokenInvalid);
    // A fresh token is what the socket lives by from then on.
    second.renew(principal("user:doc123", Some("t3")));
    revocations.add(token("t2"));
    second.push(QueueItem::Degraded);
    hub.close_revoked(&revocations);
    assert!(second.next().await.is_ok());
    revocations.add([Revocation::Subject { sub: "doc123".parse().unwrap(), issued_before: 101 }.entry(i64::MAX)]);
    hub.close_revoked(&revocations);
    assert_eq!(second.closed().await, CloseReason::TokenInvalid);
}

#[tokio::test]
async fn nobody_joins_a_hub_that_goes_away() {
    let (hub, _member, outbound) = one_room().await;
    hub.begin_drain();
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::GoingAway]));
    assert_eq!(hub.join(channel(1), queue()).unwrap_err(), JoinError::GoingAway);
}

#[tokio::test]
async fn a_subscription_that_redis_ends_is_renewed_and_what_was_missed_is_read() {
    let (hub, _member, outbound) = one_room().await;
    hub.subscription_ended(channel(2).as_str());
    assert!(hub.take_subscription_changes(10).is_empty());
    hub.subscription_ended(channel(1).as_str());
    let changes = hub.take_subscription_changes(10);
    assert_eq!((&changes.subscribe[..], changes.unsubscribe.len()), (&[channel(1)][..], 0));
    hub.subscription_ended(channel(1).as_str());
    assert!(hub.take_subscription_changes(10).is_empty(), "it is on its way");
    hub.confirm_subscriptions(&changes.subscribe);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["2"]);
}

#[tokio::test]
async fn no_shard_waits_for_ever_for_its_turn() {
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
fn channels_fill_all_shards_evenly() {
    let mut rooms = [0; SHARDS];
    for n in 0..256 {
        rooms[shard_index(channel(n).as_str())] += 1;
    }
    assert_eq!(rooms, [256 / SHARDS; SHARDS]);
}

fn inbox() -> Channel {
    Channel::inbox(&"loc1".parse::<LocationId>().unwrap(), &"user:doc123".parse().unwrap())
}

fn row(text: &'static str) -> Event<'static> {
    Event { header: Header::InboxRow { conversation: Uuid::from_u128(1) }, frame: text.into() }
}

/// A hub with the room of an inbox, subscribed.
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
async fn rows_of_an_inbox_come_as_they_come_and_nothing_is_read_or_compared() {
    let (hub, _member, here) = one_inbox().await;
    for text in ["first", "second"] {
        hub.dispatch(inbox().as_str(), row(text));
    }
    assert_eq!(received(&here).await, ["first", "second"]);
    assert!(hub.positions().is_empty() && hub.take_backfills(10).is_empty());
}

#[tokio::test]
async fn whenever_rows_may_have_been_lost_an_inbox_is_to_be_loaded_anew_and_once() {
    let (hub, _member, here) = one_inbox().await;
    // Redis was away.
    hub.disconnected();
    hub.connected();
    let subscribe = hub.take_subscription_changes(10).subscribe;
    assert_eq!(received(&here).await, ["degraded"], "until it hears again, loading would miss something");
    hub.confirm_subscriptions(&subscribe);
    assert_eq!(received(&here).await, ["resync", "recovered"]);
    // Its slot has moved.
    hub.subscription_ended(inbox().as_str());
    assert!(received(&here).await.is_empty());
    hub.confirm_subscriptions(&hub.take_subscription_changes(10).subscribe);
    assert_eq!(received(&here).await, ["resync"]);
    // A row does not open.
    hub.mark_gap(inbox().as_str());
    assert_eq!(received(&here).await, ["resync"]);
    assert!(hub.take_backfills(10).is_empty());
}

#[test]
fn inboxes_of_alike_names_spread_over_the_shards() {
    let location = "loc1".parse::<LocationId>().unwrap();
    let inbox = |n| Channel::inbox(&location, &format!("user:{n}@clinic.example").replace('@', "-").parse().unwrap());
    let taken: std::collections::HashSet<_> = (0..1000).map(|n| shard_index(inbox(n).as_str())).collect();
    assert_eq!(taken.len(), SHARDS);
}

#[tokio::test]
async fn typing_is_told_only_where_something_was_ever_written_and_asked_for_once() {
    let (hub, _membership, outbound) = one_room().await;
    let typing = || Event::from_channel(b"* contact:pat456\n{\"type\":\"typing\"}").unwrap();
    assert!(hub.dispatch(channel(1).as_str(), typing()), "whether they know each other is to be asked");
    assert!(!hub.dispatch(channel(1).as_str(), typing()), "it was asked a moment ago");
    outbound.push(QueueItem::Degraded);
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::Degraded]), "nothing was told");
    hub.mark_shared(&channel(1));
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::Event(_)]), "what was withheld, once");
    assert!(!hub.dispatch(channel(1).as_str(), typing()));
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::Event(_)]));
}

#[tokio::test]
async fn sockets_of_a_conversation_that_redis_refuses_hear_degraded_whenever_they_come_and_recovered_when_all_are_through()
 {
    let (hub, member, outbound) = one_room().await;
    let name = member.channel().as_str().to_owned();
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for by in [first, second, first] {
        hub.record_publish_outage(&name, by, false);
    }
    hub.dispatch(&name, event(2));
    hub.record_publish_outage(&name, first, true);
    // A socket leaves out what it has heard; one that comes later has to hear it as well.
    assert_eq!(received(&outbound).await, ["degraded", "degraded", "degraded", "2"]);
    let late = queue();
    let mut joined = hub.join(channel(1), late.clone()).unwrap();
    let epoch = joined.wait_until_subscribed().await.unwrap();
    assert!(joined.confirm_position(epoch, cursor(2)));
    assert_eq!(received(&late).await, ["degraded"]);
    hub.record_publish_outage(&name, second, true);
    assert_eq!(
        (received(&outbound).await, received(&late).await),
        (vec!["recovered".to_owned()], vec!["recovered".to_owned()])
    );
    hub.record_publish_outage(&name, second, true);
    assert!(received(&outbound).await.is_empty());
    // Redis goes away altogether while it refuses this one.
    hub.record_publish_outage(&name, first, false);
    hub.disconnected();
    assert_eq!(received(&late).await, ["degraded", "degraded"]);
}
