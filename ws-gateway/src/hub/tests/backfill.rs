//! Gaps, outages and backfills.

use super::*;

#[tokio::test]
async fn backfilled_event_is_not_sent_again() {
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
async fn gap_during_backfill_repeats_it() {
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
async fn outage_sends_degraded_then_backfill_then_recovered() {
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
async fn lost_log_sends_resync_once_before_new_events() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event_after(Some(1), 900));
    hub.mark_all_gaps();
    hub.take_backfills(10);
    // The clock of the new log is behind that of the old one.
    hub.apply_backfill(&channel(1), Backfill::Gap(cursor(5)));
    hub.dispatch(channel(1).as_str(), event(6));
    assert_eq!(received(&outbound).await, ["900", "resync", "6"]);
}

#[tokio::test]
async fn failed_backfill_is_retried() {
    let (hub, _member, _) = one_room().await;
    hub.mark_all_gaps();
    hub.take_backfills(10);
    hub.backfill_failed(&channel(1));
    assert_eq!(hub.take_backfills(10).len(), 1);
}

#[tokio::test]
async fn position_is_rejected_when_epoch_changed() {
    let hub = Hub::new();
    hub.connected();
    let mut membership = hub.join(channel(1), queue()).unwrap();
    hub.confirm_subscriptions(&hub.take_subscription_changes(10).subscribe);
    let epoch = membership.wait_until_subscribed().await.unwrap();
    hub.mark_all_gaps();
    assert!(!membership.confirm_position(epoch, cursor(1)));
}

#[tokio::test]
async fn only_room_at_same_position_is_resubscribed() {
    let (hub, _member, _) = one_room().await;
    assert_eq!(hub.positions(), [(channel(1), cursor(1))]);
    hub.dispatch(channel(1).as_str(), event(2));
    assert!(!hub.resubscribe_if_at(&channel(1), cursor(1)));
    assert!(hub.resubscribe_if_at(&channel(1), cursor(2)));
    assert!(!hub.resubscribe_if_at(&channel(1), cursor(2)), "it is queued already");
}

#[tokio::test]
async fn reconciled_room_resubscribes_before_backfill() {
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
    // Redis may still have the subscription, so it must be ended explicitly.
    assert!(hub.resubscribe_if_at(&channel(1), cursor(2)));
    drop((member, other));
    assert_eq!(
        hub.take_subscription_changes(10),
        SubscriptionChanges { subscribe: vec![], unsubscribe: vec![channel(1)] }
    );
}

#[tokio::test]
async fn missing_event_is_backfilled_before_next_event() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event(2));
    hub.dispatch(channel(1).as_str(), event(4));
    hub.dispatch(channel(1).as_str(), event(5));
    assert_eq!(received(&outbound).await, ["2"]);
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(2))]);
    hub.dispatch(channel(1).as_str(), event(6));
    hub.dispatch(channel(1).as_str(), event(7));
    // The log was read before 7 arrived.
    hub.apply_backfill(&channel(1), backfill_of(&[3, 4, 5, 6]));
    assert_eq!(received(&outbound).await, ["3", "4", "5", "6", "7"]);
    assert!(hub.take_backfills(10).is_empty());
}

#[tokio::test]
async fn gap_among_buffered_events_repeats_backfill() {
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
async fn new_log_is_a_gap() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event_after(None, 9));
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(1))]);
    hub.apply_backfill(&channel(1), Backfill::Gap(cursor(9)));
    hub.dispatch(channel(1).as_str(), event(10));
    assert_eq!(received(&outbound).await, ["resync", "10"]);
}

#[tokio::test]
async fn new_log_with_older_cursor_is_a_gap() {
    let (hub, _member, outbound) = one_room().await;
    hub.dispatch(channel(1).as_str(), event_after(Some(1), 9));
    // The clock of the promoted Redis is behind.
    hub.dispatch(channel(1).as_str(), event_after(None, 5));
    assert_eq!(hub.take_backfills(10), [(channel(1), cursor(9))]);
    hub.apply_backfill(&channel(1), Backfill::Gap(cursor(5)));
    hub.dispatch(channel(1).as_str(), event_after(Some(5), 6));
    assert_eq!(received(&outbound).await, ["9", "resync", "6"]);
}

#[tokio::test]
async fn event_missing_from_log_sends_resync() {
    let (hub, _member, outbound) = one_room().await;
    // 2 was lost on the way; a failover has lost 3.
    hub.dispatch(channel(1).as_str(), event(3));
    hub.take_backfills(10);
    hub.apply_backfill(&channel(1), backfill_of(&[2]));
    assert_eq!(received(&outbound).await, ["2", "resync"]);
    hub.dispatch(channel(1).as_str(), event_after(Some(2), 4));
    assert_eq!(received(&outbound).await, ["4"]);
    assert!(hub.take_backfills(10).is_empty());
}

#[tokio::test]
async fn early_gap_is_backfilled_once_subscription_is_confirmed() {
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

#[tokio::test]
async fn socket_rejoins_when_it_read_less_than_first_position() {
    let (hub, [(a, epoch, _), (b, same_epoch, backfill_queue)]) = two_unconfirmed().await;
    // `a` has read 3, which then arrives live. `b` read the log before that.
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
async fn socket_rejoins_when_it_missed_first_predecessor() {
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
async fn full_backfill_buffer_is_dropped_and_log_read_again() {
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
    assert!(recorder.handle().render().contains("ehr_chat_gateway_backfill_overflows_total 1"));
}

#[tokio::test]
async fn ended_subscription_is_renewed_and_backfilled() {
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
async fn publish_outage_degrades_room_until_every_publisher_recovers() {
    let (hub, member, outbound) = one_room().await;
    let name = member.channel().as_str().to_owned();
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for by in [first, second, first] {
        hub.record_publish_outage(&name, by, false);
    }
    hub.dispatch(&name, event(2));
    hub.record_publish_outage(&name, first, true);
    // A session skips a second `degraded`; a later socket needs it.
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
    // Redis disconnects during the outage.
    hub.record_publish_outage(&name, first, false);
    hub.disconnected();
    assert_eq!(received(&late).await, ["degraded", "degraded"]);
}
