//! One run with everything that can be done, and much that cannot: content, tokens and keys are in no log, no metric, no
//! error and no trace.

use std::path::Path;

use e2e::{HttpResponse, SECRET_MARK, Socket, TestLocation, TestUser, raw_http, secret_text, token};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::traces::trace;
use crate::{all_metrics, place, watched};

/// A WebSocket handshake by an HTTP client, which sees the whole refusal.
pub(crate) async fn handshake(place: &TestLocation, query: &str, token: &str) -> HttpResponse {
    let request = place
        .request(Method::GET, &format!("/ws?{query}"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .bearer_auth(token);
    place.ask(request).await
}

/// The bodies of rejections.
struct Responses(Vec<String>);

impl Responses {
    fn keep(&mut self, answer: &HttpResponse) {
        assert!(answer.status >= 400, "{answer:?}");
        self.0.push(format!("{answer:?}"));
    }
}

/// Everything that works.
async fn work(doctor: &TestUser, patient: &TestUser, secret: &str) {
    let mut at_patient = patient.open(doctor).await;
    let mut at_doctor = doctor.open(patient).await;
    let sent = doctor.send_ok(patient, secret).await;
    let cursor = at_patient.expect("message").await["cursor"].clone();
    let _marks = patient.mark("read", &[&sent["id"]]).await.expect_status(200);
    at_doctor.expect("read").await;
    assert_eq!(doctor.messages(patient).await[0]["content"], *secret);
    assert!(doctor.inbox("").await.to_string().contains(secret));
    let mut resumed = patient.resume(doctor, &cursor).await;
    resumed.expect("ready").await;
    at_patient.send(&json!({"type": "typing"}));
    at_doctor.expect("typing").await;
    at_patient.send(&json!({"type": "auth", "token": patient.token}));
    at_patient.expect("authenticated").await;
}

/// Requests that fail in every layer, with the secret wherever one can be put.
async fn fail(doctor: &TestUser, patient: &TestUser, secret: &str, responses: &mut Responses) {
    let place = &doctor.place;
    let expired = place.sign(&token::with(token::claims("doc", "user", &[&place.location]), "exp", json!(1)));
    let forged = token::forged(&doctor.token, &place.service().token);
    let good = doctor.message_to(patient, secret);
    let mut unknown = good.clone();
    unknown[format!("{secret} is ill")] = json!(secret);
    let mut odd = good.clone();
    odd["location_id"] = json!(secret.repeat(3));
    for body in
        [unknown, odd, doctor.message_to(patient, &format!("{secret}\u{0}")), patient.message_to(doctor, secret)]
    {
        responses.keep(&doctor.send(&body).await);
    }
    responses.keep(&doctor.send(&doctor.message_to(patient, &secret.repeat(10_000))).await);
    for bad in [&expired, &forged, &format!("{}.{secret}", doctor.token)] {
        responses.keep(&doctor.with_token(bad).send(&good).await);
        responses.keep(&handshake(place, &doctor.with(patient), bad).await);
    }
    let raw =
        |kind: &str, body: String| doctor.request(Method::POST, "/chat/send").header("content-type", kind).body(body);
    responses.keep(&place.ask(raw("application/json", format!("{{\"content\": \"{secret}"))).await);
    responses.keep(&place.ask(raw(&format!("text/{secret}"), good.to_string())).await);
    let with = doctor.with(patient);
    for path in [
        format!("/chat/history?{with}&limit={secret}"),
        format!("/chat/history?{with}&before=1&after={secret}"),
        format!("/chat/history?location_id={secret}&user_id={secret}%zz"),
        format!("/chat/conversations?location_id={}&cursor={secret}", place.location),
        format!("/{secret}"),
        format!("/chat/send/{}", doctor.token),
        format!("/chat/history?{with}&token={}&padding={}", doctor.token, secret.repeat(200)),
    ] {
        responses.keep(&doctor.get(&path).await);
    }
    responses.keep(&place.ask(doctor.request(Method::DELETE, "/chat/send").body(secret.to_owned())).await);
    responses.keep(&doctor.put("/chat/read", &json!({"message_ids": [secret]})).await);
    for query in [
        format!("{with}&cursor={secret}"),
        format!("{with}&{secret}={secret}&user_id=again"),
        format!("{with}&ticket={secret}"),
        format!("{with}&padding={}", secret.repeat(200)),
        place.user("other").with(patient),
    ] {
        responses.keep(&handshake(place, &query, &doctor.token).await);
    }
    // What is no HTTP at all, at the proxy and at both services.
    let gateway = place.env.gateway_ws_urls[0].replace("ws://", "http://");
    for url in [&place.base_url, &place.env.api_urls[0], &gateway] {
        responses.0.push(raw_http::exchange(url, format!("{secret} {} HTTP\r\n\r\n", doctor.token).as_bytes()).await);
        let head = format!(
            "GET /{secret} HTTP/1.1\r\nHost: {secret}\r\nX-Request-Id: {secret} {secret}\r\nTraceparent: {secret}\r\nUser-Agent: {secret}\r\nX-Forwarded-For: {secret}\r\nConnection: close\r\n\r\n"
        );
        responses.0.push(raw_http::exchange(url, head.as_bytes()).await);
    }
}

/// Frames that no client should send.
async fn babble(doctor: &TestUser, patient: &TestUser, secret: &str) {
    let mut socket = patient.open(doctor).await;
    for frame in [
        Message::text(secret),
        Message::text(json!({"type": secret}).to_string()),
        Message::text(json!({"type": "auth", "token": format!("{}{secret}", patient.token)}).to_string()),
        Message::text(json!({"type": "auth", "token": doctor.token}).to_string()),
        Message::text(json!({"type": "read", "message_ids": [secret]}).to_string()),
        Message::binary(secret.as_bytes().to_vec()),
    ] {
        socket.send_message(frame);
        let error = socket.expect("error").await.to_string();
        assert!(!error.contains(SECRET_MARK) && !error.contains("eyJ"), "{error}");
    }
    socket.send_message(Message::text(secret.repeat(5_000)));
    socket.expect_close().await;
}

/// Places of `logs` that hold any of `needles`.
fn logged(logs: &Path, needles: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(logs).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        for line in text.lines().filter(|line| needles.iter().any(|needle| line.contains(needle))) {
            found.push(format!("{}: {}", path.display(), line.chars().take(300).collect::<String>()));
        }
    }
    for process in ["api-1", "gateway-1", "haproxy", "postgres"] {
        assert!(names.iter().any(|name| name == process), "{process} has no log among {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("redis")), "{names:?}");
    found
}

#[tokio::test]
async fn content_and_keys_are_only_in_messages() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let secret = secret_text();
    let mut responses = Responses(Vec::new());
    work(&doctor, &patient, &secret).await;
    fail(&doctor, &patient, &secret, &mut responses).await;
    babble(&doctor, &patient, &secret).await;
    assert!(responses.0.len() > 30);

    // The last request and the last handshake of all: when their spans have come, all before them have.
    let collector = &watched().collector;
    let (header, id) = trace();
    let last = doctor.request(Method::GET, &format!("/chat/history?{}", doctor.with(&patient)));
    let _page = place.ask(last.header("traceparent", header)).await.expect_status(200);
    collector.with(&id);
    let (header, id) = trace();
    let url = format!("{}?{}", place.ws_url, doctor.with(&patient));
    let refused = Socket::connect_with(&url, &[("traceparent", &header)]).await;
    assert!(matches!(refused, Err(Error::Http(_))));
    let traces = String::from_utf8_lossy(&collector.with(&id)).into_owned();
    assert!(traces.contains("POST /chat/send") && traces.contains("GET /ws"), "nothing is traced at all");

    let metrics = all_metrics(&place).await;
    let secrets = [SECRET_MARK, "eyJ", &place.env.jwt_secret];
    for (where_, text) in [("metrics", &metrics), ("traces", &traces), ("errors", &responses.0.join("\n"))] {
        for secret in secrets {
            let found =
                text.find(secret).map(|at| text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert!(found.is_none(), "{where_}: {found:?}");
        }
    }
    let found = logged(&watched().stack.logs_dir(), &secrets);
    assert!(found.is_empty(), "{} lines, among them\n{}", found.len(), found[..found.len().min(5)].join("\n"));
}
