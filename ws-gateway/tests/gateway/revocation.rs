//! Revoked tokens: they open nothing, and their sockets are closed.

use std::time::{Duration, Instant};

use fred::clients::Client as RedisClient;
use fred::interfaces::{KeysInterface, SortedSetsInterface};
use fred::types::scripts::Script;
use serde_json::{Value, json};
use shared::contract::participant::ParticipantKind;
use shared::contract::redis::keys::REVOCATIONS_KEY;
use shared::contract::redis::revocations;
use shared::contract::revocation::{Revocation, RevocationEntry};
use shared::contract::token::{Principal, Verifier};

use crate::support::{Client, Gateway, QUERY, RedisServer, SECRET, TEST_TIMEOUT, doctor, http, patient, token_for};

/// Later than any test runs.
const LATE: i64 = 4_000_000_000;

fn principal(token: &str) -> Principal {
    Verifier::from_secret(&SECRET.parse().unwrap()).verify(token).unwrap()
}

fn jti(token: &str) -> RevocationEntry {
    Revocation::Token { jti: principal(token).jti.unwrap(), expires_at: None }.entry(LATE)
}

/// Revokes as the API service does.
async fn revoke(redis: &RedisServer, revocation: &RevocationEntry) {
    redis.confirm_revocations().await.append([revocation.to_string()]).await;
}

/// Status, headers and `code` of a rejected handshake.
async fn handshake(gateway: &Gateway, token: &str) -> (u16, String, String) {
    let request = format!(
        "GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let (status, head, body) = http(gateway.address, &request).await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    (status, head.to_ascii_lowercase(), problem["code"].as_str().unwrap().to_owned())
}

async fn is_alive(client: &mut Client) -> bool {
    client.ask(r#"{"type":"ping"}"#).await["type"] == "pong"
}

#[tokio::test]
async fn revoked_token_loses_its_sockets_and_opens_no_other() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (gone, good) = (doctor(), doctor());
    let (mut first, _) = Client::open(gateway.address, QUERY, &gone).await;
    let elsewhere = QUERY.replace("pat456", "pat7");
    let (mut second, _) = Client::open(gateway.address, &elsewhere, &gone).await;
    let (mut other, _) = Client::open(gateway.address, QUERY, &good).await;
    let (mut patients, _) = Client::open(gateway.address, QUERY, &patient()).await;
    revoke(&redis, &jti(&gone)).await;
    let started_at = Instant::now();
    assert_eq!(first.closed().await, (4401, 0));
    assert_eq!(second.closed().await, (4401, 0));
    assert!(started_at.elapsed() < Duration::from_secs(1), "{:?}", started_at.elapsed());

    let (status, head, code) = handshake(&gateway, &gone).await;
    assert_eq!((status, code.as_str()), (401, "token_revoked"));
    assert!(head.contains("www-authenticate: bearer realm=\"ehr-chat\", error=\"invalid_token\""), "{head}");
    let answer = other.ask(&json!({"type": "auth", "token": gone}).to_string()).await;
    let detail = "The token was revoked. Sign in again.";
    assert_eq!(answer, json!({"type": "error", "code": "unauthorized", "cause": "token_revoked", "detail": detail}));
    assert!(is_alive(&mut other).await && is_alive(&mut patients).await);
}

#[tokio::test]
async fn subject_revocation_spares_newer_tokens() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (token, marker) = (doctor(), token_for("doc9", Some(ParticipantKind::User), 3600));
    let issued = principal(&token).issued_at.unwrap();
    let before = |issued_before| Revocation::Subject { sub: "doc123".parse().unwrap(), issued_before }.entry(LATE);
    let (mut client, _) = Client::open(gateway.address, QUERY, &token).await;
    let (mut last, _) = Client::open(gateway.address, &QUERY.replace("doc123", "doc9"), &marker).await;
    revoke(&redis, &before(issued)).await;
    revoke(&redis, &jti(&marker)).await;
    // When this socket is closed, so is the one before it.
    assert_eq!(last.closed().await.0, 4401);
    assert!(is_alive(&mut client).await);
    Client::open(gateway.address, QUERY, &token).await;
    revoke(&redis, &before(issued + 1)).await;
    assert_eq!(client.close_frame().await, (4401, "token_revoked".to_owned()));
    assert_eq!(handshake(&gateway, &token).await.0, 401);
}

#[tokio::test]
async fn socket_uses_its_newest_token() {
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
async fn redis_loss_restores_no_revoked_token() {
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
    // As many revocations as before, but not the same.
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
        assert_eq!(handshake(&gateway, token).await.2, "token_revoked");
    }
    Client::open(gateway.address, QUERY, &doctor()).await;
}

#[tokio::test]
async fn global_revocation_spares_newer_tokens() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (of_doctor, of_patient) = (doctor(), patient());
    let (mut at_doctor, _) = Client::open(gateway.address, QUERY, &of_doctor).await;
    let (mut at_patient, _) = Client::open(gateway.address, QUERY, &of_patient).await;
    let issued = principal(&of_doctor).issued_at.unwrap().max(principal(&of_patient).issued_at.unwrap());
    revoke(&redis, &Revocation::Everyone { issued_before: issued + 1 }.entry(LATE)).await;
    assert_eq!(at_doctor.closed().await.0, 4401);
    assert_eq!(at_patient.closed().await.0, 4401);
    assert_eq!(handshake(&gateway, &of_patient).await.2, "token_revoked");
}

async fn readiness(gateway: &Gateway) -> (u16, String, String) {
    http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await
}

async fn until_ready(gateway: &Gateway) {
    let ready = async {
        while readiness(gateway).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, ready).await.unwrap();
}

/// Waits until the gateway has polled Redis often enough.
async fn wait_for_polls(redis: &RedisServer) {
    let before = redis.calls("type").await;
    while redis.calls("type").await < before + 4 {
        tokio::task::yield_now().await;
    }
}

/// The gateway has polled, is not ready, and accepts no handshake.
async fn assert_not_ready(redis: &RedisServer, gateway: &Gateway, why: &str) {
    wait_for_polls(redis).await;
    let (status, _, body) = readiness(gateway).await;
    assert_eq!((status, body.contains("revoked")), (503, true), "{why}: {body}");
    let (status, head, code) = handshake(gateway, &doctor()).await;
    assert_eq!((status, code.as_str()), (503, "starting"), "{why}");
    assert!(head.contains("retry-after: 1"), "{why}: {head}");
}

#[tokio::test]
async fn empty_redis_keeps_gateway_unready() {
    let redis = RedisServer::start();
    let client = redis.client().await;
    let gateway = Gateway::start_unready(&redis, &[]);
    let token = doctor();
    assert_not_ready(&redis, &gateway, "empty").await;
    client.set::<(), _, _>(REVOCATIONS_KEY, "x", None, None, false).await.unwrap();
    assert_not_ready(&redis, &gateway, "a key of another kind").await;
    client.del::<(), _>(REVOCATIONS_KEY).await.unwrap();
    // A copy without its completion marker is incomplete.
    let members = vec![(1.0, jti(&token).to_string())];
    client.zadd::<(), _, _>(REVOCATIONS_KEY, None, None, false, false, members).await.unwrap();
    assert_not_ready(&redis, &gateway, "no marker").await;

    // More than two pages, with an invalid entry in them.
    let other = |n: i32| Revocation::Token { jti: n.to_string(), expires_at: None }.entry(LATE).to_string();
    client.del::<(), _>(REVOCATIONS_KEY).await.unwrap();
    let mut copy = redis.confirm_revocations().await;
    let members = (0..5000).map(other).chain([jti(&token).to_string(), "hunter2".to_owned()]);
    copy.append(members).await;
    until_ready(&gateway).await;
    // A gateway that accepts this handshake has read everything.
    let gateway = Gateway::start_unready(&redis, &[]);
    until_ready(&gateway).await;
    assert_eq!(handshake(&gateway, &token).await.2, "token_revoked");
    Client::open(gateway.address, QUERY, &doctor()).await;
}

/// The marker and its score.
async fn marker(client: &RedisClient) -> String {
    let markers: Vec<String> = client.zrangebyscore(REVOCATIONS_KEY, "-inf", "-inf", false, None).await.unwrap();
    assert_eq!(markers.len(), 1);
    markers[0].clone()
}

async fn replace_marker(client: &RedisClient, change: impl Fn(&mut Vec<String>)) {
    let old = marker(client).await;
    let mut words: Vec<String> = old.split(' ').map(str::to_owned).collect();
    change(&mut words);
    client.zrem::<(), _, _>(REVOCATIONS_KEY, old).await.unwrap();
    let members = vec![(f64::NEG_INFINITY, words.join(" "))];
    client.zadd::<(), _, _>(REVOCATIONS_KEY, None, None, false, false, members).await.unwrap();
}

// Fields of a marker: `m EPOCH POSITION STAMP COUNT RUN SINCE CONFIRMED`.
const RUN: usize = 5;
const SINCE: usize = 6;
const CONFIRMED: usize = 7;

#[tokio::test]
async fn incomplete_or_stale_revocation_copy_is_rejected() {
    let redis = RedisServer::start();
    let client = redis.client().await;
    let (gone, other) = (doctor(), doctor());
    let mut copy = redis.confirm_revocations().await;
    copy.append([jti(&gone).to_string(), jti(&other).to_string()]).await;
    let whole = marker(&client).await;
    let gateway = Gateway::start_unready(&redis, &[]);
    until_ready(&gateway).await;
    let shift = |word: &mut String, by: i64| *word = (word.parse::<i64>().unwrap() + by).to_string();
    let fresh = async |change: &dyn Fn(&mut Vec<String>), why: &str| {
        replace_marker(&client, |words| change(words)).await;
        let gateway = Gateway::start_unready(&redis, &[]);
        assert_not_ready(&redis, &gateway, why).await;
        replace_marker(&client, |words| *words = whole.split(' ').map(str::to_owned).collect()).await;
    };
    fresh(&|words| words[RUN] = "0".repeat(40), "another server, or the same that was started again").await;
    fresh(&|words| shift(&mut words[SINCE], 600_000), "written without contact to the database").await;
    fresh(&|words| shift(&mut words[CONFIRMED], -600_000), "of long ago").await;
    client.zrem::<(), _, _>(REVOCATIONS_KEY, jti(&gone).to_string()).await.unwrap();
    fresh(&|_| {}, "a member is missing").await;
    // A gateway that knew them keeps them, even if Redis loses them.
    client.del::<(), _>(REVOCATIONS_KEY).await.unwrap();
    wait_for_polls(&redis).await;
    assert_eq!(readiness(&gateway).await.0, 200);
    for token in [&gone, &other] {
        assert_eq!(handshake(&gateway, token).await.2, "token_revoked");
    }
}

#[tokio::test]
async fn one_revocation_transfers_one_entry() {
    let redis = RedisServer::start();
    let client = redis.client().await;
    let many = 20_000;
    let mut copy = redis.confirm_revocations().await;
    let other = |n: usize| Revocation::Token { jti: n.to_string(), expires_at: None }.entry(LATE).to_string();
    for first in (0..many).step_by(1_000) {
        copy.append((first..first + 1_000).map(other)).await;
    }
    let gateway = Gateway::start(&redis, &[]).await;
    let token = doctor();
    let (mut socket, _) = Client::open(gateway.address, QUERY, &token).await;
    let before = redis.sent_bytes().await;
    copy.append([jti(&token).to_string()]).await;
    assert_eq!(socket.closed().await.0, 4401);
    let moved = redis.sent_bytes().await - before;
    // All of them together are more than a megabyte.
    assert!(moved < 300_000, "{moved} bytes");

    let read = async |epoch: &str, score: &str| -> Vec<String> {
        let arguments = [epoch, score, "10", "1", "60000"].map(str::to_owned).to_vec();
        Script::from_lua(revocations::READ).evalsha_with_reload(&client, REVOCATIONS_KEY, arguments).await.unwrap()
    };
    let next = read(&copy.epoch, &many.to_string()).await;
    assert_eq!(next, [copy.epoch.as_str(), &jti(&token).to_string(), &(many + 1).to_string()]);
    assert_eq!(read("another", &many.to_string()).await.len(), 21, "from the beginning");
}
