//! Callers that go away before their answer.

use std::time::Duration;

use e2e::audit::AuditLog;
use e2e::token;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::test_env;

const ABORTS: usize = 500;
/// `DATABASE_POOL_SIZE`
const CONNECTIONS: f64 = 16.0;

#[tokio::test]
async fn aborted_requests_leak_no_connection_or_chain() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat").at_one_service());
    let api = place.with_base_url(&test_env.stack.env().admin_urls[0]);
    let metric = async |name: &str| {
        let text = api.get("/metrics").await.text;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok()).unwrap()
    };
    let trail = AuditLog::open(&test_env.stack.env().database_url).await;
    let chains =
        async || trail.client.query_one("select count(*) from audit_chains", &[]).await.unwrap().get::<_, i64>(0);
    let message = doctor.send_ok(&patient, "hello").await;
    let mut claims = token::claims("operator", "service", &[&place.location]);
    claims["admin"] = json!(true);
    let admin = place.sign(&claims);

    let url = place.env.api_urls[0].clone();
    let with_body = |method: &str, path: &str, token: &str, body: &serde_json::Value| {
        let body = body.to_string();
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let without =
        |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", doctor.token);
    let ids = json!({"message_ids": [message["id"]]});
    let routes = [
        with_body("POST", "/chat/send", &doctor.token, &doctor.message_to(&patient, "gone")),
        without(&format!("/chat/history?{}", doctor.with(&patient))),
        with_body("PUT", "/chat/read", &patient.token, &ids),
        with_body("PUT", "/chat/delivered", &patient.token, &ids),
        without(&format!("/chat/conversations?location_id={}", place.location)),
        without(&format!("/chat/presence?location_id={}&contact_id=pat", place.location)),
        with_body("POST", "/chat/ws-ticket", &doctor.token, &json!({})),
        with_body("POST", "/admin/revocations", &admin, &json!({"jti": "nobody's"})),
        without("/readyz"),
        without("/healthz"),
    ];
    // The pools grow as far as they like before.
    for _ in 0..4 {
        futures_util::future::join_all((0..16).map(|_| doctor.history(&patient, ""))).await;
    }
    let before = (metric("ehr_chat_database_connections_total").await, chains().await);
    assert!(before.0 <= CONNECTIONS, "{before:?}");

    for request in &routes {
        let abort = |number: usize| {
            let (url, request) = (url.clone(), request.clone());
            async move {
                let mut tcp = e2e::raw_http::connect(&url).await;
                // In the middle of the request, at once behind it, and a little later.
                let sent = if number.is_multiple_of(10) {
                    request.len() * (number / 10) / (ABORTS / 10)
                } else {
                    request.len()
                };
                let _ = tcp.write_all(&request.as_bytes()[..sent]).await;
                sleep(Duration::from_micros(number as u64 % 7 * 500)).await;
                if number.is_multiple_of(2) {
                    // A reset; otherwise an orderly end.
                    tcp.set_zero_linger().unwrap();
                }
            }
        };
        for some in 0..ABORTS / 20 {
            futures_util::future::join_all((some * 20..some * 20 + 20).map(abort)).await;
        }
    }
    // All requests under way end.
    let page = doctor.history(&patient, "&limit=1").await;
    assert!(page["messages"][0]["seq"].as_i64().unwrap() >= 1);
    assert!(metric("ehr_chat_http_requests_abandoned_total").await > 100.0, "callers have gone in the middle");
    let after = (metric("ehr_chat_database_connections_total").await, chains().await);
    assert!(after.0 <= CONNECTIONS, "connections: {before:?} before, {after:?} after");
    // No more than there are connections that can hold one at a time: those for writes and for the background.
    assert!(after.1 <= before.1 + 9, "chains: {before:?} before, {after:?} after");
    test_env.stack.stop().unwrap();
}
