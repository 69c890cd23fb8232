//! Event logs: what opens them, how long they live, and how much of them one participant may replay.

use std::net::SocketAddr;
use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface, StreamsInterface};
use fred::types::CustomCommand;
use serde_json::Value;
use shared::contract::event::publish_batch::PublishMode;
use shared::contract::event::{OutgoingEvent, Recipient};
use tokio::net::TcpSocket;
use uuid::Uuid;

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, TEST_TIMEOUT, channel, doctor, patient};

const ONE_HOUR: i64 = 3600;
const TWO_MINUTES: i64 = 120;

/// A cursor of the conversation, from a socket that is closed again.
async fn cursor(address: SocketAddr) -> String {
    let (_closed_at_once, ready) = Client::open(address, QUERY, &doctor()).await;
    ready["cursor"].as_str().unwrap().to_owned()
}

async fn resume(address: SocketAddr, cursor: &str) -> (Client, Value) {
    Client::open(address, &format!("{QUERY}&cursor={cursor}"), &doctor()).await
}

#[tokio::test]
async fn empty_logs_of_invented_peers_are_small_and_expire() {
    const HANDSHAKES: usize = 300;
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("HANDSHAKES_PER_PARTICIPANT_PER_SECOND", "0")]).await;
    for n in 0..HANDSHAKES {
        let query = format!("location_id=loc1&user_id=doc123&contact_id=invented{n}");
        Client::open(gateway.address, &query, &doctor()).await;
    }
    let client = redis.client().await;
    let keys = CustomCommand::new_static("KEYS", None::<u16>, false);
    let logs: Vec<String> = client.custom(keys, vec!["chat:*"]).await.unwrap();
    assert_eq!(logs.len(), HANDSHAKES);
    for log in logs {
        let life: i64 = client.ttl(&*log).await.unwrap();
        assert!((1..=TWO_MINUTES).contains(&life), "{log} lives {life} s");
        let memory = CustomCommand::new_static("MEMORY", None::<u16>, false);
        let bytes: u64 = client.custom(memory, vec!["USAGE", &log]).await.unwrap();
        assert!(bytes < 600, "{log} takes {bytes} bytes");
    }
}

#[tokio::test]
async fn cursor_of_empty_log_stays_valid_after_first_event() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let seen = cursor(gateway.address).await;
    let (client, ready) = resume(gateway.address, &seen).await;
    assert_eq!((&ready["resumed"], &ready["cursor"]), (&true.into(), &seen.clone().into()), "nothing has happened");
    drop(client);
    let life: i64 = publisher.client.ttl(channel().log_key()).await.unwrap();
    assert!(life <= TWO_MINUTES, "{life}");
    // The event is kept whether or not Redis knows that the socket has closed.
    publisher.message(&channel(), "contact:pat456", "first").await;
    publisher.message(&channel(), "contact:pat456", "second").await;
    let life: i64 = publisher.client.ttl(channel().log_key()).await.unwrap();
    assert!(life > ONE_HOUR - 15, "a log with an event lives {life} s");
    let (mut client, ready) = resume(gateway.address, &seen).await;
    assert_eq!(ready["resumed"], true);
    assert_eq!(client.frame().await["message"]["content"], "first");
    assert_eq!(client.frame().await["message"]["content"], "second");
}

/// After a crash the relay publishes again what may have been published.
#[tokio::test]
async fn repeated_event_is_appended_once_beside_foreign_entry() {
    let redis = RedisServer::start();
    let publisher = redis.publisher().await;
    let log = channel().log_key();
    let event = |text: &str| {
        let recipient = Recipient { participant: "contact:pat456".parse().unwrap(), message_id: Uuid::now_v7() };
        OutgoingEvent::message(&serde_json::json!({ "content": text }).to_string(), recipient, 0)
    };
    let [first, second, third] = ["first", "second", "third"].map(event);
    let _: String = publisher.client.xadd(&log, false, None::<()>, "*", vec![("by", "hand")]).await.unwrap();
    publisher.publish(&channel(), &[&first], PublishMode::Force).await;
    // Those that the log holds, those that this call appends, and new ones.
    let again = [&first, &second, &second, &third, &first];
    let cursors = publisher.publish(&channel(), &again, PublishMode::Deduplicate).await;
    let is_appended: Vec<bool> = cursors.iter().map(|cursor| !cursor.is_empty()).collect();
    assert_eq!(is_appended, [false, true, false, true, false]);
    assert_eq!(publisher.client.xlen::<usize, _>(&log).await.unwrap(), 4);
    // One read of the newest entry for each event, and one of the whole log for a call.
    assert_eq!(redis.calls("xrevrange").await, 1 + again.len() as u64 + 1);
}

#[tokio::test]
async fn event_without_subscribers_is_kept_for_open_log() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let seen = cursor(gateway.address).await;
    // The gateway's subscription ends with it.
    gateway.shutdown.begin();
    gateway.running.await.unwrap().unwrap();
    redis.publisher().await.message(&channel(), "contact:pat456", "unsubscribed").await;
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, ready) = resume(gateway.address, &seen).await;
    assert_eq!(ready["resumed"], true);
    assert_eq!(client.frame().await["message"]["content"], "unsubscribed");
}

#[tokio::test]
async fn cursor_of_expired_empty_log_is_rejected() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let client = redis.client().await;
    let seen = cursor(gateway.address).await;
    for refill in [false, true] {
        let _: i64 = client.del(channel().log_key()).await.unwrap();
        redis.next_millisecond().await;
        if refill {
            // Another empty log of the same conversation.
            cursor(gateway.address).await;
        }
        let (_client, ready) = resume(gateway.address, &seen).await;
        assert_eq!(ready["resumed"], false, "refilled: {refill}");
        assert_ne!(ready["cursor"], seen);
    }
}

#[tokio::test]
async fn empty_log_lives_while_socket_is_open() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RECONCILE_INTERVAL_SECONDS", "1")]).await;
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let _: bool = publisher.client.expire(channel().log_key(), 60, None).await.unwrap();
    let prolonged = async {
        while publisher.client.ttl::<i64, _>(channel().log_key()).await.unwrap() <= 60 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, prolonged).await.unwrap();
    publisher.message(&channel(), "contact:pat456", "first").await;
    assert_eq!(client.frame().await["message"]["content"], "first", "neither a resync nor anything else before it");
}

#[tokio::test]
async fn replay_is_bounded_per_queue_and_per_participant() {
    const SOCKETS: usize = 20;
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let seen = cursor(gateway.address).await;
    let text = "x".repeat(45_000);
    let mut half = String::new();
    for n in 0..40 {
        let (_, cursor) = publisher.message(&channel(), "contact:pat456", &text).await;
        if n == 19 {
            half = cursor.to_string();
        }
    }
    // 1.8 MB, but a socket's queue holds 1 MiB.
    let (_client, ready) = resume(gateway.address, &seen).await;
    assert_eq!(ready["resumed"], false);
    // 900 KB per socket, and none of them reads. One participant may have eight queues of replays.
    let (mut stuck, mut replays) = (Vec::new(), 0);
    for _ in 0..SOCKETS {
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(4096).unwrap();
        let tcp = tcp.connect(gateway.address).await.unwrap();
        let mut client = Client::over(tcp, &format!("{QUERY}&cursor={half}"), &doctor()).await.unwrap();
        replays += usize::from(client.frame().await["resumed"] == true);
        stuck.push(client);
    }
    assert!((8..=10).contains(&replays), "{replays} of {SOCKETS}");
    assert_eq!(gateway.metric("ehr_chat_gateway_replays_too_large_total").await, SOCKETS - replays);
    let (_other, ready) = Client::open(gateway.address, &format!("{QUERY}&cursor={half}"), &patient()).await;
    assert_eq!(ready["resumed"], true, "other participants are not affected");
    drop(stuck);
    let freed = async {
        while resume(gateway.address, &half).await.1["resumed"] != true {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, freed).await.unwrap();
}

#[tokio::test]
async fn emptied_or_foreign_log_accepts_new_events() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("RECONCILE_INTERVAL_SECONDS", "1")]).await;
    let publisher = redis.publisher().await;
    let command = async |words: &[&str]| -> fred::types::Value {
        let name = CustomCommand::new(words[0].to_owned(), None::<u16>, false);
        publisher
            .client
            .custom(name, words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
            .await
            .unwrap()
    };
    let log = channel().log_key();
    for is_emptied in [true, false] {
        if is_emptied {
            // The last entry is kept, so that later ids are higher.
            cursor(gateway.address).await;
            let (_, deleted) = publisher.message(&channel(), "contact:pat456", "deleted").await;
            let all: Vec<String> = ids_of_entries(&publisher.client, &log).await;
            assert!(all.contains(&deleted.to_string()), "{all:?}");
            command(&[&["XDEL", &log][..], &all.iter().map(String::as_str).collect::<Vec<_>>()].concat()).await;
        } else {
            command(&["DEL", &log]).await;
            command(&["XGROUP", "CREATE", &log, "group", "0", "MKSTREAM"]).await;
        }
        let (_, first) = publisher.message(&channel(), "contact:pat456", "first").await;
        publisher.message(&channel(), "contact:pat456", "second").await;
        let life: i64 = publisher.client.ttl(&log).await.unwrap();
        assert!(life > ONE_HOUR - 15, "emptied: {is_emptied}: it lives {life} s");
        let (mut client, ready) = resume(gateway.address, &first.to_string()).await;
        assert_eq!(ready["resumed"], true, "emptied: {is_emptied}");
        assert_eq!(client.frame().await["message"]["content"], "second");
    }
}

/// The ids of all entries of a log.
async fn ids_of_entries(client: &fred::clients::Client, log: &str) -> Vec<String> {
    use fred::interfaces::StreamsInterface;
    type Entries = Vec<(String, std::collections::HashMap<String, String>)>;
    let entries: Entries = client.xrange_values(log, "-", "+", None).await.unwrap();
    entries.into_iter().map(|(id, _)| id).collect()
}
