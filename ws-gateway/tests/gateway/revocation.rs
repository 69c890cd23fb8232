//! Tokens that are taken back: refused at every door, and their sockets closed.

use std::time::{Duration, Instant};

use fred::interfaces::{HashesInterface, KeysInterface};
use serde_json::{Value, json};
use shared::channel::REVOKED;
use shared::participant::Kind;
use shared::revocation::Revocation;
use shared::token::{Principal, Verifier};

use crate::support::{Client, Gateway, PATIENCE, QUERY, RedisServer, SECRET, doctor, http, patient, token_for};

fn principal(token: &str) -> Principal {
    Verifier::of_secret(&SECRET.parse().unwrap()).verify(token).unwrap()
}

fn jti(token: &str) -> Revocation {
    Revocation::Token { jti: principal(token).jti.unwrap() }
}

/// As the API service does it.
async fn revoke(redis: &RedisServer, revocation: &Revocation) {
    let field = serde_json::to_string(revocation).unwrap();
    redis.client().await.hset::<(), _, _>(REVOKED, (field, "")).await.unwrap();
}

/// Status, head and `detail` of a handshake that is refused.
async fn handshake(gateway: &Gateway, token: &str) -> (u16, String, String) {
    let request = format!(
        "GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let (status, head, body) = http(gateway.address, &request).await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    (status, head.to_ascii_lowercase(), problem["detail"].as_str().unwrap().to_owned())
}

async fn is_alive(client: &mut Client) -> bool {
    client.ask(r#"{"type":"ping"}"#).await["type"] == "pong"
}

#[tokio::test]
async fn a_token_that_is_taken_back_loses_its_sockets_and_opens_no_other() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (gone, good) = (doctor(), doctor());
    let (mut first, _) = Client::open(gateway.address, QUERY, &gone).await;
    let elsewhere = QUERY.replace("pat456", "pat7");
    let (mut second, _) = Client::open(gateway.address, &elsewhere, &gone).await;
    let (mut other, _) = Client::open(gateway.address, QUERY, &good).await;
    let (mut patients, _) = Client::open(gateway.address, QUERY, &patient()).await;
    revoke(&redis, &jti(&gone)).await;
    let told = Instant::now();
    assert_eq!(first.closed().await, (4401, 0));
    assert_eq!(second.closed().await, (4401, 0));
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());

    let (status, head, detail) = handshake(&gateway, &gone).await;
    assert_eq!((status, detail.as_str()), (401, "token has been revoked"));
    assert!(head.contains("www-authenticate: bearer realm=\"chat\", error=\"invalid_token\""), "{head}");
    let answer = other.ask(&json!({"type": "auth", "token": gone}).to_string()).await;
    assert_eq!(answer, json!({"type": "error", "code": "unauthorized", "detail": "token has been revoked"}));
    assert!(is_alive(&mut other).await && is_alive(&mut patients).await);
}

#[tokio::test]
async fn a_subjects_tokens_are_taken_back_up_to_a_moment_and_newer_ones_are_spared() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (token, marker) = (doctor(), token_for("doc9", Some(Kind::User), 3600));
    let issued = principal(&token).issued_at.unwrap();
    let before = |issued_before| Revocation::Subject { sub: "doc123".parse().unwrap(), issued_before };
    let (mut client, _) = Client::open(gateway.address, QUERY, &token).await;
    let (mut last, _) = Client::open(gateway.address, &QUERY.replace("doc123", "doc9"), &marker).await;
    revoke(&redis, &before(issued)).await;
    revoke(&redis, &jti(&marker)).await;
    // When this is done, so is the one before it.
    assert_eq!(last.closed().await.0, 4401);
    assert!(is_alive(&mut client).await);
    Client::open(gateway.address, QUERY, &token).await;
    revoke(&redis, &before(issued + 1)).await;
    assert_eq!(client.closed().await.0, 4401);
    assert_eq!(handshake(&gateway, &token).await.0, 401);
}

#[tokio::test]
async fn a_socket_lives_by_its_newest_token() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (old, new) = (doctor(), doctor());
    let (mut renewed, _) = Client::open(gateway.address, QUERY, &old).await;
    let (mut other, _) = Client::open(gateway.address, QUERY, &old).await;
    let answer = renewed.ask(&json!({"type": "auth", "token": new}).to_string()).await;
    assert_eq!(answer["type"], "authenticated");
    revoke(&redis, &jti(&old)).await;
    assert_eq!(other.closed().await.0, 4401);
    assert!(is_alive(&mut renewed).await);
    revoke(&redis, &jti(&new)).await;
    assert_eq!(renewed.closed().await.0, 4401);
}

#[tokio::test]
async fn a_redis_that_dies_or_restarts_empty_gives_no_token_back() {
    let mut redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (gone, next) = (doctor(), doctor());
    let (mut client, _) = Client::open(gateway.address, QUERY, &gone).await;
    let (mut other, _) = Client::open(gateway.address, QUERY, &next).await;
    revoke(&redis, &jti(&gone)).await;
    assert_eq!(client.closed().await.0, 4401);
    redis.kill();
    assert_eq!(handshake(&gateway, &gone).await.0, 401);
    redis.restart_empty_after_kill();
    // As many as before, and not the same.
    revoke(&redis, &jti(&next)).await;
    loop {
        match other.message().await {
            Some(Ok(tokio_tungstenite::tungstenite::Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 4401);
                break;
            }
            Some(Ok(_)) => {}
            ended => panic!("{ended:?}"),
        }
    }
    for token in [&gone, &next] {
        assert_eq!(handshake(&gateway, token).await.2, "token has been revoked");
    }
    Client::open(gateway.address, QUERY, &doctor()).await;
}

#[tokio::test]
async fn nobody_is_let_in_before_all_revocations_are_read() {
    let redis = RedisServer::start();
    let client = redis.client().await;
    // It cannot be read, while everything else works.
    client.set::<(), _, _>(REVOKED, "x", None, None, false).await.unwrap();
    let gateway = Gateway::start_unready(&redis, &[]);
    let token = doctor();
    let readiness = async || http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    while !readiness().await.2.contains("revoked") {
        tokio::task::yield_now().await;
    }
    let (status, head, _) = handshake(&gateway, &token).await;
    assert_eq!(status, 503);
    assert!(head.contains("retry-after: 1"), "{head}");

    // More than one page, with something in it that means nothing.
    let mut fields: Vec<(String, &str)> = (0..5000).map(|n| (format!(r#"{{"jti":"{n}"}}"#), "")).collect();
    fields.push((serde_json::to_string(&jti(&token)).unwrap(), ""));
    fields.push(("hunter2".to_owned(), ""));
    let pipeline = client.pipeline();
    let _: () = pipeline.del(REVOKED).await.unwrap();
    let _: () = pipeline.hset(REVOKED, fields).await.unwrap();
    let _: Vec<i64> = pipeline.all().await.unwrap();
    let ready = async {
        while readiness().await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    assert_eq!(handshake(&gateway, &token).await.2, "token has been revoked");
    Client::open(gateway.address, QUERY, &doctor()).await;
}
