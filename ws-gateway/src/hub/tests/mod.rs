mod backfill;
mod coverage;
mod inbox;

use super::epoch::Epoch;
use super::*;
use shared::contract::revocation::RevocationSet;

use crate::socket::CloseReason;
use crate::socket::OutboundQueue;
use shared::contract::event::Cursor;
use shared::contract::event::Header;
use shared::contract::ids::LocationId;
use shared::contract::participant::Participant;
use shared::contract::revocation::Revocation;
use shared::contract::token::{Actor, Principal};
use uuid::Uuid;

pub(crate) fn channel(n: u128) -> Channel {
    Channel::new(&"loc1".parse::<LocationId>().unwrap(), Uuid::from_u128(n))
}

pub(crate) fn cursor(n: u64) -> Cursor {
    format!("{n}-0").parse().unwrap()
}

/// The nth event of a log without gaps.
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
    /// Any room may have missed events.
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

/// A principal with this participant and token id.
pub(crate) fn principal(who: &str, jti: Option<&str>) -> Arc<Principal> {
    let person: Participant = who.parse().unwrap();
    Arc::new(Principal {
        subject: person.id.clone(),
        key: shared::contract::token::VerificationKeyId::SECRET,
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

/// The queued items, in words.
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

/// A hub with one room, subscribed at position 1, and one socket.
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
async fn events_reach_only_sockets_of_their_conversation() {
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
async fn channel_is_subscribed_from_first_to_last_socket() {
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
async fn rejoin_keeps_subscription_before_changes_are_taken() {
    let (hub, first, _) = one_room().await;
    drop(first);
    let mut again = hub.join(channel(1), queue()).unwrap();
    assert!(hub.take_subscription_changes(10).is_empty());
    assert!(again.wait_until_subscribed().await.is_ok());
}

#[tokio::test]
async fn waiting_socket_fails_when_disconnected() {
    let hub = Hub::new();
    hub.connected();
    let mut membership = hub.join(channel(1), queue()).unwrap();
    hub.disconnected();
    assert_eq!(membership.wait_until_subscribed().await, Err(JoinError::Disconnected));
}

/// Two sockets that join an empty room at the same time.
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
async fn revocation_closes_only_sockets_of_its_tokens() {
    let hub = Hub::new();
    hub.connected();
    let queue = |jti| OutboundQueue::new(principal("user:doc123", Some(jti)), 1 << 20);
    let (first, second) = (queue("t1"), queue("t2"));
    let _members = [(1, &first), (2, &second)].map(|(n, queue)| hub.join(channel(n), queue.clone()).unwrap());
    let revocations = RevocationSet::default();
    let token = |jti: &str| [Revocation::Token { jti: jti.to_owned(), expires_at: None }.entry(i64::MAX)];
    revocations.add(token("t1"));
    assert_eq!(hub.close_revoked(&revocations), 1);
    assert_eq!(first.closed().await, CloseReason::TokenRevoked);
    // From now on the new token counts.
    second.renew(principal("user:doc123", Some("t3")));
    revocations.add(token("t2"));
    second.push(QueueItem::Degraded);
    hub.close_revoked(&revocations);
    assert!(second.next().await.is_ok());
    revocations.add([Revocation::Subject { sub: "doc123".parse().unwrap(), issued_before: 101 }.entry(i64::MAX)]);
    hub.close_revoked(&revocations);
    assert_eq!(second.closed().await, CloseReason::TokenRevoked);
}

#[tokio::test]
async fn draining_hub_rejects_joins() {
    let (hub, _member, outbound) = one_room().await;
    hub.begin_drain();
    assert!(matches!(outbound.next().await.unwrap()[..], [QueueItem::GoingAway]));
    assert_eq!(hub.join(channel(1), queue()).unwrap_err(), JoinError::GoingAway);
}

fn inbox() -> Channel {
    Channel::inbox(&"loc1".parse::<LocationId>().unwrap(), &"user:doc123".parse().unwrap())
}

fn row(text: &'static str) -> Event<'static> {
    Event { header: Header::InboxRow { conversation: Uuid::from_u128(1) }, frame: text.into() }
}
