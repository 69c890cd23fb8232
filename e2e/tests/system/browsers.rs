//! CORS: headers for browsers, and which origins are allowed. `https://ehr.example` is on the list of this system, and it runs
//! in development mode, which allows pages of this machine.

use e2e::{HttpResponse, TestLocation};
use reqwest::Method;
use serde_json::json;

use crate::bad_handshakes::handshake;
use crate::{ALLOWED_ORIGIN, place};

const FOREIGN: &str = "https://evil.example";
/// Pages of a developer's own server: this system runs in development mode.
const THIS_MACHINE: [&str; 4] =
    ["http://localhost:5173", "https://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:3000"];

fn own(place: &TestLocation) -> String {
    place.base_url.clone()
}

#[tokio::test]
async fn foreign_origin_opens_no_socket() {
    let place = place();
    let doctor = place.user("doc");
    let (query, bearer) = (doctor.with(&place.contact("pat")), format!("Bearer {}", doctor.token));
    for origin in [FOREIGN, "null", "https://ehr.example.evil.example", "http://ehr.example"] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        let _problem = handshake(&place, &query, &headers).await.expect_problem(403);
    }
    let url = format!("{}?{query}", place.ws_url);
    for origin in [own(&place).as_str(), ALLOWED_ORIGIN].into_iter().chain(THIS_MACHINE) {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        let mut socket = e2e::Socket::connect_with(&url, &headers).await.unwrap();
        assert_eq!(socket.next().await["type"], "ready", "{origin}");
    }
}

async fn preflight(place: &TestLocation, path: &str, method: &str, origin: &str) -> HttpResponse {
    let request = place.request(Method::OPTIONS, path).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    place.ask(request.header("access-control-request-headers", "authorization,content-type")).await
}

#[tokio::test]
async fn cors_headers_name_allowed_origins() {
    let place = place();
    let doctor = place.user("doc");
    for (path, method) in
        [("/chat/send", "POST"), ("/chat/read", "PUT"), ("/chat/history", "GET"), ("/chat/ws-ticket", "POST")]
    {
        let answer = preflight(&place, path, method, ALLOWED_ORIGIN).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(ALLOWED_ORIGIN));
        assert!(answer.header("access-control-allow-methods").unwrap().contains(method), "{answer:?}");
        let headers = answer.header("access-control-allow-headers").unwrap();
        assert!(
            ["authorization", "content-type", "x-request-id", "traceparent", "tracestate"]
                .iter()
                .all(|name| headers.contains(name)),
            "{headers}"
        );
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert!(answer.header("access-control-max-age").is_some() && answer.header("x-request-id").is_some());
        let answer = preflight(&place, path, method, FOREIGN).await;
        let _problem = answer.expect_problem(403);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
        let answer = preflight(&place, path, method, &own(&place)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_eq!(preflight(&place, "/nowhere", "GET", ALLOWED_ORIGIN).await.status, 404);
    let plain = place.ask(place.request(Method::OPTIONS, "/chat/send")).await;
    assert_eq!((plain.status, plain.header("access-control-allow-methods")), (204, None), "{plain:?}");

    let path = format!("/chat/conversations?location_id={}", place.location);
    let invalid = (ALLOWED_ORIGIN, 401, &"x".to_owned());
    let of_this_machine = THIS_MACHINE.map(|origin| (origin, 200, &doctor.token));
    for (origin, status, token) in [(ALLOWED_ORIGIN, 200, &doctor.token), invalid].into_iter().chain(of_this_machine) {
        let answer = place.ask(doctor.with_token(token).request(Method::GET, &path).header("origin", origin)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, Some(origin)), "{answer:?}");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("x-request-id"));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    for origin in [FOREIGN, "http://localhost.evil.example:5173", "null"] {
        let answer = place.ask(doctor.request(Method::GET, &path).header("origin", origin)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{origin}");
    }
    for origin in THIS_MACHINE {
        let answer = preflight(&place, "/chat/send", "POST", origin).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(origin)));
        // The SDK's modules are loaded across origins too.
        let answer = place.ask(place.request(Method::GET, "/sdk/index.js").header("origin", origin)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin)));
    }
}

#[tokio::test]
async fn responses_have_security_headers() {
    let place = place();
    let doctor = place.user("doc");
    let path = format!("/chat/conversations?location_id={}", place.location);
    let answers = [
        doctor.get(&path).await,
        doctor.send(&json!({})).await,
        place.get(&path).await,
        place.get("/nowhere").await,
        place.get("/chat/send").await,
        place.get("/healthz").await,
        place.get("/openapi.json").await,
        place.get("/").await,
        place.get("/docs").await,
        preflight(&place, "/chat/send", "POST", FOREIGN).await,
        place.get("/ws").await,
        handshake(&place, &doctor.with(&place.contact("pat")), &[]).await,
    ];
    for answer in &answers {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}: {answer:?}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("strict-transport-security"), None, "it did not come over TLS");
    }
    for page in ["/", "/docs"] {
        let answer = place.get(page).await;
        let policy = answer.header("content-security-policy").unwrap();
        let scripts = policy.split("; ").find_map(|directive| directive.strip_prefix("script-src ")).unwrap();
        assert!(!scripts.contains("unsafe") && !scripts.contains('*'), "{page}: {policy}");
        // The console has nothing inline; Swagger UI has.
        assert_eq!(scripts.contains("'sha256-"), page == "/docs", "{page}: {policy}");
        assert_eq!(policy.contains("unsafe"), page == "/docs", "{page}: {policy}");
        let host = place.base_url.trim_start_matches("http://");
        assert!(policy.contains(&format!("connect-src 'self' ws://{host} wss://{host}")), "{page}: {policy}");
    }
}

#[tokio::test]
async fn only_trusted_proxy_sets_forwarded_proto() {
    let place = place();
    // HAProxy says for itself what it was asked over.
    let claim = |place: &TestLocation| place.request(Method::GET, "/healthz").header("x-forwarded-proto", "https");
    assert_eq!(place.ask(claim(&place)).await.header("strict-transport-security"), None);
    // To an API service this test is the proxy: it is at 127.0.0.1.
    let direct = place.with_base_url(&place.env.api_urls[0]);
    assert_eq!(place.ask(claim(&direct)).await.header("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(direct.get("/healthz").await.header("strict-transport-security"), None);
}
