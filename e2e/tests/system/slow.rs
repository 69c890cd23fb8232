//! Requests that arrive byte by byte are cut off by the load balancer, and without one by both services.

use std::time::Duration;

use e2e::raw_http;

use crate::place;

/// The configured 10 s, and what a busy machine adds.
const CUT_WITHIN: Duration = Duration::from_secs(18);

#[tokio::test]
async fn slow_headers_and_bodies_get_408() {
    let place = place();
    let token = place.user("doc").token;
    let head = format!(
        "POST /chat/send HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    let body = format!("{head}Content-Length: 1000\r\n\r\n{{");
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let (api, gateway) = (&place.env.api_urls[0], &place.env.gateway_ws_urls[0]);
    let (slow_body, slow_headers, slow_handshake, at_api, at_gateway) = tokio::join!(
        raw_http::trickle(&place.base_url, body.as_bytes(), b" ", CUT_WITHIN),
        raw_http::trickle(&place.base_url, head.as_bytes(), b"X: y\r\n", CUT_WITHIN),
        raw_http::trickle(&place.base_url, upgrade.as_bytes(), b"X: y\r\n", CUT_WITHIN),
        raw_http::trickle(api, head.as_bytes(), b"X: y\r\n", CUT_WITHIN),
        raw_http::trickle(gateway, upgrade.as_bytes(), b"X: y\r\n", CUT_WITHIN),
    );
    let answers = [
        ("body", slow_body),
        ("headers", slow_headers),
        ("handshake", slow_handshake),
        ("head at the API service", at_api),
        ("handshake at the gateway", at_gateway),
    ];
    for (name, answer) in answers {
        let answer = answer.unwrap_or_else(|| panic!("a slow {name} is let to trickle on"));
        assert!(answer.starts_with("HTTP/1.1 408 ") || answer.starts_with("HTTP/1.0 408 "), "{name}: {answer}");
        assert!(!answer.contains("eyJ"), "{answer}");
        // HAProxy's answer to a head that does not end is plain text, and cannot be changed.
        let is_plain = ["headers", "handshake"].contains(&name);
        assert_eq!(answer.contains("\"code\":\"request_timeout\""), !is_plain, "{name}: {answer}");
    }
}
