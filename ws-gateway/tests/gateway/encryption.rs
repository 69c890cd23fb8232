//! Sealed events: clients receive the same frames as without sealing, or a `resync`.

use fred::interfaces::{ClientLike, StreamsInterface};
use fred::types::CustomCommand;
use shared::contract::event::relay_keys::RelayKeys;

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, doctor, patient};

const NEW: &str = "new:bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";
const OLD: &str = "old:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";
const BOTH: &str = "new:bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=,old:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";

fn keys(list: &str) -> RelayKeys {
    RelayKeys::new(&list.parse().unwrap())
}

#[tokio::test]
async fn sealed_events_are_delivered_and_unreadable_in_redis() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RELAY_KEYS", BOTH)]).await;
    let mut publisher = redis.publisher().await;
    let (mut client, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
    let texts = ["sealed with the old key ☃", "sealed with the new key \u{1}", "not sealed"];
    let mut cursors = Vec::new();
    for (text, key) in texts.into_iter().zip([Some(OLD), Some(NEW), None]) {
        publisher.relay_keys = key.map(keys).unwrap_or_default();
        cursors.push(publisher.message(&channel(), "contact:pat456", text).await.1.to_string());
    }
    let mut live = Vec::new();
    for (text, cursor) in texts.iter().zip(&cursors) {
        let frame = client.frame().await;
        assert_eq!((&frame["message"]["content"], &frame["cursor"]), (&(*text).into(), &cursor.as_str().into()));
        live.push(frame);
    }
    let query = format!("{QUERY}&cursor={}", ready["cursor"].as_str().unwrap());
    let (mut client, resumed) = Client::open(gateway.address, &query, &doctor()).await;
    assert_eq!(resumed["resumed"], true);
    for frame in live {
        assert_eq!(client.frame().await, frame);
    }
    let dump: fred::types::Value = publisher
        .client
        .custom(CustomCommand::new_static("DUMP", None::<u16>, false), vec![channel().log_key()])
        .await
        .unwrap();
    let dump = String::from_utf8_lossy(dump.as_bytes().unwrap()).into_owned();
    assert!(dump.contains("not sealed") && !dump.contains("the old key") && !dump.contains("the new key"));
}

#[tokio::test]
async fn sealed_event_is_acknowledged_by_recipient() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RELAY_KEYS", NEW)]).await;
    let mut publisher = redis.publisher().await;
    publisher.relay_keys = keys(NEW);
    let (mut client, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (id, _) = publisher.message(&channel(), "contact:pat456", "hello").await;
    assert_eq!(client.frame().await["message"]["id"], id.to_string());
    let _pong = client.ask(r#"{"type":"ping"}"#).await;
    assert_eq!(publisher.receipts(1).await[0].message_ids, [id]);
}

#[tokio::test]
async fn undecryptable_event_sends_resync_and_no_frame() {
    let redis = RedisServer::start();
    for (settings, cause) in [
        (&[][..], "unknown_key"),
        (&[("RELAY_KEYS", OLD)], "unknown_key"),
        (&[("RELAY_KEYS", "new:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=")], "refused"),
    ] {
        let gateway = GatewayProcess::start(&redis, settings).await;
        let mut publisher = redis.publisher().await;
        let (mut client, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
        publisher.relay_keys = keys(NEW);
        publisher.message(&channel(), "contact:pat456", "sealed").await;
        assert_eq!(client.frame().await["type"], "resync");
        // Other conversations are not affected.
        publisher.relay_keys = RelayKeys::default();
        publisher.message(&channel(), "contact:pat456", "plain").await;
        assert_eq!(client.frame().await["message"]["content"], "plain");
        let query = format!("{QUERY}&cursor={}", ready["cursor"].as_str().unwrap());
        let (_, resumed) = Client::open(gateway.address, &query, &doctor()).await;
        assert_eq!(resumed["resumed"], false);
        let metric = format!("ehr_chat_gateway_event_decrypt_failures_total{{cause=\"{cause}\"}}");
        assert!(
            gateway.metric(&metric).await >= 3,
            "{metric}: live, the room's look into the log, and the one who came back"
        );
    }
}

#[tokio::test]
async fn log_entry_moved_to_another_message_is_rejected() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RELAY_KEYS", NEW), ("RECONCILE_INTERVAL_SECONDS", "1")]).await;
    let mut publisher = redis.publisher().await;
    publisher.relay_keys = keys(NEW);
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    publisher.message(&channel(), "contact:pat456", "mine").await;
    assert_eq!(client.frame().await["message"]["content"], "mine");
    let entries: Vec<(String, std::collections::HashMap<String, fred::types::Value>)> =
        publisher.client.xrange_values(channel().log_key(), "-", "+", None).await.unwrap();
    let fields = &entries.last().unwrap().1;
    let moved: Vec<(&str, fred::types::Value)> = vec![
        ("s", "2".into()),
        ("t", "message".into()),
        ("h", format!("contact:pat456 {}", uuid::Uuid::now_v7()).into()),
        ("b", fields["b"].clone()),
    ];
    let _: String = publisher.client.xadd(channel().log_key(), false, None::<()>, "*", moved).await.unwrap();
    assert_eq!(client.frame().await["type"], "resync");
}

#[tokio::test]
async fn unsealed_event_is_rejected_when_sealing_is_required() {
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[("RELAY_KEYS", NEW), ("RELAY_UNSEALED", "refuse")]).await;
    let mut publisher = redis.publisher().await;
    let (mut client, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
    publisher.message(&channel(), "contact:pat456", "forged").await;
    assert_eq!(client.frame().await["type"], "resync");
    publisher.relay_keys = keys(NEW);
    publisher.message(&channel(), "contact:pat456", "genuine").await;
    assert_eq!(client.frame().await["message"]["content"], "genuine");
    let query = format!("{QUERY}&cursor={}", ready["cursor"].as_str().unwrap());
    let (_, resumed) = Client::open(gateway.address, &query, &doctor()).await;
    assert_eq!(resumed["resumed"], false, "nor from the log");
    assert!(gateway.metric("ehr_chat_gateway_event_decrypt_failures_total{cause=\"unsealed\"}").await >= 2);
}
