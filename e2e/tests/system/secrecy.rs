//! Neither content nor tokens enter a log, even when everything is logged and much goes wrong.

use std::path::Path;

use e2e::{SECRET_MARK, Socket, secret_text, token};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::{place, stack};

/// ProxySet of the logs that hold any of `needles`.
fn found(logs: &Path, needles: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut files = 0;
    for entry in std::fs::read_dir(logs).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        files += 1;
        for line in text.lines().filter(|line| needles.iter().any(|needle| line.contains(needle))) {
            found.push(format!("{}: {}", path.display(), line.chars().take(400).collect::<String>()));
        }
    }
    assert!(files >= 7, "a log for each process, but there are {files}");
    found
}

#[tokio::test]
async fn content_and_tokens_are_never_logged() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let secret = secret_text();
    let expired = place.sign(&token::with(token::claims("doc", "user", &[&place.location]), "exp", json!(1)));
    let forged = token::forged(&doctor.token, &place.service().token);

    // It is stored, delivered and marked.
    let mut at_patient = patient.open(&doctor).await;
    let mut body = doctor.message_to(&patient, &secret);
    body["client_message_id"] = json!(uuid::Uuid::now_v7());
    let sent = doctor.send(&body).await.expect_status(201);
    at_patient.expect("message").await;
    let _marks = patient.mark("read", &[&sent["id"]]).await.expect_status(200);
    assert_eq!(doctor.messages(&patient).await[0]["content"], *secret);
    // It fails in every layer.
    body["content"] = json!(format!("{secret} again"));
    let _problem = doctor.send(&body).await.expect_problem(409);
    let _problem = doctor.send(&doctor.message_to(&patient, &format!("{secret}\u{0}"))).await.expect_problem(422);
    let _problem = doctor.send(&json!({"content": secret, secret_text(): secret})).await;
    let _problem = doctor.send(&place.user("other").message_to(&patient, &secret)).await.expect_problem(403);
    let _problem = doctor.send(&doctor.message_to(&patient, &secret.repeat(10_000))).await.expect_problem(413);
    for bad in [&expired, &forged] {
        let _problem = doctor.with_token(bad).send(&doctor.message_to(&patient, &secret)).await.expect_problem(401);
        let url = format!("{}?{}", place.ws_url, doctor.with(&patient));
        let protocols = format!("chat.v1, bearer.{bad}");
        assert!(Socket::connect_with(&url, &[("sec-websocket-protocol", &protocols)]).await.is_err());
        assert!(Socket::connect_with(&url, &[("authorization", &format!("Bearer {bad}"))]).await.is_err());
    }
    let broken = doctor.request(reqwest::Method::POST, "/chat/send").header("content-type", "application/json");
    let _problem = place.ask(broken.body(format!("{{\"content\": \"{secret}"))).await.expect_problem(400);
    let _problem = place.get(&format!("/ws?ticket={}", doctor.token)).await.expect_problem(426);
    at_patient.send_message(Message::text(secret.clone()));
    at_patient.expect("error").await;
    at_patient.send_message(Message::text(json!({"type": secret}).to_string()));
    at_patient.expect("error").await;
    at_patient.send(&json!({"type": "auth", "token": expired}));
    at_patient.expect("error").await;
    at_patient.send_as_text(format!("{secret}\u{0}").into_bytes());
    at_patient.expect("error").await;
    at_patient.send_message(Message::text(secret.repeat(5_000)));
    at_patient.expect_close().await;

    // Tickets go through URLs: whether good, used or wrong, they are in no log either.
    let given = place.ask(doctor.request(reqwest::Method::POST, "/chat/ws-ticket")).await.expect_status(200);
    let ticket = given["ticket"].as_str().unwrap();
    let url = format!("{}?{}&ticket={ticket}", place.ws_url, doctor.with(&patient));
    assert!(Socket::connect_with(&url, &[]).await.is_ok() && Socket::connect_with(&url, &[]).await.is_err());

    // Any token begins like this, and any secret of any test of this run has the mark.
    let found = found(&stack().logs_dir(), &[SECRET_MARK, "eyJ", &place.env.jwt_secret, ticket]);
    assert!(found.is_empty(), "{} lines, among them\n{}", found.len(), found[..found.len().min(5)].join("\n"));
}
