//! What clients may not send over a socket.

use e2e::{Socket, TestUser, secret_text};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::place;

async fn opened() -> (TestUser, TestUser, Socket) {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let socket = patient.open(&doctor).await;
    (doctor, patient, socket)
}

/// Afterwards, others chat on.
async fn assert_chat_goes_on(doctor: &TestUser, patient: &TestUser) {
    let mut socket = patient.open(doctor).await;
    let sent = doctor.send_ok(patient, "goes on").await;
    assert_eq!(socket.expect("message").await["message"], sent);
}

#[tokio::test]
async fn malformed_frame_gets_error_and_socket_lives() {
    let (doctor, patient, mut socket) = opened().await;
    let secret = secret_text();
    let mut frames: Vec<(String, &str)> = [
        "",
        "{",
        "null",
        "[]",
        "\"typing\"",
        "42",
        "{}",
        "{\"type\":7}",
        "{\"type\":null}",
        "{\"type\":\"typing\"",
        "{\"type\":\"typing\"}{\"type\":\"typing\"}",
    ]
    .into_iter()
    .map(|text| (text.to_owned(), "malformed"))
    .collect();
    frames.push((secret.clone(), "malformed"));
    frames.push(("[".repeat(60_000), "malformed"));
    for (frame, cause) in [
        (json!({"type": "shout"}), "unknown_type"),
        (json!({"type": "message", "content": secret}), "unknown_type"),
        (json!({"type": ""}), "unknown_type"),
        (json!({"type": "TYPING"}), "unknown_type"),
        (json!({"type": "read"}), "missing_field"),
        (json!({"type": "read", "message_ids": []}), "out_of_range"),
        (json!({"type": "read", "message_ids": [secret]}), "invalid_uuid"),
        (json!({"type": "read", "message_ids": [7]}), "invalid_type"),
        (json!({"type": "read", "message_ids": secret}), "invalid_type"),
        (json!({"type": "delivered", "message_ids": vec![uuid::Uuid::now_v7(); 501]}), "out_of_range"),
        (json!({"type": "auth"}), "missing_field"),
        (json!({"type": "auth", "token": 7}), "invalid_type"),
        (json!({"type": "auth", "token": secret}), "token_malformed"),
    ] {
        frames.push((frame.to_string(), cause));
    }
    for (text, cause) in frames {
        socket.send_message(Message::text(text.clone()));
        let error = socket.next().await;
        let rendered = &text[..text.len().min(60)];
        assert_eq!((&error["type"], &error["cause"]), (&json!("error"), &json!(cause)), "{rendered}: {error}");
        let kind = match cause {
            "malformed" | "unknown_type" => cause,
            _ if cause.starts_with("token_") => "unauthorized",
            _ => "invalid",
        };
        assert_eq!(error["code"], kind, "{rendered}: {error}");
        assert!(error["detail"].as_str().is_some_and(|text| text.ends_with('.')), "{error}");
        assert!(!error.to_string().contains(&secret), "{error}");
    }
    socket.send_message(Message::binary(b"{\"type\":\"ping\"}".to_vec()));
    let error = socket.next().await;
    assert_eq!((&error["code"], &error["cause"]), (&json!("malformed"), &json!("malformed")), "binary: {error}");

    let sent = doctor.send_ok(&patient, "still here").await;
    assert_eq!(socket.expect("message").await["message"], sent);
    assert_eq!(doctor.messages(&patient).await.len(), 1);
}

#[tokio::test]
async fn ping_frame_gets_pong_frame() {
    let (_, _, mut socket) = opened().await;
    socket.send(&json!({"type": "ping"}));
    assert_eq!(socket.next().await, json!({"type": "pong"}));
    socket.send_message(Message::text(json!({"type": "ping", "members": "that are unknown are ignored"}).to_string()));
    assert_eq!(socket.next().await, json!({"type": "pong"}));
    socket.send_message(Message::Ping(b"protocol level".to_vec().into()));
    assert_eq!(socket.everything().await, [] as [Value; 0]);
}

#[tokio::test]
async fn too_large_frame_closes_socket_with_1009() {
    let (doctor, patient, mut socket) = opened().await;
    socket.send_message(Message::text("x".repeat(64 * 1024)));
    assert_eq!(socket.next().await["code"], "malformed", "64 KiB are allowed");
    socket.send_message(Message::text("x".repeat(64 * 1024 + 1)));
    assert_eq!(socket.expect_close().await, 1009);
    assert_chat_goes_on(&doctor, &patient).await;
}

#[tokio::test]
async fn fragments_cannot_exceed_message_limit() {
    let (doctor, patient, mut socket) = opened().await;
    let part = |code, last| Message::Frame(Frame::message(vec![b'x'; 30_000], OpCode::Data(code), last));
    socket.send_message(part(Data::Text, false));
    socket.send_message(part(Data::Continue, false));
    socket.send_message(part(Data::Continue, true));
    assert_eq!(socket.expect_close().await, 1009);
    assert_chat_goes_on(&doctor, &patient).await;
}

#[tokio::test]
async fn invalid_utf_8_closes_socket_with_1007() {
    let (doctor, patient, mut socket) = opened().await;
    socket.send_as_text(b"{\"type\":\"\xff\xfe\"}".to_vec());
    assert_eq!(socket.expect_close().await, 1007);
    assert_chat_goes_on(&doctor, &patient).await;
}

#[tokio::test]
async fn protocol_error_closes_socket_with_1002() {
    let (doctor, patient, mut socket) = opened().await;
    socket.send_message(Message::Frame(Frame::message(b"x".to_vec(), OpCode::Data(Data::Continue), true)));
    assert_eq!(socket.expect_close().await, 1002);
    assert_chat_goes_on(&doctor, &patient).await;
}

#[tokio::test]
async fn typing_flood_is_throttled() {
    let (doctor, patient, mut socket) = opened().await;
    let mut at_doctor = doctor.open(&patient).await;
    let first = doctor.send_ok(&patient, "first").await;
    for socket in [&mut socket, &mut at_doctor] {
        assert_eq!(socket.expect("message").await["message"]["id"], first["id"]);
    }
    for _ in 0..500 {
        socket.send(&json!({"type": "typing"}));
    }
    let received = socket.everything().await;
    assert!(received.iter().all(|frame| frame["type"] == "delivered"), "{received:?}");
    let sent = patient.send_ok(&doctor, "done").await;
    assert_eq!(at_doctor.expect("message").await["message"], sent);
    let received = at_doctor.everything().await;
    let typing = received.iter().filter(|frame| frame["type"] == "typing").count();
    assert!((1..=20).contains(&typing), "{typing} of 500");
}
