//! Resuming with a cursor, and connecting during a flood.

use serde_json::Value;
use shared::contract::event::Cursor;
use tokio::sync::watch;

use crate::support::{Client, Gateway, QUERY, RedisServer, channel, doctor};

#[tokio::test]
async fn valid_cursor_replays_events_before_live_ones() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (client, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
    drop(client);
    // More than one page of the log.
    for n in 0..1100 {
        publisher.message(&channel(), "contact:pat456", &n.to_string()).await;
    }
    let query = format!("{QUERY}&cursor={}", ready["cursor"].as_str().unwrap());
    let (mut client, resumed) = Client::open(gateway.address, &query, &doctor()).await;
    assert_eq!(resumed["resumed"], true);
    assert_eq!(resumed["cursor"], ready["cursor"]);
    publisher.message(&channel(), "contact:pat456", "1100").await;
    for n in 0..=1100 {
        assert_eq!(client.frame().await["message"]["content"], n.to_string());
    }
}

#[tokio::test]
async fn unknown_cursor_is_not_resumed() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let mut publisher = redis.publisher().await;
    publisher.entries = 3;
    // The first read of its end opens a log.
    Client::open(gateway.address, QUERY, &doctor()).await;
    let (_, forgotten) = publisher.message(&channel(), "contact:pat456", "0").await;
    let mut tail = forgotten;
    for n in 1..5 {
        tail = publisher.message(&channel(), "contact:pat456", &n.to_string()).await.1;
    }
    for cursor in [forgotten.to_string(), "1-1".to_owned(), format!("{}-0", u64::MAX)] {
        let query = format!("{QUERY}&cursor={cursor}");
        let (mut client, ready) = Client::open(gateway.address, &query, &doctor()).await;
        assert_eq!(ready["resumed"], false);
        assert_eq!(ready["cursor"], tail.to_string());
        assert_eq!(client.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_during_flood_keeps_events_complete_and_ordered() {
    const EVENTS: usize = 4000;
    const SOCKETS: usize = 60;
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("OUTBOUND_QUEUE_BYTES", "16777216")]).await;
    let publisher = redis.publisher().await;
    // The first read of its end opens a log.
    Client::open(gateway.address, QUERY, &doctor()).await;
    let (published, progress) = watch::channel(Vec::<Cursor>::new());
    let flood = tokio::spawn(async move {
        for n in 0..EVENTS {
            let (_, cursor) = publisher.message(&channel(), "contact:pat456", &n.to_string()).await;
            published.send_modify(|cursors| cursors.push(cursor));
        }
        published
    });

    let mut sockets = Vec::new();
    for n in 0..SOCKETS {
        // Spread over the flood, by its own progress.
        let mut progress = progress.clone();
        progress.wait_for(|cursors| cursors.len() >= n * EVENTS / SOCKETS).await.unwrap();
        let seen = progress.borrow().iter().rev().nth(50).copied();
        let query = match seen {
            Some(cursor) if n % 2 == 1 => format!("{QUERY}&cursor={cursor}"),
            _ => QUERY.to_owned(),
        };
        let address = gateway.address;
        sockets.push(tokio::spawn(async move {
            let (mut client, ready) = Client::open(address, &query, &doctor()).await;
            let last = (EVENTS - 1).to_string();
            let mut frames: Vec<Value> = Vec::new();
            while frames.last().is_none_or(|frame| frame["message"]["content"] != last) {
                frames.push(client.frame().await);
            }
            (ready, frames)
        }));
    }
    let published = flood.await.unwrap();
    let cursors = published.borrow().clone();
    for socket in sockets {
        let (ready, frames) = socket.await.unwrap();
        let from: Cursor = ready["cursor"].as_str().unwrap().parse().unwrap();
        let got: Vec<Cursor> = frames.iter().map(|frame| frame["cursor"].as_str().unwrap().parse().unwrap()).collect();
        let expected: Vec<Cursor> = cursors.iter().copied().filter(|cursor| *cursor > from).collect();
        assert_ne!(ready["resumed"], false);
        assert_eq!(got, expected);
    }
}
