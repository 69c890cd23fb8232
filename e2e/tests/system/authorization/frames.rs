//! The handshake, and the frames that `asyncapi.yaml` lets clients send.

use std::collections::BTreeSet;

use e2e::token;
use reqwest::Method;
use serde_json::{Value, json};

use super::World;
use crate::bad_handshakes::handshake;

/// Frames that are attacked below, each in a test of its own.
const ATTACKED: [&str; 4] = ["typing", "delivered", "read", "auth"];
/// Frames that ask for nothing.
const HARMLESS: [&str; 1] = ["ping"];

#[tokio::test]
async fn every_client_frame_is_covered() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../asyncapi.yaml");
    let document: Value = yaml_serde::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let operations = document["operations"].as_object().unwrap().values();
    let from_clients = operations.filter(|operation| operation["action"] == "receive");
    let names: BTreeSet<String> = from_clients
        .flat_map(|operation| operation["messages"].as_array().unwrap())
        .map(|message| {
            let channel = message["$ref"].as_str().unwrap().trim_start_matches('#');
            let message = &document.pointer(channel).unwrap()["$ref"].as_str().unwrap()[1..];
            let payload = &document.pointer(message).unwrap()["payload"]["$ref"].as_str().unwrap()[1..];
            document.pointer(payload).unwrap()["properties"]["type"]["const"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ATTACKED.into_iter().chain(HARMLESS).map(str::to_owned).collect());
}

#[tokio::test]
async fn unauthorized_principal_opens_no_socket() {
    let world = World::new().await;
    let queries = [world.doctor.with(&world.patient), world.doctor.inbox_query(), world.patient.inbox_query()];
    for (participant, stranger) in world.strangers() {
        for query in &queries {
            let bearer = format!("Bearer {}", stranger.token);
            let answer = handshake(&world.place, query, &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, 403, "{participant}: {answer:?}");
            let _problem = answer.expect_problem(403);
            world.assert_tells_nothing(participant, &answer.text);
            let asked = stranger.request(Method::POST, "/chat/ws-ticket");
            let given = world.place.ask(asked).await.expect_status(200);
            let ticket = given["ticket"].as_str().unwrap();
            let answer = handshake(&world.place, &format!("{query}&ticket={ticket}"), &[]).await;
            let _problem = answer.expect_problem(403);
            world.assert_tells_nothing(participant, &answer.text);
        }
    }
    for (kind, bad) in world.bad_tokens().await {
        for header in
            [("authorization", format!("Bearer {bad}")), ("sec-websocket-protocol", format!("chat.v1, bearer.{bad}"))]
        {
            for query in &queries {
                let answer = handshake(&world.place, query, &[(header.0, &header.1)]).await;
                assert_eq!(answer.status, 401, "a token {kind}: {answer:?}");
                let _problem = answer.expect_problem(401);
            }
        }
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn foreign_receipts_mark_nothing() {
    let world = World::new().await;
    let (colleague, other) = (world.place.user("other"), world.place.contact("other"));
    let own = colleague.send_ok(&other, "to be marked").await;
    let mut hears = colleague.open(&other).await;
    let marks = other.open(&colleague).await;
    for kind in ["delivered", "read"] {
        // One frame, so that what is marked of it tells that all of it has been looked at.
        marks.send(&json!({"type": kind, "message_ids": [world.message["id"], own["id"]]}));
        let frame = hears.expect(kind).await;
        assert_eq!(frame["message_ids"], json!([own["id"]]));
    }
    // Nor does a sender mark what it has sent itself.
    let mut patient = world.patient.open(&world.doctor).await;
    let sender = world.doctor.open(&world.patient).await;
    let answer = world.patient.send_ok(&world.doctor, "an answer").await;
    sender.send(&json!({"type": "read", "message_ids": [world.message["id"], answer["id"]]}));
    assert_eq!(patient.expect("read").await["message_ids"], json!([answer["id"]]));
    assert_eq!(world.doctor.messages(&world.patient).await[0]["read_at"], Value::Null);
}

#[tokio::test]
async fn service_socket_cannot_send_frames_for_participant() {
    let world = World::new().await;
    let mut watcher = world.place.service().open_at(&world.doctor.with(&world.patient)).await;
    watcher.expect("ready").await;
    let ids = json!([world.message["id"]]);
    for frame in [
        json!({"type": "typing"}),
        json!({"type": "read", "message_ids": ids}),
        json!({"type": "delivered", "message_ids": ids}),
    ] {
        watcher.send(&frame);
        let error = watcher.expect("error").await;
        assert_eq!(error["code"], "forbidden", "{frame}: {error}");
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn foreign_token_cannot_renew_socket() {
    let world = World::new().await;
    let mut socket = world.doctor.open(&world.patient).await;
    let mut strangers = world.strangers();
    strangers.push(("the patient", world.patient.clone()));
    strangers.push(("a service", world.place.service()));
    for (participant, stranger) in strangers {
        socket.send(&json!({"type": "auth", "token": stranger.token}));
        let error = socket.expect("error").await;
        assert_eq!(error["code"], "forbidden", "{participant}: {error}");
    }
    for (kind, bad) in world.bad_tokens().await {
        socket.send(&json!({"type": "auth", "token": bad}));
        let error = socket.expect("error").await;
        assert_eq!(error["code"], "unauthorized", "a token {kind}: {error}");
        assert!(error["cause"].as_str().is_some_and(|cause| cause.starts_with("token_")), "a token {kind}: {error}");
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
    // It is the doctor's, as before.
    socket.send(&json!({"type": "auth", "token": world.doctor.token}));
    socket.expect("authenticated").await;
    let output = world.patient.send_ok(&world.doctor, "still there").await;
    assert_eq!(socket.expect("message").await["message"]["id"], output["id"]);
}

#[tokio::test]
async fn revocation_closes_only_that_tokens_sockets() {
    let world = World::new().await;
    let jti = uuid::Uuid::now_v7().to_string();
    let claims = token::with(token::claims("doc", "user", &[&world.place.location]), "jti", json!(jti));
    let stolen = world.doctor.with_token(world.place.sign(&claims));
    let (mut stolen_sockets, mut others) = (Vec::new(), Vec::new());
    for url in &world.place.env.gateway_ws_urls {
        stolen_sockets.push(stolen.at(&world.place.base_url, url).open(&world.patient).await);
        others.push(world.doctor.at(&world.place.base_url, url).open(&world.patient).await);
    }
    let asked = world.admin().request(Method::POST, "/admin/revocations").json(&json!({"jti": jti}));
    assert_eq!(world.place.ask(asked).await.status, 204);
    for mut socket in stolen_sockets {
        assert_eq!(socket.expect_close().await, 4401);
    }
    for mut socket in others {
        assert!(socket.everything().await.is_empty(), "it lives, and has received nothing");
    }
}

#[tokio::test]
async fn inbox_socket_is_isolated() {
    let world = World::new().await;
    let mut others = vec![world.place.user("other"), world.place.contact("other")];
    // Namesakes, of the other kind and of another location.
    others.extend([world.place.contact("doc"), world.place.user("pat"), world.place.other_location().user("doc")]);
    let mut sockets = Vec::new();
    for other in &others {
        sockets.push(other.open_inbox().await);
    }
    let mut own = world.doctor.open_inbox().await;
    let answer = world.patient.send_ok(&world.doctor, "for one receiver").await;
    assert_eq!(own.expect("conversation").await["conversation"]["last_message"], answer);
    for (other, socket) in others.iter().zip(&mut sockets) {
        // Behind the frames that the message above may have caused.
        let friend = other.place.user("friend");
        let output = friend.send_ok(other, "hello").await;
        assert_eq!(socket.next().await["conversation"]["last_message"], output, "{}", other.id);
        socket.send(&json!({"type": "auth", "token": world.doctor.token}));
        assert_eq!(socket.expect("error").await["code"], "forbidden", "{}", other.id);
    }
}
