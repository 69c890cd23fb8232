//! Tickets: each opens one socket, once, with the lifetime of its token.

use bytes::Bytes;
use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use shared::contract::participant::ParticipantKind;
use shared::contract::redis::keys;
use shared::contract::revocation::Revocation;
use shared::contract::ticket::{self, Ticket};
use shared::contract::token::Verifier;

use crate::support::{Client, Gateway, QUERY, RedisServer, SECRET, doctor, http, token_for};

/// Issues a ticket as the API service does.
async fn ticket_for(redis: &RedisServer, token: &str) -> String {
    let ticket = Ticket::new().unwrap();
    let (key, kept) = (keys::ticket_key(&ticket), Bytes::from(ticket::seal_token(&ticket, token).unwrap()));
    redis.client().await.set::<(), _, _>(key, kept, Some(Expiration::EX(30)), None, false).await.unwrap();
    ticket.expose().to_owned()
}

/// The status of a handshake with a ticket only.
async fn handshake(gateway: &Gateway, query: &str, ticket: &str) -> u16 {
    let (status, head, _) = answer(gateway, query, ticket).await;
    assert!(!head.contains(ticket));
    status
}

async fn answer(gateway: &Gateway, query: &str, ticket: &str) -> (u16, String, String) {
    let request = format!(
        "GET /ws?{query}&ticket={ticket} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    http(gateway.address, &request).await
}

#[tokio::test]
async fn ticket_opens_one_socket_with_the_tokens_lifetime() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let ticket = ticket_for(&redis, &token_for("doc123", Some(ParticipantKind::User), 3)).await;
    let query = format!("{QUERY}&ticket={ticket}");
    let mut client = Client::ticketed(gateway.address, &query).await.unwrap();
    assert_eq!(client.frame().await["type"], "ready");
    assert_eq!(handshake(&gateway, QUERY, &ticket).await, 401, "it was used");
    assert_eq!(client.closed().await.0, 4401);
}

#[tokio::test]
async fn one_of_twenty_concurrent_uses_of_ticket_succeeds() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let ticket = ticket_for(&redis, &doctor()).await;
    let query = format!("{QUERY}&ticket={ticket}");
    let handshakes: Vec<_> = (0..20)
        .map(|_| {
            let (address, query) = (gateway.address, query.clone());
            tokio::spawn(async move { Client::ticketed(address, &query).await })
        })
        .collect();
    let mut open = Vec::new();
    for handshake in handshakes {
        match handshake.await.unwrap() {
            Ok(client) => open.push(client),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 401),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].frame().await["type"], "ready");
}

#[tokio::test]
async fn ticket_has_no_more_rights_than_its_token() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let stranger = ticket_for(&redis, &token_for("doc9", Some(ParticipantKind::User), 60)).await;
    assert_eq!(handshake(&gateway, QUERY, &stranger).await, 403);
    assert_eq!(handshake(&gateway, &QUERY.replace("doc123", "doc9"), &stranger).await, 401, "it is spent");
    let elsewhere = ticket_for(&redis, &doctor()).await;
    assert_eq!(handshake(&gateway, &QUERY.replace("loc1", "loc9"), &elsewhere).await, 403);
    assert_eq!(handshake(&gateway, QUERY, Ticket::new().unwrap().expose()).await, 401, "it was never issued");

    let token = doctor();
    let revoked = ticket_for(&redis, &token).await;
    let jti = Verifier::from_secret(&SECRET.parse().unwrap()).verify(&token).unwrap().jti.unwrap();
    let revocation = Revocation::Token { jti, expires_at: None }.entry(i64::MAX);
    redis.confirm_revocations().await.append([revocation.to_string()]).await;
    let by_header = || async {
        let request = format!(
            "GET /ws?{} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n",
            QUERY.replace("loc1", "loc9")
        );
        http(gateway.address, &request).await.0
    };
    while by_header().await != 401 {
        tokio::task::yield_now().await;
    }
    let (status, _, body) = answer(&gateway, QUERY, &revoked).await;
    assert!(status == 401 && body.contains(r#""code":"token_revoked""#), "{status} {body}");
}

#[tokio::test]
async fn ticket_gets_503_without_redis() {
    let mut redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    redis.kill();
    let (status, _, body) = answer(&gateway, QUERY, Ticket::new().unwrap().expose()).await;
    assert!(status == 503 && body.contains(r#""code":"tickets_unavailable""#), "{status} {body}");
}
