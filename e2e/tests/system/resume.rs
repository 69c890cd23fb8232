//! Coming back with a cursor.

use std::collections::BTreeMap;

use e2e::TestUser;
use serde_json::{Value, json};

use crate::place;

async fn say_many(from: &TestUser, to: &TestUser, count: usize) -> Vec<Value> {
    let mut sent = Vec::new();
    for number in 0..count {
        sent.push(from.send_ok(to, &number.to_string()).await);
    }
    sent
}

#[tokio::test]
async fn socket_resumes_in_order_on_any_gateway() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let [first, second] = place.env.gateway_ws_urls.as_slice() else { panic!("two gateways") };
    let mut socket = patient.at(&place.base_url, first).open(&doctor).await;
    doctor.send_ok(&patient, "seen").await;
    let cursor = socket.expect("message").await["cursor"].clone();
    socket.close().await;

    let missed = say_many(&doctor, &patient, 20).await;
    let mut socket = patient.at(&place.base_url, second).resume(&doctor, &cursor).await;
    let ready = socket.next().await;
    assert_eq!((&ready["type"], &ready["resumed"]), (&json!("ready"), &json!(true)), "{ready}");
    for message in &missed {
        assert_eq!(socket.expect("message").await["message"], *message);
    }
    let live = doctor.send_ok(&patient, "live").await;
    assert_eq!(socket.expect("message").await["message"], live);
}

#[tokio::test]
async fn ready_cursor_resumes_and_replays_receipts() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let mut socket = doctor.open_at(&doctor.with(&patient)).await;
    let cursor = socket.next().await["cursor"].clone();
    socket.close().await;
    let marks = patient.mark("read", &[&sent["id"]]).await.expect_status(200);
    let mut socket = doctor.resume(&patient, &cursor).await;
    assert_eq!(socket.next().await["resumed"], true);
    let read = socket.expect("read").await;
    assert_eq!((&read["message_ids"], &read["read_at"]), (&json!([sent["id"]]), &marks["marked"][0]["read_at"]));
}

#[tokio::test]
async fn expired_cursor_is_reported_lost() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    doctor.send_ok(&patient, "seen").await;
    let cursor = socket.expect("message").await["cursor"].clone();
    socket.close().await;
    say_many(&doctor, &patient, 150).await; // More than a log keeps.
    for lost in [&cursor, &json!("1-1"), &json!("18446744073709551615-18446744073709551615")] {
        let mut socket = patient.resume(&doctor, lost).await;
        let ready = socket.next().await;
        assert_eq!((&ready["type"], &ready["resumed"]), (&json!("ready"), &json!(false)), "{ready}");
        let live = doctor.send_ok(&patient, "live").await;
        assert_eq!(socket.expect("message").await["message"], live, "nothing is replayed, and live events follow");
    }
}

#[tokio::test]
async fn reconnecting_socket_misses_no_message() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sending = tokio::spawn({
        let (doctor, patient) = (doctor.clone(), patient.clone());
        async move { say_many(&doctor, &patient, 100).await }
    });
    let mut socket = patient.open_at(&patient.with(&doctor)).await;
    let (mut cursor, mut received) = (socket.next().await["cursor"].clone(), BTreeMap::new());
    // Each comes back with its cursor until it has received the last one; what is sent twice counts once.
    while !received.contains_key(&100) {
        for _ in 0..7 {
            let frame = socket.expect("message").await;
            cursor = frame["cursor"].clone();
            received.insert(frame["message"]["seq"].as_i64().unwrap(), frame["message"].clone());
            if received.contains_key(&100) {
                break;
            }
        }
        socket.close().await;
        socket = patient.resume(&doctor, &cursor).await;
        assert_eq!(socket.next().await["resumed"], true);
    }
    // The first socket may have opened after the first messages; from then on, nothing is missing.
    let sent = sending.await.unwrap();
    let start = received.keys().next().unwrap() - 1;
    let missing: Vec<i64> = (start + 1..=100).filter(|seq| !received.contains_key(seq)).collect();
    assert_eq!(missing, [] as [i64; 0], "from {start} on");
    assert!(received.values().all(|message| sent.contains(message)));
}
