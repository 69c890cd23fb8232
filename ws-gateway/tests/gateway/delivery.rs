//! Events reach the sockets of their conversation, complete and in order, and no other socket.

use serde_json::json;
use shared::contract::redis::keys::Channel;
use tokio::time::Instant;

use crate::support::{
    Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, conversation, doctor, patient, service, token_for,
};

#[tokio::test]
async fn ready_precedes_messages_on_both_sides() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut doctor, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
    assert_eq!(ready["conversation_id"], conversation("loc1", "doc123", "pat456").id().to_string());
    assert!(ready["resumed"].is_null());
    assert!(ready["cursor"].is_string());
    let (mut patient, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (mut watcher, _) = Client::open(gateway.address, QUERY, &service()).await;
    let (id, cursor) = publisher.message(&channel(), "contact:pat456", "Hello \"patient\"!\n").await;
    let message = json!({
        "type": "message", "cursor": cursor.to_string(), "message": {"id": id, "content": "Hello \"patient\"!\n"}
    });
    for client in [&mut doctor, &mut patient, &mut watcher] {
        assert_eq!(client.frame().await, message);
    }
}

#[tokio::test]
async fn socket_gets_no_frame_of_another_conversation() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let mut rooms = Vec::new();
    for location in ["loc1", "loc2"] {
        for user in ["a", "b", "c"] {
            // One contact has the id of a user.
            for contact in ["a", "x", "y"] {
                let query = format!("location_id={location}&user_id={user}&contact_id={contact}");
                let token = token_for(user, Some(shared::contract::participant::ParticipantKind::User), 3600);
                let (client, _) = Client::open(gateway.address, &query, &token).await;
                rooms.push((Channel::from(&conversation(location, user, contact)), client));
            }
        }
    }
    for round in 0..5 {
        for (channel, _) in &rooms {
            publisher.message(channel, "user:a", &format!("{} {round}", channel.as_str())).await;
        }
    }
    for (channel, client) in &mut rooms {
        for round in 0..5 {
            let frame = client.frame().await;
            assert_eq!(frame["message"]["content"], format!("{} {round}", channel.as_str()));
        }
        // The next frame is the reply, so no other frame was on its way.
        assert_eq!(client.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    }
}

/// All participants share the connection to Redis.
#[tokio::test]
async fn typing_limit_covers_all_sockets_of_participant() {
    const SOCKETS: usize = 60;
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[]).await;
    let publisher = redis.publisher().await;
    let (mut there, _) = Client::open(gateway.address, QUERY, &patient()).await;
    publisher.message(&channel(), "user:doc123", "they know each other").await;
    there.frame().await;
    let mut devices = Vec::new();
    for _ in 0..SOCKETS {
        devices.push(Client::open(gateway.address, QUERY, &doctor()).await.0);
    }
    let began = Instant::now();
    for device in &mut devices {
        device.send(r#"{"type":"typing"}"#).await;
    }
    for device in &mut devices {
        assert_eq!(device.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    }
    let passed_on = began.elapsed();
    // All accepted notices precede this message.
    publisher.message(&channel(), "user:doc123", "and now?").await;
    let mut received = 0;
    while there.frame().await["type"] == "typing" {
        received += 1;
    }
    let most = 21 + usize::try_from(passed_on.as_millis()).unwrap() * 5 / 1000;
    assert!((1..=most).contains(&received) && most < SOCKETS, "{received} of {most} in {passed_on:?}");
    assert!(gateway.metric(r#"ehr_chat_rate_limited_total{kind="typing"}"#).await >= SOCKETS - most);
}

#[tokio::test]
async fn typing_reaches_only_the_peer() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut here, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut own_other_device, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut there, _) = Client::open(gateway.address, QUERY, &patient()).await;
    redis.publisher().await.message(&channel(), "user:doc123", "they know each other").await;
    for socket in [&mut here, &mut own_other_device, &mut there] {
        assert_eq!(socket.frame().await["type"], "message");
    }
    // A socket passes on one notice per second.
    for _ in 0..3 {
        here.send(r#"{"type":"typing"}"#).await;
    }
    assert_eq!(there.frame().await, json!({"type": "typing", "user_id": "doc123"}));
    there.send(r#"{"type":"typing"}"#).await;
    let answer = json!({"type": "typing", "contact_id": "pat456"});
    assert_eq!(here.frame().await, answer);
    assert_eq!(own_other_device.frame().await, answer);
    assert_eq!(there.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}
