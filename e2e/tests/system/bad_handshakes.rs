//! Every refused handshake is an HTTP answer with a problem body.

use e2e::{HttpResponse, Socket, TestLocation};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::place;

/// A WebSocket handshake by an HTTP client, which sees the whole refusal. `headers` come on top, or in place, of the usual.
pub(crate) async fn handshake(place: &TestLocation, query: &str, headers: &[(&str, &str)]) -> HttpResponse {
    let mut all = vec![
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
    let mut request = place.request(Method::GET, &format!("/ws?{query}"));
    for (name, value) in all.iter().chain(headers).filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    place.ask(request).await
}

#[tokio::test]
async fn plain_request_gets_426() {
    let place = place();
    let doctor = place.user("doc");
    for path in ["/ws", "/ws?location_id=loc1&user_id=doc123&contact_id=pat456"] {
        let answer = doctor.get(path).await;
        let _problem = answer.expect_problem(426);
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        let _problem = place.get(path).await.expect_problem(426);
    }
    let bearer = format!("Bearer {}", doctor.token);
    let query = doctor.with(&place.contact("pat"));
    for headers in [
        [("authorization", bearer.as_str()), ("sec-websocket-version", "12")],
        [("authorization", &bearer), ("sec-websocket-version", "")],
    ] {
        let answer = handshake(&place, &query, &headers).await;
        let _problem = answer.expect_problem(426);
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[tokio::test]
async fn invalid_handshake_gets_400() {
    let place = place();
    let doctor = place.user("doc");
    let query = doctor.with(&place.contact("pat"));
    let bearer = format!("Bearer {}", doctor.token);
    // A handshake without a key is no HTTP to HAProxy, whose own 400 has no problem body; the gateway's has.
    assert_eq!(handshake(&place, &query, &[("authorization", &bearer), ("sec-websocket-key", "")]).await.status, 400);
    let gateway = place.env.gateway_ws_urls[0].replace("ws://", "http://").replace("/ws", "");
    for key in ["", "short", "not base64 at all, no!=="] {
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-key", key)];
        let _problem = handshake(&place.with_base_url(&gateway), &query, &headers).await.expect_problem(400);
    }
    let alone = format!("bearer.{}", doctor.token);
    let _problem = handshake(&place, &query, &[("sec-websocket-protocol", &alone)]).await.expect_problem(400);
}

#[tokio::test]
async fn handshake_without_token_gets_401() {
    let place = place();
    let doctor = place.user("doc");
    let query = doctor.with(&place.contact("pat"));
    for headers in [vec![], vec![("authorization", "Basic abc")], vec![("sec-websocket-protocol", "chat.v1")]] {
        let _problem = handshake(&place, &query, &headers).await.expect_problem(401);
    }
    // In the query it would end up in logs.
    let _problem = handshake(&place, &format!("{query}&token={}", doctor.token), &[]).await.expect_problem(401);
    let _problem = handshake(&place, &format!("{query}&ticket=nonsense"), &[]).await.expect_problem(401);
}

#[tokio::test]
async fn foreign_conversation_gets_403() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let elsewhere = place.other_location();
    for (participant, query) in [
        (place.user("other"), doctor.with(&patient)),
        (place.contact("other"), doctor.with(&patient)),
        (place.user("pat"), doctor.with(&patient)),
        (place.contact("doc"), doctor.with(&patient)),
        (patient.clone(), doctor.with(&place.user("nurse"))),
        (doctor.clone(), elsewhere.user("doc").with(&elsewhere.contact("pat"))),
        (elsewhere.user("doc"), doctor.with(&patient)),
        (elsewhere.service(), doctor.with(&patient)),
        (patient.clone(), doctor.inbox_query()),
        (place.contact("doc"), doctor.inbox_query()),
        (doctor.clone(), elsewhere.user("doc").inbox_query()),
        (elsewhere.user("doc"), doctor.inbox_query()),
        (elsewhere.service(), doctor.inbox_query()),
    ] {
        let bearer = format!("Bearer {}", participant.token);
        let _problem = handshake(&place, &query, &[("authorization", &bearer)]).await.expect_problem(403);
    }
}

#[tokio::test]
async fn bad_queries_get_distinct_errors() {
    let place = place();
    let doctor = place.user("doc");
    let bearer = format!("Bearer {}", doctor.token);
    let location = format!("location_id={}", place.location);
    for (query, status) in [
        (String::new(), 422),
        ("user_id=doc&contact_id=pat".to_owned(), 422),
        (location.clone(), 422),
        (format!("{location}&user_id=doc&user_id=doc&contact_id=pat"), 400),
        (format!("{location}&user_id=%zz&contact_id=pat"), 400),
        (format!("{location}&user_id=doc&contact_id=%ff"), 400),
        (format!("{location}&peer_user_id=nurse"), 422),
        (format!("{location}&contact_id=pat&peer_user_id=nurse"), 422),
        (format!("{location}&user_id=a%2Fb"), 422),
        (format!("{location}&user_id=doc&cursor=1-0"), 422),
        ("user_id=doc".to_owned(), 422),
        (format!("{location}&user_id=doc&contact_id=a%20b"), 422),
        (format!("{location}&user_id=&contact_id=pat"), 422),
        (format!("{location}&user_id={}&contact_id=pat", "x".repeat(65)), 422),
        (format!("{location}&user_id=doc&contact_id=pat&peer_user_id=nurse"), 422),
        (format!("{location}&user_id=doc&peer_user_id=doc"), 422),
        (format!("{location}&user_id=doc&contact_id=pat&cursor=nonsense"), 422),
        ("location_id=a%2Fb&user_id=doc&contact_id=pat".to_owned(), 422),
    ] {
        let answer = handshake(&place, &query, &[("authorization", &bearer)]).await;
        let _problem = answer.expect_problem(status);
    }
}

#[tokio::test]
async fn websocket_client_sees_http_status() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let bad = format!("Bearer {}", doctor.with_token("nonsense").token);
    let good = format!("Bearer {}", place.user("other").token);
    let url = format!("{}?{}", place.ws_url, doctor.with(&patient));
    for (bearer, status) in [(bad, 401), (good, 403)] {
        let Err(Error::Http(answer)) = Socket::connect_with(&url, &[("authorization", &bearer)]).await else {
            panic!("the handshake must be refused over HTTP");
        };
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    // The rejections affect no other client.
    let mut socket = patient.open(&doctor).await;
    let sent = doctor.send_ok(&patient, "hello").await;
    assert_eq!(socket.expect("message").await["message"], sent);
    assert_eq!(socket.everything().await.iter().filter(|frame| frame["type"] == json!("message")).count(), 0);
}
