//! Input that two readers could understand in two ways is rejected, and so are unknown fields; and HTTP itself is followed.

use e2e::{TestLocation, TestUser, assert_members, raw_http};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bad_handshakes::handshake;
use crate::{ALLOWED_ORIGIN, place, stack};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(person: &TestUser, method: Method, path: &str, body: &str) -> e2e::HttpResponse {
    person.place.ask(person.request(method, path).header(JSON.0, JSON.1).body(body.to_owned())).await
}

#[tokio::test]
async fn duplicate_json_key_gets_400() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut claims = e2e::token::claims("ehr", "service", &[&place.location]);
    claims["admin"] = json!(true);
    let admin = place.service().with_token(place.sign(&claims));
    let message = doctor.message_to(&patient, "hello").to_string();
    let (id, other) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    let doubled = |more: &str| message.replacen('{', &format!("{{{more},"), 1);
    for (participant, method, path, body, pointer) in [
        (&doctor, Method::POST, "/chat/send", doubled(r#""receiver_contact_id":"another""#), "/receiver_contact_id"),
        (&doctor, Method::POST, "/chat/send", doubled(r#""content":"hello""#), "/content"),
        (&doctor, Method::POST, "/chat/send", doubled(r#""\u0063ontent":"other""#), "/content"),
        (
            &doctor,
            Method::POST,
            "/chat/send",
            doubled(r#""client_message_id":null,"client_message_id":null"#),
            "/client_message_id",
        ),
        (&doctor, Method::POST, "/chat/send", doubled(r#""x":{"a":[{"b":1,"b":2}]}"#), "/x/a/0/b"),
        (
            &patient,
            Method::PUT,
            "/chat/read",
            format!(r#"{{"message_ids":["{id}"],"message_ids":["{other}"]}}"#),
            "/message_ids",
        ),
        (
            &patient,
            Method::PUT,
            "/chat/delivered",
            format!(r#"{{"message_ids":["{id}"],"message\u005fids":[]}}"#),
            "/message_ids",
        ),
        (&admin, Method::POST, "/admin/revocations", r#"{"jti":"a","jti":"b"}"#.to_owned(), "/jti"),
        (
            &doctor,
            Method::POST,
            "/dev/token",
            format!(r#"{{"sub":"a","sub":"b","role":"user","location_id":"{}"}}"#, place.location),
            "/sub",
        ),
    ] {
        let answer = post(participant, method, path, &body).await;
        let problem = answer.expect_problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{path} {problem}");
    }
    assert_eq!(doctor.messages(&patient).await, [] as [Value; 0]);
}

#[tokio::test]
async fn dev_token_errors_match_other_routes() {
    let place = place();
    let caller = place.user("doc");
    let location = &place.location;
    let good = json!({"sub": "a", "role": "user", "location_id": location});
    let _token = post(&caller, Method::POST, "/dev/token", &good.to_string()).await.expect_status(200);
    for (body, status) in [
        (json!(["a", "user", location]).to_string(), 422),
        (json!({"sub": "a", "role": "service", "location_id": location}).to_string(), 422),
        (json!({"sub": "a", "role": "user", "location_id": location, "admin": true}).to_string(), 422),
        ("{".to_owned(), 400),
        (format!("{good}{}", " ".repeat(5_000)), 413),
    ] {
        let _problem = post(&caller, Method::POST, "/dev/token", &body).await.expect_problem(status);
    }
    let _problem =
        place.ask(place.request(Method::POST, "/dev/token").body(good.to_string())).await.expect_problem(415);
}

#[tokio::test]
async fn byte_order_mark_is_ignored() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let body = format!("\u{feff}{}", doctor.message_to(&patient, "hello"));
    assert_eq!(post(&doctor, Method::POST, "/chat/send", &body).await.expect_status(201)["content"], "hello");
}

/// A request by hand. What is empty is left out.
pub(crate) fn head(method: &str, target: &str, lines: &[String]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
}

/// The status and the problem of an answer that was read by hand.
pub(crate) fn problem_of(answer: &str) -> (u16, Value) {
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    assert!(head.contains("application/problem+json"), "{answer}");
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    assert_members(&problem, status);
    let id = problem["request_id"].as_str().unwrap();
    assert!(!id.is_empty() && head.to_lowercase().contains(&format!("x-request-id: {id}").to_lowercase()), "{answer}");
    (status, problem)
}

#[tokio::test]
async fn duplicate_header_gets_400() {
    let place = place();
    let doctor = place.user("doc");
    let gateway = place.env.gateway_ws_urls[0].replace("ws://", "http://").replace("/ws", "");
    let history = format!("/chat/conversations?location_id={}", place.location);
    let socket = format!("/ws?{}", doctor.inbox_query());
    let own = place.base_url.clone();
    for (url, target) in [
        (&place.base_url, &history),
        (&place.env.api_urls[0], &history),
        (&place.base_url, &socket),
        (&gateway, &socket),
    ] {
        let mut usual = vec!["Host: localhost".to_owned(), format!("Authorization: Bearer {}", doctor.token)];
        if target.starts_with("/ws") {
            usual.extend(
                ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
                    .map(str::to_owned),
            );
        }
        for twice in [
            [format!("Authorization: Bearer {}", doctor.token), String::new()],
            [format!("Origin: {own}"), format!("Origin: {ALLOWED_ORIGIN}")],
            [format!("Origin: {ALLOWED_ORIGIN}"), format!("Origin: {ALLOWED_ORIGIN}")],
            ["Content-Type: application/json".to_owned(), "Content-Type: text/plain".to_owned()],
            ["X-Request-Id: one".to_owned(), "X-Request-Id: two".to_owned()],
        ] {
            let lines = [usual.clone(), twice.iter().filter(|line| !line.is_empty()).cloned().collect()].concat();
            let mut request = head("GET", target, &lines);
            if target.starts_with("/ws") {
                request = request.replace("Connection: close", "Connection: close, Upgrade");
            }
            let (status, problem) = problem_of(&raw_http::exchange(url, request.as_bytes()).await);
            assert_eq!(status, 400, "{url} {twice:?} {problem}");
            assert!(!["one", "two"].contains(&problem["request_id"].as_str().unwrap()), "{problem}");
        }
    }
}

#[tokio::test]
async fn request_without_host_gets_400() {
    let place = place();
    let gateway = place.env.gateway_ws_urls[0].replace("ws://", "http://").replace("/ws", "");
    for (url, target) in [
        (&place.base_url, "/healthz"),
        (&place.env.api_urls[0], "/healthz"),
        (&place.env.api_urls[0], "/nowhere"),
        (&place.base_url, "/ws"),
        (&gateway, "/ws"),
    ] {
        for host in [None, Some("Host: a b"), Some("Host: a/b")] {
            let lines: Vec<String> = host.into_iter().map(str::to_owned).collect();
            let answer = raw_http::exchange(url, head("GET", target, &lines).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{url} {target} {host:?}: {answer}");
            // HAProxy refuses some texts for itself, plainly.
            if host.is_none() || url != &place.base_url {
                assert_eq!(problem_of(&answer).0, 400);
            }
        }
    }
    let old = raw_http::exchange(&place.env.api_urls[0], b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 ") || old.starts_with("HTTP/1.1 200 "), "HTTP/1.0 knew no hosts: {old}");
    let other = head("GET", "http://other.example/healthz", &["Host: localhost".to_owned()]);
    assert_eq!(problem_of(&raw_http::exchange(&place.env.api_urls[0], other.as_bytes()).await).0, 400);
}

#[tokio::test]
async fn invalid_http_gets_problem() {
    let place = place();
    let gateway = place.env.gateway_ws_urls[0].replace("ws://", "http://").replace("/ws", "");
    for url in [&place.env.api_urls[0], &gateway] {
        for (request, expected) in [
            ("GARBAGE\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n".to_owned(), 400),
            ("POST /chat/send HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_owned(), 400),
            ("POST /chat/send HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
            ("POST /chat/send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n".to_owned(), 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(17_000)), 431),
        ] {
            let answer = raw_http::exchange(url, request.as_bytes()).await;
            let (status, problem) = problem_of(&answer);
            let code = if expected == 431 { "head_too_large" } else { "malformed_request" };
            let asked = &request[..30.min(request.len())];
            assert_eq!((status, problem["code"].as_str().unwrap()), (expected, code), "{url} {asked:?}");
        }
    }
    let large = head("GET", "/healthz", &["Host: a".to_owned(), format!("X: {}", "x".repeat(17_000))]);
    assert_eq!(problem_of(&raw_http::exchange(&place.base_url, large.as_bytes()).await).0, 431, "through HAProxy");
    let long = format!("/chat/history?x={}", "y".repeat(5_000));
    let _problem = place.get(&long).await.expect_problem(414);
}

#[tokio::test]
async fn http_2_without_tls_is_rejected() {
    let place = place();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = raw_http::exchange(&place.base_url, preface).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    let upgrade = head(
        "GET",
        "/healthz",
        &["Host: a".to_owned(), "Upgrade: h2c".to_owned(), "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA".to_owned()],
    );
    let answer = raw_http::exchange(&place.base_url, upgrade.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

/// The published operations, with a query that each accepts.
pub(crate) fn operations(place: &TestLocation) -> Vec<(Method, String, String)> {
    let document: Value = serde_json::from_str(&api_document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let query = match path.as_str() {
                "/chat/history" => format!("location_id={}&user_id=doc&contact_id=pat", place.location),
                "/chat/conversations" => format!("location_id={}", place.location),
                "/chat/presence" => format!("location_id={}&user_id=doc&contact_id=pat", place.location),
                _ => String::new(),
            };
            operations.push((method.to_uppercase().parse().unwrap(), path.clone(), query));
        }
    }
    operations
}

fn api_document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.yaml");
    let yaml: Value = yaml_serde::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    yaml.to_string()
}

#[tokio::test]
async fn unknown_parameter_gets_422_and_duplicate_400() {
    let place = place();
    let doctor = place.user("doc");
    let mut all = operations(&place);
    all.extend([
        (Method::GET, "/openapi.json".to_owned(), String::new()),
        (Method::GET, "/openapi.yaml".to_owned(), String::new()),
        (Method::POST, "/dev/token".to_owned(), String::new()),
    ]);
    assert!(all.len() >= 13, "{all:?}");
    let mut claims = e2e::token::claims("ehr", "service", &[&place.location]);
    claims["admin"] = json!(true);
    let admin = place.service().with_token(place.sign(&claims));
    for (method, path, query) in all {
        // An unauthorized caller does not learn what is wrong.
        let doctor = if path.starts_with("/admin/") { &admin } else { &doctor };
        for (more, pointer) in
            [("Limit=5", "?Limit"), ("nonsense", "?nonsense"), ("l%69m=1", "?lim"), ("my%20text=1", "?")]
        {
            let answer = doctor.place.ask(doctor.request(method.clone(), &format!("{path}?{query}&{more}"))).await;
            answer.expect_invalid(pointer);
        }
        let twice = format!("{path}?{query}&x=1&%78=1");
        let _problem = doctor.place.ask(doctor.request(method.clone(), &twice)).await.expect_problem(400);
        let broken = format!("{path}?{query}&x=%zz");
        let _problem = doctor.place.ask(doctor.request(method.clone(), &broken)).await.expect_problem(400);
        if method == Method::GET {
            let head = doctor.place.ask(doctor.request(Method::HEAD, &format!("{path}?{query}&x=1"))).await;
            assert_eq!((head.status, head.text.as_str()), (422, ""), "HEAD {path}");
        }
    }
    // Strangers get 403.
    let _problem = place.get("/chat/conversations?nonsense=1").await.expect_problem(401);
    // Links carry parameters of those who passed them on.
    assert_eq!(place.get("/?utm_source=mail").await.status, 200);
    let bearer = format!("Bearer {}", doctor.token);
    let own = doctor.inbox_query();
    for (more, status) in [("utm=x", 422), ("Cursor=1-0", 422), ("utm=x&utm=x", 400), ("cursor=1-0&cursor=1-0", 400)] {
        let answer = handshake(&place, &format!("{own}&{more}"), &[("authorization", &bearer)]).await;
        let _problem = answer.expect_problem(status);
    }
}

#[tokio::test]
async fn invisible_message_gets_422() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    for content in [
        " ",
        "\n\t",
        "\u{200b}",
        "\u{ad}",
        "\u{2060}",
        "\u{fe0f}",
        "\u{3164}",
        "\u{115f}",
        "\u{feff}\u{a0}",
        "\u{e0001}",
    ] {
        doctor.send(&doctor.message_to(&patient, content)).await.expect_invalid("/content");
    }
    for content in [".", " a ", "❤\u{fe0f}", "\u{1f468}\u{200d}\u{1f469}"] {
        assert_eq!(doctor.send_ok(&patient, content).await["content"], content);
    }
}

#[tokio::test]
async fn compressed_body_gets_415() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let body = doctor.message_to(&patient, "hello").to_string();
    let ask = async |encoding: &str| {
        let request = doctor.request(Method::POST, "/chat/send").header(JSON.0, JSON.1);
        place.ask(request.header("content-encoding", encoding).body(body.clone())).await
    };
    for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x-gzip", ""] {
        let answer = ask(encoding).await;
        let _problem = answer.expect_problem(415);
        assert_eq!(answer.header("accept-encoding"), Some("identity"), "{encoding}");
    }
    let _sent = ask("Identity").await.expect_status(201);
    let request = doctor.request(Method::POST, "/chat/send").header("content-type", "application/json; charset=utf-16");
    let answer = place.ask(request.body(body.clone())).await;
    let _problem = answer.expect_problem(415);
    assert_eq!(answer.header("accept-encoding"), None);
}

#[tokio::test]
async fn chunked_body_has_same_limit() {
    let place = TestLocation::named(stack(), &place().location);
    let doctor = place.user("doc");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000)).repeat(5);
    for url in [&place.base_url, &place.env.api_urls[0]] {
        let lines = [
            "Host: a".to_owned(),
            format!("Authorization: Bearer {}", doctor.token),
            "Content-Type: application/json".to_owned(),
            "Transfer-Encoding: chunked".to_owned(),
        ];
        let request = format!("{}{chunk}0\r\n\r\n", head("POST", "/chat/send", &lines));
        assert_eq!(problem_of(&raw_http::exchange(url, request.as_bytes()).await).0, 413, "{url}");
    }
}
