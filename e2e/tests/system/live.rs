//! A doctor and a patient, live: messages, ticks, typing.

use e2e::{Socket, TestUser, token};
use serde_json::{Value, json};

use crate::place;

/// Each side says something; the other hears it; the first sees ticks.
async fn chat(doctor: &TestUser, patient: &TestUser) {
    let mut at_doctor = doctor.open(patient).await;
    let mut at_patient = patient.open(doctor).await;
    for _ in 0..3 {
        speak(doctor, patient, &mut at_doctor, &mut at_patient).await;
        speak(patient, doctor, &mut at_patient, &mut at_doctor).await;
    }
}

async fn speak(from: &TestUser, to: &TestUser, own: &mut Socket, others: &mut Socket) {
    let sent = from.send_ok(to, &format!("hello from {}", from.id)).await;
    let received = others.expect("message").await;
    assert_eq!(received["message"], sent, "exactly as it was answered");
    assert!(received["cursor"].is_string(), "{received}");
    assert_eq!(own.expect("message").await["message"], sent, "the sender's own sockets hear it, too");

    // The receiver's WebSocket library has answered a Ping; no code of this test did.
    let delivered = own.expect("delivered").await;
    assert_eq!(delivered["message_ids"], json!([sent["id"]]));
    let kept = from.messages(to).await.pop().unwrap();
    assert_eq!((&kept["id"], &kept["delivered_at"]), (&sent["id"], &delivered["delivered_at"]));
    assert_eq!((&kept["read_at"], &kept["is_read"]), (&Value::Null, &json!(false)));
}

#[tokio::test]
async fn two_participants_chat_through_load_balancer() {
    let place = place();
    chat(&place.user("doc"), &place.contact("pat")).await;
}

#[tokio::test]
async fn two_participants_chat_through_two_gateways() {
    let place = place();
    let gateways = &place.env.gateway_ws_urls;
    assert_eq!(gateways.len(), 2);
    let doctor = place.user("doc").at(&place.base_url, &gateways[0]);
    let patient = place.contact("pat").at(&place.base_url, &gateways[1]);
    chat(&doctor, &patient).await;
}

#[tokio::test]
async fn two_users_chat_as_peers() {
    let place = place();
    chat(&place.user("doc"), &place.user("nurse")).await;
}

#[tokio::test]
async fn ready_comes_first_with_conversation_and_cursor() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = doctor.open_at(&doctor.with(&patient)).await;
    let ready = socket.next().await;
    assert_eq!(ready["type"], "ready");
    assert_eq!(ready["conversation_id"], doctor.history(&patient, "").await["conversation_id"]);
    assert!(ready["cursor"].is_string() && ready["resumed"].is_null(), "{ready}");
}

/// Three sockets of each side, twenty messages, and what each of the sockets received of them.
async fn hear_twenty(doctor: &TestUser, patient: &TestUser) -> Vec<Vec<i64>> {
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(doctor.open(patient).await);
        sockets.push(patient.open(doctor).await);
    }
    for number in 1..=20 {
        doctor.send_ok(patient, &number.to_string()).await;
    }
    let mut received = Vec::new();
    for socket in &mut sockets {
        let mut seqs = Vec::new();
        for _ in 0..20 {
            seqs.push(socket.expect("message").await["message"]["seq"].as_i64().unwrap());
        }
        assert!(socket.everything().await.iter().all(|frame| frame["type"] != "message"), "no more than twenty");
        received.push(seqs);
    }
    received
}

#[tokio::test]
async fn every_socket_gets_each_message_once_in_order() {
    let place = place();
    for seqs in hear_twenty(&place.user("doc"), &place.contact("pat")).await {
        assert_eq!(seqs, (1..=20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn sends_through_two_services_arrive_in_order() {
    const EACH: i64 = 50;
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    // Behind an entry that only opens the log it is unknown whether a predecessor is still to come.
    doctor.send_ok(&patient, "before the race").await;
    assert_eq!(socket.expect("message").await["message"]["seq"], 1);
    let senders = place.env.api_urls.iter().map(|url| (doctor.at(url, ""), patient.at(url, "")));
    let sending: Vec<_> = senders
        .flat_map(|(doctor, patient)| [(doctor.clone(), patient.clone()), (patient, doctor)])
        .map(|(from, to)| {
            tokio::spawn(async move {
                for number in 0..EACH {
                    from.send_ok(&to, &number.to_string()).await;
                }
            })
        })
        .collect();
    let total = EACH * i64::try_from(sending.len()).unwrap();
    for seq in 2..=total + 1 {
        assert_eq!(socket.expect("message").await["message"]["seq"], seq);
    }
    for sender in sending {
        sender.await.unwrap();
    }
}

#[tokio::test]
async fn unread_socket_gives_no_delivery_receipt() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let url = format!("{}?{}", place.ws_url, patient.with(&doctor));
    let bearer = format!("Bearer {}", patient.token);
    let (mut unread, _) = Socket::handshake(&url, &[("authorization", &bearer)]).await.unwrap();

    let sent = doctor.send_ok(&patient, "are you there?").await;
    at_doctor.expect("message").await;
    assert_eq!(doctor.messages(&patient).await[0]["delivered_at"], Value::Null);
    assert!(at_doctor.everything().await.iter().all(|frame| frame["type"] != "delivered"));

    let reading = tokio::spawn(async move { while futures_util::StreamExt::next(&mut unread).await.is_some() {} });
    assert_eq!(at_doctor.expect("delivered").await["message_ids"], json!([sent["id"]]));
    reading.abort();
}

#[tokio::test]
async fn sender_and_service_sockets_give_no_receipt() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let mut watcher = place.service().open_at(&doctor.with(&patient)).await;
    watcher.expect("ready").await;
    let sent = doctor.send_ok(&patient, "hello?").await;
    assert_eq!(watcher.expect("message").await["message"], sent);
    at_doctor.expect("message").await;
    for socket in [&mut watcher, &mut at_doctor] {
        // The second answer proves that the Pong behind the message was taken, too.
        let (first, second) = (socket.everything().await, socket.everything().await);
        assert!(first.iter().chain(&second).all(|frame| frame["type"] != "delivered"));
    }
    assert_eq!(doctor.messages(&patient).await[0]["delivered_at"], Value::Null);

    for frame in [json!({"type": "typing"}), json!({"type": "read", "message_ids": [sent["id"]]})] {
        watcher.send(&frame);
        assert_eq!(watcher.expect("error").await["code"], "forbidden");
    }
}

#[tokio::test]
async fn read_marks_reach_sender_and_reset_unread_count() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let first = doctor.send_ok(&patient, "one").await;
    let second = doctor.send_ok(&patient, "two").await;
    assert_eq!(patient.inbox("").await["conversations"][0]["unread_count"], 2);

    let marks = patient.mark("read", &[&first["id"]]).await.expect_status(200);
    let read = at_doctor.expect("read").await;
    assert_eq!(read["message_ids"], json!([first["id"]]));
    assert_eq!(read["read_at"], marks["marked"][0]["read_at"]);
    assert_eq!(patient.inbox("").await["conversations"][0]["unread_count"], 1);

    let at_patient = patient.open(&doctor).await;
    at_patient.send(&json!({"type": "read", "message_ids": [second["id"]]}));
    let read = at_doctor.expect("read").await;
    assert_eq!(read["message_ids"], json!([second["id"]]));
    let kept = doctor.messages(&patient).await.pop().unwrap();
    assert_eq!((&kept["read_at"], &kept["is_read"]), (&read["read_at"], &json!(true)));
    assert!(kept["delivered_at"].is_string(), "read implies delivered: {kept}");
    assert_eq!(patient.inbox("").await["conversations"][0]["unread_count"], 0);
    assert_eq!(doctor.inbox("").await["conversations"][0]["unread_count"], 0);
}

#[tokio::test]
async fn delivered_frame_marks_message() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "one").await;
    let mut at_doctor = doctor.open(&patient).await;
    let at_patient = patient.open(&doctor).await;
    at_patient.send(&json!({"type": "delivered", "message_ids": [sent["id"]]}));
    let delivered = at_doctor.expect("delivered").await;
    assert_eq!(delivered["message_ids"], json!([sent["id"]]));
    assert_eq!(doctor.messages(&patient).await[0]["delivered_at"], delivered["delivered_at"]);
}

#[tokio::test]
async fn typing_reaches_only_peer() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let mut also_at_doctor = doctor.open(&patient).await;
    let mut at_patient = patient.open(&doctor).await;
    doctor.send_ok(&patient, "they know each other").await;
    for socket in [&mut at_doctor, &mut also_at_doctor, &mut at_patient] {
        socket.expect("message").await;
        socket.expect("delivered").await;
    }
    at_doctor.send(&json!({"type": "typing"}));
    assert_eq!(at_patient.expect("typing").await, json!({"type": "typing", "user_id": "doc"}));
    at_patient.send(&json!({"type": "typing"}));
    assert_eq!(at_doctor.next().await, json!({"type": "typing", "contact_id": "pat"}), "the first that it hears");
    assert_eq!(also_at_doctor.next().await, json!({"type": "typing", "contact_id": "pat"}));
    assert_eq!(at_patient.everything().await, [] as [Value; 0]);
    assert_eq!(doctor.messages(&patient).await.len(), 1, "typing is no message");
}

#[tokio::test]
async fn typing_needs_first_message() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (mut at_doctor, mut at_patient) = (doctor.open(&patient).await, patient.open(&doctor).await);
    at_patient.send(&json!({"type": "typing"}));
    at_doctor.send(&json!({"type": "typing"}));
    for socket in [&mut at_doctor, &mut at_patient] {
        assert_eq!(socket.everything().await, [] as [Value; 0], "they do not know each other");
    }
    let first = doctor.send_ok(&patient, "first").await;
    for socket in [&mut at_doctor, &mut at_patient] {
        // It does not include what was typed before.
        assert_eq!(socket.expect("message").await["message"]["id"], first["id"]);
    }
    // Sockets that have received nothing of the conversation, as on the next day.
    drop((at_doctor, at_patient));
    let (mut at_doctor, mut at_patient) = (doctor.open(&patient).await, patient.open(&doctor).await);
    at_patient.send(&json!({"type": "typing"}));
    assert_eq!(at_doctor.expect("typing").await, json!({"type": "typing", "contact_id": "pat"}));
    at_doctor.send(&json!({"type": "typing"}));
    assert_eq!(at_patient.expect("typing").await, json!({"type": "typing", "user_id": "doc"}));
}

#[tokio::test]
async fn subprotocol_token_is_not_echoed() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let url = format!("{}?{}", place.ws_url, patient.with(&doctor));
    let protocols = format!("chat.v1, bearer.{}", patient.token);
    let mut socket = Socket::connect_with(&url, &[("sec-websocket-protocol", &protocols)]).await.unwrap();
    assert_eq!(socket.headers["sec-websocket-protocol"], "chat.v1");
    assert!(!format!("{:?}", socket.headers).contains("eyJ"), "{:?}", socket.headers);
    assert!(socket.headers.contains_key("x-request-id"));
    socket.expect("ready").await;
    let sent = doctor.send_ok(&patient, "hello browser").await;
    assert_eq!(socket.expect("message").await["message"], sent);
}

#[tokio::test]
async fn socket_ends_with_token_unless_renewed() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let claims = token::claims("pat", "contact", &[&place.location]);
    let brief = place.sign(&token::with(claims, "exp", json!(token::now() + 10)));
    let mut ends = patient.with_token(&brief).open(&doctor).await;
    let mut lives = patient.with_token(&brief).open(&doctor).await;

    assert!(ends.expect("expiring").await["expires_at"].is_string());
    lives.send(&json!({"type": "auth", "token": doctor.token}));
    assert_eq!(lives.expect("error").await["code"], "forbidden", "another user's token");
    lives.send(&json!({"type": "auth", "token": "nonsense"}));
    assert_eq!(lives.expect("error").await["cause"], "token_malformed");
    lives.send(&json!({"type": "auth", "token": patient.token}));
    assert!(lives.expect("authenticated").await["expires_at"].is_string());

    assert_eq!(ends.expect_close().await, 4401);
    let sent = doctor.send_ok(&patient, "still there?").await;
    assert_eq!(lives.expect("message").await["message"], sent);
}
