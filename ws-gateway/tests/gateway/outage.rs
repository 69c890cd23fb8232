//! Redis dies, restarts empty, hangs, or loses an event.

use fred::interfaces::{ClientLike, KeysInterface, PubsubInterface, StreamsInterface};
use fred::types::CustomCommand;
use tokio_tungstenite::tungstenite::Error;

use crate::support::{Client, Gateway, QUERY, RedisServer, channel, doctor, http};

#[tokio::test]
async fn empty_redis_restart_sends_resync_then_resumes() {
    let mut redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut quiet, _) = Client::open(gateway.address, &QUERY.replace("pat456", "pat7"), &doctor()).await;
    redis.kill();
    assert_eq!(client.frame().await["type"], "degraded");
    let (status, ..) = http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status, 200, "an outage of redis takes no gateway out of the balancer");
    let Err(Error::Http(answer)) = Client::try_open(gateway.address, QUERY, &doctor()).await else {
        panic!("a handshake without Redis is refused over HTTP");
    };
    let body = String::from_utf8_lossy(answer.body().as_deref().unwrap()).into_owned();
    assert!(answer.status() == 503 && body.contains(r#""code":"relay_unavailable""#), "{body}");
    redis.restart_empty_after_kill();
    for client in [&mut client, &mut quiet] {
        assert_eq!(client.frame_beside("degraded").await["type"], "resync");
        assert_eq!(client.frame().await["type"], "recovered");
    }
    redis.publisher().await.message(&channel(), "contact:pat456", "after").await;
    assert_eq!(client.frame().await["message"]["content"], "after");
    assert_eq!(quiet.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test]
async fn unresponsive_redis_is_detected_and_events_are_backfilled() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    redis.freeze();
    assert_eq!(client.frame().await["type"], "degraded");
    // It waits in the socket of Redis and is published before the gateway has reconnected.
    let message = tokio::spawn(async move {
        publisher.message(&channel(), "contact:pat456", "missed").await;
        publisher
    });
    redis.thaw();
    let publisher = message.await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "recovered") || kinds.len() < 2 {
        kinds.push(client.frame().await["type"].as_str().unwrap().to_owned());
    }
    assert!(!kinds.contains(&"resync".to_owned()), "{kinds:?}");
    publisher.message(&channel(), "contact:pat456", "live").await;
    assert_eq!(client.frame().await["message"]["content"], "live");
}

#[tokio::test]
async fn reconciliation_finds_unpublished_event() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RECONCILE_INTERVAL_SECONDS", "1")]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    publisher.message(&channel(), "contact:pat456", "first").await;
    assert_eq!(client.frame().await["message"]["content"], "first");
    // In the log, but not published.
    let fields = vec![("t", "message"), ("h", ""), ("b", r#""message":{"content":"silent"}}"#)];
    let _: String = publisher.client.xadd(channel().log_key(), false, None::<()>, "*", fields).await.unwrap();
    assert_eq!(client.frame().await["message"]["content"], "silent");
}

#[tokio::test]
async fn gap_is_backfilled_before_next_event() {
    let redis = RedisServer::start();
    // Reconciliation will not run during this test.
    let gateway = Gateway::start(&redis, &[("RECONCILE_INTERVAL_SECONDS", "1800")]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    publisher.message(&channel(), "contact:pat456", "first").await;
    assert_eq!(client.frame().await["message"]["content"], "first");
    for n in 0..3 {
        let fields = vec![("t", "message"), ("h", ""), ("b", r#""message":{"content":"silent"}}"#)];
        let _: String = publisher.client.xadd(channel().log_key(), false, None::<()>, "*", fields).await.unwrap();
        publisher.message(&channel(), "contact:pat456", &n.to_string()).await;
        assert_eq!(client.frame().await["message"]["content"], "silent");
        assert_eq!(client.frame().await["message"]["content"], n.to_string());
    }
}

#[tokio::test]
async fn deleted_log_sends_resync() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RECONCILE_INTERVAL_SECONDS", "1800")]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    publisher.message(&channel(), "contact:pat456", "first").await;
    assert_eq!(client.frame().await["message"]["content"], "first");
    let _: i64 = publisher.client.del(channel().log_key()).await.unwrap();
    redis.next_millisecond().await; // In the same one, the new log would begin with the old one's id.
    publisher.message(&channel(), "contact:pat456", "after").await;
    assert_eq!(client.frame().await["type"], "resync");
    publisher.message(&channel(), "contact:pat456", "later").await;
    assert_eq!(client.frame().await["message"]["content"], "later");
}

#[tokio::test]
async fn ended_subscription_is_made_again() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let kill = CustomCommand::new_static("CLIENT", None::<u16>, false);
    let _: i64 = publisher.client.custom(kill, vec!["KILL", "TYPE", "pubsub"]).await.unwrap();
    publisher.message(&channel(), "contact:pat456", "meanwhile").await;
    assert_eq!(client.frame().await["type"], "degraded");
    assert_eq!(client.frame().await["message"]["content"], "meanwhile");
    assert_eq!(client.frame().await["type"], "recovered");
}

#[tokio::test]
async fn invalid_payload_is_ignored() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    for garbage in ["", "\n", "x\n{}", "1-1", "* nobody\n{}"] {
        let _: i64 = publisher.client.publish(channel().as_str(), garbage).await.unwrap();
    }
    publisher.message(&channel(), "contact:pat456", "good").await;
    assert_eq!(client.frame().await["message"]["content"], "good");
}
