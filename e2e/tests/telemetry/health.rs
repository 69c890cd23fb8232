//! The admin ports say what each service depends on, and how that is.

use e2e::raw_http;
use reqwest::Method;
use serde_json::json;

use crate::place;

#[tokio::test]
async fn readiness_details_are_on_admin_port_only() {
    let place = place();
    let [api, gateway] = &place.env.admin_urls[..] else { panic!("an API service and a gateway") };
    let answer = place.with_base_url(api).get("/readyz").await.json();
    let up = json!({"postgresql": "up", "redis": "up", "revocations": "known"});
    assert_eq!((&answer["status"], &answer["dependencies"]), (&json!("ready"), &up));
    // Compared soon after the start; here both clocks are one.
    let compared = async {
        loop {
            if let Some(seconds) = place.with_base_url(api).get("/readyz").await.json()["clock_offset_seconds"].as_f64()
            {
                return seconds;
            }
        }
    };
    let offset = tokio::time::timeout(e2e::WAIT_TIMEOUT, compared).await.expect("the clocks are compared");
    assert!(offset.abs() < 10.0, "{offset}");
    let answer = place.with_base_url(gateway).get("/readyz").await.json();
    let up = json!({"redis": "up", "revocations": "known"});
    assert_eq!((&answer["status"], &answer["dependencies"]), (&json!("ready"), &up));
    let public = place.get("/readyz").await;
    assert_eq!(public.status, 200);
    assert!(!public.text.contains("postgresql"), "{public:?}");
    assert_eq!(place.get("/metrics").await.status, 404);
}

#[tokio::test]
async fn admin_ports_list_routes_and_reject_others() {
    let place = place();
    for url in &place.env.admin_urls {
        let admin = place.with_base_url(url);
        for path in ["/healthz", "/readyz", "/metrics"] {
            let get = admin.get(path).await;
            let head = admin.ask(admin.request(Method::HEAD, path)).await;
            assert_eq!((get.status, head.status, head.text.as_str()), (200, 200, ""), "{url}{path}");
            let options = admin.ask(admin.request(Method::OPTIONS, path)).await;
            assert_eq!((options.status, options.text.as_str()), (204, ""), "{url}{path}");
            assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"), "{url}{path}");
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
                let answer = admin.ask(admin.request(method.clone(), path)).await;
                answer.expect_code(405, "method_not_allowed");
                assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"), "{method} {url}{path}");
            }
        }
        for path in ["/", "/ws", "/metrics/", "/chat/history", "/nowhere"] {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                let asked = admin.request(method, path).header("x-request-id", "of-the-caller");
                let problem = admin.ask(asked).await.expect_problem(404);
                assert_eq!(problem["request_id"], "of-the-caller", "{url}{path}");
                assert_eq!(problem["code"], "not_found", "{problem}");
                assert!(problem["detail"].as_str().unwrap().contains("/metrics"), "{problem}");
            }
        }
    }
    for url in &place.env.admin_urls {
        let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        for (unreadable, status) in
            [("GARBAGE\r\n\r\n", 400), ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400), (&long, 431)]
        {
            let answer = raw_http::exchange(url, unreadable.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{url}: {answer}");
            assert!(
                answer.contains("application/problem+json") && answer.contains("x-request-id: "),
                "{url}: {answer}"
            );
            let code = if status == 431 { "head_too_large" } else { "malformed_request" };
            assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{url}: {answer}");
        }
    }
}
