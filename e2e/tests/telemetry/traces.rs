//! Traces: the caller's go on, a stranger's do not begin here.

use std::time::Duration;

use e2e::Socket;
use reqwest::Method;
use tokio::time::{interval, timeout};

use crate::{place, watched};

/// A trace that no other test has, as the header has it and as it is on the wire.
pub(crate) fn trace() -> (String, [u8; 16]) {
    let id = uuid::Uuid::now_v7();
    (format!("00-{}-00f067aa0ba902b7-01", id.simple()), *id.as_bytes())
}

#[tokio::test]
async fn request_span_joins_caller_trace_with_route_name() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (header, id) = trace();
    let request = doctor.request(Method::POST, "/chat/send").header("traceparent", header);
    let _sent = place.ask(request.json(&doctor.message_to(&patient, "hello"))).await.expect_status(201);
    let traced = watched().collector.with(&id);
    let text = String::from_utf8_lossy(&traced);
    for part in ["api-service", "POST /chat/send", "http.route", "commit"] {
        assert!(text.contains(part), "{part}");
    }
    let (header, id) = trace();
    let request = doctor.request(Method::GET, &format!("/chat/history?{}", doctor.with(&patient)));
    let _page = place.ask(request.header("traceparent", header)).await.expect_status(200);
    let traced = watched().collector.with(&id);
    let text = String::from_utf8_lossy(&traced);
    assert!(text.contains("GET /chat/history") && text.contains("postgresql"));
    assert!(!text.contains(&place.location), "no query");
}

#[tokio::test]
async fn handshake_has_span() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (header, id) = trace();
    let bearer = format!("Bearer {}", doctor.token);
    let url = format!("{}?{}", place.ws_url, doctor.with(&patient));
    let _socket = Socket::connect_with(&url, &[("authorization", &bearer), ("traceparent", &header)]).await.unwrap();
    let traced = watched().collector.with(&id);
    let text = String::from_utf8_lossy(&traced);
    assert!(text.contains("ws-gateway") && text.contains("GET /ws") && !text.contains(&place.location));
}

#[tokio::test]
async fn request_id_reaches_gateway_log() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let id = format!("find-me-{}", uuid::Uuid::now_v7().simple());
    let request = doctor.request(Method::POST, "/chat/send").header("x-request-id", &id);
    let _sent = place.ask(request.json(&doctor.message_to(&patient, "hello"))).await.expect_status(201);
    socket.expect("message").await;
    let path = watched().stack.logs_dir().join("gateway-1.log");
    let is_logged = |log: &str| log.lines().any(|line| line.contains(&id) && line.contains("\"event received\""));
    let written = async {
        let mut poll = interval(Duration::from_millis(10));
        while !is_logged(&std::fs::read_to_string(&path).unwrap()) {
            poll.tick().await;
        }
    };
    timeout(e2e::WAIT_TIMEOUT, written).await.unwrap_or_else(|_| panic!("{id} is not in the log"));
}
