//! Invalid entries and payloads in Redis. Sockets of the conversation reload the history if something may be missing;
//! other sockets are not affected.

use fred::interfaces::{KeysInterface, PubsubInterface, StreamsInterface};
use serde_json::Value;
use shared::contract::redis::keys::Channel;

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, conversation, doctor, patient};

const OTHER: &str = "location_id=loc1&user_id=doc123&contact_id=other";

/// Invalid log entries: not UTF-8, without the fields, or with other fields.
fn bad_entries() -> Vec<Vec<(&'static str, &'static [u8])>> {
    vec![
        vec![("t", b"\xff\xfe"), ("h", b""), ("b", b"\"message\":{}}")],
        vec![("s", b"1"), ("t", b"message"), ("h", b"\xff\xfe"), ("b", b"\"message\":{}}")],
        vec![("s", b"1"), ("t", b"message"), ("h", b""), ("b", b"\xff\xfe")],
        vec![("s", b"1"), ("t", b"message"), ("h", b"nobody 7"), ("b", b"\"message\":{}}")],
        vec![("s", b"x"), ("t", b"message"), ("h", b"contact:pat456 no-uuid"), ("b", b"\"message\":{}}")],
        vec![("something", b"else")],
        vec![("t", b"message")],
    ]
}

/// Payloads that are not events.
fn bad_payloads() -> Vec<&'static [u8]> {
    vec![
        b"",
        b"\n",
        b"\xff\xfe\xfd",
        b"1-1 1-0\n\xff\xfe",
        b"1-1\n{}",
        b"{\"type\":\"message\"}",
        b"1-1 x contact:pat456\n{}",
        b"* nobody\n{}",
        b"99999999999999999999-0 -\n{}",
        b"[1,2,3]",
    ]
}

async fn content(client: &mut Client) -> Value {
    client.frame().await["message"]["content"].clone()
}

#[tokio::test]
async fn invalid_log_entry_affects_only_its_conversation() {
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let other_channel = Channel::from(&conversation("loc1", "doc123", "other"));
    for entry in bad_entries() {
        let before = gateway.metric("ehr_chat_gateway_malformed_events_total").await;
        let (mut client, ready) = Client::open(gateway.address, QUERY, &patient()).await;
        let (mut other, _) = Client::open(gateway.address, OTHER, &doctor()).await;
        publisher.message(&channel(), "user:doc123", "before").await;
        assert_eq!(content(&mut client).await, "before", "{entry:?}");
        let _: String = publisher.client.xadd(channel().log_key(), false, None, "*", entry.clone()).await.unwrap();
        // The next event names a predecessor that the sockets did not receive.
        publisher.message(&channel(), "user:doc123", "behind it").await;
        publisher.message(&other_channel, "user:doc123", "elsewhere").await;
        assert_eq!(client.frame().await["type"], "resync", "{entry:?}");
        assert_eq!(content(&mut other).await, "elsewhere", "{entry:?}");
        assert!(gateway.metric("ehr_chat_gateway_malformed_events_total").await > before, "{entry:?}");
        // From here on events arrive live.
        publisher.message(&channel(), "user:doc123", "live").await;
        assert_eq!(content(&mut client).await, "live", "{entry:?}");
        assert_eq!(other.ask(r#"{"type":"ping"}"#).await["type"], "pong", "nothing else for others: {entry:?}");
        // A client that resumes from an earlier cursor must reload the history too.
        let query = format!("{QUERY}&cursor={}", ready["cursor"].as_str().unwrap());
        let (mut back, ready) = Client::open(gateway.address, &query, &patient()).await;
        assert_eq!(ready["resumed"], false, "{entry:?}");
        publisher.message(&channel(), "user:doc123", "live again").await;
        assert_eq!(content(&mut back).await, "live again", "{entry:?}");
        let _: i64 = publisher.client.del(channel().log_key()).await.unwrap();
        drop((client, back));
        redis.next_millisecond().await;
    }
}

#[tokio::test]
async fn invalid_payload_is_ignored_without_loss() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (mut inbox, _) = Client::open(gateway.address, "location_id=loc1&contact_id=pat456", &patient()).await;
    let its_inbox = Channel::inbox(&"loc1".parse().unwrap(), &"contact:pat456".parse().unwrap());
    let presence = Channel::presence(&"loc1".parse().unwrap());
    for payload in bad_payloads() {
        for channel in [&channel(), &its_inbox, &presence] {
            let subscribers: i64 = publisher.client.publish(channel.as_str(), payload).await.unwrap();
            assert_eq!(subscribers, 1, "the gateway listens to {}", channel.as_str());
        }
        publisher.message(&channel(), "user:doc123", "good").await;
        let frame = client.frame().await;
        assert_eq!(frame["message"]["content"], "good", "{payload:?}: {frame}");
        assert_eq!(inbox.ask(r#"{"type":"ping"}"#).await["type"], "pong", "{payload:?}");
    }
}
