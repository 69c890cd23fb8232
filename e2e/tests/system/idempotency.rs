//! `client_message_id`: a retry never makes a second message.

use e2e::token;
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::place;

fn with_id(mut body: Value, id: &str) -> Value {
    body["client_message_id"] = json!(id);
    body
}

#[tokio::test]
async fn repeated_send_returns_first_message() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let id = Uuid::now_v7().to_string();
    let body = with_id(doctor.message_to(&patient, "once"), &id);
    let first = doctor.send(&body).await.expect_status(201);
    assert_eq!(first["client_message_id"], *id);
    for url in place.env.api_urls.iter().cycle().take(4) {
        assert_eq!(doctor.at(url, "").send(&body).await.expect_status(200)["id"], first["id"]);
    }
    // A new token changes nothing, and neither does another spelling of the id.
    let renewed = doctor.with_token(place.sign(&token::claims("doc", "user", &[&place.location, "more"])));
    assert_eq!(renewed.send(&with_id(body, &id.to_uppercase())).await.expect_status(200)["id"], first["id"]);
    assert_eq!(doctor.messages(&patient).await.len(), 1);
    assert_eq!(socket.expect("message").await["message"], first);
    assert!(socket.everything().await.iter().all(|frame| frame["type"] != "message"));
}

#[tokio::test]
async fn hundred_repeats_make_one_message() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let body = with_id(doctor.message_to(&patient, "once"), &Uuid::now_v7().to_string());
    let senders: Vec<_> = (0..100).map(|number| doctor.at(&place.env.api_urls[number % 2], "")).collect();
    let answers = join_all(senders.iter().map(|sender| sender.send(&body))).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    let messages = doctor.messages(&patient).await;
    assert_eq!(messages.len(), 1);
    assert!(answers.iter().all(|answer| answer.json()["id"] == messages[0]["id"]));
    socket.expect("message").await;
    assert!(socket.everything().await.iter().all(|frame| frame["type"] != "message"));
    assert_eq!(patient.inbox("").await["conversations"][0]["unread_count"], 1);
    assert_eq!(doctor.send_ok(&patient, "next").await["seq"], 2, "the repetitions left no gap");
}

#[tokio::test]
async fn reused_id_for_other_message_gets_409() {
    let place = place();
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.contact("other"));
    let id = Uuid::now_v7().to_string();
    let _sent = doctor.send(&with_id(doctor.message_to(&patient, "once"), &id)).await.expect_status(201);
    let content = e2e::secret_text();
    let _problem = doctor.send(&with_id(doctor.message_to(&patient, &content), &id)).await.expect_problem(409);
    let _problem = doctor.send(&with_id(doctor.message_to(&other, "once"), &id)).await.expect_problem(409);
    assert_eq!(doctor.messages(&patient).await.len(), 1);
    assert_eq!(doctor.messages(&other).await.len(), 0);
}

#[tokio::test]
async fn one_id_stores_one_of_hundred_messages() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let id = Uuid::now_v7().to_string();
    let answers = join_all((0..100).map(async |number: usize| {
        let sender = doctor.at(&place.env.api_urls[number % 2], "");
        sender.send(&with_id(doctor.message_to(&patient, &number.to_string()), &id)).await
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 409).count(), 99);
    assert_eq!(doctor.messages(&patient).await.len(), 1);
}

#[tokio::test]
async fn client_ids_are_scoped_to_sender_and_location() {
    let place = place();
    let elsewhere = place.other_location();
    let id = Uuid::now_v7().to_string();
    for place in [&place, &elsewhere] {
        // A user and a contact of the same identifier are two senders.
        let (doctor, patient) = (place.user("same"), place.contact("same"));
        let _sent = doctor.send(&with_id(doctor.message_to(&patient, "hello"), &id)).await.expect_status(201);
        let _sent = patient.send(&with_id(patient.message_to(&doctor, "hello"), &id)).await.expect_status(201);
        assert_eq!(doctor.messages(&patient).await.len(), 2);
    }
}
