//! What acknowledges a delivery, and what does not.

use fred::interfaces::StreamsInterface;
use serde_json::json;
use shared::contract::receipt::{Receipt, ReceiptKind};
use shared::contract::redis::keys::{API_GROUP, RECEIPT_STREAM};
use uuid::Uuid;

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, doctor, patient, service};

#[tokio::test]
async fn only_recipients_pong_acknowledges_delivery() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut sender, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut receiver, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (mut watcher, _) = Client::open(gateway.address, QUERY, &service()).await;
    let (id, _) = publisher.message(&channel(), "contact:pat456", "hello").await;
    for client in [&mut sender, &mut watcher] {
        assert_eq!(client.frame().await["type"], "message");
        assert_eq!(client.ask(r#"{"type":"ping"}"#).await["type"], "pong");
        assert_eq!(client.pings, 0, "nothing is to be proven here");
    }
    assert_eq!(receiver.frame().await["type"], "message");
    // The client has the frame, but has not read the Ping behind it.
    assert_eq!(publisher.receipts_so_far().await, 0);
    assert_eq!(receiver.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    assert_eq!(receiver.pings, 1);
    let receipts = publisher.receipts(1).await;
    assert_eq!(receipts[0].kind, ReceiptKind::Delivered);
    assert_eq!(receipts[0].participant.to_string(), "contact:pat456");
    assert_eq!(receipts[0].location.as_str(), "loc1");
    assert_eq!(receipts[0].message_ids, [id]);
    assert_eq!(receipts[0].at.nanosecond() % 1000, 0);
    assert_eq!(publisher.receipts_so_far().await, 1);
}

#[tokio::test]
async fn every_message_of_burst_is_acknowledged() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut receiver, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let mut sent = Vec::new();
    for n in 0..200 {
        sent.push(publisher.message(&channel(), "contact:pat456", &n.to_string()).await.0);
    }
    for _ in 0..200 {
        receiver.frame().await;
    }
    let proven = async {
        let mut proven = Vec::new();
        let mut entries = 1;
        while proven.len() < 200 {
            // The library answers Pings while it reads.
            receiver.ask(r#"{"type":"ping"}"#).await;
            let receipts = publisher.receipts(entries).await;
            proven = receipts.into_iter().flat_map(|receipt| receipt.message_ids).collect::<Vec<_>>();
            entries = publisher.receipts_so_far().await;
        }
        proven
    };
    let proven = tokio::time::timeout(crate::support::TEST_TIMEOUT, proven).await.unwrap();
    assert_eq!(proven, sent);
}

#[tokio::test]
async fn client_reports_delivered_and_read_messages() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (mut watcher, _) = Client::open(gateway.address, QUERY, &service()).await;
    let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let read = json!({"type": "read", "message_ids": ids}).to_string();
    assert_eq!(watcher.ask(&read).await["code"], "forbidden");
    assert_eq!(watcher.ask(r#"{"type":"typing"}"#).await["code"], "forbidden");
    client.send(&read).await;
    let receipts = publisher.receipts(1).await;
    assert_eq!(receipts[0].kind, ReceiptKind::Read);
    assert_eq!(receipts[0].message_ids, ids);
}

#[tokio::test]
async fn resume_cursor_acknowledges_earlier_messages() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut receiver, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (seen, cursor) = publisher.message(&channel(), "contact:pat456", "seen").await;
    publisher.message(&channel(), "user:doc123", "of its own").await;
    assert_eq!(receiver.frame().await["type"], "message");
    drop(receiver); // With the Ping unread, as a connection breaks.
    publisher.message(&channel(), "contact:pat456", "missed").await;
    assert_eq!(publisher.receipts_so_far().await, 0);

    let query = format!("{QUERY}&cursor={cursor}");
    let (_not_the_receivers, _) = Client::open(gateway.address, &query, &doctor()).await;
    let (_back, ready) = Client::open(gateway.address, &query, &patient()).await;
    assert_eq!(ready["resumed"], true);
    let receipts = publisher.receipts(1).await;
    assert_eq!(receipts[0].participant.to_string(), "contact:pat456");
    assert_eq!(receipts[0].message_ids, [seen], "what came later has yet to be proven");
    assert_eq!(publisher.receipts_so_far().await, 1);
}

/// The stream with the consumer group of the API services.
async fn begin_group(client: &fred::clients::Client) {
    let _: () = client.xgroup_create(RECEIPT_STREAM, API_GROUP, "0", true).await.unwrap();
}

fn read_frame(id: Uuid) -> String {
    json!({"type": "read", "message_ids": [id]}).to_string()
}

/// The message ids of receipts, in order.
fn ids(receipts: &[Receipt]) -> Vec<Uuid> {
    let mut ids: Vec<_> = receipts.iter().flat_map(|receipt| receipt.message_ids.clone()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn receipt_is_resent_after_redis_was_killed() {
    let mut redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let publisher = redis.publisher().await;
    begin_group(&publisher.client).await;
    let (proven, _) = publisher.message(&channel(), "contact:pat456", "one").await;
    assert_eq!(client.frame().await["message"]["content"], "one");
    // The library answers the Ping during this call.
    client.ask(r#"{"type":"ping"}"#).await;
    let said = Uuid::now_v7();
    client.send(&read_frame(said)).await;
    let before = publisher.receipts(2).await;
    redis.kill();
    assert_eq!(client.frame_beside("message").await["type"], "degraded");
    redis.restart_empty_after_kill();
    let again = redis.publisher().await.receipts(2).await;
    let mut expected = vec![proven, said];
    expected.sort();
    assert_eq!((ids(&before), ids(&again)), (expected.clone(), expected));
    assert!(before.iter().all(|receipt| again.contains(receipt)), "the same times, by the same socket");
}

#[tokio::test]
async fn receipt_is_resent_after_redis_was_flushed() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let publisher = redis.publisher().await;
    begin_group(&publisher.client).await;
    let [first, second] = [Uuid::now_v7(), Uuid::now_v7()];
    client.send(&read_frame(first)).await;
    publisher.receipts(1).await;
    redis.flush().await;
    begin_group(&publisher.client).await;
    client.send(&read_frame(second)).await;
    assert_eq!(ids(&publisher.receipts(2).await), [first, second]);
}

#[tokio::test]
async fn applied_receipt_is_not_resent() {
    let mut redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let publisher = redis.publisher().await;
    begin_group(&publisher.client).await;
    let [first, second] = [Uuid::now_v7(), Uuid::now_v7()];
    client.send(&read_frame(first)).await;
    publisher.receipts(1).await;
    let taken: fred::types::streams::XReadResponse<String, String, String, String> =
        publisher.client.xreadgroup_map(API_GROUP, "test", None, None, false, RECEIPT_STREAM, ">").await.unwrap();
    let entries: Vec<String> = taken.into_values().flatten().map(|(id, _)| id).collect();
    let mut monitor = redis.monitor().await;
    let _: i64 = publisher.client.xack(RECEIPT_STREAM, API_GROUP, entries).await.unwrap();
    // The gateway learns the group's progress with its next poll. It sends nothing meanwhile.
    monitor.until(r#""XACK" "receipts""#).await;
    monitor.until(r#""GROUPS" "receipts""#).await;
    client.send(&read_frame(second)).await;
    // It polls again once Redis has accepted the second one.
    monitor.until(r#""XADD" "receipts""#).await;
    monitor.until(r#""GROUPS" "receipts""#).await;
    redis.kill();
    client.frame_beside("message").await;
    redis.restart_empty_after_kill();
    let again = redis.publisher().await.receipts(1).await;
    assert_eq!(again[0].message_ids, [second]);
    assert_eq!(gateway.metric("ehr_chat_gateway_receipts_repeated_total").await, 1);
}
