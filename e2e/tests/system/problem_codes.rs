//! Each cause has its code, over HTTP and on a socket: the codes that a client can provoke through the public port.

use std::collections::BTreeSet;

use e2e::{HttpResponse, TestLocation, TestUser, raw_http, token};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bad_handshakes::handshake;
use crate::contradictions::{head, problem_of};
use crate::place;

/// Codes whose cause is a fault, a limit or time. The tests of that cause check them.
const PROVOKED_ELSEWHERE: [&str; 22] = [
    "bad_gateway",
    "conversation_busy",
    "database_incompatible",
    "database_unavailable",
    "deadline_exceeded",
    "gateway_timeout",
    "internal_error",
    "malformed_request",
    "no_server_available",
    "overloaded",
    "presence_unavailable",
    "rate_limited",
    "relay_unavailable",
    "request_timeout",
    "responses_unread",
    "shutting_down",
    "starting",
    "tickets_unavailable",
    "token_key_unknown",
    "token_revoked",
    "token_signature_invalid",
    "token_unsupported",
];

/// The codes that the document lists.
fn documented() -> BTreeSet<String> {
    let document: Value = yaml_serde::from_str(include_str!("../../../openapi.yaml")).unwrap();
    let codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

/// The codes that were seen.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn expect(&mut self, answer: &HttpResponse, status: u16, code: &str) {
        answer.expect_code(status, code);
        self.0.insert(code.to_owned());
    }

    /// The same of an answer that was read by hand.
    fn expect_raw(&mut self, answer: &str, status: u16, code: &str) {
        let (is, problem) = problem_of(answer);
        assert_eq!((is, problem["code"].as_str()), (status, Some(code)), "{answer}");
        self.0.insert(code.to_owned());
    }
}

#[tokio::test]
async fn every_code_of_the_document_is_provoked() {
    let place = place();
    let mut seen = Seen::default();
    provoke_by_token(&place, &mut seen).await;
    provoke_by_body(&place, &mut seen).await;
    provoke_by_query(&place, &mut seen).await;
    provoke_by_head(&place, &mut seen).await;
    provoke_by_handshake(&place, &mut seen).await;
    let elsewhere = PROVOKED_ELSEWHERE.map(str::to_owned);
    assert!(elsewhere.iter().all(|code| !seen.0.contains(code)), "provoked here and elsewhere");
    assert_eq!(seen.0.into_iter().chain(elsewhere).collect::<BTreeSet<_>>(), documented());
}

async fn provoke_by_token(place: &TestLocation, seen: &mut Seen) {
    let path = format!("/chat/conversations?location_id={}", place.location);
    let claims = || token::claims("doc", "user", &[&place.location]);
    let now = token::now();
    for (claims, code) in [
        (token::with(claims(), "exp", json!(now - 1)), "token_expired"),
        (token::with(claims(), "nbf", json!(now + 600)), "token_not_yet_valid"),
        (token::without(claims(), "locations"), "token_claim_missing"),
        (token::with(claims(), "role", json!("admin")), "token_claim_invalid"),
    ] {
        let bearer = place.user("doc").with_token(place.sign(&claims));
        seen.expect(&bearer.get(&path).await, 401, code);
    }
    seen.expect(&place.user("doc").with_token("nonsense").get(&path).await, 401, "token_malformed");
    seen.expect(&place.get(&path).await, 401, "token_missing");
    seen.expect(&place.user("doc").get("/chat/conversations?location_id=elsewhere").await, 403, "forbidden");
    let revoke = place.service().request(Method::POST, "/admin/revocations").json(&json!({"jti": "x"}));
    seen.expect(&place.ask(revoke).await, 403, "admin_required");
}

async fn provoke_by_body(place: &TestLocation, seen: &mut Seen) {
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.contact("other"));
    let good = doctor.message_to(&patient, "hello");
    let with = |field: &str, value: Value| token::with(good.clone(), field, value);
    for (body, code) in [
        (token::without(good.clone(), "content"), "missing_field"),
        (with("urgent", json!(true)), "unknown_field"),
        (with("sender_contact_id", json!("pat")), "conflicting_fields"),
        (with("content", json!(7)), "invalid_type"),
        (with("sender_user_id", json!("a b")), "invalid_identifier"),
        (with("client_message_id", json!("x")), "invalid_uuid"),
        (with("content", json!("")), "content_empty"),
        (with("content", json!("x".repeat(8_001))), "content_too_long"),
        (with("content", json!("a\u{0}b")), "content_invalid"),
        (doctor.message_to(&doctor, "hello"), "same_participant"),
        (token::with(with("content", json!("")), "client_message_id", json!("x")), "invalid_input"),
    ] {
        seen.expect(&doctor.send(&body).await, 422, code);
    }
    seen.expect(&patient.send(&patient.message_to(&other, "hello")).await, 422, "contact_to_contact");
    seen.expect(&doctor.put("/chat/read", &json!({"message_ids": []})).await, 422, "out_of_range");
    let used = with("client_message_id", json!(Uuid::now_v7()));
    let _sent = doctor.send(&used).await.expect_status(201);
    let reused = token::with(used, "content", json!("another"));
    seen.expect(&doctor.send(&reused).await, 409, "client_message_id_reused");

    let ask = async |content_type: &str, body: &str, encoding: &str| {
        let request = doctor.request(Method::POST, "/chat/send").header("content-type", content_type);
        let request = if encoding.is_empty() { request } else { request.header("content-encoding", encoding) };
        place.ask(request.body(body.to_owned())).await
    };
    seen.expect(&ask("application/json", "{", "").await, 400, "malformed");
    seen.expect(&ask("application/json", r#"{"content":"a","content":"b"}"#, "").await, 400, "malformed");
    seen.expect(&ask("text/plain", "hello", "").await, 415, "unsupported_media_type");
    seen.expect(&ask("application/json", "{}", "gzip").await, 415, "unsupported_encoding");
    seen.expect(&ask("application/json", &"x".repeat(300 * 1024), "").await, 413, "body_too_large");

    let dev_token = |body: Value| place.ask(place.request(Method::POST, "/dev/token").json(&body));
    let service = json!({"sub": "a", "role": "service", "location_id": "loc1"});
    seen.expect(&dev_token(service).await, 422, "invalid_value");
    let admin = token::with(token::claims("ehr", "service", &[&place.location]), "admin", json!(true));
    let admin = place.service().with_token(place.sign(&admin));
    let body = json!({"sub": "a", "issued_before": "yesterday"});
    let revoke = admin.request(Method::POST, "/admin/revocations").json(&body);
    seen.expect(&place.ask(revoke).await, 422, "invalid_time");
}

async fn provoke_by_query(place: &TestLocation, seen: &mut Seen) {
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let history = format!("/chat/history?{}", doctor.with(&patient));
    for (query, status, code) in [
        ("&limit=many", 400, "malformed_query"),
        ("&x=%zz", 400, "malformed_query"),
        ("&limit=5&limit=5", 400, "repeated_parameter"),
        ("&colour=red", 422, "unknown_parameter"),
        ("&limit=201", 422, "out_of_range"),
        ("&before=5&after=5", 422, "conflicting_parameters"),
    ] {
        seen.expect(&doctor.get(&format!("{history}{query}")).await, status, code);
    }
    seen.expect(&doctor.get("/chat/history").await, 422, "missing_parameter");
    let inbox = format!("/chat/conversations?location_id={}&cursor=x", place.location);
    seen.expect(&doctor.get(&inbox).await, 422, "invalid_cursor");
    seen.expect(&doctor.get(&format!("{history}&x={}", "y".repeat(5_000))).await, 414, "uri_too_long");
}

async fn provoke_by_head(place: &TestLocation, seen: &mut Seen) {
    let raw = async |method: &str, target: &str, lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        raw_http::exchange(&place.base_url, head(method, target, &lines).as_bytes()).await
    };
    seen.expect(&place.get("/nowhere").await, 404, "not_found");
    seen.expect(&place.user("doc").get("/chat/send").await, 405, "method_not_allowed");
    seen.expect_raw(&raw("GET", "/healthz", &[]).await, 400, "invalid_host");
    let twice = ["Host: a", "Authorization: Bearer x", "Authorization: Bearer y"];
    seen.expect_raw(&raw("GET", "/chat/history", &twice).await, 400, "repeated_header");
    // HAProxy's own.
    let twice = ["Host: a", "X-Request-Id: x", "X-Request-Id: y"];
    seen.expect_raw(&raw("GET", "/chat/history", &twice).await, 400, "repeated_header");
    let long = format!("X: {}", "x".repeat(17_000));
    seen.expect_raw(&raw("GET", "/healthz", &["Host: a", &long]).await, 431, "head_too_large");
    let preflight = place.request(Method::OPTIONS, "/chat/send").header("origin", "https://evil.example");
    let preflight = preflight.header("access-control-request-method", "POST");
    seen.expect(&place.ask(preflight).await, 403, "origin_not_allowed");
}

async fn provoke_by_handshake(place: &TestLocation, seen: &mut Seen) {
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.user("other"));
    let bearer = |user: &TestUser| format!("Bearer {}", user.token);
    let query = doctor.with(&patient);
    let own = bearer(&doctor);
    let foreign = bearer(&other);
    for (query, headers, status, code) in [
        (query.clone(), vec![("upgrade", "")], 426, "upgrade_required"),
        (query.clone(), vec![("sec-websocket-version", "8")], 426, "websocket_version_unsupported"),
        (query.clone(), vec![("origin", "https://evil.example")], 403, "origin_not_allowed"),
        (query.clone(), vec![], 401, "token_missing"),
        (query.clone(), vec![("authorization", "Bearer nonsense")], 401, "token_malformed"),
        (format!("{query}&ticket=x"), vec![], 401, "ticket_invalid"),
        (format!("{query}&ticket=x"), vec![("authorization", own.as_str())], 400, "invalid_handshake"),
        (query.clone(), vec![("authorization", foreign.as_str())], 403, "forbidden"),
        (format!("{query}&cursor=x"), vec![("authorization", own.as_str())], 422, "invalid_cursor"),
        (format!("{query}&colour=red"), vec![("authorization", own.as_str())], 422, "unknown_parameter"),
        (String::new(), vec![("authorization", own.as_str())], 422, "missing_parameter"),
        (format!("{query}&user_id=doc"), vec![("authorization", own.as_str())], 400, "repeated_parameter"),
        (format!("{query}&x=%zz"), vec![("authorization", own.as_str())], 400, "malformed_query"),
        (format!("{query}&x={}", "y".repeat(5_000)), vec![], 414, "uri_too_long"),
    ] {
        seen.expect(&handshake(place, &query, &headers).await, status, code);
    }
}

#[tokio::test]
async fn socket_and_http_say_the_same_code() {
    let place = place();
    let (doctor, patient) = (place.user("same"), place.contact("pat"));
    let mut socket = doctor.open(&patient).await;
    for body in [
        json!({}),
        json!({"message_ids": null}),
        json!({"message_ids": []}),
        json!({"message_ids": "x"}),
        json!({"message_ids": ["x"]}),
        json!({"message_ids": [7]}),
        json!({"message_ids": vec![Uuid::now_v7(); 501]}),
    ] {
        let over_http = doctor.put("/chat/read", &body).await.expect_problem(422);
        let mut frame = body.clone();
        frame["type"] = json!("read");
        socket.send_message(frame.to_string().into());
        assert_eq!(socket.expect("error").await["cause"], over_http["code"], "{body}");
    }
    socket.send_message("{".into());
    let request = doctor.request(Method::PUT, "/chat/read").header("content-type", "application/json").body("{");
    let over_http = place.ask(request).await.expect_problem(400);
    assert_eq!(socket.expect("error").await["cause"], over_http["code"]);

    let claims = || token::claims("same", "user", &[&place.location]);
    let now = token::now();
    for bad in [
        "nonsense".to_owned(),
        token::unsigned(&doctor.token),
        token::sign("another secret of at least thirty-two bytes", &claims()),
        place.sign(&token::with(claims(), "exp", json!(now - 1))),
        place.sign(&token::with(claims(), "nbf", json!(now + 600))),
        place.sign(&token::without(claims(), "locations")),
        place.sign(&token::with(claims(), "role", json!("admin"))),
    ] {
        let path = format!("/chat/conversations?location_id={}", place.location);
        let over_http = doctor.with_token(&bad).get(&path).await.expect_problem(401);
        socket.send(&json!({"type": "auth", "token": bad}));
        let error = socket.expect("error").await;
        assert_eq!((&error["cause"], &error["detail"]), (&over_http["code"], &over_http["detail"]));
    }

    let mut watcher = place.service().open_at(&doctor.with(&patient)).await;
    let mark = json!({"message_ids": [Uuid::now_v7()]});
    let over_http = place.service().put("/chat/read", &mark).await.expect_problem(403);
    watcher.send(&json!({"type": "read", "message_ids": [Uuid::now_v7()]}));
    assert_eq!(watcher.expect("error").await["cause"], over_http["code"]);
}
