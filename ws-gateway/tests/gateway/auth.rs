//! Tokens that expire or are replaced while a socket is open.

use serde_json::json;
use shared::contract::participant::ParticipantKind;

use crate::support::{Client, Gateway, QUERY, RedisServer, doctor, patient, token_for};

fn auth(token: &str) -> String {
    json!({"type": "auth", "token": token}).to_string()
}

#[tokio::test]
async fn token_expiry_is_announced_then_closes_with_4401() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) =
        Client::open(gateway.address, QUERY, &token_for("doc123", Some(ParticipantKind::User), 10)).await;
    let expiring = client.frame().await;
    assert_eq!(expiring["type"], "expiring");
    assert!(expiring["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(client.closed().await, (4401, 0));
}

#[tokio::test]
async fn new_token_keeps_socket_open() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) =
        Client::open(gateway.address, QUERY, &token_for("doc123", Some(ParticipantKind::User), 10)).await;
    let (mut other, _) =
        Client::open(gateway.address, QUERY, &token_for("doc123", Some(ParticipantKind::User), 10)).await;
    assert_eq!(client.frame().await["type"], "expiring");
    let answer = client.ask(&auth(&doctor())).await;
    assert_eq!(answer["type"], "authenticated");
    assert!(answer["expires_at"].is_string());
    // The other socket keeps its token and is closed. This one stays open.
    assert_eq!(other.closed().await.0, 4401);
    assert_eq!(client.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test]
async fn foreign_or_invalid_token_changes_nothing() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) =
        Client::open(gateway.address, QUERY, &token_for("doc123", Some(ParticipantKind::User), 10)).await;
    assert_eq!(client.frame().await["type"], "expiring");
    assert_eq!(client.ask(&auth(&patient())).await["code"], "forbidden");
    assert_eq!(client.ask(&auth("a.b.c")).await["cause"], "token_malformed");
    assert_eq!(client.ask(&auth(&token_for("doc123", Some(ParticipantKind::User), 0))).await["cause"], "token_expired");
    assert_eq!(client.close_frame().await, (4401, "token_expired".to_owned()));
}
