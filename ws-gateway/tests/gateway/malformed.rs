//! What stands in Redis and is no event: its conversation's sockets are told to load the history where something may be missing, and
//! sockets of other conversations hear nothing of it.

use fred::interfaces::{KeysInterface, PubsubInterface, StreamsInterface};
use serde_json::Value;
use shared::channel::Channel;

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, conversation, doctor, patient};

const OTHER: &str = "location_id=loc1&user_id=doc123&contact_id=other";

/// Entries of a log that are none of ours. Not even UTF-8, without the fields, with fields of another kind.
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

/// Payloads that are no events.
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
async fn an_entry_that_is_no_event_is_a_resync_for_its_conversation_and_nothing_for_others() {
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let other_channel = Channel::from(&conversation("loc1", "doc123", "other"));
    for entry in bad_entries() {
        let before = gateway.metric("gateway_malformed_events_total").await;
        let (mut client, ready) = Client::open(gateway.address, QUERY, &patient()).await;
        let (mut other, _) = Client::open(gateway.address, OTHER, &doctor()).await;
        publisher.message(&channel(), "user:doc123", "before").await;
        assert_eq!(content(&mut client).await, "before", "{entry:?}");
        let _: String = publisher.client.xadd(channel().log_key(), false, None, "*", entry.clone()).await.unwrap();
        // The next event says what stands before it, which nobody has heard.
        publisher.message(&channel(), "user:doc123", "behind it").await;
        publisher.message(&other_channel, "user:doc123", "elsewhere").await;
        assert_eq!(client.frame().await["type"], "resync", "{entry:?}");
        assert_eq!(content(&mut other).await, "elsewhere", "{entry:?}");
        assert!(gateway.metric("gateway_malformed_events_total").await > before, "{entry:?}");
        // From there on it is live.
        publisher.message(&channel(), "user:doc123", "live").await;
        assert_eq!(content(&mut client).await, "live", "{entry:?}");
        assert_eq!(other.ask(r#"{"type":"ping"}"#).await["type"], "pong", "nothing else for others: {entry:?}");
        // Whoever comes back from before it is told to load the history as well.
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
async fn a_payload_that_is_no_event_is_ignored_and_loses_nothing() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (mut inbox, _) = Client::open(gateway.address, "location_id=loc1&contact_id=pat456", &patient()).await;
    let its_inbox = Channel::inbox(&"loc1".parse().unwrap(), &"contact:pat456".parse().unwrap());
    let presence = Channel::presence(&"loc1".parse().unwrap());
    for payload in bad_payloads() {
        for channel in [&channel(), &its_inbox, &presence] {
            let heard: i64 = publisher.client.publish(channel.as_str(), payload).await.unwrap();
            assert_eq!(heard, 1, "the gateway listens to {}", channel.as_str());
        }
        publisher.message(&channel(), "user:doc123", "good").await;
        let frame = client.frame().await;
        assert_eq!(frame["message"]["content"], "good", "{payload:?}: {frame}");
        assert_eq!(inbox.ask(r#"{"type":"ping"}"#).await["type"], "pong", "{payload:?}");
    }
}
